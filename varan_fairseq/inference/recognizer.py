"""Recordings of any length to words: the recognizer of Python users and of varan-transcribe."""

import os
import threading
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from ..data.audio import Audio, describe, stream_audio
from ..decoding.emissions import batch_emissions
from ..decoding.search import Search, options
from ..decoding.words import timed_words
from ..finetuned.load import training_post_process
from ..models.varan_ctc import VaranCtc
from . import BATCH, OVERLAP, WINDOW, windows
from .model import FinetunedModel, is_several
from .transcript import Transcript, Utterance


class Piece(NamedTuple):
    """source: its number. utterance: the next one of it, or None: then it ended here, with an
    error or without."""

    source: int
    utterance: Optional[Utterance]
    error: Optional[ValueError] = None


@dataclass(frozen=True)
class _Job:
    """A window of a source, by its number; or an error, which ends it."""

    source: int
    window: Any  # a windows.Window, or None
    error: Optional[ValueError] = None


class _Counted:
    """Blocks of audio, and how many samples they had so far."""

    def __init__(self, blocks: Iterable[np.ndarray]):
        self.blocks, self.samples = blocks, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks:
            self.samples += len(block)
            yield block


def _unexpected(source: Audio, error: Exception) -> ValueError:
    """What ends a recording, and not those behind it."""
    if os.environ.get("VARAN_TRACEBACK"):
        raise error
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        text = str(error)
        return error if describe(source) in text else ValueError(f"{describe(source)}: {text}")
    return ValueError(f"{describe(source)}: {type(error).__name__}: {error}")


