#!/usr/bin/env python3
"""Would utterances that stop early beat a model that is cut for all of them?

    python benchmarks/confidence_exit.py work/demo/data work/demo/hubert/lora-varan-*/checkpoint_last.pt

An utterance stops at the first depth at which the last M layers so far read the same as all so far
together, with at least some confidence (the geometric mean of the likelier label's probability over
frames). M and threshold: those with the lowest mean depth of which the validation WER is at most 0.25
above that of all layers. Beside it, at the same mean depth: models cut there (varan-export
prune), interpolated. No model is stopped here; everything is read off one pass over all layers.
"""

import argparse
import itertools
import logging
from typing import List, NamedTuple

import numpy as np
import torch
from measure import write_figures

from varan_fairseq.decoding.search import Hypothesis, best_paths
from varan_fairseq.finetuned.labelled import load_transcribed
from varan_fairseq.finetuned.load import load_model
from varan_fairseq.finetuned.outputs import STRICT, shown_outputs
from varan_fairseq.scoring.rates import rate
from varan_fairseq.scoring.transcripts import distance

SLACK = 0.25  # points of WER
MOST_TOKENS = 4000000


class Split(NamedTuple):
    """Of N utterances at L depths. agree: [N, L], how many of the last layers up
    to K read the same. confidence: [N, L]. errors: word errors [N, L]. words: of each [N]."""

    agree: np.ndarray
    confidence: np.ndarray
    errors: np.ndarray
    words: np.ndarray

    def wer(self, depth: np.ndarray) -> float:
        """Of utterances that stop at their depths [N], 0-based."""
        return rate(self.errors[np.arange(len(depth)), depth].sum(), self.words.sum())


def read(model, cfg, task, subset: str) -> Split:
    split = load_transcribed(model, cfg, task, subset)
    count, layers = len(split.manifest.entries), model.num_predictions
    agree, confidence, errors = (np.zeros((count, layers)) for _ in range(3))
    references = [line.split() for line in split.references.text]

    def texts(log_probs, lengths) -> List[Hypothesis]:
        return best_paths(log_probs, lengths, model.blank, task.target_dictionary, split.spelling)

    for rows, out in shown_outputs(model, task, subset, MOST_TOKENS):
        lengths = out["lengths"].tolist()
        alone = [texts(logits, lengths) for logits in out["layer_logits"]]
        for depth in range(layers):
            log_probs = model.predict(model.at_depth(out, depth + 1)).log_probs
            best = log_probs.max(-1).values.t()
            for at, (row, found) in enumerate(zip(rows, texts(log_probs, lengths))):
                confidence[row, depth] = float(best[at, : lengths[at]].mean().exp())
                errors[row, depth] = distance(references[row], found.text.split())
                same = (each[at].text == found.text for each in reversed(alone[: depth + 1]))
                agree[row, depth] = sum(1 for _ in itertools.takewhile(bool, same))
    return Split(agree, confidence, errors, np.array([len(line) for line in references]))


def depths(split: Split, alike: int, threshold: float) -> np.ndarray:
    stops = (split.agree >= alike) & (split.confidence >= threshold)
    stops[:, -1] = True
    return stops.argmax(1)


def figures(checkpoint: str, data: str):
    model, cfg, task = load_model(checkpoint, STRICT, data)
    valid, test = (read(model, cfg, task, subset) for subset in ("valid", "test"))
    layers = model.num_predictions
    whole = valid.wer(np.full(len(valid.words), layers - 1))
    settings = [
        (depths(valid, alike, threshold).mean(), alike, threshold)
        for alike in range(1, layers + 1)
        for threshold in np.quantile(valid.confidence, np.linspace(0, 1, 41))
        if valid.wer(depths(valid, alike, threshold)) <= whole + SLACK
    ]
    _, alike, threshold = min(settings, key=lambda each: each[0])
    stopped = depths(test, alike, threshold)
    curve = [test.wer(np.full(len(test.words), depth)) for depth in range(layers)]
    mean = stopped.mean()
    return {
        "layers_alike": alike,
        "mean_depth": round(float(mean) + 1, 2),
        "wer_all_layers": round(curve[-1], 2),
        "wer_early_exit": round(test.wer(stopped), 2),
        "wer_cut_at_that_depth": round(float(np.interp(mean, range(layers), curve)), 2),
    }


def main() -> None:
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data")
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    with torch.no_grad():
        rows = [{"run": n, **figures(c, args.data)} for n, c in enumerate(args.checkpoints, 1)]
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    if args.json:
        write_figures(args.json, rows)


if __name__ == "__main__":
    main()
