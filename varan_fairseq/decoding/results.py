"""A split that is searched, its score, and the files of both."""

import json
import os
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from fairseq.data import Dictionary

from ..data.manifest import Manifest
from ..finetuned.labelled import References
from ..runtime.files import MARK, cell, write_lines
from ..runtime.processes import in_processes
from ..runtime.progress import progress
from ..scoring import transcripts
from ..scoring.rates import rate
from .emissions import Emissions
from .search import Hypothesis, Search

# The last one says that the others are of the same run.
RESULTS = ("hypotheses.tsv", "errors.tsv", "alignment.txt", "nbest.tsv", "asr.json")
# As fairseq's decoder writes them.
FAIRSEQS = ("hypo.word", "hypo.units", "ref.word", "ref.units", "asr_score")
_CHUNK = 16  # utterances that a process searches at a time


@dataclass(frozen=True)
class Scored:
    """best: hypotheses of the N utterances. aligned: pairs of words of each. units: (errors,
    length) of each. summary: see `scoring.transcripts.summary`."""

    best: List[Hypothesis]
    aligned: List[List[Tuple[str, str]]]
    units: List[Tuple[int, int]]
    summary: Dict[str, Any]


def search_split(
    search: Search,
    emissions: Emissions,
    jobs: int,
    settings: Sequence[Dict[str, float]] = ({},),
    what: str = "search",
) -> Tuple[List[List[List[Hypothesis]]], float]:
    """(hypotheses of every utterance for each of the settings, seconds). settings: of
    `search.WEIGHTS`. jobs: processes."""
    starts = range(0, len(emissions), _CHUNK)
    work = [(setting, start) for setting in range(len(settings)) for start in starts]

    def run(item):
        setting, start = item
        if settings[setting]:
            search.set_weights(**settings[setting])
        end = min(start + _CHUNK, len(emissions))
        return [search(emissions[index].log_probs) for index in range(start, end)]

    results: List[List[List[Hypothesis]]] = [[[]] * len(emissions) for _ in settings]
    start_time = time.time()
    jobs = 1 if search.in_one_process else jobs
    for index, hypotheses in progress(in_processes(run, work, jobs), what, total=len(work)):
        setting, start = work[index]
        results[setting][start : start + len(hypotheses)] = hypotheses
    return results, time.time() - start_time


def score(references: References, best: Sequence[Hypothesis]) -> Scored:
    """WER and UER of the hypotheses."""
    aligned = [
        transcripts.pairs(reference.split(), hypothesis.text.split())
        for reference, hypothesis in zip(references.text, best)
    ]
    units = [
        (transcripts.distance(reference, hypothesis.units), len(reference))
        for reference, hypothesis in zip(references.units, best)
    ]
    edits = [transcripts.edits(pairs) for pairs in aligned]
    return Scored(
        list(best), aligned, units, transcripts.summary(edits, units, references.speakers)
    )


def rates(references: References, best: Sequence[Hypothesis]) -> Tuple[float, float]:
    """WER and UER alone, in percent."""
    words = [
        (line.split(), hypothesis.text.split()) for line, hypothesis in zip(references.text, best)
    ]
    units = [(reference, hypothesis.units) for reference, hypothesis in zip(references.units, best)]
    wer, uer = (
        rate(
            sum(transcripts.distance(*pair) for pair in pairs),
            sum(len(spoken) for spoken, _ in pairs),
        )
        for pairs in (words, units)
    )
    return wer, uer


def write_results(
    folder: str,
    manifest: Manifest,
    references: References,
    hypotheses: Sequence[Sequence[Hypothesis]],
    scored: Scored,
    labels: Dictionary,
    about: Dict[str, Any],
) -> Dict[str, Any]:
    """Returns what asr.json holds. Writes `RESULTS` into a folder, and the files that fairseq's
    decoder writes (hypo.word, hypo.units, ref.word, ref.units, asr_score). hypotheses: of each
    utterance, the best first."""
    names = [name for name, _ in manifest.entries]

    def write(name, lines):
        write_lines(os.path.join(folder, name), lines)

    def numbered(name, texts):
        write(name, (f"{text} (None-{index})" for index, text in enumerate(texts)))

    best = scored.best
    numbered("hypo.word", (hypothesis.text for hypothesis in best))
    numbered("hypo.units", (labels.string(hypothesis.units) for hypothesis in best))
    numbered("ref.word", references.text)
    numbered("ref.units", (labels.string(hypothesis) for hypothesis in references.units))
    numbered("asr_score", (hypothesis.score for hypothesis in best))
    rows = (f"{cell(name)}\t{cell(hypothesis.text)}" for name, hypothesis in zip(names, best))
    write("hypotheses.tsv", ["id\thypothesis", *rows])
    words = map(transcripts.edits, scored.aligned)
    rows = (
        "\t".join(map(str, (cell(name), word.errors, word.length, *unit)))
        for name, word, unit in zip(names, words, scored.units)
    )
    write("errors.tsv", ["id\tword_errors\twords\tunit_errors\tunits", *rows])
    aligned = sorted(zip(names, scored.aligned), key=lambda row: -transcripts.edits(row[1]).errors)
    lines = [line for row in aligned for line in [*transcripts.alignment_text(*row), ""]]
    write("alignment.txt", lines)
    if any(len(hypothesis) > 1 for hypothesis in hypotheses):
        rows = (
            f"{cell(name)}\t{rank}\t{hypothesis.score:.4f}\t{cell(hypothesis.text)}"
            for name, ranked in zip(names, hypotheses)
            for rank, hypothesis in enumerate(ranked, start=1)
        )
        write("nbest.tsv", ["id\trank\tscore\thypothesis", *rows])
    summary = {**about, **scored.summary}
    write(MARK, [])
    write("asr.json", [json.dumps(summary, indent=2)])
    return summary
