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
from . import Parser, add_reading_options, add_split_options, print_each, run, split_or_files


def parser() -> argparse.ArgumentParser:
    options = Parser(
        prog="varan-classify",
        usage="varan-classify CHECKPOINT DATA SUBSET [options]\n"
        "   or: varan-classify CHECKPOINT AUDIO [AUDIO ..] [options]",
        description=(__doc__ or "").split("\n\n")[0],
        example="varan-classify checkpoint_best.pt data/ravdess test",
    )
    options.add_argument("checkpoint", help="of varan_classification (a pickle), or an adapter")
    options.add_argument(
        "audio", nargs="+", help="folder with the manifests and a manifest's name, or audio files"
    )
    options.add_argument("--out", help="folder for the results; default: beside the checkpoint")
    add_reading_options(options, RULES)
    add_split_options(options)
    return options


def lines(made: Any) -> List[str]:
    """What to print of `report.scores.Scores`."""
    from ..scoring.classification import METRICS

    scores, text = made.values, []
    if made.cropped:
        text.append(
            f"{made.cropped} of {scores['utterances']} utterances are cropped to their middle "
            f"{made.longest} samples (task.max_sample_size of the training)"
        )
    if "recall" not in scores:
        text.append(f"there is no {made.labels}: predictions alone")
    else:
        text.append("  ".join(f"{name} {scores[name]:.2f}%" for name in METRICS))
        for name, recall in scores["recall"].items():
            shown = "   -  " if recall is None else f"{recall:5.1f}%"
            text.append(f"  recall {shown} of {scores['examples'][name]:5d}  {printable(name)}")
    return [*text, f"{scores['utterances']} utterances -> {made.folder}"]


def classify(argv: Optional[List[str]]) -> int:
    """Number of files that failed."""
    options: Dict[str, Any] = vars(parser().parse_args(argv))
    checkpoint, audio = options.pop("checkpoint"), options.pop("audio")
    if split_or_files(audio, options):
        from ..report.scores import classify_split

        print("\n".join(lines(classify_split(checkpoint, *audio, **options))))
        return 0
    from ..report.scores import classify_files

    return print_each("varan-classify", classify_files(checkpoint, audio, **options))


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-classify", classify, argv)


if __name__ == "__main__":
    sys.exit(main())
