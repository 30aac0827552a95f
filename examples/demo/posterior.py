#!/usr/bin/env python3
"""Which cures of the posterior (docs/posterior.md)? VARAN with and without each, on the tiny
HuBERTs of compare.py, scored on the validation sets.

    python examples/demo/posterior.py --seeds 1 2

Run from the root of the repository, after compare.py has made the data of both corpora
(`compare.py digits --base hubert`, `compare.py human --base hubert`). What is there is not made
again.
"""

import argparse
import os
import sys
import time

from compare import CORPORA, FINETUNE
from runs import RULES, add_run_options, decode, pretrain, run_all, spread, train, write_results

STEP, CENTRE = "model.posterior_lr_multiplier", "model.posterior_centred"
CHOSEN = ("digits", "human")
VARIANTS = {
    "release": [f"{STEP}=1", f"{CENTRE}=false"],
    "step": [f"{STEP}=0.1", f"{CENTRE}=false"],
    "centred": [f"{STEP}=1", f"{CENTRE}=true"],
    "both": [f"{STEP}=0.1", f"{CENTRE}=true"],
    "both, beta 0.005": [f"{STEP}=0.1", f"{CENTRE}=true", "criterion.beta=0.005"],
}
WAYS = {"lora": list(VARIANTS), "full": ["release", "both"], "probe": ["release", "both"]}


def one_run(corpus, pretrained, way, variant, seed):
    """A row for each rule."""
    name = f"work/{corpus}/posterior/{way}-{variant.replace(', ', '-').replace(' ', '')}-{seed}"
    data = f"work/{corpus}/data"
    budget = [*CORPORA[corpus]["hubert"]["finetune"], "model.feature_grad_mult=0"]
    options = [f"task.data={data}", f"model.w2v_path={pretrained}", f"common.seed={seed}"]
    options += [*budget, *FINETUNE[way], *VARIANTS[variant]]
    scores = decode(train(name, "finetune", options), data, "valid", RULES)
    about = {"corpus": corpus, "way": way, "variant": variant, "seed": seed}
    return [
        {**about, "reading": rule, "uer": scores[rule]["uer"], "wer": scores[rule]["wer"]}
        for rule in RULES
    ]


def table(rows):
    """Markdown: a line a corpus, way and variant, UER and WER by each rule."""
    heads = [f"{key.upper()} %, {rule}" for key in ("uer", "wer") for rule in RULES]
    yield "| corpus | fine-tuning | posterior | " + " | ".join(heads) + " |"
    yield "| --- " * (3 + len(heads)) + "|"
    for way, variants in WAYS.items():
        for corpus in CHOSEN:
            for variant in variants:
                line = (corpus, way, variant)
                mine = [r for r in rows if (r["corpus"], r["way"], r["variant"]) == line]
                cells = [
                    spread([row for row in mine if row["reading"] == rule], key)
                    for key in ("uer", "wer")
                    for rule in RULES
                ]
                yield f"| {' | '.join(line)} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_run_options(parser)
    args = parser.parse_args()
    if not os.path.isdir("examples/demo") or args.set:
        sys.exit("posterior.py: run it from the root of the repository, without --set")
    start, every = time.time(), []
    for corpus in CHOSEN:
        options = CORPORA[corpus]
        data = f"work/{corpus}/data"
        if not os.path.exists(f"{data}/dict.ltr.txt"):
            sys.exit(f"posterior.py: no {data}: run python {options['script']} {data} first")
        pretrained = pretrain(
            f"work/{corpus}/pretrain", data, "hubert", options["hubert"]["pretrain"], args.jobs
        )
        for seed in args.seeds:
            for way, variants in WAYS.items():
                every += [(corpus, pretrained, way, variant, seed) for variant in variants]
    rows = [row for run in run_all(args.jobs, one_run, every) for row in run]
    folder = "work/posterior"
    os.makedirs(folder, exist_ok=True)
    write_results(folder, rows, list(table(rows)), time.time() - start)
    print(f"\nvalidation sets, seeds {args.seeds}; {folder}/results.json")


if __name__ == "__main__":
    main()
