"""varan-report: one page on how a model did on a split, for a browser, offline.

WER or accuracy with its interval, each layer alone beside all together, which layers the utterances
used (by length, by speaker, by class), the worst utterances with their audio, a classifier's
confusion matrix, curves of the training.
"""

import argparse
import sys
from typing import List, Optional

from ..method.choices import CTC_RULES
from . import Parser, add_reading_options, add_split_options, run


def parser() -> argparse.ArgumentParser:
    options = Parser(prog="varan-report", description=__doc__)
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
    options = vars(parser().parse_args(argv))
    from ..report.write import write_report

    summary, out = write_report(**options)
    count = f"{len(summary.seconds)} utterances"
    print(f"{summary.measure} {summary.value:.2f}%  {count} -> {out}")


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-report", report, argv)


if __name__ == "__main__":
    sys.exit(main())
