#!/usr/bin/env python3
"""Posterior, probing heads and objective, forward and backward on given states, against L
times a single linear head with CTC; with a LayerNorm a layer on both sides too, as pre-norm
encoders have.

    python benchmarks/heads.py

Time: medians, interleaved in one process. Memory: peak beyond the gradients of the
states, each in a fresh process.
"""

import argparse

import torch
from measure import cores, fresh_megabytes, interleaved_seconds, peak_megabytes, report, short
from torch import nn
from torch.nn import functional as F

from varan_fairseq.method.aggregation import build_aggregation
from varan_fairseq.method.ctc import layerwise_ctc
from varan_fairseq.method.objective import variational_objective
from varan_fairseq.method.prior import layer_prior

# layers, batch, frames, width, labels, label positions, whether there are LayerNorms
SIZES = {
    "base": (12, 8, 500, 768, 32, 150, False),
    "large": (24, 4, 800, 1024, 32, 200, False),
    "large, LayerNorms": (24, 4, 800, 1024, 32, 200, True),
}
WANTED = {"base": 1.15, "large": 1.12, "large, LayerNorms": 1.20}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def workloads(size: str):
    """{'varan': work, 'heads': work} on the same states, lengths and labels."""
    layers, batch, frames, dim, labels, positions, norms = SIZES[size]
    torch.manual_seed(0)
    states = [
        torch.randn(frames, batch, dim, device=DEVICE, requires_grad=True) for _ in range(layers)
    ]
    for state in states:  # their gradients exist before anything is measured
        state.grad = torch.zeros_like(state)
    lengths = torch.linspace(0.7 * frames, frames, batch).long().to(DEVICE)
    padding = torch.arange(frames, device=DEVICE) >= lengths.unsqueeze(1)
    targets = torch.randint(1, labels, (batch, positions), device=DEVICE)
    target_lengths = torch.full((batch,), positions, device=DEVICE)
    prior = layer_prior("chi2_reversed", layers).to(DEVICE)
    shape = dict(num_layers=layers, dim=dim, num_classes=labels)
    aggregation = build_aggregation("varan", layer_norm=norms, **shape).to(DEVICE)
    head = nn.Sequential(*([nn.LayerNorm(dim)] if norms else []), nn.Linear(dim, labels)).to(DEVICE)

    def varan():
        reading = aggregation(states, padding)
        nll = layerwise_ctc(reading.logits, targets, lengths, target_lengths, 0, True)
        nll = nll / lengths.unsqueeze(1)
        total, _, _ = variational_objective(nll, reading.log_q, prior, 0.05, "prior_posterior")
        total.sum().backward()

    def heads():
        for state in states:
            log_probs = F.log_softmax(head(state), dim=-1)
            with torch.backends.cudnn.flags(enabled=False):
                F.ctc_loss(
                    log_probs, targets, lengths, target_lengths, reduction="sum", zero_infinity=True
                ).backward()

    return {"varan": varan, "heads": heads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--memory", nargs=2, metavar=("SIZE", "WORK"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(cores())
    if args.memory:
        print(peak_megabytes(workloads(args.memory[0])[args.memory[1]]))
        return
    rows = []
    cases = [(size, work) for size in SIZES for work in ("varan", "heads")]
    memory = dict(zip(cases, fresh_megabytes(__file__, cases, 3)))
    for size in SIZES:
        seconds = interleaved_seconds(workloads(size), args.rounds)
        rows.append(
            {
                "size": size,
                "varan_seconds": short(seconds["varan"]),
                "heads_seconds": short(seconds["heads"]),
                "time": round(seconds["varan"] / seconds["heads"], 2),
                "time_wanted": WANTED[size],
                "varan_megabytes": round(memory[size, "varan"]),
                "megabytes_wanted": 130,
                "one_head_megabytes": round(memory[size, "heads"]),
            }
        )
    report(rows, args.json, half=False)


if __name__ == "__main__":
    main()
