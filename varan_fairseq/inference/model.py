"""A fine-tuned model for Python users: audio in, what the model says of it out."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, TypeVar, Union

import numpy as np
import torch
from torch.nn import functional as F

from ..data.audio import Audio, describe, has_rate, read_audio
from ..data.labelled_audio import middle
from ..models.layerwise import LayerwiseModel

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Layers:
    """What every layer makes of one utterance, lowest layer first; float32.

    Attributes:
        hidden_states: of the encoder, [L, T, D]; the last one after the encoder's final LayerNorm,
            if it has one.
        log_probs: of each head, [K, T, V], or [K, C] of a classifier; K is L for aggregation varan,
            else 1. Of a regressor, the numbers that each head predicts, [K, D].
        posterior: q(l|x) [K].
    """

    hidden_states: np.ndarray
    log_probs: np.ndarray
    posterior: np.ndarray


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
        self.device: torch.device
        self.labels = task.target_dictionary
        self.sample_rate = cfg.task.sample_rate
        self.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def __repr__(self) -> str:
        encoder = self.model.w2v_encoder
        return (
            f"{type(self).__name__}({encoder.spec.title}, {encoder.num_layers} layers, "
            f"{self.model.cfg.aggregation}, {len(self.labels)} labels, {self.device})"
        )

    def to(self, device: str) -> "FinetunedModel":
        """Moves the model; returns itself. Raises ValueError for a device that is not there."""
        try:
            moved = torch.device(device)
            if moved.type == "meta":
                raise RuntimeError("it computes nothing, expected cpu or cuda")
            self.model.to(moved)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device={device}: {str(error).splitlines()[0]}") from None
        self.device = moved
        return self

    def layer_posterior(
        self, audio: Union[Audio, Sequence[Audio]], sample_rate: Optional[int] = None
    ) -> Union[np.ndarray, List[np.ndarray]]:
        """How much each layer counts for one utterance.

        Args:
            audio: see the class, or a list of such.
            sample_rate: of samples.

        Returns:
            q(l|x), float32 [L], lowest layer first ([1.0] for the baselines); a list for a list.

        Raises:
            ValueError: for unusable audio.
        """
        return of_each(
            lambda each: self.run(each, sample_rate)["log_q"][0].exp().cpu().numpy(), audio
        )

    def layers(
        self, audio: Union[Audio, Sequence[Audio]], sample_rate: Optional[int] = None
    ) -> Union[Layers, List[Layers]]:
        """What every layer makes of one utterance, heard at once.

        Args:
            audio: see the class, or a list of such.
            sample_rate: of samples.

        Returns:
            `Layers`; a list for a list.

        Raises:
            ValueError: for unusable audio.
        """
        return of_each(lambda each: self._layers(each, sample_rate), audio)

    @torch.no_grad()
    def _layers(self, audio: Audio, sample_rate: Optional[int]) -> Layers:
        encoded = self.model.w2v_encoder(*self._collated([self._samples(audio, sample_rate)]))
        net_output = self.model.read(encoded)
        states = torch.stack([*encoded.states[:-1], encoded.output])[:, :, 0]
        logits = torch.stack([each.float() for each in net_output["layer_logits"]])
        logits = logits[:, 0] if logits.dim() == 3 else logits[:, :, 0]
        posterior = net_output["log_q"][0].exp()
        found = (states.float(), self.said(logits), posterior)
        return Layers(*(tensor.cpu().numpy() for tensor in found))

    def run(self, audio: Audio, sample_rate: Optional[int] = None) -> Dict[str, Any]:
        """The model's output for a batch of this utterance alone, at once."""
        return self.run_batch([self._samples(audio, sample_rate)])

    def _samples(self, audio: Audio, sample_rate: Optional[int]) -> np.ndarray:
        samples = read_audio(audio, self.sample_rate, sample_rate)
        if len(samples) < self.model.w2v_encoder.receptive_field:
            raise self.too_short(audio, len(samples))
        return self.heard(samples)

    def heard(self, samples: np.ndarray) -> np.ndarray:
        """What the model is given of a recording."""
        return samples

    def said(self, logits: torch.Tensor) -> torch.Tensor:
        """What heads mean by their outputs [.., V], float32."""
        return logits.log_softmax(-1)

    def too_short(self, audio: Audio, samples: int) -> ValueError:
        """What to raise for audio without a frame."""
        return ValueError(
            f"{describe(audio)}: {samples} samples are too short, the encoder needs "
            f"{self.model.w2v_encoder.receptive_field} for one frame"
        )

    @torch.no_grad()
    def run_batch(self, batch: Sequence[np.ndarray]) -> Dict[str, Any]:
        """The model's output. batch: float32 [samples] each, at the model's rate."""
        return self.model(*self._collated(batch))

    def _collated(self, batch: Sequence[np.ndarray]) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        """(source [B, samples], padding mask [B, samples] or None), on the model's device."""
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
        return source.to(self.device), mask


class _OfUtterances(FinetunedModel):
    """Of a recording longer than task.max_sample_size it hears the middle, as in the validation of its
    training and of a split."""

    def heard(self, samples: np.ndarray) -> np.ndarray:
        return middle(samples, self.cfg.task.max_sample_size)


class Classifier(_OfUtterances):
    """A model `varan_classification`."""

    def classify(
        self, audio: Union[Audio, Sequence[Audio]], sample_rate: Optional[int] = None
    ) -> Union[Dict[str, float], List[Dict[str, float]]]:
        """What a recording is.

        Args:
            audio: see `FinetunedModel`, or a list of such.
            sample_rate: of samples.

        Returns:
            Probability of every label, the most likely first; a list for a list.

        Raises:
            ValueError: for unusable audio.
        """
        return of_each(lambda each: self._classify(each, sample_rate), audio)

    def _classify(self, audio: Audio, sample_rate: Optional[int]) -> Dict[str, float]:
        net_output = self.run(audio, sample_rate)
        probs = self.model.get_normalized_probs(net_output, log_probs=False)[0].tolist()
        return dict(sorted(zip(self.labels.symbols, probs), key=lambda pair: -pair[1]))


class Regressor(_OfUtterances):
    """A model `varan_regression`."""

    def said(self, logits: torch.Tensor) -> torch.Tensor:
        return self.model.scale.original(logits)

    def predict(
        self, audio: Union[Audio, Sequence[Audio]], sample_rate: Optional[int] = None
    ) -> Union[Dict[str, float], List[Dict[str, float]]]:
        """The numbers of a recording.

        Args:
            audio: see `FinetunedModel`, or a list of such.
            sample_rate: of samples.

        Returns:
            Each number by its name, in the unit of the training's targets; a list for a list.

        Raises:
            ValueError: for unusable audio.
        """
        return of_each(lambda each: self._predict(each, sample_rate), audio)

    def _predict(self, audio: Audio, sample_rate: Optional[int]) -> Dict[str, float]:
        values = self.model.combined(self.run(audio, sample_rate))[0].tolist()
        return dict(zip(self.labels.symbols, values))


def is_several(audio: Any) -> bool:
    """Whether audio is a list of such: a pair of samples and their rate is one."""
    return isinstance(audio, (list, tuple)) and not has_rate(audio)


def of_each(work: Callable[[Any], _Result], audio: Any) -> Any:
    """What `work` makes of audio; a list for a list."""
    return [work(each) for each in audio] if is_several(audio) else work(audio)
