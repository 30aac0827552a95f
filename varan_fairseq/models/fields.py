"""How options are declared: once, with all that others derive from them in their metadata."""

from dataclasses import field
from typing import Any, Sequence

from ..method.choices import check_choice


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] = (),
    shapes: str = "",
    younger: bool = False,
) -> Any:
    """A field of a fairseq dataclass.

    Args:
        default: its value.
        help: what it means; choices are added.
        choices: all values it may have; `check_choices` refuses others. (fairseq's `ChoiceEnum`
            would, too, by omegaconf's message of three lines that does not name the section.)
        shapes: "reading" if it decides the shapes of what reads the encoder, "lora" if those of
            low-rank factors: metadata of adapters hold such options, and resuming compares them.
        younger: whether files exist that were written before it did; they mean the default.
    """
    if choices:
        help = f"{help}: {', '.join(choices)}"
    metadata = {"help": help, "choices": tuple(choices), "shapes": shapes, "younger": younger}
    return field(default=default, metadata=metadata)


def check_choices(cfg: Any, options: Any) -> None:
    """Raises ValueError for a value that is none of an option's choices. options: a dataclass."""
    for name, declared in options.__dataclass_fields__.items():
        choices = declared.metadata.get("choices")
        if choices and name in cfg:
            check_choice(f"model.{name}", str(cfg[name]).lower(), choices)
