"""The whole report on a split, from a checkpoint to a page: what `varan-report` does."""

import os
from typing import Optional, Tuple

from ..data.manifest import split_paths
from ..finetuned.labelled import load_classified, load_transcribed
from ..finetuned.load import load_model
from ..finetuned.outputs import STRICT
from ..finetuned.results import beside, reading_overrides
from ..method.choices import CTC_RULES
from ..runtime.files import refuse_output, write_lines
from .classification import classify
from .log import read_log
from .page import render, sections, utterances
from .pictures import pyplot
from .recognition import recognize
from .summary import SplitSummary
from .votes import LayerVotes, layer_votes

_MODELS = ("varan_ctc", "varan_classification")


def write_report(
    checkpoint: str,
    data: str,
    subset: str,
    *,
    base: Optional[str] = None,
    out: Optional[str] = None,
    log: Optional[str] = None,
    worst: int = 20,
    combine: Optional[str] = None,
    layer: Optional[int] = None,
    max_tokens: int = 4000000,
) -> Tuple[SplitSummary, str]:
    """Runs a model over a labelled split and writes one page on it.

    Args:
        checkpoint: fine-tuned (a pickle), or the folder of an adapter.
        data, subset: folder with the manifests, and the name of one.
        base: the pre-trained checkpoint of an adapter.
        out: the page; default: report-SUBSET.html beside the checkpoint.
        log: of the training, in fairseq's format json or simple.
        worst: utterances that are shown.
        combine, layer: read the layers otherwise than trained.
        max_tokens: samples a batch.

    Returns:
        What was found, and the page's path.

    Raises:
        ValueError, FileNotFoundError: before anything is written.
    """
    if worst < 0:
        raise ValueError(f"--worst {worst}: wanted 0 or more")
    plt = pyplot()
    ours = b"varan_fairseq" if out else b""
    out = out or os.path.join(beside(checkpoint), f"report-{subset}.html")
    refuse_output(out, ours, checkpoint, base, log, *split_paths(data, subset))
    training = read_log(log) if log else []
    overrides = {**reading_overrides(combine, layer, CTC_RULES), **STRICT}
    model, cfg, task = load_model(checkpoint, overrides, data, base, _MODELS)
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

    facts = [
        ("checkpoint", checkpoint),
        *summary.facts,
        ("audio", f"{summary.seconds.sum() / 3600:.2f} hours"),
    ]
    page = render(
        f"{subset}: {os.path.basename(data.rstrip('/'))}",
        summary,
        facts,
        sections=sections(plt, summary, model.prior.probs.cpu().numpy(), training),
        utterances=utterances(summary, manifest, worst, cfg.task.sample_rate, votes),
    )
    write_lines(out, page.split("\n"))
    return summary, out
