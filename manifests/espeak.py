"""espeak-ng as a function: text -> waveform. The library comes from PyPI (espeakng-loader)
and is called through ctypes, so nothing needs root."""

import ctypes

import numpy as np

_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)
_SYNCHRONOUS, _UTF8 = 2, 1
PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4}  # words/min, then 0 .. 100


class Espeak:
    """One process-wide synthesiser.

    Raises RuntimeError if the library does not start, ValueError for an unknown voice.
    """

    def __init__(self):
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        path = espeakng_loader.get_data_path().encode()
        self.sample_rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, path, 0)
        if self.sample_rate <= 0:
            raise RuntimeError(f"espeak-ng does not start with the data in {path.decode()}")
        # breathy voices draw noise, by default from a seed that is the time of day
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._chunks = []
        self._callback = _CALLBACK(self._receive)  # kept, or it would be collected
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, count, events):
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def speak(self, text: str, voice: str, **parameters: int) -> np.ndarray:
        """int16 [samples] at `sample_rate`. voice: a language and variant, as `en-us+f2`.
        parameters: any of `PARAMETERS`."""
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        for name, value in parameters.items():
            self._library.espeak_SetParameter(PARAMETERS[name], int(value), 0)
        self._chunks = []
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.concatenate(self._chunks)
