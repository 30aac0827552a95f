"""The page: figures, numbers and audio in one file that needs nothing else."""

import base64
import io
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import jinja2
import numpy as np
import soundfile
from markupsafe import Markup

from ..data.audio import read_audio
from ..data.manifest import Manifest, split_paths
from ..finetuned.results import beside
from ..runtime.files import refuse_output
from ..scoring.rates import rate, shown
from .figures import (
    Series,
    as_svg,
    draw_confusion,
    draw_layers,
    draw_panel,
    draw_posterior,
    draw_rates,
)
from .summary import SplitSummary, differ, movement, rates_of_groups
from .votes import SHOWN, LayerVotes

LONGEST = 30.0  # seconds of an utterance that are in the page


@dataclass(frozen=True)
class Section:
    """figures: `<svg>` elements. wide: whether they have two panels each. rows: of a table, its
    heading first."""

    title: str
    text: str = ""
    figures: Sequence[Markup] = ()
    wide: bool = False
    rows: Sequence[Sequence[Any]] = ()


def sections(
    plt: Any, summary: SplitSummary, prior: np.ndarray, training: Sequence[Tuple[str, Series]]
) -> List[Section]:
    """What the page shows between its numbers and its utterances. prior: p(l) [L]. training: panels of
    `log.read_log`."""
    result = []
    if summary.confusion is not None:
        title = "What was taken for what"
        figure = draw_confusion(plt, summary.confusion, summary.classes, "")
        result.append(Section(title, figures=[as_svg(plt, figure, title)]))
    result += list(_by_group(plt, summary))
    if summary.confused:
        rows = [
            (said or "(nothing)", heard or "(nothing)", n) for said, heard, n in summary.confused
        ]
        text = "Words that were replaced, left out or put in."
        title = "What was heard for what"
        result.append(Section(title, text, rows=[("said", "heard", "times"), *rows]))
    if len(summary.rates) > 1:
        result += list(_of_layers(plt, summary, prior))
    if training:
        figures = [as_svg(plt, draw_panel(plt, *each), each[0]) for each in training]
        result.append(Section("Training", figures=figures))
    return result


def _by_group(plt: Any, summary: SplitSummary) -> Iterator[Section]:
    for title, grouped in summary.groups.items():
        rates = rates_of_groups(summary, grouped)
        if len(rates) > 1:
            text = "; ".join(f"{name}: {value:.2f}%" for name, value, _ in rates)
            figure = draw_rates(plt, summary.measure, rates, summary.value)
            yield Section(f"{summary.measure} {title.lower()}", figures=[as_svg(plt, figure, text)])


def _of_layers(plt: Any, summary: SplitSummary, prior: np.ndarray) -> Iterator[Section]:
    better = np.argmin if summary.measure == "WER" else np.argmax
    best = int(better(summary.rates))
    text = f"Best alone: layer {best + 1} with {summary.rates[best]:.2f}%."
    figure = draw_layers(plt, summary.measure, summary.rates, summary.value, summary.interval)
    yield Section("Each layer alone, and all together", text, [as_svg(plt, figure, text)])
    between, away = movement(summary.posterior, prior)
    text = (
        f"From one utterance to another, {100 * between:.1f}% of the weight moves between layers; on "
        f"average {100 * away:.1f}% of it is elsewhere than in the prior."
    )
    shown = {
        title: grouped for title, grouped in summary.groups.items() if differ(summary, grouped)
    }
    alike = [title.lower() for title in summary.groups if title not in shown]
    if alike:
        text += f" {' and '.join(alike).capitalize()}, the layers count alike."
    options = (plt, summary.posterior, prior)
    figure = draw_posterior(*options, "", None, [])
    title = "Layers that the utterances used"
    yield Section(title, text, [as_svg(plt, figure, text)], wide=True)
    for group, grouped in shown.items():
        figure = draw_posterior(*options, "", grouped["labels"], grouped["classes"])
        yield Section(f"{title}, {group.lower()}", "", [as_svg(plt, figure, group)], wide=True)


def utterances(
    summary: SplitSummary,
    manifest: Manifest,
    count: int,
    sample_rate: int,
    votes: Callable[[int], Optional[LayerVotes]],
) -> List[Dict[str, Any]]:
    """The worst ones, with their audio. votes: on a row of the split, if there were any."""
    result = []
    for mistake in summary.mistakes[:count]:
        name = manifest.entries[mistake.row][0]
        audio = audio_of(manifest, mistake.row, sample_rate)
        text = f"{summary.seconds[mistake.row]:.1f} s; {mistake.text}"
        parts = {"name": name, "text": text, "pairs": mistake.pairs, "audio": audio}
        result.append({**parts, "votes": votes(mistake.row)})
    return result


def table(summary: SplitSummary, manifest: Manifest) -> Tuple[List[str], List[List[Any]]]:
    """(heading, rows) of all utterances: the name first, and the texts last."""
    heard, classifies = summary.heard, summary.measure != "WER"
    heading = ["utterance", "seconds"]
    heading += ["wrong"] if classifies else ["errors", "words", "WER %"]
    heading += ["confidence"]
    one_layer = heard.layers.any()
    heading += ["layer"] if one_layer else []
    heading += ["speaker"] if heard.speakers is not None else []
    heading += ["label", "predicted"] if classifies else ["said", "heard"]
    rows = []
    for row, (name, _) in enumerate(manifest.entries):
        errors, length = int(heard.errors[row]), int(heard.lengths[row])
        cells: List[Any] = [name, f"{summary.seconds[row]:.2f}", errors]
        if not classifies:
            cells += [length, f"{rate(errors, length):.1f}"]
        cells.append(f"{heard.confidence[row]:.3f}")
        cells += [int(heard.layers[row])] if one_layer else []
        cells += [heard.speakers[row]] if heard.speakers is not None else []
        rows.append([*cells, heard.said[row], heard.heard[row]])
    return heading, rows


def audio_of(manifest: Manifest, row: int, sample_rate: int) -> Optional[str]:
    """A file's beginning as FLAC, which browsers play, in a URL; None inside of archives."""
    path = os.path.join(manifest.root, manifest.entries[row][0])
    if not os.path.isfile(path):
        return None
    wave = read_audio(path, sample_rate)[: int(LONGEST * sample_rate)]
    file = io.BytesIO()
    soundfile.write(file, wave.clip(-1, 1), sample_rate, subtype="PCM_16", format="FLAC")
    return "data:audio/flac;base64," + base64.b64encode(file.getvalue()).decode()


def page_for(
    out: Optional[str], kind: str, data: str, subset: str, worst: int, *inputs: Optional[str]
) -> str:
    """Where a page goes: `out`, or KIND-SUBSET.html beside the first of its inputs. Raises
    ValueError for a file that is something else, or a number of utterances below 0."""
    if worst < 0:
        raise ValueError(f"--worst {worst}: expected 0 or more")
    ours = b"varan_fairseq" if out else b""
    out = out or os.path.join(beside(str(inputs[0])), f"{kind}-{subset}.html")
    refuse_output(out, ours, *inputs, *split_paths(data, subset))
    return out


def title_of(data: str, subset: str) -> str:
    return f"{subset}: {os.path.basename(os.path.abspath(data))}"


def render(template: str, title: str, **parts: Any) -> str:
    """HTML. parts: what the template is filled with."""
    folder = os.path.dirname(os.path.abspath(__file__))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["range"] = shown
    return environment.get_template(template).render(title=title, shown_edits=SHOWN, **parts)
