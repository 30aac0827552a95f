"""The whole report on a split, from a checkpoint to a page: what `varan-report` does."""

from typing import Optional, Tuple

from ..runtime.files import write_lines
from .log import read_log
from .on_split import made, on_split
from .page import page_for, render, sections, table, title_of, utterances
from .pictures import pyplot
from .summary import SplitSummary


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
    plt = pyplot()
    out = page_for(out, "report", data, subset, worst, checkpoint, base, log)
    training = read_log(log) if log else []
    read = on_split(checkpoint, data, subset, base, combine, layer, max_tokens)
    page = render(
        "page.html",
        title_of(data, subset),
        summary=read.summary,
        facts=[*read.facts, made()],
        sections=sections(plt, read.summary, read.prior, training),
        utterances=utterances(read.summary, read.manifest, worst, read.sample_rate, read.votes),
        table=table(read.summary, read.manifest),
    )
    write_lines(out, page.split("\n"))
    return read.summary, out
