"""A run cut to one layer and one linear map: what other people's programs can run."""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from ..lora import merge_lora
from ..upstream import Encoder
from .load import LABELLERS, model_from_state, read_state, training_post_process

TOLERANCE = 1e-4  # of log-probabilities, between our model and what was written


@dataclass(frozen=True)
class OneLayer:
    """encoder: in evaluation mode, without adapters and blocks above the layer. maps: the layer's
    head, one linear map or two. ctc: whether it predicts frames, else one class an utterance.
    symbols: all labels, in the order of the outputs. layer: 1 (lowest) .. L. chosen: how, in words.
    options: of the encoder's pre-training, in fairseq's layout. spelling: fairseq's name of how
    labels become words."""

    encoder: Encoder
    maps: List[nn.Linear]
    ctc: bool
    symbols: List[str]
    layer: int
    chosen: str
    options: Any
    normalize: bool
    sample_rate: int
    spelling: str

    def log_probs(self, source: Tensor) -> Tensor:
        """source: [B, samples], of one length, normalised as in training. Returns [B, T, V], or
        [B, C] of a classifier."""
        read = self.encoder(source, None).output.transpose(0, 1)
        if not self.ctc:
            read = read.mean(1)
        for each in self.maps:
            read = each(read)
        return read.log_softmax(-1)

    def check(self, difference: float, source: Tensor, what: str) -> None:
        """Raises ValueError for a difference from `log_probs(source)` that is more than `allowed`.
        what: the sentence that the difference ends."""
        if difference <= TOLERANCE:
            return
        allowed = self.allowed(source)
        if not difference <= allowed:
            raise ValueError(
                f"{what} {difference:.1e} (expected at most {allowed:.0e}): please report it"
            )

    def allowed(self, source: Tensor) -> float:
        """The largest difference of log-probabilities by which another program's float32 may be
        off from ours: `TOLERANCE`, or four times what ours is off from float64 where that is more, as
        in deep encoders."""
        parts = [self.encoder, *self.maps]
        with torch.no_grad():
            single = self.log_probs(source)
            try:
                for part in parts:
                    part.double()
                rounding = float((single - self.log_probs(source.double())).abs().max())
            finally:
                for part in parts:
                    part.float()
        return max(TOLERANCE, 4 * rounding)

    def single_map(self) -> Tuple[Tensor, Tensor]:
        """(weight [V, D], bias [V]) of the maps in a row, in float32."""
        weight, bias = self.maps[0].weight.double(), self.maps[0].bias.double()
        for each in self.maps[1:]:
            weight = each.weight.double() @ weight
            bias = each.weight.double() @ bias + each.bias.double()
        return weight.float(), bias.float()


def one_layer(checkpoint: str, layer: Optional[int] = None) -> OneLayer:
    """Reads a run (a pickle: only load files you trust).

    layer: 1 (lowest) .. L; None for the one with the lowest loss in the run's last validation, or,
    where the checkpoint does not say, the one with the largest prior. Raises ValueError, in one line,
    for what no single layer is: a sum of layers, a head with a ReLU or with neighbouring frames.
    """
    state = read_state(checkpoint, models=LABELLERS)
    model, cfg, task = model_from_state(state, checkpoint)
    count = model.w2v_encoder.num_layers
    _refuse(checkpoint, model.cfg)
    if model.cfg.aggregation == "last_layer":
        if layer not in (None, count):
            raise ValueError(
                f"--layer {layer}: {checkpoint} has a head on its last layer alone ({count})"
            )
        layer, chosen = count, "the only one with a head"
    elif layer is None:
        layer, chosen = _choose(state, model)
    elif not 1 <= layer <= count:
        raise ValueError(f"--layer {layer}: {checkpoint} has layers 1 .. {count}")
    else:
        chosen = "as asked for"
    merge_lora(model)
    if layer < count:
        try:
            model.keep_lowest(layer)
        except ValueError as error:
            raise ValueError(f"{checkpoint} cannot be cut to {layer} layers: {error}") from None
    heads = model.aggregation.heads
    maps = [part for part in heads[layer - 1] if isinstance(part, nn.Linear)]
    ctc = model.cfg._name == "varan_ctc"
    if ctc:
        weigh_blank(maps[-1], model.cfg, model.blank)
    return OneLayer(
        encoder=model.w2v_encoder.eval(),
        maps=maps,
        ctc=ctc,
        symbols=output_symbols(task.target_dictionary, ctc),
        layer=layer,
        chosen=chosen,
        options=encoder_options(model),
        normalize=bool(cfg.task.normalize),
        sample_rate=int(cfg.task.get("sample_rate", 16000)),
        spelling=training_post_process(cfg),
    )


def encoder_options(model: Any) -> Any:
    """Of the pre-training of a model's encoder, in fairseq's layout; a key that it
    lacks reads as None."""
    pretraining = OmegaConf.create(model.cfg.w2v_args)
    OmegaConf.set_struct(pretraining, False)  # versions of fairseq differ in their keys
    return pretraining.model


def output_symbols(labels: Any, ctc: bool) -> List[str]:
    """Of a model's outputs, in order: a classifier has no outputs for fairseq's own symbols."""
    return list(labels.symbols if ctc else labels.symbols[labels.nspecial :])


def _refuse(checkpoint: str, cfg: Any) -> None:
    if cfg.aggregation not in ("varan", "last_layer"):
        raise ValueError(
            f"{checkpoint} has model.aggregation={cfg.aggregation}, one head on all layers together: "
            "only varan and last_layer have a head that reads one layer"
        )
    if cfg.head_activation != "none":
        raise ValueError(
            f"{checkpoint} has model.head_activation={cfg.head_activation}: a stock head is linear"
        )
    if getattr(cfg, "head_context", 0):
        raise ValueError(
            f"{checkpoint} has model.head_context={cfg.head_context}: a stock head sees one frame"
        )


def _choose(state: Dict[str, Any], model: Any) -> Tuple[int, str]:
    """(layer, how it was chosen)."""
    losses = _validation(state, model.w2v_encoder.num_layers)
    if losses is not None:
        layer = min(range(len(losses)), key=losses.__getitem__) + 1
        return layer, f"lowest loss in the last validation, {losses[layer - 1]:.3f} bits"
    prior = model.prior.probs.tolist()
    layer = max(range(len(prior)), key=lambda each: (prior[each], each)) + 1
    return layer, "largest prior, since the checkpoint holds no validation"


def _validation(state: Dict[str, Any], layers: int) -> Optional[List[float]]:
    """Of each layer, the loss of the last validation that the checkpoint holds."""
    meters = (state.get("extra_state") or {}).get("metrics") or {}
    found = {}
    for _, name, _, content in meters.get("valid") or ():
        if isinstance(content, dict) and content.get("count") and "sum" in content:
            found[name] = float(content["sum"]) / float(content["count"])
    names = [f"nll_{layer + 1:02d}" for layer in range(layers)]
    return [found[name] for name in names] if all(name in found for name in names) else None


def weigh_blank(last: nn.Linear, cfg: Any, blank: int) -> None:
    """What `model.blank_weight` does to logits, in the map that makes them."""
    if cfg.blank_weight == 0:
        return
    with torch.no_grad():
        if cfg.blank_mode == "set":
            last.weight[blank], last.bias[blank] = 0.0, cfg.blank_weight
        else:
            last.bias[blank] += cfg.blank_weight
