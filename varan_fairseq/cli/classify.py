"""varan-classify: the labels of a split, or of audio files.

For a split: accuracy with its 95% interval, unweighted accuracy, F1 and recall (scores.json), the
confusion matrix (confusion.csv, confusion.png), and for every utterance its probabilities and layer
posterior (utterances.tsv). A split without a label file gets utterances.tsv alone. For audio files:
those columns on the standard output.
"""

import argparse
import os
import sys
from typing import Any, Dict, List, Optional

from ..method.choices import RULES
from ..runtime.files import printable
from . import Parser, add_reading_options, add_split_options, run


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


def _split(data: str, subset: str, options: Dict[str, Any]) -> None:
    from ..report.scores import classify_split

    made = classify_split(options.pop("checkpoint"), data, subset, **options)
    print("\n".join(lines(made)))


def _files(paths: List[str], options: Dict[str, Any]) -> int:
    """Number of files that cannot be classified."""
    from ..report.scores import classify_files

    if options.pop("out"):
        raise ValueError("--out is for a split: the results of audio files go to standard output")
    del options["max_tokens"]
    failed = 0
    for line in classify_files(options.pop("checkpoint"), paths, **options):
        if isinstance(line, ValueError):
            failed += 1
            print(f"varan-classify: {printable(str(line))}", file=sys.stderr, flush=True)
        else:
            print(printable(line), flush=True)
    return failed


def classify(argv: Optional[List[str]]) -> int:
    """Number of files that failed."""
    options = vars(parser().parse_args(argv))
    audio = options.pop("audio")
    if not os.path.isdir(audio[0]):
        return _files(audio, options)
    if len(audio) != 2:
        raise ValueError(
            f"{audio[0]} is a folder: give a manifest's name after it, as test, and no more"
        )
    _split(audio[0], audio[1], options)
    return 0


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-classify", classify, argv)


if __name__ == "__main__":
    sys.exit(main())
