"""Running a model over a split, and pictures: what the reporting tools share."""

import argparse
import os
from typing import Any, Callable, Dict, Iterator, Tuple

import numpy as np
import torch
from fairseq import utils
from fairseq.data import FileAudioDataset

from ..data.audio_check import audio_problems, refuse_audio
from ..data.manifest import Manifest
from ..data.short import check_lengths
from ..files import written


def add_split_options(parser: argparse.ArgumentParser) -> None:
    """Options of tools that run over a split."""
    parser.add_argument("--base", help="the pre-trained checkpoint that an adapter is for")
    parser.add_argument("--max-tokens", type=int, default=4000000, help="samples a batch")


# Of a checkpoint's options: what training leaves out with a warning is an error in a report.
STRICT = {"check_audio": True, "max_unreadable": 0.0}


def load_audio(model: Any, cfg: Any, task: Any, subset: str, manifest: Manifest) -> None:
    """Loads a split without its labels, which need not exist. Raises ValueError for audio that
    is not as its manifest says, or too short for the model."""
    path = os.path.join(cfg.task.data, f"{subset}.tsv")
    check_lengths(path, manifest, model.w2v_encoder.receptive_field, None)
    if hasattr(task, "load_audio"):
        task.load_audio(subset)
    else:
        refuse_audio(path, audio_problems(path, manifest, cfg.task.sample_rate))
        task.datasets[subset] = FileAudioDataset(
            path,
            sample_rate=cfg.task.sample_rate,
            pad=True,
            normalize=cfg.task.normalize,
        )


@torch.no_grad()
def outputs(
    model: Any, task: Any, subset: str, max_tokens: int
) -> Iterator[Tuple[np.ndarray, Dict[str, Any]]]:
    """(rows of the split, the model's output for them), batch by batch. On the GPU if there
    is one. max_tokens: samples a batch, at least those of the longest utterance."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    dataset = task.dataset(subset)
    batches = task.get_batch_iterator(
        dataset,
        max_tokens=max(max_tokens, int(np.max(dataset.sizes))),
        required_batch_size_multiple=1,
    ).next_epoch_itr(shuffle=False)
    for sample in batches:
        rows = sample["id"].numpy()
        if device.type == "cuda":
            sample = utils.move_to_cuda(sample)
        yield rows, model(**sample["net_input"])


def check_complete(subset: str, wanted: int, values: np.ndarray) -> None:
    """Raises ValueError unless every one of the `wanted` utterances has its row in values,
    [N, ...] with NaN where there is none."""
    if len(values) != wanted or np.isnan(values).any():
        raise ValueError(
            f"{subset}.tsv names {wanted} utterances, the task's sizes left "
            f"{int((~np.isnan(values).any(1)).sum())} of them"
        )


def pyplot() -> Any:
    """matplotlib without a display; ModuleNotFoundError says what to install."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the picture needs matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def save_picture(path: str, draw: Callable[[Any], Any]) -> None:
    """draw: matplotlib's pyplot -> a figure. Whole or not at all."""
    plt = pyplot()
    figure = draw(plt)
    with written(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
