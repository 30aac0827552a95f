"""varan-classify: the labels of a split, or of audio files.

For a split: accuracy with its 95% interval, unweighted accuracy, F1 and recall (scores.json), the
confusion matrix (confusion.csv, confusion.png), and for every utterance its probabilities and layer
posterior (utterances.tsv). A split without a label file gets utterances.tsv alone. For audio files:
those columns on the standard output.
"""

import argparse
import sys
from typing import Any, Dict, List, Optional

from ..method.choices import RULES
from ..runtime.files import printable
from . import run, run_on_utterances, utterance_parser


def parser() -> argparse.ArgumentParser:
    model, example = "varan_classification", "data/ravdess test"
    return utterance_parser("varan-classify", __doc__ or "", model, RULES, example)


def metrics(scores: Dict[str, Any]) -> List[str]:
    """What to print of scores.json."""
    from ..scoring.classification import METRICS

    text = ["  ".join(f"{name} {scores[name]:.2f}%" for name in METRICS)]
    for name, recall in scores["recall"].items():
        shown = "   -  " if recall is None else f"{recall:5.1f}%"
        text.append(f"  recall {shown} of {scores['examples'][name]:5d}  {printable(name)}")
    return text


def classify(argv: Optional[List[str]]) -> int:
    """Number of files that failed."""
    options = vars(parser().parse_args(argv))
    from ..report.scores import CLASSIFIER

    return run_on_utterances(CLASSIFIER, options, metrics)


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-classify", classify, argv)


if __name__ == "__main__":
    sys.exit(main())
