"""Recordings and transcripts of tables (CSV, TSV, JSON lines) and Kaldi folders."""

import csv
import json
import os
from dataclasses import replace
from typing import Any, Dict

from .labelled import Recording
from .options import refuse

# Names that columns may have; --columns gives others.
COLUMNS = {
    "audio": ("audio", "path", "file", "filename", "audio_filepath", "wav"),
    "text": ("text", "transcript", "transcription", "sentence"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "split": ("split", "subset"),
    "start": ("start", "offset"),
    "end": ("end",),
}
SPLITS = ("train", "valid", "test")


def read_table(path: str):
    """(number of the line, dictionary) of every row."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as lines:
            if path.endswith(".jsonl"):
                rows = [(n, json.loads(line)) for n, line in enumerate(lines, 1) if line.strip()]
            else:
                reader = csv.DictReader(lines, delimiter="\t" if path.endswith(".tsv") else ",")
                rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        refuse(f"{path} is not UTF-8: {error.reason} at byte {error.start}")
    except (json.JSONDecodeError, csv.Error) as error:
        refuse(f"{path} cannot be read as its ending says: {error}")
    if not rows or not all(isinstance(row, dict) for _, row in rows):
        refuse(f"{path} has no rows with named columns")
    return rows


def find_columns(path: str, present, given):
    """Name of each column that a table has."""
    columns = {}
    for what, names in COLUMNS.items():
        names = (given[what],) if what in given else names
        columns[what] = next((name for name in names if name in present), None)
        if columns[what] is None and (what in given or what in ("audio", "text")):
            refuse(
                f"{path} has no column {' or '.join(names)}, it has {', '.join(map(str, present))}: "
                f"name it by --columns {what}=NAME"
            )
    return columns


def from_table(path: str, given):
    """(recording, split or None) of every row."""
    rows = read_table(path)
    columns = find_columns(path, list(rows[0][1]), given)
    folder = os.path.dirname(os.path.abspath(path))
    for number, row in rows:
        value: Dict[str, Any] = {
            what: row.get(name) if name else None for what, name in columns.items()
        }
        if not value["audio"] or value["text"] is None:
            refuse(f"{path}, line {number}: wanted an audio file and a text, got {row}")
        split = value["split"] or None
        if split == "dev":
            split = "valid"
        if split is not None and split not in SPLITS:
            refuse(f"{path}, line {number}: split {split!r}, wanted one of {', '.join(SPLITS)}")
        speaker = str(value["speaker"]) if value["speaker"] not in (None, "") else None
        times = []
        for what in ("start", "end"):
            try:
                times.append(float(value[what]) if value[what] not in (None, "") else None)
            except ValueError:
                refuse(f"{path}, line {number}: {what} {value[what]!r}, wanted seconds")
        audio = os.path.join(folder, str(value["audio"]))
        yield recording(audio, str(value["audio"]), str(value["text"]), speaker, *times), split


def recording(audio, name, text, speaker, start=None, end=None):
    """name: that its copy is called after."""
    stem = os.path.splitext(os.path.normpath(name).lstrip(os.sep))[0].replace("..", "_")
    if start is not None or end is not None:
        stem += f"_{round(1000 * (start or 0)):08d}"
        stem += "" if end is None else f"_{round(1000 * end):08d}"
    return Recording(audio, stem + ".wav", text, speaker, start or 0.0, end)


def read_kaldi(path: str):
    """{first word: the rest} of the lines of a file."""
    rows = {}
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            key, _, rest = line.strip().partition(" ")
            if not key or key in rows:
                refuse(f"{path}, line {number}: {line.strip()!r}, wanted an id of its own")
            rows[key] = rest.strip()
    return rows


def from_kaldi(folder: str):
    """(recording, None) of every utterance."""
    files = {
        name: os.path.join(folder, name) for name in ("wav.scp", "text", "segments", "utt2spk")
    }
    for name in ("wav.scp", "text"):
        if not os.path.isfile(files[name]):
            refuse(f"no {files[name]}: wanted a table, or a Kaldi folder with wav.scp and text")
    audio, texts = read_kaldi(files["wav.scp"]), read_kaldi(files["text"])
    speakers = read_kaldi(files["utt2spk"]) if os.path.isfile(files["utt2spk"]) else {}
    segments = read_kaldi(files["segments"]) if os.path.isfile(files["segments"]) else None
    for name, path in audio.items():
        if path.endswith("|"):
            refuse(
                f"{files['wav.scp']}: {name} is made by a command, which is not run: write a file"
            )
    for name, text in texts.items():
        start = end = None
        source = name
        if segments is not None:
            try:
                source, start, end = segments[name].split()
                start, end = float(start), float(end)
            except (KeyError, ValueError):
                refuse(f"{files['segments']}: {name} wants a recording, its start and its end")
        if source not in audio:
            refuse(f"{files['wav.scp']} has no {source}, which {files['text']} names")
        speaker = speakers.get(name)
        row = recording(os.path.abspath(audio[source]), name, text, speaker)
        yield replace(row, start=start or 0.0, end=end), None
