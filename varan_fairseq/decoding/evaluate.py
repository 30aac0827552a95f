"""A recognizer over labelled splits, scored: what `varan-infer` and `varan_fairseq.evaluate` do."""

import logging
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

from fairseq.data import Dictionary

from ..data.checks import dictionary_findings, task_findings
from ..data.findings import Split, enforce, split_files
from ..data.manifest import read_lines
from ..finetuned.labelled import References, check_transcribed, read_references
from ..finetuned.results import beside, results_name, setting_name
from ..runtime.files import refuse_file, refuse_foreign, write_lines, written_whole
from . import sweep
from .cache import split_emissions
from .emissions import Emissions
from .request import Decoding, Options, build
from .results import FAIRSEQS, RESULTS, score, search_split, write_results
from .search import Search, plain, settings
from .vocabulary import check_references

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """Of a split that was scored. folder: with its files. summary: the content of asr.json."""

    folder: str
    summary: Dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """Of a split that weights were chosen on. folder: with sweep.tsv. rows: every setting with its
    WER and UER. best: the row that was chosen."""

    folder: str
    subset: str
    weights: Dict[str, float]
    rows: List[Dict[str, Any]]
    best: Dict[str, Any]


@dataclass(frozen=True)
class SplitToDecode:
    """A split that was checked, with the labels of the checkpoint."""

    split: Split
    references: References
    labels: Dictionary


def evaluate(
    checkpoint: str,
    data: str,
    subset: str = "test",
    *,
    base: Optional[str] = None,
    out: Optional[str] = None,
    overrides: Sequence[str] = (),
    **options: Any,
) -> Dict[str, Any]:
    """Decodes a split with fairseq's decoder and scores it.

    Args:
        checkpoint: a checkpoint of `varan_ctc` (a pickle), or the folder of an adapter.
        data: folder with the manifests.
        subset: name of the manifest.
        base: the pre-trained checkpoint of an adapter.
        out: folder for the results; default: beside the checkpoint.
        overrides: fairseq's, as `decoding.type=kenlm`.
        options: those of `request.Options`: combine, layer, jobs, emissions, shards, ..

    Returns:
        The content of asr.json.

    Raises:
        ValueError, FileNotFoundError, ModuleNotFoundError: naming the file or option.
    """
    given = {"task.data": data, "decoding.results_path": out}
    given["model.adapter" if os.path.isdir(checkpoint) else "common_eval.path"] = checkpoint
    given["model.w2v_path"] = base
    named = [f"{key}={value}" for key, value in given.items() if value is not None]
    named.append(f"dataset.gen_subset={subset}")
    results = decode(build(Options([*named, *overrides], **options)))
    return [result.summary for result in results if isinstance(result, Result)][-1]


def decode(decoding: Decoding) -> Iterator[Union[Sweep, Result]]:
    """Checks all splits, then sweeps, if asked to, and decodes one split after the other."""
    options, config = decoding.options, decoding.config
    subsets = [*([options.sweep] if options.sweep else []), *decoding.subsets]
    splits = [_check(decoding, subset) for subset in subsets]
    if options.sweep:
        for checked in splits[1:]:
            sweep.check_apart(splits[0].split, checked.split)
    if options.shard:
        for checked in splits:
            split_emissions(decoding, checked.split)
        return
    search = Search(config.decoding, splits[0].labels, config.common_eval.post_process)
    for subset in decoding.subsets:
        refuse_file(_folder(decoding, subset))
        if decoding.results:
            refuse_foreign(_folder(decoding, subset), (*FAIRSEQS, *RESULTS))
    if search.words is not None:
        for checked in splits:
            check_references(config.decoding.lexicon, search.words, checked.references.text)
    chosen = None
    if options.sweep:
        swept = _choose(decoding, search, splits.pop(0))
        yield swept
        chosen = {"subset": swept.subset, "settings": len(swept.rows), **swept.best}
    for checked in splits:
        yield _score(decoding, search, checked, chosen)


