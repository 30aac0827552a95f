"""varan-crossval: trains and tests every fold of a corpus, mean and standard deviation.

Trains by fairseq-hydra-train, so all of its options and overrides work; folds that are trained
already, by the same recipe and overrides, to optimization.max_update, are only tested. Writes
crossval.json, and each fold's results beside its checkpoint.
"""

import argparse
import sys
from typing import Any, Dict, List, Optional

from . import Parser, run, score_lines
from .classify import metrics


def parser() -> argparse.ArgumentParser:
    options = Parser(
        prog="varan-crossval",
        description=(__doc__ or "").split("\n\n")[0],
        example="varan-crossval data/iemocap --config-name hubert_base_iemocap model.w2v_path=hubert.pt",
    )
    options.add_argument("data", help="folder with fold1, fold2, .., each with its manifests")
    options.add_argument("overrides", nargs="*", metavar="key=value", help="fairseq's overrides")
    options.add_argument("--config-dir", default="examples/", help="folder of the recipe")
    options.add_argument("--config-name", required=True, help="the recipe")
    options.add_argument("--subset", default="test", help="what is tested")
    options.add_argument(
        "--checkpoint", default="checkpoint_best.pt", help="which checkpoint of each fold is tested"
    )
    options.add_argument("--out", help="folder for it all; default: checkpoints/<recipe>")
    return options


def cross_validate(argv: Optional[List[str]]) -> None:
    args = parser().parse_intermixed_args(argv)
    from ..report import crossval

    crossval.check_overrides(args.overrides)
    folds = crossval.find_folds(args.data.rstrip("/"), args.subset)
    out = (args.out or f"checkpoints/{args.config_name}").rstrip("/")
    wanted = crossval.planned_updates(args.config_dir, args.config_name, args.overrides)
    recipe = (args.config_dir, args.config_name, args.overrides)
    settings = {fold: crossval.training_settings(fold, *recipe) for fold in folds}
    unfinished = []
    for fold in folds:
        updates = crossval.trained_updates(crossval.fold_folder(out, fold), settings[fold])
        if 0 < wanted <= updates:
            print(f"{fold}: trained already, {updates} updates")
        else:
            unfinished.append(fold)
    for fold in unfinished:
        crossval.train_fold(fold, *recipe, out, settings[fold])

    rows = []
    for fold in folds:
        scores = crossval.test_fold(out, fold, args.checkpoint, args.subset)
        print("\n".join(score_lines(scores, metrics)))
        rows.append({"fold": fold, **scores.values})
    print("\n".join(_table(rows, crossval.summarise(rows, out))))
    print(f"{out}/crossval.json")


def _table(rows: List[Dict[str, Any]], summary: Dict[str, Any]) -> List[str]:
    mean, deviation = summary["mean"], summary["standard_deviation"]
    table = ["", "| fold | utterances | " + " | ".join(f"{name} %" for name in mean) + " |"]
    table.append("| --- " * (2 + len(mean)) + "|")
    for row in rows:
        cells = " | ".join(f"{row[name]:.2f}" for name in mean)
        table.append(f"| {row['fold']} | {row['utterances']} | {cells} |")
    cells = " | ".join(f"{mean[name]:.2f} ± {deviation[name]:.2f}" for name in mean)
    total = sum(row["utterances"] for row in rows)
    return [*table, f"| mean ± standard deviation | {total} | {cells} |"]


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-crossval", cross_validate, argv)


if __name__ == "__main__":
    sys.exit(main())
