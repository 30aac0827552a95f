"""An encoder of fewer blocks: its configuration and weights without the upper ones."""

from typing import Any, Dict

from torch import Tensor

from .specs import EncoderSpec


def num_blocks(cfg: Any, spec: EncoderSpec) -> int:
    """cfg: of the pre-trained model."""
    return spec.lower(cfg) + cfg[spec.depth]


def check_depth(layers: int, lowest: int, highest: int) -> None:
    """Raises ValueError for a number of blocks that cannot be kept of `highest`."""
    if not lowest <= layers <= highest:
        raise ValueError(f"the encoder has {highest} blocks: expected {lowest} .. {highest}")


def cut_config(cfg: Any, spec: EncoderSpec, layers: int) -> None:
    """Keeps the lowest `layers` blocks, in place. Raises ValueError, with the range that is
    possible, for another number."""
    check_depth(layers, spec.lower(cfg) + 1, num_blocks(cfg, spec))
    cfg[spec.depth] = layers - spec.lower(cfg)


def cut_weights(weights: Dict[str, Tensor], cfg: Any, spec: EncoderSpec) -> Dict[str, Tensor]:
    """Those that an encoder of this configuration has blocks for."""

    def has_block(name: str) -> bool:
        return not name.startswith(spec.upper) or (
            int(name[len(spec.upper) :].split(".")[0]) < cfg[spec.depth]
        )

    return {name: value for name, value in weights.items() if has_block(name)}
