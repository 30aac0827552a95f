"""What a model says of every utterance of a split: computed once, kept on disk, read by any
number of searches."""

import hashlib
import json
import logging
import os
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch

from ..files import write_lines, written_whole
from ..models.varan_ctc import VaranCtc
from ..progress import progress
from .split import outputs

logger = logging.getLogger(__name__)

VERSION = 1
_ABOUT, _LOG_PROBS, _ARRAYS = "about.json", "log_probs.f32", ("rows", "log_q", "layer")


class Emission(NamedTuple):
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

    def __getitem__(self, index: int) -> Emission:
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
    return [Emission(each[:length], q, int(layer)) for each, length, q, layer in rows]


def compute(
    model: VaranCtc, task: Any, subset: str, folder: str, max_tokens: int, num_workers: int = 0
) -> Emissions:
    """Those of a loaded split, written into `folder`. max_tokens, num_workers: see
    `split.outputs`. Raises ValueError if the task leaves utterances out."""
    dataset = task.dataset(subset)
    rows = np.full((len(dataset), 2), -1)
    log_q = np.zeros((len(dataset), model.num_predictions), np.float32)
    layer = np.zeros(len(dataset), np.int64)
    frames, seconds = 0, 0.0
    path = os.path.join(folder, _LOG_PROBS)
    rate = task.cfg.sample_rate
    batches = progress(
        outputs(model, task, subset, max_tokens, num_workers),
        f"emissions of {subset}",
        total=int(np.sum(dataset.sizes)) / rate,
        size=lambda batch: int(np.sum(np.asarray(dataset.sizes)[batch[0]])) / rate,
        unit="s of audio",
    )
    start = time.time()
    with open(path, "wb") as file:
        for indices, net_output in batches:
            for index, emission in zip(indices, batch_emissions(model, net_output)):
                emission.log_probs.tofile(file)
                rows[index] = frames, len(emission.log_probs)
                log_q[index], layer[index] = emission.log_q, emission.layer
                frames += len(emission.log_probs)
    seconds = time.time() - start
    left_out = int((rows[:, 1] < 0).sum())
    if left_out:
        raise ValueError(
            f"{left_out} of the {len(rows)} utterances in {subset}.tsv are left out by options "
            "such as task.min_sample_size: there is no score of a part"
        )
    for name, array in zip(_ARRAYS, (rows, log_q, layer)):
        np.save(os.path.join(folder, f"{name}.npy"), array)
    classes = len(task.target_dictionary)
    about = {"classes": classes, "seconds": seconds, "device": device_name(model)}
    write_lines(os.path.join(folder, "computed.json"), [json.dumps(about)])
    return _open(folder)


def kept(
    folder: str, key: Dict[str, Any], make: Any, audio_seconds: float
) -> Emissions:
    """Emissions in `folder`, if they are those of `key`; else `make(folder)` makes them there.
    audio_seconds: for the log."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    wanted = {"version": VERSION, "sha256": digest}
    found = _read_json(os.path.join(folder, _ABOUT))
    if found is not None and {name: found.get(name) for name in wanted} == wanted:
        logger.info("emissions of %.0f s of audio: as kept in %s", audio_seconds, folder)
        return _open(folder)
    with written_whole(folder, (_ABOUT,)) as partial:
        made = make(partial)
        write_lines(os.path.join(partial, _ABOUT), [json.dumps({**wanted, "key": key}, default=str)])
    logger.info(
        "emissions of %.0f s of audio in %.1f s, %.1f MB -> %s",
        audio_seconds,
        made.seconds,
        made.log_probs.nbytes / 1e6,
        folder,
    )
    return _open(folder)


def file_state(path: Optional[str]) -> Optional[List[Any]]:
    """What changes if a file is replaced; of a folder, that of its files."""
    if path is None:
        return None
    if os.path.isdir(path):
        return [file_state(os.path.join(path, name)) for name in sorted(os.listdir(path))]
    state = os.stat(path)
    return [os.path.abspath(path), state.st_size, state.st_mtime_ns]


def device_name(model: torch.nn.Module) -> str:
    """What a model runs on, in words."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _open(folder: str) -> Emissions:
    about = _read_json(os.path.join(folder, "computed.json"))
    arrays = [np.load(os.path.join(folder, f"{name}.npy")) for name in _ARRAYS]
    frames = int(arrays[0][:, 1].sum())
    path = os.path.join(folder, _LOG_PROBS)
    log_probs = np.memmap(path, np.float32, "r", shape=(frames, about["classes"]))
    return Emissions(log_probs, *arrays, about["seconds"], about["device"])


def _read_json(path: str) -> Optional[Dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None
