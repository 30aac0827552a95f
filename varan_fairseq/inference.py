"""A fine-tuned model for Python users: a waveform in, what the model says of it out."""

import os
from typing import Any, Dict, Union

import numpy as np
import torch
from torch.nn import functional as F

from .models.layerwise import LayerwiseModel

Audio = Union[str, os.PathLike, np.ndarray]


class FinetunedModel:
    """model, cfg, task: what `checkpoint.load_model` returns. Runs on the GPU if there is
    one. `model` is the underlying fairseq model. Threads may share it."""

    def __init__(self, model: LayerwiseModel, cfg: Any, task: Any):
        self.model, self.cfg = model, cfg
        self.labels = task.target_dictionary
        self.sample_rate = cfg.task.sample_rate
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self.device)

    def layer_posterior(self, audio: Audio) -> np.ndarray:
        """q(l|x) of one utterance, float32 [L], lowest layer first ([1.0] for the
        baselines). audio: a mono file, or float samples [samples] at `sample_rate`. Raises
        ValueError for unusable audio."""
        return self.run(audio)["log_q"][0].exp().cpu().numpy()

    @torch.no_grad()
    def run(self, audio: Audio) -> Dict[str, Any]:
        """The model's output for a batch of this utterance alone. audio: as in
        `layer_posterior`."""
        source = torch.from_numpy(self._samples(audio)).to(self.device)
        if self.cfg.task.normalize:
            source = F.layer_norm(source, source.shape)
        return self.model(source=source.unsqueeze(0), padding_mask=None)

    def _samples(self, audio: Audio) -> np.ndarray:
        name = "the array"
        if not isinstance(audio, np.ndarray):
            import soundfile

            name = os.fspath(audio)
            if not os.path.isfile(name):
                what = "it is no regular file" if os.path.exists(name) else "it does not exist"
                raise ValueError(f"{name} cannot be read: {what}")
            try:
                audio, rate = soundfile.read(name, dtype="float32")
            except (RuntimeError, OSError) as error:
                raise ValueError(f"{name} cannot be read: {error}") from None
            if rate != self.sample_rate:
                raise ValueError(f"{name}: sample rate {rate} Hz, wanted {self.sample_rate} Hz")
        if audio.ndim != 1:
            raise ValueError(f"{name}: wanted mono samples [samples], got shape {audio.shape}")
        if not np.issubdtype(audio.dtype, np.floating):
            raise ValueError(f"{name}: wanted float samples in [-1, 1], got {audio.dtype}")
        if not np.isfinite(audio).all():
            raise ValueError(f"{name}: NaN or infinite samples")
        needed = self.model.w2v_encoder.receptive_field
        if len(audio) < needed:
            raise ValueError(
                f"{name}: {len(audio)} samples are too short, the encoder needs {needed} for one "
                "frame"
            )
        return audio.astype(np.float32, copy=False)


class Recognizer(FinetunedModel):
    """A model `varan_ctc`."""

    def transcribe(self, audio: Audio) -> str:
        """Text of one utterance: the best path, no language model. audio: as in
        `layer_posterior`."""
        from fairseq.data.data_utils import post_process

        emissions = self.model.get_logits(self.run(audio))[:, 0]
        best = emissions.argmax(-1).unique_consecutive()
        text = self.labels.string(best[best != self.model.blank])
        return post_process(text, training_post_process(self.cfg))


def training_post_process(cfg: Any) -> str:
    """How the training made words of labels: `criterion.post_process`."""
    return (cfg.get("criterion") or {}).get("post_process") or "letter"


class Classifier(FinetunedModel):
    """A model `varan_classification`."""

    def classify(self, audio: Audio) -> Dict[str, float]:
        """Probability of every label, the most likely first. audio: as in
        `layer_posterior`."""
        probs = self.model.get_normalized_probs(self.run(audio), log_probs=False)[0].tolist()
        return dict(sorted(zip(self.labels.symbols, probs), key=lambda pair: -pair[1]))


INTERFACES = {"varan_ctc": Recognizer, "varan_classification": Classifier}
