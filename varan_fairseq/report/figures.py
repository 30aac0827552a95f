"""Figures of what layers and training did. `plt` is matplotlib's pyplot."""

import io
import re
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from markupsafe import Markup, escape

from ..scoring.rates import Interval
from .votes import SHOWN, LayerVotes

Series = Dict[str, List[Tuple[int, float]]]  # of a log: (updates, value) of each number


BLUE, ORANGE = "#0072b2", "#d55e00"  # of Okabe and Ito, whom all eyes can follow
COLOURS = (BLUE, ORANGE, "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MOST_LETTERS = 100  # of a transcript in a picture
MOST_CLASSES = 40  # in a picture of confusions
MOST_PANELS = 6  # beside each other


def entropy(posterior: np.ndarray) -> np.ndarray:
    """[N, L] -> [N], in bits, as the training's log has it."""
    return -(posterior * np.log2(np.maximum(posterior, 1e-30))).sum(1)


def draw_posterior(
    plt: Any,
    posterior: np.ndarray,
    prior: np.ndarray,
    title: str,
    labels: Optional[np.ndarray],
    classes: Sequence[str],
) -> Any:
    """A figure of posterior [N, L] and prior [L]; by class, if labels [N] are given."""
    from matplotlib.ticker import MaxNLocator

    layers = np.arange(1, posterior.shape[1] + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), constrained_layout=True)
    order = np.argsort(posterior @ layers, kind="stable")
    if labels is None:
        low, high = np.percentile(posterior, [10, 90], axis=0)
        left.bar(layers, posterior.mean(0), color="#4878a8", label="mean posterior q(l|x)")
        left.vlines(
            layers, low, high, color="#1f3550", linewidth=3, label="10% to 90% of utterances"
        )
        right.set(ylabel="utterance, sorted by mean layer")
    else:
        order = order[np.argsort(labels[order], kind="stable")]
        present = [index for index in range(len(classes)) if (labels == index).any()]
        for index in present:
            left.plot(layers, posterior[labels == index].mean(0), "o-", label=classes[index])
        ends = np.cumsum([(labels == index).sum() for index in present])
        starts = np.concatenate([[0], ends[:-1]])
        right.hlines(ends[:-1] + 0.5, 0.5, len(layers) + 0.5, color="white", linewidth=1)
        right.set_yticks((starts + ends + 1) / 2)
        right.set_yticklabels([classes[index] for index in present])
    left.plot(layers, prior, "--", color="black", label="prior p(l)")
    left.set(xlabel="layer (1 = lowest)", ylabel="probability", ylim=(0, None))
    figure.legend(loc="outside lower left", frameon=False, ncol=4)
    image = right.imshow(
        posterior[order],
        aspect="auto",
        interpolation="nearest",
        cmap="viridis",
        extent=(0.5, len(layers) + 0.5, len(posterior) + 0.5, 0.5),
    )
    right.set(xlabel="layer (1 = lowest)")
    figure.colorbar(image, ax=right, label="q(l|x)")
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title)
    return figure


