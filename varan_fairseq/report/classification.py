"""A classifier on a split: one pass over it, each layer and all together read in it."""

from typing import Any, List, Sequence

import numpy as np
import torch

from ..finetuned.labelled import Classified
from ..finetuned.outputs import check_complete, shown_outputs
from ..models.varan_classification import VaranClassification
from ..scoring.classification import confusion_matrix, summary
from ..scoring.rates import interval
from .summary import Heard, Mistake, SplitSummary, aggregated, common_groups, groups_of_names


def classify(
    model: VaranClassification,
    task: Any,
    subset: str,
    split: Classified,
    max_tokens: int,
) -> SplitSummary:
    """Of a loaded split."""
    manifest, labels, speakers = split.manifest, split.labels, split.speakers
    count, classes = len(manifest.entries), task.target_dictionary.symbols
    probs = np.full((count, len(classes)), np.nan)
    posterior = np.full((count, model.num_predictions), np.nan)
    correct = np.zeros((model.num_predictions, count), bool)
    for rows, net_output in shown_outputs(model, task, subset, max_tokens):
        probs[rows] = model.get_normalized_probs(net_output, log_probs=False).cpu().numpy()
        posterior[rows] = net_output["log_q"].exp().cpu().numpy()
        for layer, logits in enumerate(net_output["layer_logits"]):
            correct[layer, rows] = logits.argmax(-1).cpu().numpy() == labels[rows]
    check_complete(subset, count, probs)
    predicted = probs.argmax(1)
    confusion = confusion_matrix(
        torch.from_numpy(labels), torch.from_numpy(predicted), len(classes)
    )
    scores = summary(confusion.numpy())
    right, ones = predicted == labels, np.ones(count)
    of_speakers = None
    if speakers is not None:
        of_speakers = (len(set(speakers)), interval(right, ones, speakers))
    seconds = manifest.samples / task.cfg.sample_rate
    names = [classes[label] for label in labels]
    return SplitSummary(
        measure="accuracy",
        value=scores["accuracy"],
        interval=interval(right, ones),
        of_speakers=of_speakers,
        rates=(100 * correct.mean(1)).tolist(),
        posterior=posterior,
        seconds=seconds,
        groups={"By class": groups_of_names(names), **common_groups(seconds, speakers)},
        facts=[
            ("aggregation", ", ".join(aggregated(model.cfg))),
            ("utterances", f"{count:,}, {int((~right).sum()):,} wrong"),
            ("unweighted accuracy", f"{scores['unweighted_accuracy']:.2f}%"),
            ("macro F1", f"{scores['macro_f1']:.2f}%"),
        ],
        mistakes=_mistakes(probs, labels, classes),
        heard=Heard(
            errors=1 - right.astype(np.int64),
            lengths=np.ones(count, np.int64),
            confidence=probs.max(1),
            layers=np.zeros(count, np.int64),
            said=names,
            heard=[classes[index] for index in predicted],
            speakers=speakers,
        ),
        confusion=confusion.long().numpy(),
        classes=classes,
    )


def _mistakes(probs: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> List[Mistake]:
    """Wrong utterances, those whose label is thought the least likely first."""
    of_label = probs[np.arange(len(labels)), labels]
    predicted = probs.argmax(1)
    return [
        Mistake(
            int(row),
            f"p({classes[labels[row]]}) = {of_label[row]:.3f}, p({classes[predicted[row]]}) = "
            f"{probs[row, predicted[row]]:.3f}",
            [(classes[labels[row]], classes[predicted[row]])],
        )
        for row in np.argsort(of_label, kind="stable")
        if predicted[row] != labels[row]
    ]
