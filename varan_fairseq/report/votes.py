"""What the layers read of one utterance, and how they voted on it."""

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import editdistance
import numpy as np
import torch
from fairseq.data import Dictionary
from fairseq.data.data_utils import post_process as fairseq_post_process

from ..finetuned.outputs import shown_outputs
from ..method.emission import Reading, differences
from ..method.vote import Ballot, Motion
from ..models.varan_ctc import VaranCtc

Marked = List[Tuple[str, bool]]  # stretches of a text, and whether each is as in the result
SHOWN = 6  # edits in a picture or a table
_AROUND = 3  # labels on either side of an edit that are shown with it
SPACE = "\N{OPEN BOX}"  # where it is wrong
MISSING = "\N{MIDDLE DOT}"  # for a label that a layer does not read


@dataclass(frozen=True)
class JudgedEdit:
    """before, old, new, after: text around an edit, what stands there, what is to. votes: of each
    layer, [L], in nats; their sum is the gain. carried: whether it went in."""

    before: str
    old: str
    new: str
    after: str
    votes: np.ndarray
    carried: bool

    @property
    def title(self) -> str:
        """`old -> new`, with signs for nothing and for a space."""
        old, new = (text.replace(" ", SPACE) or MISSING for text in (self.old, self.new))
        return f"{old} \N{RIGHTWARDS ARROW} {new}"


@dataclass(frozen=True)
class LayerVotes:
    """Of an utterance. weights: q [L]. layers: what each reads, beside the result. edits: judged,
    those that went in first, by their gain."""

    weights: np.ndarray
    layers: List[Marked]
    result: str
    edits: List[JudgedEdit]


def votes_on(model: VaranCtc) -> bool:
    """Whether a model's layers vote."""
    cfg = model.cfg
    return cfg.combine == "vote" and not cfg.decode_layer and model.num_predictions > 1


def most_corrected(
    model: VaranCtc, task: Any, subset: str, references: Sequence[List[int]], max_tokens: int
) -> int:
    """The row of a loaded split whose text the vote corrected most, in labels beside what the
    likeliest layer reads; the first of several. references: labels of each row."""
    corrected: Dict[int, int] = {}
    for rows, output in shown_outputs(model, task, subset, max_tokens):
        ballot = _opened(model, output)
        before = [text.tolist() for text in ballot.texts]
        ballot.run()
        for row, one, other in zip(rows.tolist(), before, ballot.texts):
            said = references[row]
            errors = editdistance.eval(other.tolist(), said)
            corrected[row] = editdistance.eval(one, said) - errors
    return min(corrected, key=lambda row: (-corrected[row], row))


@torch.no_grad()
def layer_votes(
    model: VaranCtc, task: Any, subset: str, row: int, post_process: str
) -> Optional[LayerVotes]:
    """Of an utterance of a loaded split, by a forward pass of its own; None if there was no vote,
    as where two layers have hardly a label in common."""
    if not votes_on(model):
        return None
    dataset = task.dataset(subset)
    sample = dataset.collater([dataset[row]])["net_input"]
    weight = next(model.parameters())
    source = sample["source"].to(weight)
    output = model(source=source, padding_mask=sample["padding_mask"].to(weight.device))
    minutes: List[Motion] = []
    ballot = _opened(model, output, minutes)
    ballot.run()
    if ballot.given_up:
        return None
    return _shown(ballot, minutes, task.target_dictionary, post_process)


def _opened(
    model: VaranCtc, output: Dict[str, Any], minutes: Optional[List[Motion]] = None
) -> Ballot:
    """A ballot before its rounds. output: of the model."""
    log_probs = model.layer_log_probs(output)
    return Ballot(log_probs, output["log_q"], output["lengths"], model.blank, minutes)


def _shown(
    ballot: Ballot, minutes: Sequence[Motion], labels: Dictionary, post_process: str
) -> LayerVotes:
    text, readings, places, weights = ballot.about(0)

    def written(part: np.ndarray) -> str:
        symbols = "".join(labels[int(label)] for label in part)
        return symbols.replace("|", " ").replace("\N{LOWER ONE EIGHTH BLOCK}", " ")

    edits = [_edit(motion, written) for motion in minutes]
    edits.sort(key=lambda edit: (not edit.carried, -edit.votes.sum()))
    return LayerVotes(
        weights,
        [_marked(text, *read, written) for read in zip(readings, places)],
        fairseq_post_process(labels.string(text.tolist()), post_process),
        edits,
    )


def _edit(motion: Motion, written: Any) -> JudgedEdit:
    text, edit = motion.text, motion.edit
    return JudgedEdit(
        written(text[max(edit.start - _AROUND, 0) : edit.start]),
        written(text[edit.start : edit.end]),
        written(np.array(edit.labels, int)),
        written(text[edit.end : edit.end + _AROUND]),
        motion.votes,
        motion.carried,
    )


def _marked(text: np.ndarray, reading: Reading, place: np.ndarray, written: Any) -> Marked:
    """place: of the text's labels in the reading, or -1."""
    ours, theirs, gaps = differences(text, reading, place)
    result: Marked = []
    at = 0
    for gap in gaps:
        first, last = theirs[gap] + 1, theirs[gap + 1]
        other = written(reading.labels[first:last]).replace(" ", SPACE)
        missing = ours[gap + 1] - ours[gap] - 1 - (last - first)
        result += [(written(reading.labels[at:first]), True)]
        result += [(other + MISSING * max(missing, 0), False)]
        at = last
    result.append((written(reading.labels[at:]), True))
    return [(part, same) for part, same in result if part]
