"""The page: figures, numbers and audio in one file that needs nothing else."""

import base64
import io
import os
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import jinja2
import numpy as np
import soundfile
from markupsafe import Markup

from ..data.audio import read_audio
from ..data.manifest import Manifest
from ..scoring.rates import shown
from .figures import Series, as_svg, draw_confusion, draw_layers, draw_posterior, draw_training
from .summary import SplitSummary
from .votes import SHOWN, LayerVotes

LONGEST = 30.0  # seconds of an utterance that are in the page


@dataclass(frozen=True)
class Section:
    """svg: an element."""

    title: str
    text: str
    svg: Markup


def sections(
    plt: Any, summary: SplitSummary, prior: np.ndarray, training: Sequence[Tuple[str, Series]]
) -> List[Section]:
    """Figures of the page. prior: p(l) [L]. training: panels of `log.read_log`."""
    result = []

    def add(title: str, text: str, figure: Any) -> None:
        result.append(Section(title, text, Markup(as_svg(plt, figure))))

    if summary.confusion is not None:
        figure = draw_confusion(plt, summary.confusion, summary.classes, "")
        add("What was taken for what", "", figure)
    if len(summary.rates) > 1:
        better = np.argmin if summary.measure == "WER" else np.argmax
        best = int(better(summary.rates))
        text = f"Best alone: layer {best + 1} with {summary.rates[best]:.2f}%."
        figure = draw_layers(plt, summary.measure, summary.rates, summary.value, summary.interval)
        add("Each layer alone, and all together", text, figure)
        text = "Left: how much each layer counts. Right: one row per utterance."
        options = (plt, summary.posterior, prior)
        add("Layers that the utterances used", text, draw_posterior(*options, "", None, []))
        for title, grouped in summary.groups.items():
            figure = draw_posterior(*options, "", grouped["labels"], grouped["classes"])
            add(title, "", figure)
    if training:
        add("Training", "", draw_training(plt, training))
    return result


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
        audio = _audio(os.path.join(manifest.root, name), sample_rate)
        text = f"{summary.seconds[mistake.row]:.1f} s; {mistake.text}"
        parts = {"name": name, "text": text, "pairs": mistake.pairs, "audio": audio}
        result.append({**parts, "votes": votes(mistake.row)})
    return result


def _audio(path: str, rate: int) -> Optional[str]:
    """A file's beginning as FLAC, which browsers play, in a URL; None inside of archives."""
    if not os.path.isfile(path):
        return None
    wave = read_audio(path, rate)[: int(LONGEST * rate)]
    file = io.BytesIO()
    soundfile.write(file, wave.clip(-1, 1), rate, subtype="PCM_16", format="FLAC")
    return "data:audio/flac;base64," + base64.b64encode(file.getvalue()).decode()


def render(
    title: str, summary: SplitSummary, facts: Sequence[Tuple[str, str]], **parts: Any
) -> str:
    """HTML. facts: names and values of a table. parts: sections, utterances."""
    folder = os.path.dirname(os.path.abspath(__file__))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["range"] = shown
    page = environment.get_template("page.html")
    return page.render(title=title, summary=summary, facts=facts, shown_edits=SHOWN, **parts)
