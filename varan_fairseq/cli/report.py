"""varan-report: one page on how a recognizer did on a split, for a browser, offline.

WER with its interval, each layer alone beside all together, which layers the utterances used (by
length, by speaker), the utterances with the most errors with their audio, curves of the training.
"""

import argparse
import os
import sys
from typing import List, Optional

import varan_fairseq  # noqa: F401  (registers the models)

from ..data.check import check_split, split_files
from ..data.short import check_lengths
from ..decoding.evaluate import read_references
from ..decoding.finetuned import load_model, training_post_process
from ..decoding.split import load_checked_audio
from ..files import refuse_no_folder, write_lines
from ..method.combine import CTC_RULES
from ..report.gather import gather
from ..report.log import read_log
from ..report.page import render, sections, utterances
from . import add_reading_options, add_split_options, beside, reading_overrides, run
from .pictures import pyplot


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="varan-report", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("checkpoint", help="of varan_ctc (a pickle), or the folder of an adapter")
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
    args = parser().parse_args(argv)
    if args.worst < 0:
        raise ValueError(f"--worst {args.worst}: wanted 0 or more")
    plt = pyplot()
    out = args.out or os.path.join(beside(args.checkpoint), f"report-{args.subset}.html")
    refuse_no_folder(out)
    training = read_log(args.log) if args.log else []
    overrides = reading_overrides(args, CTC_RULES)
    model, cfg, task = load_model(args.checkpoint, overrides, args.data, args.base, ("varan_ctc",))
    spelling = training_post_process(cfg)
    labels, files = task.target_dictionary, split_files(cfg.task, args.subset)
    manifest = check_split(files, labels, cfg.task.sample_rate)
    speakers = os.path.join(args.data, f"{args.subset}.spk")
    references = read_references(files.labels, labels, spelling, speakers)
    check_lengths(files.manifest, manifest, model.w2v_encoder.receptive_field, None)
    load_checked_audio(task, cfg.task, args.subset)
    found = gather(model, task, args.subset, manifest, references, spelling, args.max_tokens)

    scores = found.scored.summary
    facts = [
        ("checkpoint", args.checkpoint),
        ("aggregation", f"{model.cfg.aggregation}, {model.cfg.combine}, best path"),
        ("utterances", f"{scores['utterances']:,}, {scores['wrong_utterances']:,} with errors"),
        ("words", f"{scores['words']:,}"),
        (
            "errors",
            f"{scores['substitutions']:,} substitutions, {scores['deletions']:,} deletions, "
            f"{scores['insertions']:,} insertions",
        ),
        ("UER", f"{scores['uer']:.2f}%"),
        ("audio", f"{found.seconds.sum() / 3600:.2f} hours"),
    ]
    page = render(
        f"{args.subset}: {os.path.basename(args.data.rstrip('/'))}",
        scores,
        facts,
        sections=sections(plt, found, references, model.prior.probs.cpu().numpy(), training),
        utterances=utterances(found, manifest, args.worst, cfg.task.sample_rate),
    )
    write_lines(out, page.split("\n"))
    print(f"WER {scores['wer']:.2f}%  {scores['utterances']} utterances -> {out}")


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-report", report, argv)


if __name__ == "__main__":
    sys.exit(main())
