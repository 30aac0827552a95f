"""What a model says of every utterance of a split, on disk: any number of searches may read it."""

import hashlib
import json
import logging
import os
import time
from dataclasses import dataclass
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np
import torch

from ..finetuned.outputs import outputs
from ..models.varan_ctc import VaranCtc
from ..runtime.files import read_json, write_lines
from ..runtime.progress import progress

logger = logging.getLogger(__name__)

_COMPUTED, _LOG_PROBS = "computed.json", "log_probs.f32"
_ARRAYS = ("rows", "log_q", "layer")


@dataclass(frozen=True)
class Emission:
    """Of one utterance. log_probs: [T, V] float32. log_q: [K]. layer: the one layer that
    log_probs are of, 1 (lowest) .. L, or 0 if several have a say."""

    log_probs: np.ndarray
    log_q: np.ndarray
    layer: int


class Emissions(Sequence[Emission]):
    """Of a split, in the manifest's order. rows: [N, 2], first frame and number of frames.
    seconds: that computing them took, without loading the model; device: on what."""

    def __init__(
        self,
        log_probs: np.ndarray,
        rows: np.ndarray,
        log_q: np.ndarray,
        layer: np.ndarray,
        seconds: float,
        device: str,
    ):
        self.log_probs, self.rows, self.log_q, self.layer = log_probs, rows, log_q, layer
        self.seconds, self.device = seconds, device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Emission:  # type: ignore[override]
        first, frames = self.rows[index]
        log_probs = np.ascontiguousarray(self.log_probs[first : first + frames])
        return Emission(log_probs, self.log_q[index], int(self.layer[index]))


def batch_emissions(model: VaranCtc, net_output: Dict[str, Any]) -> List[Emission]:
    """One an utterance of a batch, without padding. net_output: of the model."""
    prediction = model.predict(net_output)
    log_probs = prediction.log_probs.transpose(0, 1).float().cpu().numpy()
    log_q = net_output["log_q"].float().cpu().numpy()
    layers = np.zeros(len(log_q), np.int64)
    if prediction.layer is not None:
        layers = prediction.layer.cpu().numpy() + 1
    lengths = net_output["lengths"].tolist()
    rows = zip(log_probs, lengths, log_q, layers)
    return [Emission(matrix[:length], q, int(layer)) for matrix, length, q, layer in rows]


def compute(
    model: VaranCtc,
    task: Any,
    subset: str,
    folder: str,
    max_tokens: int,
    num_workers: int = 0,
    shard: Tuple[int, int] = (0, 1),
) -> Emissions:
    """Those of a loaded split, written into `folder`. max_tokens, num_workers, shard: see
    `finetuned.outputs.outputs`; of utterances of other shards the number of frames is -1."""
    dataset = task.dataset(subset)
    rows = np.full((len(dataset), 2), -1)
    log_q = np.zeros((len(dataset), model.num_predictions), np.float32)
    layer = np.zeros(len(dataset), np.int64)
    sizes, rate = np.asarray(dataset.sizes), task.cfg.sample_rate
    batches = progress(
        outputs(model, task, subset, max_tokens, num_workers, shard),
        f"emissions of {subset}",
        total=float(sizes.sum()) / rate / shard[1],
        size=lambda batch: float(sizes[batch[0]].sum()) / rate,
        unit="s of audio",
    )

    def log_probs() -> Iterator[np.ndarray]:
        frames = 0
        for indices, net_output in batches:
            for index, emission in zip(indices, batch_emissions(model, net_output)):
                rows[index] = frames, len(emission.log_probs)
                log_q[index], layer[index] = emission.log_q, emission.layer
                frames += len(emission.log_probs)
                yield emission.log_probs

    classes = len(task.target_dictionary)
    return save(folder, log_probs(), classes, rows, log_q, layer, None, device_name(model))


def save(
    folder: str,
    log_probs: Iterable[np.ndarray],
    classes: int,
    rows: np.ndarray,
    log_q: np.ndarray,
    layer: np.ndarray,
    seconds: Optional[float],
    device: str,
) -> Emissions:
    """Writes emissions; log_probs are taken first, and may fill the other arrays. seconds: None
    for the time that taking them needs."""
    start = time.time()
    digest = hashlib.blake2b()
    with open(os.path.join(folder, _LOG_PROBS), "wb") as file:
        for emission in log_probs:
            digest.update(emission.tobytes())
            emission.tofile(file)
    for name, array in zip(_ARRAYS, (rows, log_q, layer)):
        np.save(os.path.join(folder, f"{name}.npy"), array)
    seconds = time.time() - start if seconds is None else seconds
    about = {"classes": classes, "seconds": seconds, "device": device}
    about["blake2b"] = digest.hexdigest()
    write_lines(os.path.join(folder, _COMPUTED), [json.dumps(about)])
    return read(folder)


def device_name(model: torch.nn.Module) -> str:
    """What a model runs on, in words."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def read(folder: str) -> Emissions:
    """What `save` wrote. Raises ValueError if it is not whole."""
    about = read_json(os.path.join(folder, _COMPUTED))
    path = os.path.join(folder, _LOG_PROBS)
    try:
        rows, log_q, layer = (np.load(os.path.join(folder, f"{name}.npy")) for name in _ARRAYS)
        shape = (int(rows[:, 1].clip(min=0).sum()), int(about["classes"]))
        # an empty file, of a shard without a batch, cannot be mapped
        log_probs = np.memmap(path, np.float32, "r", shape=shape) if shape[0] else np.zeros(shape)
        sound = _digest(path) == about["blake2b"]
        seconds, device = about["seconds"], about["device"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError) as error:
        raise ValueError(f"the emissions in {folder} are damaged ({error})") from None
    if not sound:
        raise ValueError(f"the emissions in {folder} are damaged (another checksum)")
    return Emissions(log_probs, rows, log_q, layer, seconds, device)


def _digest(path: str) -> str:
    digest = hashlib.blake2b()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
