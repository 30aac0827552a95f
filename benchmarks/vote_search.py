#!/usr/bin/env python3
"""Other votes and other searches beside the vote, on validation data.

    python manifests/digits.py work/more --train 10 --valid 600 --test 10 --seed 77
    python benchmarks/vote_search.py work/demo/hubert --data work/more --json docs/results/vote-search.json

600 strings by the voices of the demo's validation split, read by the demo's runs of VARAN (folders of
lora-varan-SEED). WER of the transcripts, mean over runs; time of the search alone beside the vote's.
Checkpoints are pickles: your own.
"""

import argparse
import logging
import os
import shutil
import statistics
import time

import numpy as np
import torch
from measure import write_figures
from vote import BATCH, emissions

from varan_fairseq.decoding.results import rates
from varan_fairseq.decoding.search import best_paths
from varan_fairseq.finetuned.labelled import load_transcribed
from varan_fairseq.finetuned.load import load_model
from varan_fairseq.method import vote
from varan_fairseq.method.consensus import consensus_layer
from varan_fairseq.method.kernels.stretches import Stretch, stretch_log_likelihood


class SecondChoices(vote.Ballot):
    """Single labels that some layer finds likelier than `least` are edits, too, though its best path
    says another."""

    least = 0.1

    def _edits(self, fresh):
        yield from super()._edits(fresh)
        for b, stretches in fresh.items():
            for k in self.order[b]:
                for start, end, labels in self._of_layer(b, k):
                    if any(
                        start <= last + vote._NEAR and end >= first - vote._NEAR
                        for first, last in stretches
                    ):
                        yield vote.Edit(b, start, end, labels)

    def _of_layer(self, b, k):
        probs = self.log_probs[k][: self.lengths[b], b].exp().numpy()
        reading, place, before = self.readings[b][k], self.places[b][k], 0
        back = {int(at): number for number, at in enumerate(place) if at >= 0}
        back.update({-1: -1, len(reading.labels): len(self.texts[b])})
        for j, label in enumerate([*reading.labels, None]):
            first = len(probs) if label is None else reading.start[j]
            if first > before and j in back and back.get(j - 1) == back[j] - 1:
                for other in np.flatnonzero(probs[before:first].max(0) > self.least):
                    if other != self.blank:
                        yield back[j], back[j], (int(other),)
            if label is None:
                return
            before = reading.end[j]
            if j in back:
                for other in np.flatnonzero(probs[first:before].mean(0) > self.least):
                    new = () if other == self.blank else (int(other),)
                    if other != label:
                        yield back[j], back[j] + 1, new


class Starts(vote.Ballot):
    """The vote from what each of the three likeliest layers reads; of the results, the one that all
    layers find likeliest over the whole utterance."""

    def run(self):
        order, found = self.order, []
        for place in range(3):
            self.texts = [
                row[first].labels for row, first in zip(self.readings, order[:, place].tolist())
            ]
            self.given_up = []
            super().run()
            found.append(list(self.texts))
        layers = range(len(self.log_probs))
        asked = [
            Stretch(b, k, 0, length, texts[b])
            for b, length in enumerate(self.lengths)
            for texts in found
            for k in layers
        ]
        log_p = stretch_log_likelihood(self.log_probs, asked, self.blank)
        log_p = log_p.reshape(len(self.lengths), len(found), -1)
        score = np.nan_to_num(log_p - log_p[:, :1]) * self.weights[:, None]
        self.texts = [found[best][b] for b, best in enumerate(score.sum(-1).argmax(1))]


def variants():
    """(name, ballot, power of q, constants of the vote)."""
    yield "vote", vote.Ballot, 1.0, {}
    yield "weights sqrt(q)", vote.Ballot, 0.5, {}
    yield "weights q^(1/4)", vote.Ballot, 0.25, {}
    yield "equal weights", vote.Ballot, 0.0, {}
    for context in (0, 2, 3):
        yield f"{context} labels to an anchor", vote.Ballot, 1.0, {"CONTEXT": context}
    yield "8 rounds", vote.Ballot, 1.0, {"ROUNDS": 8}
    for clip in (4.0, 16.0, 1e9):
        yield f"clip at {clip:g}", vote.Ballot, 1.0, {"CLIP": clip}
    yield "second choices", SecondChoices, 1.0, {}
    yield "second choices, sqrt(q)", SecondChoices, 0.5, {}
    yield "best of 3 starts", Starts, 1.0, {}


def read(found, blank, kind, power):
    """(texts, seconds of the search)."""
    texts, seconds = [], 0.0
    for at in range(0, len(found), BATCH):
        part = found[at : at + BATCH]
        lengths = torch.tensor([layers.shape[1] for layers, _ in part])
        log_q = (torch.stack([q for _, q in part]) * power).log_softmax(-1)
        padded = [
            torch.nn.utils.rnn.pad_sequence([layers[k] for layers, _ in part])
            for k in range(len(part[0][0]))
        ]
        start = time.perf_counter()
        ballot = kind(padded, log_q, lengths, blank)
        ballot.run()
        if ballot.given_up:
            layer = consensus_layer(padded, log_q, lengths, blank)
            for b in ballot.given_up:
                ballot.texts[b] = ballot.readings[b][int(layer[b])].labels
        seconds += time.perf_counter() - start
        texts += ballot.texts
    return texts, seconds


def main() -> None:
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", help="folders of lora-varan-SEED")
    parser.add_argument("--data", required=True)
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    wer = {name: [] for name, *_ in variants()}
    took = dict.fromkeys(wer, 0.0)
    for folder in args.runs:
        for name in sorted(os.listdir(folder)):
            if not name.startswith("lora-varan-"):
                continue
            path = os.path.join(folder, name, "checkpoint_last.pt")
            labels = os.path.join(os.path.dirname(folder), "data", "dict.ltr.txt")
            shutil.copy(labels, args.data)  # in the order that these runs have
            model, cfg, task = load_model(path, data=args.data)
            split = load_transcribed(model, cfg, task, "valid")
            found = emissions(model, task, "valid", len(split.references.text))
            for variant, kind, power, constants in variants():
                kept = {key: getattr(vote, key) for key in constants}
                for key, value in constants.items():
                    setattr(vote, key, value)
                texts, seconds = read(found, model.blank, kind, power)
                for key, value in kept.items():
                    setattr(vote, key, value)
                said = [
                    torch.zeros(2 * len(text) + 1, len(task.target_dictionary)) for text in texts
                ]
                for emission, text in zip(said, texts):  # an emission that says the text
                    emission[:, model.blank] = 1
                    for place, label in enumerate(text):
                        emission[2 * place + 1, label] = 2
                lengths = [len(emission) for emission in said]
                padded = torch.nn.utils.rnn.pad_sequence(said)
                symbols = task.target_dictionary
                heard = best_paths(padded, lengths, model.blank, symbols, split.post_process)
                wer[variant].append(rates(split.references, heard)[0])
                took[variant] += seconds
    rows = [
        {
            "search": name,
            "WER %": round(statistics.mean(values), 2),
            "time": round(took[name] / took["vote"], 1),
            "runs": " ".join(f"{value:.2f}" for value in values),
        }
        for name, values in wer.items()
    ]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if args.json:
        write_figures(args.json, rows)


if __name__ == "__main__":
    main()
