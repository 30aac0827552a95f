"""What the page shows: one pass over a split, each layer and all together read in it."""

import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from fairseq.data.data_utils import post_process

from ..data.manifest import Manifest
from ..decoding.emissions import batch_emissions
from ..decoding.evaluate import References, Scored, score
from ..decoding.search import Hypothesis, Search, options
from ..decoding.split import outputs
from ..models.varan_ctc import VaranCtc
from ..progress import progress


class Gathered(NamedTuple):
    """scored: as the model reads its layers. rates: WER of each layer alone, in percent. posterior:
    q(l|x) [N, L]. layers: the one layer of each utterance's text, or 0. seconds: of each
    utterance."""

    scored: Scored
    rates: List[float]
    posterior: np.ndarray
    layers: np.ndarray
    seconds: np.ndarray


def gather(
    model: VaranCtc,
    task: Any,
    subset: str,
    manifest: Manifest,
    references: References,
    spelling: str,
    max_tokens: int,
) -> Gathered:
    """Of a loaded split. spelling: fairseq's `post_process`. The best path, no language model."""
    count = len(manifest.entries)
    search = Search(options(), task.target_dictionary, spelling)
    best: List[Optional[Hypothesis]] = [None] * count
    each: List[List[Optional[Hypothesis]]] = [[None] * count for _ in range(model.num_predictions)]
    posterior = np.zeros((count, model.num_predictions), np.float32)
    layers = np.zeros(count, np.int64)
    sizes = np.array([samples for _, samples in manifest.entries])
    batches = progress(
        outputs(model, task, subset, max_tokens),
        f"reading {subset}",
        count,
        lambda batch: len(batch[0]),
        "utterances",
    )
    for rows, net_output in batches:
        for row, emission in zip(rows, batch_emissions(model, net_output)):
            best[row] = search(emission.log_probs)[0]
            posterior[row], layers[row] = np.exp(emission.log_q), emission.layer
        lengths = net_output["lengths"].tolist()
        for index, logits in enumerate(net_output["layer_logits"]):
            paths = logits.argmax(-1).t().cpu()
            for row, path, length in zip(rows, paths, lengths):
                units = path[:length].unique_consecutive()
                units = units[units != model.blank]
                text = post_process(task.target_dictionary.string(units), spelling)
                each[index][row] = Hypothesis(units.tolist(), text, 0.0)
    rates = [float(score(references, hypotheses).summary["wer"]) for hypotheses in each]
    return Gathered(score(references, best), rates, posterior, layers, sizes / task.cfg.sample_rate)


def worst(scored: Scored, count: int) -> List[int]:
    """Rows with the most word errors, of as many errors the shorter reference first."""
    errors = [sum(a != b for a, b in aligned) for aligned in scored.aligned]
    words = [sum(bool(a) for a, _ in aligned) for aligned in scored.aligned]
    order = sorted(range(len(errors)), key=lambda row: (-errors[row], words[row], row))
    return [row for row in order if errors[row]][:count]


def groups_of_length(seconds: np.ndarray, count: int = 4) -> Dict[str, Any]:
    """labels: which of `count` groups of about the same size each utterance is in, [N]; classes:
    their names."""
    edges = np.quantile(seconds, np.linspace(0, 1, count + 1))
    labels = np.clip(np.searchsorted(edges, seconds, side="left") - 1, 0, count - 1)
    names = [f"{low:.1f} - {high:.1f} s" for low, high in zip(edges, edges[1:])]
    return {"labels": labels, "classes": names}


def groups_of_names(names: Sequence[str], most: int) -> Dict[str, Any]:
    """The same of names, such as speakers; those with the most utterances, the others as one."""
    known, index, counts = np.unique(np.asarray(names), return_inverse=True, return_counts=True)
    kept = np.sort(np.argsort(-counts, kind="stable")[:most])
    place = np.full(len(known), len(kept))
    place[kept] = np.arange(len(kept))
    others = ["others"] if len(known) > most else []
    return {"labels": place[index], "classes": [*known[kept].tolist(), *others]}


def audio_path(manifest: Manifest, row: int) -> str:
    return os.path.join(manifest.root, manifest.entries[row][0])