def draw_votes(plt: Any, votes: LayerVotes, reference: str, title: str) -> Any:
    """A figure of one utterance: what each layer reads, the highest on top, with what is not in the
    result in red; and what each counts for (blue) or against (red) an edit of the text."""
    count, edits = len(votes.layers), votes.edits[:SHOWN]
    height, size = 0.28, 11  # of a line, inches; of its letters, points
    letter = 0.602 * size / 72  # their width, of the font that matplotlib brings
    longest = max(sum(len(part) for part, _ in layer) for layer in votes.layers)
    longest = min(max(longest, len(votes.result), len(reference)), MOST_LETTERS)
    margin, column = 1.1, 0.95
    width = margin + longest * letter + 0.4 + column * max(len(edits), 1) + 0.2
    rows = count + 2  # the vote, and what was said
    lines = rows + 3.6  # with headings and title
    figure = plt.figure(figsize=(width, lines * height))

    def panel(left: float, inches: float) -> Any:
        axis = figure.add_axes([left / width, 0.2 / lines, inches / width, rows / lines])
        axis.set(ylim=(rows - 0.5, -0.5))
        axis.axis("off")
        return axis

    text = panel(margin, longest * letter)
    text.set(xlim=(0, longest))
    style = dict(family="DejaVu Sans Mono", fontsize=size, va="center", clip_on=True)
    for line in range(count):
        layer, at = count - 1 - line, 0
        label = f"layer {layer + 1:2d} {votes.weights[layer]:5.2f} "
        text.text(0, line, label, ha="right", family=style["family"], fontsize=8, va="center")
        for part, same in votes.layers[layer]:
            shown = part[: max(longest - at, 0)]
            text.text(at, line, shown, color="black" if same else "#c02d1e", **style)
            at += len(part)
    for line, (name, said) in enumerate([("vote ", votes.result), ("said ", reference)], count):
        text.text(0, line, name, ha="right", fontsize=9, va="center", weight="bold")
        text.text(0, line, said[:longest], weight="bold", **style)
    text.axhline(count - 0.5, color="black", linewidth=0.8)
    if not edits:
        return figure
    right = panel(margin + longest * letter + 0.4, column * len(edits))
    values = np.stack([edit.votes for edit in edits], 1)[::-1]
    most = max(float(np.abs(values).max()), 1e-6)
    right.imshow(
        values,
        aspect="auto",
        cmap="RdBu",
        vmin=-most,
        vmax=most,
        extent=(-0.5, len(edits) - 0.5, count - 0.5, -0.5),
    )
    for line, place in np.ndindex(*values.shape):
        value = values[line, place]
        colour = "white" if abs(value) > 0.6 * most else "black"
        right.text(place, line, f"{value:+.2f}", color=colour, fontsize=8, ha="center", va="center")
    right.set(xlim=(-0.5, len(edits) - 0.5), ylim=(rows - 0.5, -0.5))
    for place, edit in enumerate(edits):
        gain = f"{edit.votes.sum():+.2f}\n{'in' if edit.carried else 'out'}"
        right.text(place, count + 0.5, gain, fontsize=9, ha="center", va="center", weight="bold")
        label = f"{edit.before}[{edit.old}]{edit.after}\n{edit.title}"
        right.text(place, -0.6, label, fontsize=8, ha="center", va="bottom")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure


def draw_layers(
    plt: Any,
    measure: str,
    rates: Sequence[float],
    combined: float,
    interval: Interval,
) -> Any:
    """The rate of each layer alone, lowest first, beside that of all together with its interval;
    in percent. measure: what it is of."""
    figure, axis = plt.subplots(figsize=(6, 4), constrained_layout=True)
    layers = np.arange(1, len(rates) + 1)
    axis.plot(layers, rates, "o-", color=BLUE, label="one layer alone")
    axis.axhline(combined, color="black", label="as the model reads them")
    if interval is not None:
        axis.axhspan(*interval, color="black", alpha=0.12, linewidth=0, label="its 95% interval")
    axis.set(xlabel="layer (1 = lowest)", ylabel=f"{measure} %", ylim=(0, None))
    axis.set_xticks(layers)
    axis.legend(frameon=False)
    return figure


def draw_predictions(
    plt: Any, targets: np.ndarray, values: np.ndarray, names: Sequence[str]
) -> Any:
    """A figure with a panel for each of the first numbers: predictions against labels, [N, D]."""
    shown = names[:MOST_PANELS]
    figure, axes = plt.subplots(
        1, len(shown), figsize=(4 * len(shown), 4), squeeze=False, constrained_layout=True
    )
    for axis, name, said, found in zip(axes[0], shown, targets.T, values.T):
        axis.axline((said.mean(), said.mean()), slope=1, color="black", linewidth=1)
        axis.plot(said, found, "o", color=BLUE, alpha=0.4, markersize=4)
        axis.set(xlabel=f"{name}, as labelled", ylabel="predicted")
    return figure


