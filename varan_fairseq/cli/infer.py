"""varan-infer: decodes with fairseq's own decoder and prints the WER.

Takes the overrides of fairseq's examples/speech_recognition/new/infer.py, on every
version of Python and fairseq. Paths are relative to where it is called. Results go to a folder
a subset: asr.json (WER with its interval, UER, every setting), hypotheses.tsv, alignment.txt.
"""

import argparse
import os
import sys
from typing import Any, List, Optional

from ..decoding.shards import shard
from ..method.choices import CTC_RULES
from . import Parser, add_reading_options, run

USAGE = """\
varan-infer common_eval.path=CHECKPOINT task.data=DATA dataset.gen_subset=SUBSET[,SUBSET ..]
       [decoding.type=kenlm decoding.lmpath=LM decoding.lexicon=LEXICON decoding.beam=500
       decoding.lmweight=2 decoding.wordscore=-1] [--combine RULE | --layer N] [key=value ...]
   or: the same with model.adapter=FOLDER model.w2v_path=BASE instead of common_eval.path
   or: the same with --sweep DEV decoding.lmweight=0.5,1,2 decoding.wordscore=-1,0,1"""


def parser() -> argparse.ArgumentParser:
    options = Parser(prog="varan-infer", usage=USAGE, description=__doc__)
    add_reading_options(options, CTC_RULES)
    options.add_argument(
        "--sweep",
        metavar="DEV",
        help="choose language-model weights on this split: the lowest WER of all combinations of "
        "the values given with commas",
    )
    options.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count(),
        help="processes of a KenLM search; default: one per core",
    )
    options.add_argument(
        "--emissions",
        metavar="FOLDER",
        help="where what the model says of the audio is kept for the next decoding; default: "
        "beside the checkpoint",
    )
    options.add_argument(
        "--shards",
        type=int,
        default=1,
        help="processes that run the encoder, each on a GPU if there are some",
    )
    options.add_argument(
        "--shard",
        type=shard,
        metavar="I/N",
        help="for a cluster: run the encoder on this part alone; --shards N then joins them",
    )
    options.add_argument("overrides", nargs="*", metavar="key=value", help="fairseq's overrides")
    return options


def decode(argv: Optional[List[str]]) -> None:
    options = parser().parse_intermixed_args(argv)  # overrides before and after options
    from ..decoding import evaluate, request

    for made in evaluate.decode(request.build(request.Options(**vars(options)))):
        lines = _result(made) if isinstance(made, evaluate.Result) else _sweep(made)
        print("\n".join(lines), flush=True)


def _result(made: Any) -> List[str]:
    from ..scoring.rates import shown

    scores = made.summary
    return [
        f"WER {scores['wer']:.2f}% ({shown(scores['wer_interval'])})  UER {scores['uer']:.2f}%  "
        f"{scores['utterances']} utterances, {scores['words']} words, {scores['units']} units "
        f"-> {made.folder}"
    ]


def _sweep(made: Any) -> List[str]:
    from ..decoding.sweep import at_the_edge

    chosen = ", ".join(f"{key}={value:g}" for key, value in made.weights.items())
    rates = [row["wer"] for row in made.rows]
    lines = [
        f"of {len(rates)} settings on {made.subset}: {chosen}, WER {made.best['wer']:.2f}% "
        f"({min(rates):.2f}% - {max(rates):.2f}%) -> {made.folder}/sweep.tsv"
    ]
    edges = at_the_edge(made.best, made.rows)
    return lines + [f"  {edge} is the last value tried: try others beyond it" for edge in edges]


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-infer", decode, argv)


if __name__ == "__main__":
    sys.exit(main())
