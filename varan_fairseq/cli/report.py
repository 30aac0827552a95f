"""varan-report: one page on how a model did on a split, for a browser, offline.

WER or accuracy with its interval, by length, speaker and class; what was heard for what; each layer
alone beside all together, and which layers the utterances used; curves of the training; the worst
utterances with their audio; a table of all utterances to sort and search. Of two checkpoints: where
they differ, and whether that is more than chance.
"""

import argparse
import sys
from typing import List, Optional

from ..method.choices import CTC_RULES
from . import Parser, add_reading_options, add_split_options, run


def parser() -> argparse.ArgumentParser:
    options = Parser(
        prog="varan-report",
        description=__doc__,
        example="varan-report checkpoint_best.pt data/libri test_other --log hydra_train.log",
    )
    options.add_argument(
        "checkpoint",
        nargs="+",
        help="fine-tuned (a pickle), or the folder of an adapter; two to compare",
    )
    options.add_argument("data", help="folder with the manifests")
    options.add_argument("subset", help="name of the manifest, as test")
    options.add_argument(
        "--out",
        help="the page; default: report-SUBSET.html, or compare-SUBSET.html, beside the (first) "
        "checkpoint",
    )
    options.add_argument("--log", help="of the training, in fairseq's format json or simple")
    options.add_argument("--worst", type=int, default=20, help="utterances that are shown")
    add_reading_options(options, CTC_RULES)
    add_split_options(options)
    return options


def report(argv: Optional[List[str]]) -> None:
    options = vars(parser().parse_args(argv))
    checkpoints, log = options.pop("checkpoint"), options.pop("log")
    if len(checkpoints) > 2:
        raise ValueError(f"{len(checkpoints)} checkpoints: expected one, or two to compare")
    if len(checkpoints) == 2:
        if log:
            raise ValueError(f"--log {log}: expected with one checkpoint alone")
        from ..report.compare import write_comparison

        line, out = write_comparison(checkpoints, **options)
        print(f"{line} -> {out}")
        return
    from ..report.write import write_report

    summary, out = write_report(*checkpoints, log=log, **options)
    count = f"{len(summary.seconds)} utterances"
    print(f"{summary.measure} {summary.value:.2f}%  {count} -> {out}")


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-report", report, argv)


if __name__ == "__main__":
    sys.exit(main())
