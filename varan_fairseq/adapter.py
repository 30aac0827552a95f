"""Adapters as files: what trained, without the base model it was trained on.

A folder with a card, `adapter.json` (configuration, labels, SHA-256 of the base
checkpoint), and the weights it names, `adapter-<hash>.safetensors`. Nothing in it is
unpickled. A new card replaces an old one in one step, after its weights are there, so a
folder is a whole adapter at any moment.
"""

import hashlib
import json
import os
import re
from typing import Any, Dict, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from .manifest import write_lines

FORMAT = "varan_fairseq adapter"
VERSION = 1
CARD = "adapter.json"
_WEIGHTS = re.compile(r"adapter-[0-9a-f]{12}\.safetensors")


class Adapter(NamedTuple):
    """folder: where it was read. card: see `write_adapter`. tensors: by the names they have
    in the model's state dict, float32."""

    folder: str
    card: Dict[str, Any]
    tensors: Dict[str, Tensor]


def write_adapter(folder: str, card: Dict[str, Any], tensors: Dict[str, Tensor]) -> int:
    """Writes an adapter, replacing the one in `folder`. Returns the bytes of its weights.

    card: JSON values: `base` {file, sha256, kind}, `config` {model, task, criterion},
    `labels` [[symbol, count], ..]; format, version and checksums are added here.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise ValueError(f"{folder} is a file, wanted a folder for the adapter")
    os.makedirs(folder, exist_ok=True)
    data = tensors_to_bytes({name: tensor.contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    name = f"adapter-{digest[:12]}.safetensors"
    temporary = os.path.join(folder, f"{name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, os.path.join(folder, name))

    card = {
        "format": FORMAT,
        "version": VERSION,
        **card,
        "weights": {"file": name, "sha256": digest},
    }
    card["sha256"] = _card_digest(card)
    write_lines(os.path.join(folder, CARD), [json.dumps(card, indent=2)])
    for other in os.listdir(folder):
        if _WEIGHTS.fullmatch(other) and other != name:
            os.remove(os.path.join(folder, other))
    return len(data)


def read_adapter(folder: str) -> Adapter:
    """Reads and checks an adapter. Raises FileNotFoundError or ValueError that says which
    file is missing, of another version, or not as it was written."""
    path = os.path.join(folder, CARD)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no adapter {folder}: there is no {path}")
    try:
        with open(path, encoding="utf-8") as file:
            card = json.load(file)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): not an adapter's card") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ValueError(f"{path} is not the card of a {FORMAT}")
    if card.get("version") != VERSION:
        raise ValueError(
            f"{path} has format version {card.get('version')}, this varan_fairseq reads {VERSION}: "
            "install the one that wrote it, or export the adapter again"
        )
    if card.get("sha256") != _card_digest(card):
        raise ValueError(f"{path} was changed after it was written: its checksum does not match")

    try:
        _check_card(card)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is incomplete or malformed ({error!r})") from None

    name = card["weights"]["file"]
    if not _WEIGHTS.fullmatch(name):
        raise ValueError(f"{path} names the weights {name!r}, wanted adapter-<hash>.safetensors")
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{folder} is incomplete: there is no {path}")
    with open(path, "rb") as file:
        data = file.read()
    if hashlib.sha256(data).hexdigest() != card["weights"]["sha256"]:
        raise ValueError(f"{path} was changed after it was written: its checksum does not match")
    try:
        tensors = tensors_from_bytes(data)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from None
    return Adapter(folder, card, {key: value.float() for key, value in tensors.items()})


def halve(tensors: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Matrices as float16; vectors, which are small and include the prior, stay as they are.
    Raises ValueError for a value that float16 cannot hold."""
    halved = {}
    for name, tensor in tensors.items():
        halved[name] = tensor.half() if tensor.dim() > 1 else tensor
        if not torch.isfinite(halved[name]).all():
            raise ValueError(
                f"{name} holds values up to {tensor.abs().max():.3g}: float16 ends at 65504"
            )
    return halved


def _check_card(card: Dict[str, Any]) -> None:
    """Raises KeyError, TypeError or ValueError for what `write_adapter` would not write."""
    strings = [card["weights"][key] for key in ("file", "sha256")]
    strings += [card["base"][key] for key in ("file", "sha256", "kind")]
    strings += [symbol for symbol, _ in card["labels"]]
    numbers = [count for _, count in card["labels"]] + [card["num_updates"]]
    sections = [card["config"][key] for key in ("model", "task", "criterion")]
    for values, kind in ((strings, str), (numbers, int), (sections, dict)):
        for value in values:
            if not isinstance(value, kind):
                raise TypeError(f"{value!r} is no {kind.__name__}")
    if "${" in json.dumps(card["config"]):
        raise ValueError("the configuration interpolates, a written one never does")


def _card_digest(card: Dict[str, Any]) -> str:
    content = {key: value for key, value in card.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
