"""Adapters as files: what trained, without the base model it was trained on.

A folder with metadata, `adapter.json` (configuration, labels, SHA-256 of the base
checkpoint), and the weights it names, `adapter-<hash>.safetensors`. Nothing in it is
unpickled. New metadata replace old ones in one step, after its weights are there, so a
folder is a whole adapter at any moment; writers of one folder wait for each other.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from ..runtime.files import file_state, locked, refuse_file, write_lines, written
from .metadata import MOST_BYTES, known_metadata, parse_metadata

FORMAT = "varan_fairseq adapter"
VERSION = 1
METADATA = "adapter.json"
_WEIGHTS = re.compile(r"adapter-[0-9a-f]{12}\.safetensors$")
_HEAD = re.compile(r"aggregation\.heads?\..*\.bias")


@dataclass(frozen=True)
class Adapter:
    """folder: where it was read. metadata: see `write_adapter`, with checked values and keys that
    are known here alone. tensors: by the names they have in the model's state dict, float32."""

    folder: str
    metadata: Dict[str, Any]
    tensors: Dict[str, Tensor]


def write_adapter(folder: str, metadata: Dict[str, Any], tensors: Dict[str, Tensor]) -> int:
    """Writes an adapter, replacing the one in `folder`. Returns the bytes of its weights.

    metadata: JSON values: `base` {file, sha256, kind}, `config` {model, task, criterion},
    `labels` [[symbol, count], ..]; format, version and checksums are added here.
    """
    refuse_file(folder)
    os.makedirs(folder, exist_ok=True)
    data = tensors_to_bytes({name: tensor.contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    name = f"adapter-{digest[:12]}.safetensors"
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        **metadata,
        "weights": {"file": name, "sha256": digest},
    }
    metadata["sha256"] = _metadata_digest(metadata)
    with locked(folder):
        with written(os.path.join(folder, name)) as temporary, open(temporary, "wb") as file:
            file.write(data)
        write_lines(os.path.join(folder, METADATA), [json.dumps(metadata, indent=2)])
        for other in os.listdir(folder):
            if _WEIGHTS.match(other) and other != name:
                os.remove(os.path.join(folder, other))
    return len(data)


def adapter_state(folder: str) -> List[Any]:
    """What changes if an adapter is replaced, and not if something else is put beside it."""
    names = sorted(name for name in os.listdir(folder) if name == METADATA or _WEIGHTS.match(name))
    return [file_state(os.path.join(folder, name)) for name in names]


def read_adapter(folder: str) -> Adapter:
    """Reads and checks an adapter, before anything is built from it. Raises FileNotFoundError
    or ValueError that says which file is missing, of another version, or not as it was
    written."""
    path = os.path.join(folder, METADATA)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no adapter {folder}: there is no {path}")
    try:
        with open(path, "rb") as file:
            metadata = parse_metadata(file.read(MOST_BYTES + 1))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): not an adapter's metadata") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not the metadata of a {FORMAT}")
    if metadata.get("version") != VERSION:
        raise ValueError(
            f"{path} has format version {metadata.get('version')!r}, this varan_fairseq reads "
            f"{VERSION}: install the one that wrote it, or export the adapter again"
        )
    if metadata.get("sha256") != _metadata_digest(metadata):
        raise ValueError(f"{path} was changed after it was written: its checksum does not match")
    try:
        metadata = known_metadata(metadata)
    except ValueError as error:
        raise ValueError(f"{path} is incomplete or malformed: {error}") from None

    path = os.path.join(folder, metadata["weights"]["file"])
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{folder} is incomplete: there is no {path}")
    with open(path, "rb") as file:
        data = file.read()
    if hashlib.sha256(data).hexdigest() != metadata["weights"]["sha256"]:
        raise ValueError(f"{path} was changed after it was written: its checksum does not match")
    try:
        tensors = tensors_from_bytes(data)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from None
    try:
        _check_tensors(metadata, tensors)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    return Adapter(folder, metadata, {key: value.float() for key, value in tensors.items()})


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


def _check_tensors(metadata: Dict[str, Any], tensors: Dict[str, Tensor]) -> None:
    """Raises ValueError for tensors that are not those of the metadata's options: before a model is
    built to them, whose size they would decide."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"holds NaN or infinite numbers in {name}")
    prior = tensors.get("prior.probs")
    if prior is None or prior.dim() != 1 or (prior < 0).any() or abs(prior.sum() - 1) > 1e-3:
        raise ValueError("has no prior that is a distribution over layers")
    model = metadata["config"]["model"]
    rank = model.get("lora_rank", 0)
    ranks = {tuple(t.shape)[:1] for name, t in tensors.items() if name.endswith(".lora_A")}
    if ranks != ({(rank,)} if rank else set()):
        present = ", ".join(str(shape[0]) for shape in sorted(ranks)) or "none"
        raise ValueError(f"has factors of rank {present}, its metadata says model.lora_rank={rank}")
    special = 4 if model["_name"] == "varan_ctc" else 0  # fairseq's own symbols
    outputs = {len(metadata["labels"]) + special}
    if model.get("head_dim"):
        outputs.add(model["head_dim"])
    widths = {t.shape[0] for name, t in tensors.items() if _HEAD.fullmatch(name)}
    if widths != outputs:
        raise ValueError(
            f"has heads of widths {sorted(widths)}, its metadata's labels and model.head_dim mean "
            f"{sorted(outputs)}"
        )


def _metadata_digest(metadata: Dict[str, Any]) -> str:
    content = {key: value for key, value in metadata.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
