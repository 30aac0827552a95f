"""varan-infer: decodes with fairseq's own decoder and prints the WER.

Takes the overrides of fairseq's examples/speech_recognition/new/infer.py, on every
version of Python and fairseq. Paths are relative to where it is called. Results go to a folder
a subset: asr.json (WER with its interval, UER, every setting), hypotheses.tsv, alignment.txt.
"""

import os
import sys
from typing import Any, Dict, List, NamedTuple, Optional

from fairseq.data import Dictionary

import varan_fairseq

from ..data.manifest import Manifest
from ..decoding import sweep
from ..decoding.emissions import Emissions
from ..decoding.evaluate import (
    RESULTS,
    References,
    read_references,
    score,
    search_split,
    write_results,
)
from ..decoding.search import Search, plain, settings
from ..method.combine import CTC_RULES
from ..runtime.files import refuse_file, write_lines, written_whole
from . import beside, reading_overrides, results_name, run, setting_name
from .decoder import check_data, split_emissions
from .request import Decoding, build, literal, parse


class Split(NamedTuple):
    """A split that was checked."""

    subset: str
    manifest: Manifest
    references: References
    labels: Dictionary


def _results_name(decoding: Decoding, subset: str) -> str:
    options, lm = decoding.config.decoding, []
    if plain(options.type) != "viterbi":
        lm = [os.path.splitext(os.path.basename(options.lmpath))[0]]
        short = {"lmweight": "lw", "wordscore": "ws", "beam": "beam"}
        lm += [f"{word}{options[key]:g}" for key, word in short.items()]
    overrides = literal(decoding.config) or None
    if overrides is not None:
        overrides = "-".join(f"{key}_{value}" for key, value in overrides.items())
    setting = setting_name(decoding.path, decoding.args)
    return results_name("decode", subset, plain(options.type), *lm, *setting, overrides)


def _folder(decoding: Decoding, subset: str) -> str:
    """Where results of a subset go."""
    given = decoding.results
    if given is None:
        return os.path.join(beside(decoding.path), _results_name(decoding, subset))
    several = len(decoding.subsets) > 1 or decoding.args.sweep
    return os.path.join(given, subset) if several else given


def _check(decoding: Decoding, subset: str) -> Split:
    files, manifest, labels = check_data(decoding, subset)
    spelling = decoding.config.common_eval.post_process
    references = read_references(files, labels, spelling)
    return Split(subset, manifest, references, labels)


def _choose(decoding: Decoding, search: Search, split: Split) -> Dict[str, Any]:
    """Sweeps on a development split, sets the best weights; returns what to say of it."""
    emissions = split_emissions(decoding, split.subset, split.manifest)
    found, _ = search_split(
        search, emissions, decoding.args.jobs, decoding.grid, f"sweep on {split.subset}"
    )
    best, rows = sweep.choose(split.references, decoding.grid, found)
    search.set_weights(**decoding.grid[best])
    options = search.decoding
    lm = os.path.splitext(os.path.basename(options.lmpath))[0]
    setting = setting_name(decoding.path, decoding.args)
    name = results_name("sweep", split.subset, plain(options.type), lm, *setting)
    folder = os.path.join(decoding.results or beside(decoding.path), name)
    with written_whole(folder, ("sweep.tsv",)) as partial:
        write_lines(os.path.join(partial, "sweep.tsv"), sweep.table(rows))
    chosen = ", ".join(f"{key}={value:g}" for key, value in decoding.grid[best].items())
    print(
        f"of {len(rows)} settings on {split.subset}: {chosen}, WER {rows[best]['wer']:.2f}% "
        f"({min(row['wer'] for row in rows):.2f}% - {max(row['wer'] for row in rows):.2f}%) -> "
        f"{folder}/sweep.tsv"
    )
    for edge in sweep.at_the_edge(rows[best], rows):
        print(f"  {edge} is the last value tried: try others beyond it")
    return {"subset": split.subset, "settings": len(rows), **rows[best]}


def _report(
    decoding: Decoding, search: Search, split: Split, chosen: Optional[Dict[str, Any]]
) -> None:
    """Decodes, scores and writes a split."""
    config, subset = decoding.config, split.subset
    folder = _folder(decoding, subset)
    refuse_file(folder)
    emissions = split_emissions(decoding, subset, split.manifest)
    (found,), searched = search_split(
        search, emissions, decoding.args.jobs, what=f"search of {subset}"
    )
    scored = score(split.references, [each[0] for each in found])
    about = {
        "checkpoint": decoding.path,
        "subset": subset,
        "decoder": plain(config.decoding.type),
        "decoding": settings(search.decoding),
        "chosen_on": chosen,
        "post_process": config.common_eval.post_process,
        "model_overrides": literal(config),
        "reading": reading_overrides(decoding.args, CTC_RULES) or "as trained",
        "time": _time(emissions, searched, split.manifest.samples.sum() / config.task.sample_rate),
    }
    with written_whole(folder, RESULTS) as partial:
        write_results(partial, split.manifest, split.references, found, scored, split.labels, about)
    scores = scored.summary
    low, high = scores["wer_interval"]
    print(
        f"WER {scores['wer']:.2f}% ({low:.2f} - {high:.2f})  UER {scores['uer']:.2f}%  "
        f"{scores['utterances']} utterances, {scores['words']} words, {scores['units']} units "
        f"-> {folder}"
    )


def _time(emissions: Emissions, searched: float, seconds: float) -> Dict[str, Any]:
    return {
        "audio_seconds": seconds,
        "encoder_seconds": emissions.seconds,
        "encoder_device": emissions.device,
        "search_seconds": searched,
        "real_time_factor": (emissions.seconds + searched) / seconds,
    }


def decode(argv: Optional[List[str]]) -> None:
    decoding = build(parse(argv, __doc__))
    dev = decoding.args.sweep
    subsets = [*([dev] if dev else []), *decoding.subsets]
    splits = [_check(decoding, subset) for subset in subsets]
    if decoding.args.shard:
        for split in splits:
            split_emissions(decoding, split.subset, split.manifest)
        return
    spelling = decoding.config.common_eval.post_process
    search = Search(decoding.config.decoding, splits[0].labels, spelling)
    chosen = _choose(decoding, search, splits.pop(0)) if dev else None
    for split in splits:
        _report(decoding, search, split, chosen)


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-infer", decode, argv)


if __name__ == "__main__":
    sys.exit(main())
