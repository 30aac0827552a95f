"""varan-layers: which layers did each utterance use?

Writes q(l|x) of every utterance of a split as TSV (id, q_1 .. q_L, entropy in bits) and a
picture: the mean posterior with its spread against the prior, and a heat map. With --by-class
the label of each utterance too, and everything by class.

With --curve instead: what would the lowest 1, 2, .. layers do? WER or accuracy of the model cut
there (varan-export prune), of that layer alone, time and multiply-adds, as TSV and picture.
"""

import argparse
import sys
from typing import Any, Dict, List, Optional

from ..runtime.files import printable
from . import add_split_options, run


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="varan-layers", description=(__doc__ or "").split("\n\n")[0]
    )
    options.add_argument("checkpoint", help="a fine-tuned checkpoint (a pickle), or an adapter")
    options.add_argument("data", help="folder with the manifests")
    options.add_argument("subset", help="name of the manifest, as test")
    options.add_argument("--by-class", action="store_true", help="group a classifier's utterances")
    options.add_argument("--curve", action="store_true", help="error rate and cost of every depth")
    options.add_argument("--out", help="prefix of the files; default: beside the checkpoint")
    add_split_options(options)
    return options


def report(argv: Optional[List[str]]) -> None:
    options = vars(parser().parse_args(argv))
    if options.pop("curve"):
        if options.pop("by_class"):
            raise ValueError("--curve and --by-class: give one of the two")
        _curve(options)
    else:
        _layers(options)


def _curve(options: Dict[str, Any]) -> None:
    from ..report.layers import write_curve

    curve = write_curve(**options)
    print(f"layers  {curve.measure:>8}  this alone   time  multiply-adds")
    for depth in curve.depths:
        print(
            f"{depth.layers:6d}  {depth.rate:7.2f}%  {depth.alone:9.2f}%  {depth.time:5.2f}  "
            f"{depth.multiply_adds:13.2f}"
        )
    print(f"{curve.prefix}.tsv, {curve.prefix}.png")


def _layers(options: Dict[str, Any]) -> None:
    import numpy as np

    from ..report.figures import entropy
    from ..report.layers import write_layers

    used = write_layers(**options)
    posterior = used.posterior

    def means(rows: Any) -> str:
        return " ".join(f"{value:.3f}" for value in rows.mean(0))

    print(f"mean q(l|x), layer 1 to {posterior.shape[1]}: {means(posterior)}")
    labels: Any = [] if used.labels is None else used.labels
    for index, name in enumerate(used.classes):
        rows = np.flatnonzero(np.equal(labels, index))
        if len(rows):
            print(f"  {printable(name)}: {means(posterior[rows])}")
    uniform = np.log2(posterior.shape[1])
    print(f"mean entropy {entropy(posterior).mean():.3f} bits (uniform: {uniform:.3f})")
    print(f"{used.prefix}.tsv {used.prefix}.png")


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-layers", report, argv)


if __name__ == "__main__":
    sys.exit(main())
