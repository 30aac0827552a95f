"""An encoder of fewer blocks: its configuration and weights without the upper ones."""

from typing import Any, Dict

from torch import Tensor

from .specs import EncoderSpec


def num_blocks(cfg: Any, spec: EncoderSpec) -> int:
    """cfg: of the pre-trained model."""
    return spec.lower(cfg) + cfg[spec.depth]


def cut_config(cfg: Any, spec: EncoderSpec, layers: int) -> None:
    """Keeps the lowest `layers` blocks, in place. Raises ValueError, with the range that is
    possible, for another number."""
    lowest, highest = spec.lower(cfg) + 1, num_blocks(cfg, spec)
    if not lowest <= layers <= highest:
        raise ValueError(f"the encoder has {highest} blocks: wanted {lowest} .. {highest}")
    cfg[spec.depth] = layers - spec.lower(cfg)


def cut_weights(
    weights: Dict[str, Tensor], cfg: Any, spec: EncoderSpec, prefix: str = ""
) -> Dict[str, Tensor]:
    """Those that an encoder of this configuration has blocks for. prefix: of the encoder's
    names."""
    upper = prefix + spec.upper

    def has_block(name: str) -> bool:
        return not name.startswith(upper) or (
            int(name[len(upper) :].split(".")[0]) < cfg[spec.depth]
        )

    return {name: value for name, value in weights.items() if has_block(name)}
