#!/usr/bin/env python3
"""How the vote reads beside the other rules, and whether that lasts over length: the strings of a
split one by one, and eight in a row, whose emissions are put one behind the other.

    python benchmarks/vote.py --json docs/results/vote.json      (after make demo)

WER by fairseq's best path, mean over the demo's runs of VARAN. Checkpoints are pickles: your own.
"""

import argparse
import logging
import os
import statistics

import torch
from measure import write_figures

from varan_fairseq.decoding.results import rates
from varan_fairseq.decoding.search import best_paths
from varan_fairseq.finetuned.labelled import References, load_transcribed
from varan_fairseq.finetuned.load import load_model
from varan_fairseq.finetuned.outputs import outputs
from varan_fairseq.method.combine import likeliest_layer, pick_layer
from varan_fairseq.method.consensus import consensus_layer
from varan_fairseq.method.vote import vote

RULES = ("best_layer", "consensus", "vote")
BATCH = 8


def emissions(model, task, split, count):
    """Of every utterance: ([L, T, V] log-probabilities, log q [L])."""
    found = [None] * count
    for rows, output in outputs(model, task, split, 4000000):
        layers = torch.stack([logits.float().log_softmax(-1) for logits in output["layer_logits"]])
        for place, row in enumerate(rows):
            frames = int(output["lengths"][place])
            found[row] = layers[:, :frames, place], output["log_q"][place].float()
    return found


def in_a_row(found, number):
    """The same with `number` utterances as one, of their mean log q; the last ones that make no row
    are left out."""
    rows = [found[at : at + number] for at in range(0, len(found) - number + 1, number)]
    return [
        (torch.cat([layers for layers, _ in row], 1), torch.stack([q for _, q in row]).mean(0))
        for row in rows
    ]


def predictions(found, rule, blank):
    """The emission [T, V] of every utterance by a rule."""
    for at in range(0, len(found), BATCH):
        part = found[at : at + BATCH]
        lengths = torch.tensor([layers.shape[1] for layers, _ in part])
        log_q = torch.stack([q for _, q in part])
        padded = [
            torch.nn.utils.rnn.pad_sequence([layers[k] for layers, _ in part])
            for k in range(len(part[0][0]))
        ]
        if rule == "vote":
            emission, _ = vote(padded, log_q, lengths, blank)
        else:
            layer = likeliest_layer(log_q)
            if rule == "consensus":
                layer = consensus_layer(padded, log_q, lengths, blank)
            emission = pick_layer(padded, layer)
        for place, frames in enumerate(lengths):
            yield emission[:frames, place]


def read(found, rule, blank, labels, post_process):
    """Hypotheses by a rule."""
    return [
        best_paths(emission.unsqueeze(1), [len(emission)], blank, labels, post_process)[0]
        for emission in predictions(found, rule, blank)
    ]


def main() -> None:
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", default="work/demo/hubert", help="folder of lora-varan-SEED")
    parser.add_argument("--data", default="work/demo/data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    names = sorted(name for name in os.listdir(args.runs) if name.startswith("lora-varan-"))
    wer = {(number, rule): [] for number in (1, 8) for rule in RULES}
    for name in names:
        path = os.path.join(args.runs, name, "checkpoint_last.pt")
        model, cfg, task = load_model(path, data=args.data)
        split = load_transcribed(model, cfg, task, args.split)
        references = split.references
        found = emissions(model, task, args.split, len(references.text))
        for number in (1, 8):
            count = len(found) // number * number
            joined = References(
                [sum(references.units[at : at + number], []) for at in range(0, count, number)],
                [" ".join(references.text[at : at + number]) for at in range(0, count, number)],
                None,
            )
            longer = in_a_row(found, number)
            for rule in RULES:
                labels = task.target_dictionary
                heard = read(longer, rule, model.blank, labels, split.post_process)
                wer[number, rule].append(rates(joined, heard)[0])
    rows = []
    for number in (1, 8):
        mean = {rule: statistics.mean(wer[number, rule]) for rule in RULES}
        for rule in RULES:
            rows.append(
                {
                    "strings in a row": number,
                    "rule": rule,
                    "WER %": round(mean[rule], 2),
                    "of consensus": round(mean[rule] / mean["consensus"], 3),
                    "gain over best_layer": round(mean["best_layer"] - mean[rule], 2),
                    "seeds": " ".join(f"{value:.2f}" for value in wer[number, rule]),
                }
            )
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    gains = {n: rows[i]["gain over best_layer"] for n, i in ((1, 2), (8, 5))}
    print(
        f"vote's gain over best_layer, eight in a row / one: {gains[8] / gains[1]:.2f} (wanted 0.9)"
    )
    if args.json:
        write_figures(args.json, rows)


if __name__ == "__main__":
    main()
