"""Puts what the committed results say into the tables of README and docs.

    python docs/tables.py

A page has `<!-- table: NAME -->` before a table and `<!-- end -->` after it; NAME is that of a file in
docs/results/, `NAME 2` its second table alone.
"""

import glob
import json
import os
import re
import sys

DOCS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(DOCS)
sys.path += [os.path.join(ROOT, "benchmarks")]
sys.path += [os.path.join(ROOT, "examples", name) for name in ("demo", "evidence")]

import augmentation
import compare
import depth
import emotion
import first_hour
import joined
import layers
import page
import prior
from measure import markdown

from varan_fairseq.runtime.files import write_lines

EXPERIMENTS = [
    "digits",
    "digits_longer",
    "digits_dora",
    "digits_second",
    "digits_heads",
    "conditions",
    "conditions_second",
    "prompts",
    "prompts_full",
    "styles",
]
BY_VOTE = ["frozen", "accurate", "long", "prose"]  # younger than the summary: with the vote
# Those with a frozen encoder, also read with a flat prior, and whom that is compared with.
FLAT = ["digits_second", "digits_heads", "conditions_second", "prompts"]
FROZEN = ["varan", "weighted_sum", "attentive", "hconv"]
# What a checkpoint's layers know, of an experiment each.
LAYERS = [
    "layers",
    "layers-conditions",
    "layers-conditions-probe",
    "layers-probe",
    "layers-prompts-probe",
    "layers-prompts-lora",
    "layers-prompts-full",
]
CPU = ["step", "lora-cost", "decoding"]
GPU = [f"gpu-{name}" for name in CPU]


def costs(results):
    """What matters of three benchmarks, each on a CPU and a GPU, on one page."""
    yield "| | CPU: time | memory | GPU: time | memory |"
    yield "| --- | --- | --- | --- | --- |"
    lines = zip(*(_ratios(*(results[name] for name in names)) for names in (CPU, GPU)))
    for (about, *cpu), (_, *gpu) in lines:
        yield f"| {about} | {' | '.join(str(value) for value in (*cpu, *gpu))} |"


def _ratios(step, lora, decoding):
    """Rows of (about, time, memory)."""
    ours = next(row for row in step if row["model"] == "varan_ctc")
    yield "a training step, against `wav2vec_ctc`", ours["time"], ours["memory"]
    for row in lora[0]:
        if row["training"] in ("lora", "probe"):
            yield f"{row['training']}, against full fine-tuning", row["time"], row["memory"]
    yield "decoding, against `wav2vec_ctc`", decoding[0]["ratio"], ""


TABLES = {
    "evidence": page.summary,
    "flat-prior": lambda experiments: page.summary(experiments, "varan_uniform", FROZEN),
    **{f"evidence-{name}": page.lines for name in [*EXPERIMENTS, *BY_VOTE]},
    **{f"evidence-{name}": layers.lines for name in LAYERS},
    "joined": joined.table,
    "demo": compare.table,
    "demo-emotion": emotion.table,
    "decoding": markdown,
    "word-times": markdown,
    "long-audio": markdown,
    "depth": depth.table,
    "prior": prior.table,
    "augmentation": augmentation.table,
    "corpora": markdown,
    "first-hour": first_hour.table,
    "costs": costs,
    "step": markdown,
    "heads": markdown,
    "vocabulary": markdown,
    "vote": markdown,
    "vote-search": markdown,
    "open-vocabulary": markdown,
    "prune": markdown,
    "lora-cost": markdown,
    "encoders-cost": markdown,
    "encoders-sizes": markdown,
    "group-norm": markdown,
    "doors": markdown,
    "sherpa": markdown,
    "sherpa-normal": markdown,
    **dict.fromkeys([*GPU, "gpu-group-norm", "gpu-vocabulary"], markdown),
}
TOGETHER = {
    "costs": ("make bench-gpu", {name: name for name in (*CPU, *GPU)}),
    "evidence": ("make evidence", {name: f"evidence-{name}" for name in EXPERIMENTS}),
    "flat-prior": ("make evidence", {name: f"evidence-{name}" for name in FLAT}),
}
MARKED = re.compile(r"<!-- table: ([\w-]+)( \d+)? -->\n.*?<!-- end -->", re.DOTALL)


def pages():
    return [os.path.join(ROOT, "README.md"), *sorted(glob.glob(os.path.join(DOCS, "*.md")))]


def results(name):
    """What a file in docs/results/ holds: `command` and `rows`; for a table that has several, theirs."""
    if name in TOGETHER:
        command, files = TOGETHER[name]
        return {"command": command, "rows": {key: results(files[key])["rows"] for key in files}}
    with open(os.path.join(DOCS, "results", f"{name}.json"), encoding="utf-8") as file:
        return json.load(file)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def filled(text):
    """A page with its tables as the results are."""

    def table(found):
        name, number = found.groups()
        lines = "\n".join(TABLES[name](results(name)["rows"])).strip("\n")
        if number:
            lines = lines.split("\n\n")[int(number) - 1]
        return f"<!-- table: {name}{number or ''} -->\n{lines}\n<!-- end -->"

    return MARKED.sub(table, text)


def main():
    for path in pages():
        before = read(path)
        after = filled(before)
        if after != before:
            write_lines(path, after.rstrip("\n").split("\n"))
            print(os.path.relpath(path, ROOT))


if __name__ == "__main__":
    main()
