"""varan-transcribe: words of recordings of any length, rate and number of channels.

Files, folders of them, or - for the standard input. Long audio is heard in windows that overlap.
Written as text, JSON lines (words with times and confidence, layers), subtitles (SRT, VTT) or CTM,
to the standard output or one file per recording. What cannot be read is named and passed over; the
exit code is then 1.
"""

import argparse
import hashlib
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from ..inference import BATCH, FORMATS, OVERLAP, WINDOW
from ..method.choices import CTC_RULES
from ..runtime.files import file_state, printable, refuse_file
from . import Parser, add_reading_options, run

if TYPE_CHECKING:
    from ..inference.transcript import Transcript, Utterance

# What an option is called in the settings of results, and by fairseq's decoding.* and in Python.
_LM = {"lm_weight": "lmweight", "word_score": "wordscore", "sil_score": "silweight", "beam": "beam"}


def parser() -> argparse.ArgumentParser:
    options = Parser(
        prog="varan-transcribe",
        description=__doc__,
        example="varan-transcribe checkpoint_best.pt talks/ --out texts --format srt",
    )
    options.add_argument("checkpoint", help="of varan_ctc (a pickle), or the folder of an adapter")
    options.add_argument("audio", nargs="+", help="files, folders, or - for the standard input")
    options.add_argument("--base", help="the pre-trained checkpoint that an adapter is for")
    options.add_argument("--format", choices=FORMATS, default="text")
    options.add_argument("--out", help="folder: one file per recording; those that are there stay")
    options.add_argument("--overwrite", action="store_true", help="with --out: make all again")
    add_reading_options(options, CTC_RULES)
    lm = options.add_argument_group("language model")
    lm.add_argument("--lm", help="KenLM file (ARPA or binary)")
    lm.add_argument("--lexicon", help="one line per word: `word<TAB>labels`")
    for (name, spelled), default, text in zip(
        _LM.items(), (2.0, -1.0, 0.0), ("of its log10 p", "added per word", "added per boundary")
    ):
        before = f"--{name.replace('_', '-')}"  # the spelling of earlier versions
        lm.add_argument(
            f"--{spelled}", before, dest=name, metavar="W", type=float, default=default, help=text
        )
    lm.add_argument("--beam", type=int, default=50, help="hypotheses that are kept")
    windows = options.add_argument_group("windows")
    windows.add_argument("--window", type=float, default=WINDOW, help="seconds heard at a time")
    windows.add_argument("--overlap", type=float, default=OVERLAP, help="seconds heard twice")
    windows.add_argument("--batch-size", type=int, default=BATCH, help="windows run together")
    windows.add_argument("--device", help="as torch names it; default: the GPU, if there is one")
    return options


def _sources(audio: List[str]) -> List[Tuple[str, str]]:
    """(path, name for its results, without ending) of every recording."""
    from ..data.audio import STDIN, audio_below

    recordings = []
    for path in audio:
        if path == STDIN:
            recordings.append((path, "stdin"))
        elif os.path.isdir(path):
            for below in audio_below(path):
                recordings.append((below, os.path.splitext(os.path.relpath(below, path))[0]))
        else:
            recordings.append((path, os.path.splitext(os.path.basename(path))[0]))
    return recordings


def _targets(args: argparse.Namespace, names: List[str]) -> List[str]:
    """Files to write, checked: no two recordings have one."""
    ending = {"text": "txt"}.get(args.format, args.format)
    targets = [os.path.join(args.out, f"{name}.{ending}") for name in names]
    twice = [target for target, count in Counter(targets).items() if count > 1]
    if twice:
        raise ValueError(f"--out: two recordings would be written to {min(twice)}: rename one")
    return targets


def _settings(args: argparse.Namespace, model: Any) -> Dict[str, Any]:
    """What results depend on, beside the audio."""
    kept = dict(vars(args))
    for key in ("audio", "out", "overwrite", "batch_size", "device", "checkpoint", "base"):
        del kept[key]
    files = {key: file_state(kept[key]) for key in ("lm", "lexicon")}
    return {**kept, **files, "model": model_digest(model)}


