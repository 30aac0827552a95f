"""Running a model over a split."""

import os
from typing import Any, Dict, Iterator, Tuple

import numpy as np
import torch
from fairseq import utils
from fairseq.data import FileAudioDataset

from ..data.audio_checks import header_findings
from ..data.findings import Split, enforce, split_files
from ..data.length_checks import length_findings
from ..data.manifest import Manifest
from ..models.preflight import encoder_frames
from ..runtime.progress import progress

# Of a checkpoint's options: what training leaves out with a warning is an error in a report.
STRICT = {"check_audio": True, "max_unreadable": 0.0}


def load_audio(model: Any, cfg: Any, task: Any, subset: str, manifest: Manifest) -> None:
    """Loads a split without its labels, which need not exist. Raises ValueError for audio that
    is not as its manifest says, or too short for the model."""
    split = Split(subset, split_files(cfg.task, subset), manifest)
    enforce(length_findings(split, encoder_frames(model.w2v_encoder)))
    if hasattr(task, "load_audio"):
        task.load_audio(subset)
    else:
        enforce(header_findings(split, cfg.task.sample_rate))
        load_checked_audio(task, cfg.task, subset)


def load_checked_audio(task: Any, cfg: Any, subset: str) -> None:
    """Loads a split's audio, whole and every file. cfg: of its task."""
    task.datasets[subset] = FileAudioDataset(
        os.path.join(cfg.data, f"{subset}.tsv"),
        sample_rate=cfg.sample_rate,
        pad=True,
        normalize=cfg.normalize,
    )


@torch.no_grad()
def outputs(
    model: Any,
    task: Any,
    subset: str,
    max_tokens: int,
    num_workers: int = 0,
    shard: Tuple[int, int] = (0, 1),
) -> Iterator[Tuple[np.ndarray, Dict[str, Any]]]:
    """(rows of the split, the model's output for them), batch by batch. On the GPU if there
    is one. max_tokens: samples a batch, at least those of the longest utterance. num_workers:
    processes that read audio. shard: index and number of processes that share the batches."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    half = next(model.parameters()).dtype == torch.half
    dataset = task.dataset(subset)
    batches = task.get_batch_iterator(
        dataset,
        max_tokens=max(max_tokens, int(np.max(dataset.sizes))),
        required_batch_size_multiple=1,
        num_workers=num_workers,
        num_shards=shard[1],
        shard_id=shard[0],
    ).next_epoch_itr(shuffle=False)
    for sample in batches:
        if "id" not in sample:  # a shard with a batch less than others
            continue
        rows = sample["id"].numpy()
        if device.type == "cuda":
            sample = utils.move_to_cuda(sample)
        if half:
            sample = utils.apply_to_sample(
                lambda x: x.half() if x.is_floating_point() else x, sample
            )
        yield rows, model(**sample["net_input"])


def shown_outputs(
    model: Any, task: Any, subset: str, max_tokens: int
) -> Iterator[Tuple[np.ndarray, Dict[str, Any]]]:
    """`outputs` with a bar."""
    batches = outputs(model, task, subset, max_tokens)
    count = len(task.dataset(subset))
    return progress(batches, f"reading {subset}", count, lambda batch: len(batch[0]), "utterances")


def check_complete(subset: str, wanted: int, values: np.ndarray) -> None:
    """Raises ValueError unless every one of the `wanted` utterances has its row in values,
    [N, ...] with NaN where there is none."""
    if len(values) != wanted or np.isnan(values).any():
        raise ValueError(
            f"{subset}.tsv names {wanted} utterances, the task's sizes left "
            f"{int((~np.isnan(values).any(1)).sum())} of them"
        )