class Recognizer(FinetunedModel):
    """A model `varan_ctc`. Longer audio is heard in windows that overlap (`decoding.windows`).

    Args:
        window, overlap: seconds.

    Attributes:
        labels: the dictionary.
        post_process: how words are made of labels, by fairseq's names.
    """

    def __init__(
        self,
        model: VaranCtc,
        cfg: Any,
        task: Any,
        device: Optional[str] = None,
        window: float = WINDOW,
        overlap: float = OVERLAP,
    ):
        super().__init__(model, cfg, task, device)
        encoder = model.w2v_encoder
        self.post_process = training_post_process(cfg)
        self.grid = windows.make_grid(
            window, overlap, self.sample_rate, encoder.hop, encoder.receptive_field
        )
        self._search = Search(options(), self.labels, self.post_process)
        self._lock = threading.Lock()  # a beam search has a state of its own

    def use_language_model(self, lm: str, lexicon: Optional[str] = None, **settings: Any) -> None:
        """From now on, a beam search with a language model.

        Args:
            lm: a KenLM file (ARPA or binary).
            lexicon: a line `word<TAB>labels` a word; without one, unitlm=True and a language
                model of labels.
            settings: fairseq's, of `decoding.*`: beam, lmweight, wordscore, silweight,
                type="fairseqlm", ..

        Raises:
            FileNotFoundError, ModuleNotFoundError, ValueError: naming the file or option.
        """
        settings.setdefault("type", "kenlm")
        decoding = options(lmpath=lm, lexicon=lexicon, **settings)
        self._search = Search(decoding, self.labels, self.post_process)

    def transcribe(
        self,
        audio: Union[Audio, Sequence[Audio]],
        sample_rate: Optional[int] = None,
        batch_size: int = BATCH,
    ) -> Union[str, List[str]]:
        """What is said.

        Args:
            audio: see `FinetunedModel`, or a list of such.
            sample_rate: of samples.
            batch_size: windows that run at a time.

        Returns:
            Text of the recording, or of each.

        Raises:
            ValueError: for unusable audio.
        """
        transcripts = self.recognize(audio, sample_rate, batch_size)
        return (
            [transcript.text for transcript in transcripts]
            if isinstance(transcripts, list)
            else transcripts.text
        )

    def recognize(
        self,
        audio: Union[Audio, Sequence[Audio]],
        sample_rate: Optional[int] = None,
        batch_size: int = BATCH,
    ) -> Union[Transcript, List[Transcript]]:
        """As `transcribe`, with words, their times and confidence, and the layers used."""
        several = is_several(audio)
        given: Any = audio
        sources: List[Any] = list(given) if several else [given]
        transcripts = []
        utterances: List[Utterance] = []
        for piece in self.stream(sources, sample_rate, batch_size):
            if piece.error is not None:
                raise piece.error
            if piece.utterance is not None:
                utterances.append(piece.utterance)
                continue
            transcripts.append(Transcript(describe(sources[piece.source]), utterances))
            utterances = []
        return transcripts if several else transcripts[0]

    def stream(
        self,
        sources: Sequence[Audio],
        sample_rate: Optional[int] = None,
        batch_size: int = BATCH,
    ) -> Iterator[Piece]:
        """Utterances as they are decoded, source by source, with an end for each source.
        Memory does not grow with the length of the audio. Audio that cannot be used ends its
        source with an error, and the next one begins; so does whatever else goes wrong with one."""
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: expected 1 or more")
        stitcher, failed = None, -1
        for job, emission in self._emissions(self._jobs(sources, sample_rate), batch_size):
            if job.source == failed:
                continue
            if job.window is None:
                yield Piece(job.source, None, job.error)
                stitcher = None
                continue
            if stitcher is None:
                boundary = self.labels.indices.get("|")
                stitcher = windows.Stitcher(self.grid, self.model.blank, boundary)
            try:
                for segment in stitcher.add(emission, job.window.start, job.window.last):
                    yield Piece(job.source, self._utterance(segment))
            except Exception as error:
                failed, stitcher = job.source, None
                yield Piece(job.source, None, _unexpected(sources[job.source], error))
                continue
            if job.window.last:
                yield Piece(job.source, None)
                stitcher = None

    def _jobs(self, sources: Sequence[Audio], sample_rate: Optional[int]) -> Iterator[_Job]:
        for number, source in enumerate(sources):
            try:
                window = None
                blocks = _Counted(stream_audio(source, self.sample_rate, sample_rate))
                for window in windows.windows(blocks, self.grid):
                    yield _Job(number, window)
                if window is None:
                    raise self.too_short(source, blocks.samples)
            except Exception as error:
                yield _Job(number, None, _unexpected(source, error))

    def _emissions(self, jobs: Iterable[_Job], batch_size: int) -> Iterator[Any]:
        """(job, emission) in order. Windows of a like length run together."""
        held: List[_Job] = []
        for job in jobs:
            held.append(job)
            if len(held) == 4 * batch_size:
                yield from self._run_held(held, batch_size)
                held = []
        yield from self._run_held(held, batch_size)

    def _run_held(self, held: List[_Job], batch_size: int) -> Iterator[Any]:
        emissions: Dict[int, Any] = {}
        order = [index for index, job in enumerate(held) if job.window is not None]
        order.sort(key=lambda index: len(held[index].window.samples))
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            net_output = self.run_batch([held[row].window.samples for row in rows])
            emissions.update(zip(rows, batch_emissions(self.model, net_output)))
        for index, job in enumerate(held):
            yield job, emissions.get(index)

    def _utterance(self, segment: windows.Segment) -> Utterance:
        with self._lock:
            best = self._search(segment.log_probs)[0]
        seconds = self.grid.hop / self.sample_rate
        start = segment.start * seconds
        words = timed_words(
            segment.log_probs,
            best.units,
            best.text,
            self.labels,
            self.post_process,
            self.model.blank,
            seconds,
            start,
        )
        frames = [part.frames for part in segment.parts]
        log_q = np.stack([part.log_q for part in segment.parts])
        posterior = np.average(np.exp(log_q), axis=0, weights=np.maximum(frames, 1e-9))
        layers = {part.layer for part in segment.parts}
        return Utterance(
            best.text,
            start,
            start + len(segment.log_probs) * seconds,
            words,
            posterior.astype(np.float32),
            layers.pop() if len(layers) == 1 else 0,
        )
