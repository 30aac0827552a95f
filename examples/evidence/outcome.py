"""What a run left: figures of its checkpoints, errors of its decoding; and what tells data and
encoders from others."""

import csv
import hashlib
import os
from typing import Any, Dict, Iterable, List

from omegaconf import OmegaConf

from varan_fairseq.data.manifest import read_lines, read_manifest


def trained(folder: str) -> Dict[str, Any]:
    """Of the checkpoints: score on validation data, updates, seconds an update (validation and
    loading among them), trained parameters."""
    from varan_fairseq.runtime.pickles import peek

    best = peek(os.path.join(folder, "checkpoint_best.pt"))
    last = peek(os.path.join(folder, "checkpoint_last.pt"))
    extra = best["extra_state"]
    options = OmegaConf.create(best["cfg"]["checkpoint"])
    updates = int(last["optimizer_history"][-1]["num_updates"])
    moments = last["last_optimizer_state"]["state"].values()
    return {
        "metric": options.best_checkpoint_metric,
        "maximize": bool(options.maximize_best_checkpoint_metric),
        "score": float(extra["best"]),
        "updates": updates,
        "seconds_per_update": last["extra_state"]["previous_training_time"] / updates,
        "trained_parameters": sum(moment["exp_avg"].numel() for moment in moments),
    }


def errors(folder: str, rate: str, wanted: List[int]) -> List[int]:
    """Of each utterance that was decoded into a folder: words (WER) or labels (UER) wrong, or 1 for
    a wrong class (accuracy). wanted: their lengths. Raises ValueError if they are of other
    transcripts, or no counts of errors."""
    path = f"{folder}/{'utterances' if rate == 'accuracy' else 'errors'}.tsv"
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if rate == "accuracy":
        counts = [(int(row["label"] != row["predicted"]), 1) for row in rows]
    else:
        column, length = {"WER": ("word_errors", "words"), "UER": ("unit_errors", "units")}[rate]
        counts = [(int(row[column]), int(row[length])) for row in rows]
    if [length for _, length in counts] != wanted or min(count for count, _ in counts) < 0:
        raise ValueError(f"{path} is not of the transcripts of this corpus: decode again")
    return [count for count, _ in counts]


def lengths(data: str, split: str, rate: str) -> List[int]:
    """Words or labels of each utterance of a split, or 1 each. Raises ValueError if files do not
    agree."""
    files = len(read_manifest(os.path.join(data, f"{split}.tsv")).entries)
    if rate == "accuracy":
        return [1] * files
    labels = [line.split() for line in read_lines(f"{data}/{split}.ltr")]
    if len(labels) != files:
        raise ValueError(f"{data}/{split}.ltr has {len(labels)} lines, its manifest {files} files")
    if rate == "UER":
        return [len(line) for line in labels]
    return [len("".join(line).replace("|", " ").split()) for line in labels]


def conditions(data: str, split: str) -> List[str]:
    """Names in DATA/SPLIT.condition, one an utterance; none without that file. Raises ValueError if
    the files do not agree."""
    path = os.path.join(data, f"{split}.condition")
    if not os.path.isfile(path):
        return []
    names = read_lines(path)
    files = len(read_manifest(os.path.join(data, f"{split}.tsv")).entries)
    if len(names) != files:
        raise ValueError(f"{path} has {len(names)} lines, its manifest {files} files")
    return names


def encoder_digest(path: str) -> str:
    """Of the weights, whatever else the file holds."""
    from varan_fairseq.runtime.pickles import peek

    digest, weights = hashlib.sha256(), peek(path)["model"]
    for name in sorted(weights):
        if hasattr(weights[name], "numpy"):
            digest.update(name.encode())
            digest.update(weights[name].contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


def audio_digest(folders: Iterable[str]) -> str:
    """Of the audio: the size of each file and a block from its middle, wherever it lies."""
    digest = hashlib.sha256()
    for data in folders:
        for name in sorted(os.listdir(data)):
            if not name.endswith(".tsv"):
                continue
            manifest = read_manifest(os.path.join(data, name))
            for path, _ in manifest.entries:
                digest.update(_sample(os.path.join(manifest.root, path)))
    return digest.hexdigest()


def _sample(path: str) -> bytes:
    if not os.path.isfile(path):
        return b"none"
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(size // 2)
        return b"%d" % size + file.read(4096)


def data_digest(folders: Iterable[str]) -> str:
    """Of the manifests and labels, wherever the audio lies."""
    digest = hashlib.sha256()
    for data in folders:
        for name in sorted(os.listdir(data)):
            if name.endswith((".tsv", ".ltr", ".emo", ".condition")):
                lines = read_lines(os.path.join(data, name))
                digest.update("\n".join([name, *lines[name.endswith(".tsv") :]]).encode())
    return digest.hexdigest()
