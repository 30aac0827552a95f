"""A fine-tuned model for Python users: audio in, what the model says of it out."""

from typing import Any, Dict, Optional, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from ..data.audio import Audio, describe, read_audio
from ..data.labelled_audio import middle
from ..models.layerwise import LayerwiseModel


class FinetunedModel:
    """A fine-tuned model for Python users. Threads may share it.

    Audio is a file that soundfile reads (a path, its bytes, or open for reading bytes), or samples,
    a numpy array or torch tensor, mono [samples]: floats in [-1, 1], int16 or int32, at
    `sample_rate` unless another is given, as in a pair (samples, rate) or in a dictionary {"array",
    "sampling_rate"}. Files of any rate and number of channels are made mono at `sample_rate`.

    Args:
        model, cfg, task: what `finetuned.load.load_model` returns. `model` stays the underlying
            fairseq model.
        device: as torch names it; default: the GPU, if there is one.
    """

    def __init__(self, model: LayerwiseModel, cfg: Any, task: Any, device: Optional[str] = None):
        self.model, self.cfg = model, cfg
        self.labels = task.target_dictionary
        self.sample_rate = cfg.task.sample_rate
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            if self.device.type == "meta":
                raise RuntimeError("it computes nothing, wanted cpu or cuda")
            self.model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device={device}: {str(error).splitlines()[0]}") from None

    def layer_posterior(self, audio: Audio, sample_rate: Optional[int] = None) -> np.ndarray:
        """How much each layer counts for one utterance.

        Args:
            audio: see the class.
            sample_rate: of samples.

        Returns:
            q(l|x), float32 [L], lowest layer first ([1.0] for the baselines).

        Raises:
            ValueError: for unusable audio.
        """
        return self.run(audio, sample_rate)["log_q"][0].exp().cpu().numpy()

    def run(self, audio: Audio, sample_rate: Optional[int] = None) -> Dict[str, Any]:
        """The model's output for a batch of this utterance alone, at once."""
        samples = read_audio(audio, self.sample_rate, sample_rate)
        if len(samples) < self.model.w2v_encoder.receptive_field:
            raise self.too_short(audio, len(samples))
        return self.run_batch([self.heard(samples)])

    def heard(self, samples: np.ndarray) -> np.ndarray:
        """What the model is given of a recording."""
        return samples

    def too_short(self, audio: Audio, samples: int) -> ValueError:
        """What to raise for audio without a frame."""
        return ValueError(
            f"{describe(audio)}: {samples} samples are too short, the encoder needs "
            f"{self.model.w2v_encoder.receptive_field} for one frame"
        )

    @torch.no_grad()
    def run_batch(self, batch: Sequence[np.ndarray]) -> Dict[str, Any]:
        """The model's output. batch: float32 [samples] each, at the model's rate."""
        longest = max(map(len, batch))
        source = torch.zeros(len(batch), longest)
        padding_mask = torch.ones(len(batch), longest, dtype=torch.bool)
        for row, samples in enumerate(batch):
            wave = torch.from_numpy(np.ascontiguousarray(samples))
            source[row, : len(samples)] = (
                F.layer_norm(wave, wave.shape) if self.cfg.task.normalize else wave
            )
            padding_mask[row, : len(samples)] = False
        mask = padding_mask.to(self.device) if padding_mask.any() else None
        return self.model(source=source.to(self.device), padding_mask=mask)


class Classifier(FinetunedModel):
    """A model `varan_classification`. Of a recording longer than task.max_sample_size it hears the
    middle, as in the validation of its training and of a split."""

    def heard(self, samples: np.ndarray) -> np.ndarray:
        return middle(samples, self.cfg.task.max_sample_size)

    def classify(self, audio: Audio, sample_rate: Optional[int] = None) -> Dict[str, float]:
        """What a recording is.

        Args:
            audio: see `FinetunedModel`.
            sample_rate: of samples.

        Returns:
            Probability of every label, the most likely first.

        Raises:
            ValueError: for unusable audio.
        """
        net_output = self.run(audio, sample_rate)
        probs = self.model.get_normalized_probs(net_output, log_probs=False)[0].tolist()
        return dict(sorted(zip(self.labels.symbols, probs), key=lambda pair: -pair[1]))
