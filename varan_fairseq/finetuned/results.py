"""Names of results, and the options that read a model's layers otherwise than it was trained to."""

import os
import re
from typing import Any, Dict, List, Optional, Sequence

from ..method.choices import check_rule


def beside(path: str) -> str:
    """Where results of a checkpoint go by default: its folder, or the adapter's own."""
    return path.rstrip("/") if os.path.isdir(path) else os.path.dirname(path) or "."


def results_name(*parts: Any) -> str:
    """A folder's name for results from the settings that they depend on; None says nothing."""
    return "-".join(re.sub(r"[^\w.+-]+", "_", str(part)) for part in parts if part is not None)


def setting_name(path: str, combine: Optional[str], layer: Optional[int]) -> List[Optional[str]]:
    """Parts of such a name: the checkpoint, unless it is the best one, and how it is read."""
    stem = None
    if not os.path.isdir(path):
        stem = os.path.splitext(os.path.basename(path))[0]
        stem = None if stem == "checkpoint_best" else stem
    return [stem, combine, None if layer is None else f"layer{layer}"]


def reading_overrides(
    combine: Optional[str], layer: Optional[int], rules: Sequence[str]
) -> Dict[str, Any]:
    """Overrides of a model's configuration for a rule of combination, or for one layer alone (1,
    the lowest, .. L); none for neither. Raises ValueError."""
    if combine is not None and layer is not None:
        raise ValueError(
            f"--combine {combine} and --layer {layer}: one layer has nothing to combine, give one "
            "of the two"
        )
    if combine is not None:
        check_rule(combine, rules)
        return {"combine": combine, "decode_layer": 0}
    if layer is not None:
        if layer < 1:
            raise ValueError(f"--layer {layer}: layers are 1 (lowest) .. L")
        return {"decode_layer": layer}
    return {}