def model_digest(model: Any) -> str:
    """Of the weights and the labels, wherever they were read from."""
    digest = hashlib.blake2b(digest_size=32)
    for name, tensor in model.model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    digest.update("\n".join(model.labels.symbols).encode())
    return digest.hexdigest()


def _print(args: argparse.Namespace, transcript: "Transcript", several: bool) -> None:
    from ..inference.transcript import lines

    text = lines(transcript, args.format)
    if args.format == "text" and several:
        text = [f"{transcript.name}\t{transcript.text}"]
    print(printable("\n".join(text)), flush=True)


def transcribe(argv: Optional[List[str]]) -> int:
    """Number of recordings that failed."""
    args = parser().parse_args(argv)
    from ..data.audio import duration
    from ..finetuned.load import load_model
    from ..finetuned.results import reading_overrides
    from ..inference.recognizer import Recognizer
    from ..inference.records import Records
    from ..inference.transcript import Transcript, lines
    from ..runtime.progress import progress

    overrides = reading_overrides(args.combine, args.layer, CTC_RULES)
    sources = _sources(args.audio)
    several = len(sources) > 1
    if several and not args.out and args.format in ("srt", "vtt"):
        raise ValueError(f"--format {args.format} of several recordings: give --out FOLDER")
    if args.lexicon and not args.lm:
        raise ValueError("--lexicon is for a language model: give --lm too")
    if args.out:
        refuse_file(args.out)
    if args.batch_size < 1:
        raise ValueError(f"--batch-size {args.batch_size}: expected 1 or more")
    model, cfg, task = load_model(args.checkpoint, overrides, base=args.base, models=("varan_ctc",))
    recognizer = Recognizer(model, cfg, task, args.device, args.window, args.overlap)
    if args.lm:
        weights = {name: getattr(args, key) for key, name in _LM.items()}
        unitlm = args.lexicon is None
        recognizer.use_language_model(args.lm, args.lexicon, unitlm=unitlm, **weights)
    jobs = [(path, "") for path, _ in sources]
    records = None
    if args.out:
        targets = _targets(args, [name for _, name in sources])
        os.makedirs(args.out, exist_ok=True)
        records = Records(args.out, _settings(args, recognizer))
        every = [(path, target) for (path, _), target in zip(sources, targets)]
        jobs = records.left(every, args.overwrite)
        if len(jobs) < len(every):
            print(f"{len(every) - len(jobs)} of {len(every)} are there already", file=sys.stderr)
    states = [file_state(path) for path, _ in jobs]

    lengths = [duration(path) for path, _ in jobs]
    known = [length for length in lengths if length is not None]
    total = sum(known) if len(known) == len(lengths) else None
    pieces = recognizer.stream([path for path, _ in jobs], batch_size=args.batch_size)
    utterances: List[Utterance] = []
    failed = 0
    for piece in progress(pieces, "transcribed", total, _length, "s of audio"):
        path, target = jobs[piece.source]
        if piece.utterance is not None:
            utterances.append(piece.utterance)
            if args.format == "text" and not several and not args.out and piece.utterance.text:
                print(printable(piece.utterance.text), flush=True)
            continue
        transcript, utterances = Transcript(path, utterances), []
        if piece.error is not None:
            failed += 1
            print(f"varan-transcribe: {printable(str(piece.error))}", file=sys.stderr, flush=True)
        elif records is not None:
            records.write(target, lines(transcript, args.format), states[piece.source])
        elif args.format != "text" or several:
            _print(args, transcript, several)
    if args.out:
        print(f"{len(jobs) - failed} recordings -> {args.out}", file=sys.stderr)
    return failed


def _length(piece: Any) -> float:
    return 0.0 if piece.utterance is None else piece.utterance.end - piece.utterance.start


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-transcribe", transcribe, argv)


if __name__ == "__main__":
    sys.exit(main())
