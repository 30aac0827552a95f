"""varan-predict: the numbers that a regression model predicts for a split, or for audio files.

For a split: concordance (CCC) with its 95% interval, Pearson's correlation and mean squared error of
each number (scores.json), a picture of predictions against labels, and for every utterance its numbers
and layer posterior (utterances.tsv). A split without a label file gets utterances.tsv alone. For audio
files: those columns on the standard output.
"""

import argparse
import sys
from typing import Any, Dict, List, Optional

from ..method.choices import REGRESSION_RULES
from ..runtime.files import printable
from . import run, run_on_utterances, utterance_parser


def parser() -> argparse.ArgumentParser:
    model, example = "varan_regression", "data/podcast test"
    return utterance_parser("varan-predict", __doc__ or "", model, REGRESSION_RULES, example)


def metrics(scores: Dict[str, Any]) -> List[str]:
    """What to print of scores.json."""
    text = []
    for name, ccc in scores["ccc"].items():
        found = scores["ccc_interval"][name]
        interval = "none" if found is None else "{:.3f} - {:.3f}".format(*found)
        text.append(
            f"{printable(name)}: CCC {ccc:.3f} (95% interval {interval}), Pearson "
            f"{scores['pearson'][name]:.3f}, mean squared error {scores['mse'][name]:.4g}"
        )
    return text


def predict(argv: Optional[List[str]]) -> int:
    """Number of files that failed."""
    options = vars(parser().parse_args(argv))
    from ..report.predictions import REGRESSOR

    return run_on_utterances(REGRESSOR, options, metrics)


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-predict", predict, argv)


if __name__ == "__main__":
    sys.exit(main())
