"""A fine-tuned checkpoint for Python users: waveform in, text or layer posterior out."""

import os
from typing import Optional, Union

import numpy as np
import torch
from fairseq.data.data_utils import post_process
from torch.nn import functional as F

from .checkpoint import load_model

Audio = Union[str, os.PathLike, np.ndarray]


class Recognizer:
    """path: a checkpoint of model `varan_ctc` (a pickle: only load files you trust), or the
    folder of an adapter with its pre-trained checkpoint as `base` (a pickle too). Runs on
    the GPU if there is one. `model` is the underlying fairseq model."""

    def __init__(self, path: str, base: Optional[str] = None):
        self.model, self.cfg, task = load_model(path, base=base)
        self.labels = task.target_dictionary
        self.sample_rate = self.cfg.task.sample_rate
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)

    def transcribe(self, audio: Audio) -> str:
        """Text of one utterance: the best path, no language model. audio: a mono file, or
        float samples [samples] at `sample_rate`. Raises ValueError for unusable audio."""
        emissions = self.model.get_logits(self._run(audio))[:, 0]
        best = emissions.argmax(-1).unique_consecutive()
        return post_process(self.labels.string(best[best != self.model.blank]), "letter")

    def layer_posterior(self, audio: Audio) -> np.ndarray:
        """q(l|x) of one utterance, float32 [L], lowest layer first ([1.0] for the
        baselines). audio: as in `transcribe`."""
        return self._run(audio)["log_q"][0].exp().cpu().numpy()

    @torch.no_grad()
    def _run(self, audio: Audio):
        source = torch.from_numpy(self._samples(audio)).to(self.device)
        if self.cfg.task.normalize:
            source = F.layer_norm(source, source.shape)
        return self.model(source=source.unsqueeze(0), padding_mask=None)

    def _samples(self, audio: Audio) -> np.ndarray:
        name = "the array"
        if not isinstance(audio, np.ndarray):
            import soundfile

            name = os.fspath(audio)
            audio, rate = soundfile.read(name, dtype="float32")
            if rate != self.sample_rate:
                raise ValueError(f"{name}: sample rate {rate} Hz, wanted {self.sample_rate} Hz")
        if audio.ndim != 1:
            raise ValueError(f"{name}: wanted mono samples [samples], got shape {audio.shape}")
        if not np.isfinite(audio).all():
            raise ValueError(f"{name}: NaN or infinite samples")
        return audio.astype(np.float32, copy=False)
