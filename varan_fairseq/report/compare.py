"""Two runs on the same split, side by side on one page."""

from typing import Any, Iterator, List, Optional, Sequence, Tuple

from ..runtime.files import write_lines
from ..scoring.rates import rate, shown
from ..scoring.runs import difference
from ..scoring.transcripts import pairs
from .figures import as_svg, draw_two
from .on_split import OnSplit, made, on_split
from .page import Section, audio_of, page_for, render, title_of
from .pictures import pyplot
from .summary import rates_of_groups


def write_comparison(
    checkpoints: Sequence[str],
    data: str,
    subset: str,
    *,
    base: Optional[str] = None,
    out: Optional[str] = None,
    worst: int = 20,
    combine: Optional[str] = None,
    layer: Optional[int] = None,
    max_tokens: int = 4000000,
) -> Tuple[str, str]:
    """Runs two models over a labelled split and writes one page on what differs.

    checkpoints: A and B, of one kind. The other arguments are those of `write.write_report`; default of
    out: compare-SUBSET.html beside A. Returns (a line on the difference, the page's path).
    Raises ValueError or FileNotFoundError before anything is written.
    """
    plt = pyplot()
    out = page_for(out, "compare", data, subset, worst, *checkpoints, base)
    a, b = (on_split(path, data, subset, base, combine, layer, max_tokens) for path in checkpoints)
    measures = [each.summary.measure for each in (a, b)]
    if measures[0] != measures[1]:
        raise ValueError(
            f"{checkpoints[0]} has a {measures[0]}, {checkpoints[1]} a {measures[1]}: expected two "
            "runs of one kind"
        )
    line = _verdict(a, b)
    facts = [("", "A", "B"), *_facts(a, b)]
    page = render(
        "compare.html",
        title_of(data, subset) + ", two runs",
        verdict=line,
        facts=facts,
        made=made(),
        sections=list(_sections(plt, a, b)),
        utterances=_utterances(a, b, worst),
        table=_table(a, b),
    )
    write_lines(out, page.split("\n"))
    return line, out


def _verdict(a: OnSplit, b: OnSplit) -> str:
    """Which makes fewer errors. Interval: over utterances, which both heard."""
    ours, theirs = a.summary.heard, b.summary.heard
    found = difference([ours.errors], [theirs.errors], ours.lengths)
    low, high = found.low, found.high
    if low <= 0 <= high:
        better = "No difference can be told"
    else:
        better = f"{'A' if low > 0 else 'B'} makes fewer errors"
    return f"{better}: B - A is {found.value:+.2f} points, 95% interval {low:+.2f} .. {high:+.2f}"


def _facts(a: OnSplit, b: OnSplit) -> Iterator[Tuple[str, str, str]]:
    for each in (a, b):
        value = f"{each.summary.value:.2f}% ({shown(each.summary.interval)})"
        each.facts.insert(0, (each.summary.measure, value))
    names = dict.fromkeys(name for each in (a, b) for name, _ in each.facts)
    left, right = dict(a.facts), dict(b.facts)
    for name in names:
        yield name, left.get(name, ""), right.get(name, "")


def _sections(plt: Any, a: OnSplit, b: OnSplit) -> Iterator[Section]:
    measure = a.summary.measure
    for title, grouped in a.summary.groups.items():
        rates = [rates_of_groups(each.summary, grouped) for each in (a, b)]
        if len(rates[0]) < 2:
            continue
        names = [name for name, _, _ in rates[0]]
        values = [[value for _, value, _ in found] for found in rates]
        figure = draw_two(plt, measure, names, values)
        text = f"{measure} {title.lower()}"
        yield Section(text, figures=[as_svg(plt, figure, text)])
    alone = [each.summary.rates for each in (a, b)]
    if min(map(len, alone)) > 1:
        names = [f"layer {layer + 1}" for layer in range(max(map(len, alone)))]
        figure = draw_two(plt, measure, names, alone)
        text = f"{measure} of each layer alone"
        yield Section(text, figures=[as_svg(plt, figure, text)])


def _order(a: OnSplit, b: OnSplit) -> List[int]:
    """Utterances with a difference, the largest first."""
    apart = b.summary.heard.errors - a.summary.heard.errors
    rows = [row for row in range(len(apart)) if apart[row]]
    return sorted(rows, key=lambda row: (-abs(apart[row]), row))


def _utterances(a: OnSplit, b: OnSplit, count: int) -> List[Any]:
    """Where they differ most."""
    found = []
    for row in _order(a, b)[:count]:
        name = a.manifest.entries[row][0]
        said = a.summary.heard.said[row]
        lines = []
        for title, each in (("A", a), ("B", b)):
            aligned = pairs(said.split(), each.summary.heard.heard[row].split())
            lines.append((f"{title}: {each.summary.heard.errors[row]}", aligned))
        found.append(
            {"name": name, "audio": audio_of(a.manifest, row, a.sample_rate), "lines": lines}
        )
    return found


def _table(a: OnSplit, b: OnSplit) -> Tuple[List[str], List[List[Any]]]:
    """(heading, rows) of all utterances."""
    heading = ["utterance", "seconds", "words", "errors A", "errors B", "B - A", "WER % A"]
    heading += ["WER % B", "said", "A heard", "B heard"]
    ours, theirs = a.summary.heard, b.summary.heard
    rows = []
    for row, (name, _) in enumerate(a.manifest.entries):
        length, errors = int(ours.lengths[row]), [int(each.errors[row]) for each in (ours, theirs)]
        cells = [name, f"{a.summary.seconds[row]:.2f}", length, *errors, errors[1] - errors[0]]
        cells += [f"{rate(error, length):.1f}" for error in errors]
        rows.append([*cells, ours.said[row], ours.heard[row], theirs.heard[row]])
    return heading, rows