def draw_confusion(plt: Any, confusion: np.ndarray, classes: Sequence[str], title: str) -> Any:
    """A figure of counts [C, C]: colours are shares of the row, numbers are counts. Of many classes
    those with the most mistakes."""
    if len(classes) > MOST_CLASSES:
        wrong = confusion.sum(0) + confusion.sum(1) - 2 * confusion.diagonal()
        kept = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
        title = (
            f"{title} ({MOST_CLASSES} of {len(classes)} classes, with the most mistakes)".strip()
        )
        confusion, classes = confusion[np.ix_(kept, kept)], [classes[index] for index in kept]
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    size = 2.5 + 0.55 * len(classes)
    figure, axis = plt.subplots(figsize=(size + 1, size), constrained_layout=True)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*confusion.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axis.text(column, row, int(confusion[row, column]), ha="center", va="center", color=colour)
    axis.set_xticks(range(len(classes)))
    axis.set_xticklabels(classes, rotation=45, ha="right")
    axis.set_yticks(range(len(classes)))
    axis.set_yticklabels(classes)
    axis.set(xlabel="predicted", ylabel="label", title=title)
    figure.colorbar(image, ax=axis, label="share of the label's utterances")
    return figure


def draw_rates(
    plt: Any, measure: str, rates: Sequence[Tuple[str, float, Interval]], whole: float
) -> Any:
    """The rate in percent of each group, with its 95% interval, beside that of all."""
    height = 1.1 + 0.32 * len(rates)
    figure, axis = plt.subplots(figsize=(6, height), constrained_layout=True)
    for place, (_, value, found) in enumerate(rates):
        axis.barh(place, value, color=BLUE, height=0.7)
        if found is not None:
            axis.plot(found, (place, place), color="black", linewidth=1.5)
    axis.axvline(whole, color=ORANGE, linestyle="--", label="all utterances")
    axis.set_yticks(range(len(rates)))
    axis.set_yticklabels([name for name, _, _ in rates])
    axis.set(xlabel=f"{measure} %, with its 95% interval", ylim=(len(rates) - 0.5, -0.5))
    axis.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def draw_two(
    plt: Any, measure: str, names: Sequence[str], values: Sequence[Sequence[float]]
) -> Any:
    """Rates in percent of two runs, A above B, of the same groups."""
    figure, axis = plt.subplots(figsize=(6, 1.1 + 0.45 * len(names)), constrained_layout=True)
    for run, (label, colour, found) in enumerate(zip("AB", (BLUE, ORANGE), values)):
        places = np.arange(len(found)) + 0.2 * (2 * run - 1)
        axis.barh(places, found, color=colour, height=0.38, label=label)
    axis.set_yticks(range(len(names)))
    axis.set_yticklabels(names)
    axis.set(xlabel=f"{measure} %", ylim=(len(names) - 0.5, -0.5))
    axis.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncol=2)
    return figure


def draw_panel(plt: Any, title: str, series: Series) -> Any:
    """Curves over updates. Those of layers have colours from dark (the lowest) to light."""
    figure, axis = plt.subplots(figsize=(4.6, 3.4), constrained_layout=True)
    of_layers = all(re.search(r"_\d+$", name) for name in series)
    for place, (name, points) in enumerate(series.items()):
        colour = COLOURS[place % len(COLOURS)]
        if of_layers:
            colour = plt.get_cmap("viridis")(0.95 * place / max(len(series) - 1, 1))
            name = f"layer {int(name[-2:])}"
        updates, values = zip(*points)
        marks = "o-" if len(points) < 30 else "-"
        axis.plot(updates, values, marks, markersize=3, color=colour, label=name)
    axis.set(title=title, xlabel="updates")
    columns = 3 if len(series) > 6 else 1
    axis.legend(frameon=False, fontsize="x-small" if columns > 1 else "small", ncol=columns)
    return figure


def as_svg(plt: Any, figure: Any, text: str) -> Markup:
    """An `<svg>` element for a page; the figure is closed. text: what it shows, for those who do not
    see it."""
    file = io.StringIO()
    # links, and a date that makes every page another, are of no use there
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") + len("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return Markup(f'<svg role="img" aria-label="{escape(text)}"{svg}')
