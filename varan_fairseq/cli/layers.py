"""varan-layers: which layers did each utterance use?

Writes q(l|x) of every utterance of a split as TSV (id, q_1 .. q_L, entropy in bits) and a
picture: the mean posterior with its spread against the prior, and a heat map. With --by-class
the label of each utterance too, and everything by class.

With --curve instead: what would the lowest 1, 2, .. layers do? WER or accuracy of the model cut
there (varan-export prune), of that layer alone, time and multiply-adds, as TSV and picture.

With --vote instead: what does each layer read of one utterance, and how did they vote? The
utterance that the vote corrected most, or --utterance.
"""

import argparse
import sys
from typing import Any, Dict, List, Optional

from ..runtime.files import printable
from . import Parser, add_split_options, run


def parser() -> argparse.ArgumentParser:
    options = Parser(
        prog="varan-layers",
        description=(__doc__ or "").split("\n\n")[0],
        example="varan-layers checkpoint_best.pt data/libri dev_other --curve",
    )
    options.add_argument("checkpoint", help="a fine-tuned checkpoint (a pickle), or an adapter")
    options.add_argument("data", help="folder with the manifests")
    options.add_argument("subset", help="name of the manifest, as test")
    options.add_argument("--by-class", action="store_true", help="group a classifier's utterances")
    options.add_argument("--curve", action="store_true", help="error rate and cost of every depth")
    options.add_argument("--vote", action="store_true", help="what the layers read of an utterance")
    options.add_argument("--utterance", help="its path in the manifest, for --vote")
    options.add_argument("--out", help="prefix of the files; default: beside the checkpoint")
    add_split_options(options)
    return options


def report(argv: Optional[List[str]]) -> None:
    options = vars(parser().parse_args(argv))
    asked = [name for name in ("by_class", "curve", "vote") if options[name]]
    if len(asked) > 1:
        names = [f"--{name.replace('_', '-')}" for name in asked]
        raise ValueError(f"{' and '.join(names)}: give one of them")
    by_class, curve, vote = (options.pop(name) for name in ("by_class", "curve", "vote"))
    utterance = options.pop("utterance")
    if utterance is not None and not vote:
        raise ValueError("--utterance is for --vote")
    if curve:
        _curve(options)
    elif vote:
        _vote({**options, "utterance": utterance})
    else:
        _layers({**options, "by_class": by_class})


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


def _vote(options: Dict[str, Any]) -> None:
    from ..report.layers import write_vote

    found = write_vote(**options)
    print(printable(found.name))
    for layer, (marked, weight) in enumerate(zip(found.votes.layers, found.votes.weights)):
        text = "".join(part if same else f"[{part}]" for part, same in marked)
        print(f"layer {layer + 1:2d}, q {weight:.3f}: {printable(text)}")
    print(f"vote:            {printable(found.votes.result)}")
    print(f"said:            {printable(found.reference)}")
    print(f"{found.prefix}.tsv {found.prefix}.png")


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
