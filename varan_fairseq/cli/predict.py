"""varan-predict: the numbers that a regression model predicts for a split, or for audio files.

For a split: concordance (CCC) with its 95% interval, Pearson's correlation and mean squared error of
each number (scores.json), a picture of predictions against labels, and for every utterance its numbers
and layer posterior (utterances.tsv). A split without a label file gets utterances.tsv alone. For audio
files: those columns on the standard output.
"""

import argparse
import sys
from typing import Any, Dict, List, Optional

from ..runtime.files import printable
from . import Parser, add_reading_options, add_split_options, print_each, run, split_or_files


def parser() -> argparse.ArgumentParser:
    options = Parser(
        prog="varan-predict",
        usage="varan-predict CHECKPOINT DATA SUBSET [options]\n"
        "   or: varan-predict CHECKPOINT AUDIO [AUDIO ..] [options]",
        description=(__doc__ or "").split("\n\n")[0],
        example="varan-predict checkpoint_best.pt data/podcast test",
    )
    options.add_argument("checkpoint", help="of varan_regression (a pickle), or an adapter")
    options.add_argument(
        "audio", nargs="+", help="folder with the manifests and a manifest's name, or audio files"
    )
    options.add_argument("--out", help="folder for the results; default: beside the checkpoint")
    add_reading_options(options, ("mixture", "best_layer"))
    add_split_options(options)
    return options


def lines(made: Any) -> List[str]:
    """What to print of `report.predictions.Predicted`."""
    scores, text = made.values, []
    if made.cropped:
        text.append(
            f"{made.cropped} of {scores['utterances']} utterances are cropped to their middle "
            f"{made.longest} samples (task.max_sample_size of the training)"
        )
    if "ccc" not in scores:
        text.append(f"there is no {made.labels}: predictions alone")
    for name, ccc in scores.get("ccc", {}).items():
        found = scores["ccc_interval"][name]
        interval = "none" if found is None else "{:.3f} - {:.3f}".format(*found)
        text.append(
            f"{printable(name)}: CCC {ccc:.3f} (95% interval {interval}), Pearson "
            f"{scores['pearson'][name]:.3f}, mean squared error {scores['mse'][name]:.4g}"
        )
    return [*text, f"{scores['utterances']} utterances -> {made.folder}"]


def predict(argv: Optional[List[str]]) -> int:
    """Number of files that failed."""
    options: Dict[str, Any] = vars(parser().parse_args(argv))
    checkpoint, audio = options.pop("checkpoint"), options.pop("audio")
    if split_or_files(audio, options):
        from ..report.predictions import predict_split

        print("\n".join(lines(predict_split(checkpoint, *audio, **options))))
        return 0
    from ..report.predictions import predict_files

    return print_each("varan-predict", predict_files(checkpoint, audio, **options))


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-predict", predict, argv)


if __name__ == "__main__":
    sys.exit(main())
