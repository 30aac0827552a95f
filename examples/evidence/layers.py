#!/usr/bin/env python3
"""Which layer reads which utterance best, and does the posterior know?

    python examples/evidence/layers.py DATA SPLIT --out layers.json CHECKPOINT ..

Of recognizers that VARAN trained (several seeds of one setting, or probes of frozen layers): the
loss of every layer in each condition (`SPLIT.condition`, one name a line, if there is one), and how
q(l|x) goes with it. The loss is CTC's in nats a label. Checkpoints are pickles: your own.
"""

import argparse
import json
import statistics
import sys

import numpy as np
import outcome
from tqdm import tqdm

from varan_fairseq.runtime.files import write_lines

ALL = "all"


def measure(checkpoint, data, split, max_tokens):
    """(loss [N, L] in nats a label, q(l|x) [N, L]) of a model in every utterance."""
    import torch

    from varan_fairseq.finetuned.labelled import load_transcribed
    from varan_fairseq.finetuned.load import load_model
    from varan_fairseq.finetuned.outputs import STRICT, outputs
    from varan_fairseq.method.ctc import layerwise_ctc

    model, cfg, task = load_model(checkpoint, {**STRICT, "decode_layer": 0}, data)
    references = load_transcribed(model, cfg, task, split).references.units
    losses = np.full((len(references), model.num_predictions), np.nan)
    posterior = np.full_like(losses, np.nan)
    for rows, net_output in tqdm(outputs(model, task, split, max_tokens), desc=checkpoint):
        units = [torch.tensor(references[row]) for row in rows]
        logits = net_output["layer_logits"]
        counts = torch.tensor([len(each) for each in units])
        targets = torch.nn.utils.rnn.pad_sequence(units, batch_first=True).to(logits[0].device)
        nll = layerwise_ctc(
            logits, targets, net_output["lengths"], counts.to(targets.device), model.blank, True
        )
        losses[rows] = nll.cpu().numpy() / counts.clamp(min=1).numpy()[:, None]
        posterior[rows] = net_output["log_q"].exp().cpu().numpy()
    return losses, posterior


def centred(values):
    """[N, L] without what belongs to the utterance alone and to the layer alone."""
    return values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()


def describe(losses, posterior, conditions):
    """What is kept of one model. correlation: of q(l|x) with the loss, both `centred`: below 0
    where the posterior prefers, for each input, the layers that read that input better than
    they read others. None if q is the same for all."""
    names = [ALL, *sorted(set(conditions) - {ALL})]
    groups = {name: np.array([name in (ALL, each) for each in conditions]) for name in names}
    ours, theirs = centred(posterior).ravel(), centred(losses).ravel()
    varies = ours.std() > 1e-7
    return {
        "loss": {name: losses[rows].mean(0).tolist() for name, rows in groups.items()},
        "posterior": {name: posterior[rows].mean(0).tolist() for name, rows in groups.items()},
        "best_alone": float(losses.mean(0).min()),
        "best_of_each_condition": float(
            np.mean([losses[groups[name]].mean(0).min() for name in names[1:] or [ALL]])
        ),
        "best_of_each_utterance": float(losses.min(1).mean()),
        "posterior_deviation": float(posterior.std(0).max()),
        "correlation": float(np.corrcoef(ours, theirs)[0, 1]) if varies else None,
    }


def _by_layer(title, rows, key):
    """Markdown: one line per condition, means over the models; the lowest loss in bold."""
    count = len(rows[0][key][ALL])
    yield f"| {title} | " + " | ".join(f"{layer + 1}" for layer in range(count)) + " |"
    yield "| --- " * (count + 1) + "|"
    for name in rows[0][key]:
        means = np.mean([row[key][name] for row in rows], axis=0)
        cells = [f"{value:.3f}" for value in means]
        if key == "loss":
            cells[means.argmin()] = f"**{cells[means.argmin()]}**"
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""


def lines(rows):
    """Markdown: loss of every layer by condition, the best in bold, mean over the models; then what
    choosing could gain, and what q does."""
    yield from _by_layer("loss, nats a label", rows, "loss")
    yield from _by_layer("mean q(l given x)", rows, "posterior")
    known = [row["correlation"] for row in rows if row["correlation"] is not None]
    correlation = (
        f"{statistics.mean(known):+.3f} ({min(known):+.3f} - {max(known):+.3f})"
        if known
        else "none"
    )
    yield "| | |"
    yield "| --- | --- |"
    for title, key in (
        ("loss of the best layer for all", "best_alone"),
        ("of the best layer of each condition", "best_of_each_condition"),
        ("of the best layer of each utterance", "best_of_each_utterance"),
        ("largest deviation of a q over utterances", "posterior_deviation"),
    ):
        yield f"| {title} | {statistics.mean(row[key] for row in rows):.4f} |"
    yield f"| correlation of q with the loss | {correlation} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", help="folder with the manifests")
    parser.add_argument("split", help="as test")
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT")
    parser.add_argument("--out", required=True, help="JSON to write")
    parser.add_argument("--max-tokens", type=int, default=1000000, help="samples a batch")
    args = parser.parse_args()
    rows = []
    try:
        conditions = outcome.conditions(args.data, args.split)
        for checkpoint in args.checkpoints:
            losses, posterior = measure(checkpoint, args.data, args.split, args.max_tokens)
            rows.append(describe(losses, posterior, conditions or [ALL] * len(losses)))
    except (ValueError, OSError) as error:
        sys.exit(f"layers.py: {error}")
    about = {"command": " ".join(["python", *sys.argv]), "rows": rows}
    write_lines(args.out, [json.dumps(about, indent=1)])
    print("\n".join(lines(rows)))


if __name__ == "__main__":
    main()
