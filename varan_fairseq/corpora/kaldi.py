"""Recordings and transcripts of a Kaldi folder: wav.scp, text, segments, utt2spk."""

import math
import os
from typing import Dict, Iterator, Optional, Tuple

from .labelled import Recording
from .options import refuse
from .tables import recording


def read_kaldi(path: str) -> Dict[str, str]:
    """{first word: the rest} of the lines of a file."""
    rows: Dict[str, str] = {}
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                key, *rest = line.split(None, 1)[:2] or [""]
                if not key or key in rows:
                    refuse(f"{path}, line {number}: {line.strip()!r}, expected an id of its own")
                rows[key] = rest[0].strip() if rest else ""
    except UnicodeDecodeError as error:
        refuse(f"{path} is not UTF-8: {error.reason} at byte {error.start}")
    return rows


def from_kaldi(folder: str) -> Iterator[Tuple[Recording, Optional[str]]]:
    """(recording, None) of every utterance. Audio is relative to where the script runs, as in
    Kaldi, or to the folder."""
    names = ("wav.scp", "text", "segments", "utt2spk", "reco2file_and_channel")
    files = {name: os.path.join(folder, name) for name in names}
    for name in ("wav.scp", "text"):
        if not os.path.isfile(files[name]):
            refuse(f"no {files[name]}: expected a table, or a Kaldi folder with wav.scp and text")
    tables = {name: read_kaldi(path) for name, path in files.items() if os.path.isfile(path)}
    audio, texts, speakers = tables["wav.scp"], tables["text"], tables.get("utt2spk", {})
    segments, sides = tables.get("segments"), tables.get("reco2file_and_channel", {})
    for name, path in audio.items():
        if path.endswith("|"):
            refuse(
                f"{files['wav.scp']}: {name} is made by a command, which is not run: write a file"
            )
    for what in ("segments", "utt2spk"):
        without = [name for name in tables.get(what, {}) if name not in texts]
        if without:
            print(f"{files[what]}: {len(without)} utterances have no text, the first {without[0]}")
    for name, text in texts.items():
        source, start, end, channel = name, 0.0, None, None
        if segments is not None:
            if name not in segments:
                refuse(f"{files['segments']} has no {name}, which {files['text']} names")
            source, start, end, channel = _segment(files["segments"], name, segments[name])
        if source not in audio:
            refuse(f"{files['wav.scp']} has no {source}, which {files['text']} names")
        if channel is None and source in sides:
            channel = {"A": 0, "B": 1}.get(sides[source].split()[-1:][0] if sides[source] else "")
        if speakers and name not in speakers:
            refuse(f"{files['utt2spk']} has no {name}, which {files['text']} names")
        path = os.path.abspath(audio[source])
        if not os.path.exists(path) and os.path.exists(os.path.join(folder, audio[source])):
            path = os.path.abspath(os.path.join(folder, audio[source]))
        yield recording(path, name, text, speakers.get(name), start, end, channel), None


def _segment(path: str, name: str, line: str) -> Tuple[str, float, Optional[float], Optional[int]]:
    """Recording, start, end (None for that of the recording, which Kaldi writes as -1), channel."""
    fields = line.split()
    try:
        source, (start, end) = fields[0], map(float, fields[1:3])
        channel = int(fields[3]) if len(fields) == 4 else None
        sound = 0 <= start < math.inf and (end == -1 or start < end < math.inf)
    except (IndexError, ValueError):
        sound = False
    if not sound or len(fields) > 4:
        refuse(f"{path}: {name} {line!r}, expected a recording, its start and its end")
    return source, start, None if end == -1 else end, channel
