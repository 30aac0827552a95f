#!/usr/bin/env python3
"""Memory of predictions with a large vocabulary: what each rule that makes one of L layers adds to
their logits, as a multiple of one layer's log-probabilities.

    python benchmarks/vocabulary.py

5,000 labels, 12 layers, 4 utterances of 10 s; each rule in a fresh process.
"""

import argparse
import json

import torch
from measure import fresh_megabytes, peak_megabytes, report

from varan_fairseq.method.choices import CTC_RULES
from varan_fairseq.models.varan_ctc import VaranCtc

LAYERS, FRAMES, BATCH, LABELS = 12, 500, 4, 5000
WANTED = {"best_layer": 3.0, "layer 12": 3.0}


class Prediction:
    """What `VaranCtc.predict` needs of a model."""

    training = False
    blank = 0
    _weigh_blank = VaranCtc._weigh_blank
    combined = VaranCtc.combined
    warn_of_no_gradient = VaranCtc.warn_of_no_gradient
    predict = VaranCtc.predict

    class cfg:
        blank_weight, decode_layer, combine = 0, 0, "mixture"


def work(rule: str):
    """A prediction by a rule. Layers that say nearly the same, as trained ones."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    common = 4 * torch.randn(FRAMES, BATCH, LABELS, device=device)
    logits = [common + torch.randn(1, device=device) * (common > 14) for _ in range(LAYERS)]
    net_output = {
        "layer_logits": logits,
        "log_q": torch.randn(BATCH, LAYERS, device=device).log_softmax(1),
        "lengths": torch.full((BATCH,), FRAMES, device=device),
        "padding_mask": None,
    }
    model = Prediction()
    if rule.startswith("layer"):
        model.cfg.decode_layer = int(rule.split()[1])
    else:
        model.cfg.combine = rule

    def run():
        with torch.no_grad():
            model.predict(net_output)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--memory", metavar="RULE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        print(json.dumps(peak_megabytes(work(args.memory))))
        return
    one, rows = FRAMES * BATCH * LABELS * 4 / 1e6, []
    rules = (*CTC_RULES, f"layer {LAYERS}")
    for rule, found in zip(rules, fresh_megabytes(__file__, [(rule,) for rule in rules], 1)):
        rows.append(
            {
                "prediction": rule,
                "megabytes": round(found),
                "layers": round(found / one, 1),
                "layers_wanted": WANTED.get(rule, 1.5 * LAYERS),
            }
        )
    report(rows, args.json, half=False)
    print(f"one layer's log-probabilities: {one:.0f} MB")


if __name__ == "__main__":
    main()
