"""espeak-ng as a function: text -> waveform. The library comes from PyPI (espeakng-loader)
and is called through ctypes, so nothing needs root."""

import ctypes
import itertools

import numpy as np


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h; audio_position in milliseconds."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_TERMINATED, _WORD = 0, 1
_SYNCHRONOUS, _UTF8 = 2, 1
PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "range": 4}  # words/min, then 0 .. 100


class Espeak:
    """One process-wide synthesiser. onsets: seconds at which the words of what was spoken last
    begin.

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
        self._chunks, self.onsets = [], []
        self._callback = _CALLBACK(self._receive)  # kept, or it would be collected
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples, count, events):
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        for event in itertools.takewhile(lambda event: event.type != _TERMINATED, events):
            if event.type == _WORD:
                self.onsets.append(event.audio_position / 1000)
        return 0

    def speak(self, text: str, voice: str, **parameters: int) -> np.ndarray:
        """int16 [samples] at `sample_rate`. voice: a language and variant, as `en-us+f2`.
        parameters: any of `PARAMETERS`."""
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        for name, value in parameters.items():
            self._library.espeak_SetParameter(PARAMETERS[name], int(value), 0)
        self._chunks, self.onsets = [], []
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.concatenate(self._chunks)
