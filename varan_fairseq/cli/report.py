"""varan-report: one page on how a model did on a split, for a browser, offline.

WER or accuracy with its interval, each layer alone beside all together, which layers the utterances
used (by length, by speaker, by class), the worst utterances with their audio, a classifier's
confusion matrix, curves of the training.
"""

import argparse
import os
import sys
from typing import Any, List, Optional, Tuple

import varan_fairseq

from ..data.manifest import Manifest
from ..finetuned.labelled import load_classified, load_transcribed
from ..finetuned.load import load_model
from ..finetuned.outputs import STRICT
from ..method.combine import CTC_RULES
from ..report.classification import classify
from ..report.found import Found
from ..report.log import read_log
from ..report.page import render, sections, utterances
from ..report.pictures import pyplot
from ..report.recognition import recognize
from ..runtime.files import refuse_no_folder, write_lines
from . import add_reading_options, add_split_options, beside, reading_overrides, run


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="varan-report", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("checkpoint", help="fine-tuned (a pickle), or the folder of an adapter")
    options.add_argument("data", help="folder with the manifests")
    options.add_argument("subset", help="name of the manifest, as test")
    options.add_argument(
        "--out", help="the page; default: report-SUBSET.html beside the checkpoint"
    )
    options.add_argument("--log", help="of the training, in fairseq's format json or simple")
    options.add_argument("--worst", type=int, default=20, help="utterances that are shown")
    add_reading_options(options, CTC_RULES)
    add_split_options(options)
    return options


def report(argv: Optional[List[str]]) -> None:
    args = parser().parse_args(argv)
    if args.worst < 0:
        raise ValueError(f"--worst {args.worst}: wanted 0 or more")
    plt = pyplot()
    out = args.out or os.path.join(beside(args.checkpoint), f"report-{args.subset}.html")
    refuse_no_folder(out)
    training = read_log(args.log) if args.log else []
    overrides = {**reading_overrides(args, CTC_RULES), **STRICT}
    kinds = {"varan_ctc": _recognizer, "varan_classification": _classifier}
    model, cfg, task = load_model(args.checkpoint, overrides, args.data, args.base, tuple(kinds))
    found, manifest = kinds[cfg.model._name](args, model, cfg, task)
    facts = [
        ("checkpoint", args.checkpoint),
        *found.facts,
        ("audio", f"{found.seconds.sum() / 3600:.2f} hours"),
    ]
    page = render(
        f"{args.subset}: {os.path.basename(args.data.rstrip('/'))}",
        found,
        facts,
        sections=sections(plt, found, model.prior.probs.cpu().numpy(), training),
        utterances=utterances(found, manifest, args.worst, cfg.task.sample_rate),
    )
    write_lines(out, page.split("\n"))
    print(f"{found.measure} {found.value:.2f}%  {len(manifest.entries)} utterances -> {out}")


def _recognizer(
    args: argparse.Namespace, model: Any, cfg: Any, task: Any
) -> Tuple[Found, Manifest]:
    split = load_transcribed(model, cfg, task, args.subset)
    return recognize(model, task, args.subset, split, args.max_tokens), split.manifest


def _classifier(
    args: argparse.Namespace, model: Any, cfg: Any, task: Any
) -> Tuple[Found, Manifest]:
    split = load_classified(model, cfg, task, args.subset)
    return classify(model, task, args.subset, split, args.max_tokens), split.manifest


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-report", report, argv)


if __name__ == "__main__":
    sys.exit(main())
