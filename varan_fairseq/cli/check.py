"""varan-check: all that would fail or bias a long run on a corpus, in seconds to minutes.

Manifests, labels, dictionary and every sample of the audio: missing and unreadable files, lengths,
rates, channels, silence, clipping, NaN, unknown labels, audio too short for the encoder or for its
labels, recordings and speakers in two splits. Exit code 1 if there are errors.
"""

import argparse
import glob
import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from ..runtime.files import printable, refuse_output, write_lines
from . import Parser, run

if TYPE_CHECKING:
    from ..data.findings import Frames
    from ..data.manifest import Manifest
    from ..data.survey import Survey

# wav2vec 2.0, HuBERT, WavLM and data2vec as released: kernel and stride of each convolution.
_USUAL = [(10, 5)] + [(3, 2)] * 4 + [(2, 2)] * 2
_BAR = 40  # characters


def parser() -> argparse.ArgumentParser:
    options = Parser(
        prog="varan-check",
        description=__doc__,
        example="varan-check data/libri train dev_other --encoder wav2vec_small.pt",
    )
    options.add_argument("data", help="folder with the manifests")
    options.add_argument("splits", nargs="*", help="names of manifests; default: all")
    options.add_argument("--labels", help="ending of the label files; default: by the dictionary")
    options.add_argument("--encoder", help="the pre-trained checkpoint (a pickle) to train from")
    options.add_argument("--sample-rate", type=int, default=16000)
    options.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="processes; default: one per core"
    )
    options.add_argument("--no-audio", action="store_true", help="do not read audio")
    options.add_argument("--json", help="file for the findings")
    return options


def frames_of(encoder: Optional[str]) -> "Frames":
    """Of a pre-trained checkpoint, or of those that are released."""
    import torch

    from ..data.findings import Frames
    from ..upstream import build_encoder, read_checkpoint
    from ..upstream.specs import count_frames, receptive_field

    if encoder is None:
        features = torch.nn.Sequential(*(torch.nn.Conv1d(1, 1, *shape) for shape in _USUAL))
        field, count = receptive_field(features), lambda size: count_frames(features, size)
    else:
        built = build_encoder(read_checkpoint(encoder).config)
        field, count = built.receptive_field, built.frames
    return Frames(field, lambda samples: count(torch.from_numpy(samples)).numpy())


def find_labels(data: str, given: Optional[str]) -> str:
    """The ending of the label files. Raises ValueError if it is not clear."""
    if given:
        return given
    names = [
        os.path.basename(path) for path in glob.glob(os.path.join(glob.escape(data), "dict.*.txt"))
    ]
    endings = sorted(name[len("dict.") : -len(".txt")] for name in names)
    if "ltr" in endings:
        return "ltr"
    if len(endings) != 1:
        described = f"it has {', '.join(sorted(names))}" if names else "there is no dict.*.txt"
        raise ValueError(f"--labels is not given, and in {data} {described}")
    return endings[0]


def find_splits(data: str, given: List[str]) -> List[str]:
    if not os.path.isdir(data):
        raise ValueError(f"{data} is not a folder")
    names = given or sorted(
        os.path.splitext(name)[0] for name in os.listdir(data) if name.endswith(".tsv")
    )
    if not names:
        raise ValueError(f"folder {data} has no manifest (.tsv)")
    # training first: what is in two splits is said of the other
    return sorted(names, key=lambda name: (not name.startswith("train"), names.index(name)))


def text(surveyed: "Survey", sample_rate: int) -> List[str]:
    """Lines for a person."""
    import numpy as np

    lines = []
    for split in surveyed.splits:
        seconds = split.manifest.samples / sample_rate
        speakers = f", {len(set(split.speakers))} speakers" if split.speakers else ""
        lines.append(
            f"{split.name}: {len(seconds):,} files, {seconds.sum() / 3600:.2f} hours, "
            f"{seconds.min():.2f} - {seconds.max():.2f} s (median {np.median(seconds):.2f})"
            f"{speakers}"
        )
        steps = histogram(split.manifest, sample_rate)
        most = max(count for _, _, count in steps)
        for start, end, count in steps:
            bar = "#" * -(-_BAR * count // most)
            lines.append(f"  {start:7g} - {end:<7g} s {bar:<{_BAR}} {count:,}")
    for finding in surveyed.findings:
        where = f"{finding.split}: " if finding.split else ""
        lines.append(f"{finding.severity}: {where}{finding.text}")
        lines += [f"    {example}" for example in finding.examples]
    return [printable(line) for line in lines]


def histogram(manifest: "Manifest", sample_rate: int) -> List[Tuple[float, float, int]]:
    """(from, to, files) by duration in seconds, in at most ten steps of a round size."""
    import numpy as np

    seconds = manifest.samples / sample_rate
    longest = max(float(seconds.max()), 1e-3)
    step = next(
        size * 10.0**power
        for power in range(-4, 6)
        for size in (1, 2, 5)
        if 10 * size * 10.0**power >= longest
    )
    counts = Counter(np.minimum((seconds / step).astype(int), int(longest / step)).tolist())
    return [(step * at, step * (at + 1), counts[at]) for at in range(int(longest / step) + 1)]


def as_json(surveyed: "Survey", sample_rate: int) -> Dict[str, Any]:
    """Everything, for another program."""
    return {
        "written_by": "varan_fairseq",
        "splits": [
            {
                "name": split.name,
                "files": len(split.manifest.entries),
                "hours": float(split.manifest.samples.sum() / sample_rate / 3600),
                "speakers": None if split.speakers is None else len(set(split.speakers)),
                "lengths": histogram(split.manifest, sample_rate),
            }
            for split in surveyed.splits
        ],
        "findings": [
            {
                "level": finding.severity,
                "split": finding.split,
                "kind": finding.kind,
                "text": finding.text,
                "count": finding.count,
                "examples": list(finding.examples),
                "file": finding.file or None,
                "line": finding.line,
            }
            for finding in surveyed.findings
        ],
    }


def check(argv: Optional[List[str]]) -> int:
    """Number of errors."""
    args = parser().parse_args(argv)
    from ..data.manifest import split_paths
    from ..data.survey import survey

    if args.jobs < 1:
        raise ValueError(f"--jobs {args.jobs}: expected 1 or more")
    splits = find_splits(args.data, args.splits)
    if args.json:
        inputs = [path for split in splits for path in split_paths(args.data, split)]
        refuse_output(args.json, b"varan_fairseq", args.encoder, *inputs)
    labels = find_labels(args.data, args.labels)
    frames = frames_of(args.encoder)
    surveyed = survey(
        args.data, splits, labels, frames, args.sample_rate, args.jobs, not args.no_audio
    )
    print("\n".join(text(surveyed, args.sample_rate)))
    if args.json:
        write_lines(args.json, [json.dumps(as_json(surveyed, args.sample_rate), indent=1)])
    errors, warnings = _count(surveyed)
    print(f"{errors} errors, {warnings} warnings")
    return errors


def _count(surveyed: "Survey") -> Tuple[int, int]:
    errors = sum(finding.severity == "error" for finding in surveyed.findings)
    return errors, len(surveyed.findings) - errors


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-check", check, argv)


if __name__ == "__main__":
    sys.exit(main())
