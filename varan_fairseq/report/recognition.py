"""A recognizer on a split: one pass over it, each layer and all together read in it."""

from collections import Counter
from typing import Any, List, Tuple

import numpy as np

from ..decoding.emissions import batch_emissions
from ..decoding.results import Scored, rates, score
from ..decoding.search import Search, best_paths, options
from ..finetuned.labelled import Transcribed
from ..finetuned.outputs import shown_outputs
from ..models.varan_ctc import VaranCtc
from ..scoring.transcripts import Edits, edits
from .summary import Heard, Mistake, SplitSummary, aggregated, common_groups

CONFUSED = 20  # pairs of words that are listed


def recognize(
    model: VaranCtc,
    task: Any,
    subset: str,
    split: Transcribed,
    max_tokens: int,
) -> SplitSummary:
    """Of a loaded split. The best path, no language model."""
    manifest, references, post_process = split.manifest, split.references, split.post_process
    count = len(manifest.entries)
    search = Search(options(), task.target_dictionary, post_process)
    best: List[Any] = [None] * count
    of_layers: List[List[Any]] = [[None] * count for _ in range(model.num_predictions)]
    posterior = np.zeros((count, model.num_predictions), np.float32)
    layers, confidence = np.zeros(count, np.int64), np.ones(count)
    for rows, net_output in shown_outputs(model, task, subset, max_tokens):
        for row, emission in zip(rows, batch_emissions(model, net_output)):
            best[row] = search(emission.log_probs)[0]
            posterior[row], layers[row] = np.exp(emission.log_q), emission.layer
            if len(emission.log_probs):
                confidence[row] = np.exp(emission.log_probs.max(1).mean())
        lengths = net_output["lengths"].tolist()
        for index, logits in enumerate(net_output["layer_logits"]):
            hypotheses = best_paths(
                logits, lengths, model.blank, task.target_dictionary, post_process
            )
            for row, hypothesis in zip(rows, hypotheses):
                of_layers[index][row] = hypothesis
    scored = score(references, best)
    counts = [edits(pairs) for pairs in scored.aligned]
    scores = scored.summary
    of_speakers = None
    if references.speakers is not None:
        of_speakers = (scores["speakers"], scores["wer_interval_of_speakers"])
    seconds = manifest.samples / task.cfg.sample_rate
    return SplitSummary(
        measure="WER",
        value=scores["wer"],
        interval=scores["wer_interval"],
        of_speakers=of_speakers,
        rates=[rates(references, hypotheses)[0] for hypotheses in of_layers],
        posterior=posterior,
        seconds=seconds,
        groups=common_groups(seconds, references.speakers),
        facts=[
            ("aggregation", ", ".join([*aggregated(model.cfg), "best path"])),
            ("utterances", f"{scores['utterances']:,}, {scores['wrong_utterances']:,} with errors"),
            ("words", f"{scores['words']:,}"),
            (
                "errors",
                f"{scores['substitutions']:,} substitutions, {scores['deletions']:,} deletions, "
                f"{scores['insertions']:,} insertions",
            ),
            ("UER", f"{scores['uer']:.2f}%"),
        ],
        mistakes=_mistakes(scored, counts, layers),
        heard=Heard(
            errors=np.array([each.errors for each in counts]),
            lengths=np.array([each.length for each in counts]),
            confidence=confidence,
            layers=layers,
            said=references.text,
            heard=[hypothesis.text for hypothesis in scored.best],
            speakers=references.speakers,
        ),
        confused=_confused(scored),
    )


def _confused(scored: Scored) -> List[Tuple[str, str, int]]:
    wrong = Counter(pair for pairs in scored.aligned for pair in pairs if pair[0] != pair[1])
    return [(said, heard, times) for (said, heard), times in wrong.most_common(CONFUSED)]


def _mistakes(scored: Scored, counts: List[Edits], layers: np.ndarray) -> List[Mistake]:
    """Utterances with the most word errors, of as many errors the shorter reference first.
    layers: the one layer of each utterance's text, or 0."""
    order = sorted(
        range(len(counts)), key=lambda row: (-counts[row].errors, counts[row].length, row)
    )
    return [
        Mistake(
            row,
            f"{counts[row].errors} errors in {counts[row].length} words"
            + (f", read from layer {layers[row]}" if layers[row] else ""),
            scored.aligned[row],
        )
        for row in order
        if counts[row].errors
    ]
