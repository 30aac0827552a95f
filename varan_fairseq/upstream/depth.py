"""An encoder of fewer blocks: its configuration and weights without the upper ones."""

from typing import Any, Dict

from torch import Tensor

from .specs import Kind


def num_blocks(cfg: Any, kind: Kind) -> int:
    """cfg: of the pre-trained model."""
    return kind.lower(cfg) + cfg[kind.depth]


def cut_config(cfg: Any, kind: Kind, layers: int) -> None:
    """Keeps the lowest `layers` blocks, in place. Raises ValueError, with the range that is
    possible, for another number."""
    lowest, highest = kind.lower(cfg) + 1, num_blocks(cfg, kind)
    if not lowest <= layers <= highest:
        raise ValueError(f"the encoder has {highest} blocks: wanted {lowest} .. {highest}")
    cfg[kind.depth] = layers - kind.lower(cfg)


def cut_weights(
    weights: Dict[str, Tensor], cfg: Any, kind: Kind, prefix: str = ""
) -> Dict[str, Tensor]:
    """Those that an encoder of this configuration has blocks for. prefix: of the encoder's
    names."""
    upper = prefix + kind.upper

    def has_block(name: str) -> bool:
        return not name.startswith(upper) or (
            int(name[len(upper) :].split(".")[0]) < cfg[kind.depth]
        )

    return {name: value for name, value in weights.items() if has_block(name)}
