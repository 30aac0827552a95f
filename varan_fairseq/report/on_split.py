"""A run read on a split, whatever its kind, for a page."""

import datetime
from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Tuple

import fairseq
import numpy as np
import torch

from .. import __version__
from ..data.manifest import Manifest
from ..finetuned.describe import of_run
from ..finetuned.labelled import load_classified, load_transcribed
from ..finetuned.load import LABELLERS, model_from_state, read_state
from ..finetuned.outputs import STRICT
from ..finetuned.results import reading_overrides
from ..method.choices import CTC_RULES
from .classification import classify
from .recognition import recognize
from .summary import SplitSummary
from .votes import LayerVotes, layer_votes


@dataclass(frozen=True)
class OnSplit:
    """facts: names and values of a table. prior: p(l) [L]. votes: on a row of the split, if there
    were any."""

    summary: SplitSummary
    manifest: Manifest
    facts: List[Tuple[str, str]]
    prior: np.ndarray
    sample_rate: int
    votes: Callable[[int], Optional[LayerVotes]]


def on_split(
    checkpoint: str,
    data: str,
    subset: str,
    base: Optional[str],
    combine: Optional[str],
    layer: Optional[int],
    max_tokens: int,
) -> OnSplit:
    """See `write.write_report`."""
    overrides = {**reading_overrides(combine, layer, CTC_RULES), **STRICT}
    state = read_state(checkpoint, overrides, base, LABELLERS, data)
    model, cfg, task = model_from_state(state, checkpoint)
    votes: Any = None
    if cfg.model._name == "varan_ctc":
        transcribed = load_transcribed(model, cfg, task, subset)
        manifest = transcribed.manifest
        summary = recognize(model, task, subset, transcribed, max_tokens)

        def votes(row: int) -> Optional[LayerVotes]:
            return layer_votes(model, task, subset, row, transcribed.post_process)

    else:
        classified = load_classified(model, cfg, task, subset)
        manifest = classified.manifest
        summary = classify(model, task, subset, classified, max_tokens)

        def votes(row: int) -> Optional[LayerVotes]:
            return None

    facts = [("checkpoint", checkpoint), *of_run(state, model, cfg), *summary.facts]
    facts.append(("audio", f"{summary.seconds.sum() / 3600:.2f} hours"))
    prior = model.prior.probs.cpu().numpy()
    return OnSplit(summary, manifest, facts, prior, cfg.task.sample_rate, votes)


def made() -> Tuple[str, str]:
    """A fact: when and by what."""
    by = f"varan_fairseq {__version__}, fairseq {fairseq.__version__}, torch {torch.__version__}"
    return "made", f"{datetime.date.today().isoformat()} by {by}"