def _check(decoding: Decoding, subset: str) -> SplitToDecode:
    cfg, labels = decoding.config.task, decoding.labels
    enforce(task_findings(cfg))
    split = Split(subset, split_files(cfg, subset))
    dictionary = split.files.dictionary
    if labels is None:
        enforce(dictionary_findings(dictionary))
        labels = Dictionary.load(dictionary)
    elif os.path.isfile(dictionary):
        symbols = [line.rstrip().rpartition(" ")[0] for line in read_lines(dictionary)]
        if symbols != labels.symbols[labels.nspecial :]:
            logger.warning(
                "%s is not the dictionary of the training: labels are read by the checkpoint's",
                dictionary,
            )
    post_process = decoding.config.common_eval.post_process
    check_transcribed(split, labels, cfg.sample_rate, decoding.max_unknown, post_process)
    references = read_references(split, labels, post_process)
    return SplitToDecode(split, references, labels)


def _choose(decoding: Decoding, search: Search, checked: SplitToDecode) -> Sweep:
    """Sweeps on a development split, and sets the best weights."""
    emissions = split_emissions(decoding, checked.split)
    options, grid, name = decoding.options, decoding.grid, checked.split.name
    hypotheses, _ = search_split(search, emissions, options.jobs, grid, f"sweep on {name}")
    best, rows = sweep.choose(checked.references, grid, hypotheses)
    search.set_weights(**grid[best])
    decoder = search.decoding
    lm = os.path.splitext(os.path.basename(decoder.lmpath))[0]
    setting = setting_name(decoding.path, options.combine, options.layer)
    setting_folder = results_name("sweep", name, plain(decoder.type), lm, *setting)
    folder = os.path.join(decoding.results or beside(decoding.path), setting_folder)
    with written_whole(folder, ("sweep.tsv",)) as partial:
        write_lines(os.path.join(partial, "sweep.tsv"), sweep.table(rows))
    return Sweep(folder, name, grid[best], rows, rows[best])


def _score(
    decoding: Decoding, search: Search, checked: SplitToDecode, chosen: Optional[Dict[str, Any]]
) -> Result:
    """Decodes, scores and writes a split."""
    config, split = decoding.config, checked.split
    subset, references = split.name, checked.references
    folder = _folder(decoding, subset)
    emissions = split_emissions(decoding, split)
    (hypotheses,), searched = search_split(
        search, emissions, decoding.options.jobs, what=f"search of {subset}"
    )
    scored = score(references, [ranked[0] for ranked in hypotheses])
    about = {
        "checkpoint": decoding.path,
        "subset": subset,
        "decoder": plain(config.decoding.type),
        "decoding": settings(search.decoding),
        "chosen_on": chosen,
        "post_process": config.common_eval.post_process,
        "model_overrides": decoding.model_overrides,
        "reading": decoding.reading or "as trained",
        "time": _time(emissions, searched, split.manifest.samples.sum() / config.task.sample_rate),
    }
    with written_whole(folder, RESULTS) as partial:
        summary = write_results(
            partial, split.manifest, references, hypotheses, scored, checked.labels, about
        )
    return Result(folder, summary)


def _time(emissions: Emissions, searched: float, seconds: float) -> Dict[str, Any]:
    return {
        "audio_seconds": seconds,
        "encoder_seconds": emissions.seconds,
        "encoder_device": emissions.device,
        "search_seconds": searched,
        "real_time_factor": (emissions.seconds + searched) / seconds,
    }


def _folder(decoding: Decoding, subset: str) -> str:
    """Where results of a subset go."""
    given = decoding.results
    if given is None:
        return os.path.join(beside(decoding.path), _results_name(decoding, subset))
    several = len(decoding.subsets) > 1 or decoding.options.sweep
    return os.path.join(given, subset) if several else given


def _results_name(decoding: Decoding, subset: str) -> str:
    decoder, lm = decoding.config.decoding, []
    if plain(decoder.type) != "viterbi":
        lm = [os.path.splitext(os.path.basename(decoder.lmpath))[0]]
        short = {"lmweight": "lw", "wordscore": "ws", "beam": "beam"}
        lm += [f"{word}{decoder[key]:g}" for key, word in short.items()]
    overrides = "-".join(f"{key}_{value}" for key, value in decoding.model_overrides.items())
    setting = setting_name(decoding.path, decoding.options.combine, decoding.options.layer)
    return results_name("decode", subset, plain(decoder.type), *lm, *setting, overrides or None)
