"""The page: figures, numbers and audio in one file that needs nothing else."""

import base64
import io
import os
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import jinja2
import numpy as np
import soundfile
from markupsafe import Markup

from ..data.audio import read_audio
from ..data.manifest import Manifest
from ..decoding.evaluate import References
from ..scoring.transcripts import edits
from .figures import Series, as_svg, draw_layers, draw_posterior, draw_training
from .gather import Gathered, audio_path, groups_of_length, groups_of_names, worst

LONGEST = 30.0  # seconds of an utterance that are in the page
_MOST_SPEAKERS = 24


class Section(NamedTuple):
    """svg: an element."""

    title: str
    text: str
    svg: Markup


def sections(
    plt: Any,
    found: Gathered,
    references: References,
    prior: np.ndarray,
    training: Sequence[Tuple[str, Series]],
) -> List[Section]:
    """Figures of the page. prior: p(l) [L]. training: panels of `log.read_log`."""
    result = []

    def add(title: str, text: str, figure: Any) -> None:
        result.append(Section(title, text, Markup(as_svg(plt, figure))))

    if len(found.rates) > 1:
        scores = found.scored.summary
        best = int(np.argmin(found.rates))
        text = f"Best alone: layer {best + 1} with {found.rates[best]:.2f}%."
        figure = draw_layers(plt, found.rates, scores["wer"], scores["wer_interval"])
        add("Each layer alone, and all together", text, figure)
        text = "Left: how much each layer counts. Right: a row an utterance."
        options = (plt, found.posterior, prior)
        add("Layers that the utterances used", text, draw_posterior(*options, "", None, []))
        grouped = groups_of_length(found.seconds)
        figure = draw_posterior(*options, "", grouped["labels"], grouped["classes"])
        add("By length", "Four groups of about the same number of utterances.", figure)
        if references.speakers is not None:
            grouped = groups_of_names(references.speakers, _MOST_SPEAKERS)
            figure = draw_posterior(*options, "", grouped["labels"], grouped["classes"])
            add("By speaker", f"At most {_MOST_SPEAKERS}, those with the most utterances.", figure)
    if training:
        add("Training", "", draw_training(plt, training))
    return result


def utterances(
    found: Gathered, manifest: Manifest, count: int, sample_rate: int
) -> List[Dict[str, Any]]:
    """The worst ones, with their audio."""
    result = []
    for row in worst(found.scored, count):
        counts = edits(found.scored.aligned[row])
        layer = f", read from layer {found.layers[row]}" if found.layers[row] else ""
        result.append(
            {
                "name": manifest.entries[row][0],
                "text": f"{counts.errors} errors in {counts.length} words, "
                f"{found.seconds[row]:.1f} s{layer}",
                "pairs": found.scored.aligned[row],
                "audio": _audio(audio_path(manifest, row), sample_rate),
            }
        )
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
    title: str, summary: Dict[str, Any], facts: Sequence[Tuple[str, str]], **parts: Any
) -> str:
    """HTML. facts: names and values of a table. parts: sections, utterances."""
    folder = os.path.dirname(os.path.abspath(__file__))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("page.html")
    summary = {"speakers": None, **summary}
    return page.render(title=title, summary=summary, facts=facts, **parts)
