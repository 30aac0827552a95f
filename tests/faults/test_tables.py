"""The campaign, tables and Kaldi folders: the words of a row belong to its audio, or the script says
which line does not fit."""

import json
import os

import numpy as np
import pytest
import soundfile
from faulty import read, tone, write

from varan_fairseq.data.manifest import read_manifest

SIDES = ["--valid", "0.2", "--test", "0.2"]
RATE = 16000


@pytest.fixture
def audio(tmp_path):
    """Six files of 2 s that tell who they are: a.wav holds 0.01 on its left and -0.01 on its right
    side, b.wav 0.02, and so on."""
    for index, name in enumerate("abcdef", 1):
        stereo = np.ones((2 * RATE, 2)) * [0.01 * index, -0.01 * index]
        soundfile.write(str(tmp_path / f"{name}.wav"), stereo, RATE)
    return tmp_path


def rows_of(out, split):
    """(name, seconds, mean sample, text) of every utterance."""
    manifest = read_manifest(os.path.join(str(out), f"{split}.tsv"))
    texts = read(os.path.join(str(out), f"{split}.wrd")).splitlines()
    result = []
    for (name, samples), text in zip(manifest.entries, texts):
        wave, rate = soundfile.read(os.path.join(manifest.root, name))
        assert (len(wave), rate) == (samples, RATE)
        result.append((name, samples / RATE, round(float(wave.mean()), 3), text))
    return result


def all_rows(out):
    return sorted(row for split in ("train", "valid", "test") for row in rows_of(out, split))


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


NEMO = [
    {"audio_filepath": "a.wav", "offset": at / 4, "duration": 0.25, "text": f"word {'abcdef'[at]}"}
    for at in range(6)
]
SPLITS = ["train", "train", "valid", "valid", "test", "test"]
NAMES = [f"{name}.wav" for name in "abcdef"]
PLAIN = [(name, f"text {name[0]}") for name in NAMES]

# table's name, content, options, (name, seconds, mean sample, text) of the first row by name
READ = {
    "NeMo's offset and duration": (
        *("t.json", jsonl(*NEMO), []),
        ("a_00000000_00000250.wav", 0.25, 0.0, "word a"),
    ),
    "a duration of its own": (
        *("t.jsonl", jsonl(*[{"path": n, "text": t, "duration": 1.5} for n, t in PLAIN]), []),
        ("a.wav", 1.5, 0.0, "text a"),
    ),
    "a duration that is the rounded length": (
        *("t.jsonl", jsonl(*[{"path": n, "text": t, "duration": 2.01} for n, t in PLAIN]), []),
        ("a.wav", 2.0, 0.0, "text a"),
    ),
    "columns that later rows have": (
        "t.jsonl",
        jsonl({"path": "a.wav", "text": "text a", "split": "test"}).replace(', "split": "test"', "")
        + jsonl(*[{"path": n, "text": t, "start": 0.5, "end": 1.0} for n, t in PLAIN[1:]]),
        [],
        ("a.wav", 2.0, 0.0, "text a"),
    ),
    "a JSON list": (
        *("t.json", json.dumps([{"path": n, "text": t} for n, t in PLAIN], indent=1), []),
        ("a.wav", 2.0, 0.0, "text a"),
    ),
    "semicolons": (
        *("t.csv", "path;text\n" + "".join(f"{n};{t}, so\n" for n, t in PLAIN), []),
        ("a.wav", 2.0, 0.0, "text a so"),
    ),
    "tabs in a .csv": (
        *("t.csv", "path\ttext\n" + "".join(f"{n}\t{t}, so\n" for n, t in PLAIN), []),
        ("a.wav", 2.0, 0.0, "text a so"),
    ),
    "a quote in a TSV": (
        *("t.tsv", "path\ttext\n" + "".join(f'{n}\t"{t}\n' for n, t in PLAIN), []),
        ("a.wav", 2.0, 0.0, "text a"),
    ),
    "quotes in a CSV": (
        *("t.csv", "path,text\n" + "".join(f'{n},"{t}, ""so"""\n' for n, t in PLAIN), []),
        ("a.wav", 2.0, 0.0, "text a so"),
    ),
    "channels from 0": (
        "t.csv",
        "path,text,channel\n" + "".join(f"{n},{t},{i % 2}\n" for i, (n, t) in enumerate(PLAIN)),
        [],
        ("a_channel0.wav", 2.0, 0.01, "text a"),
    ),
    "channels from 1": (
        "t.csv",
        "path,text,channel\n" + "".join(f"{n},{t},{1 + i % 2}\n" for i, (n, t) in enumerate(PLAIN)),
        [],
        ("a_channel0.wav", 2.0, 0.01, "text a"),
    ),
    "sides by letters": (
        *("t.csv", "path,text,channel\n" + "".join(f"{n},{t},B\n" for n, t in PLAIN), []),
        ("a_channel1.wav", 2.0, -0.01, "text a"),
    ),
    "no header": (
        *("t.csv", "".join(f"{t},{n}\n" for n, t in PLAIN), ["--columns", "audio=2", "text=1"]),
        ("a.wav", 2.0, 0.0, "text a"),
    ),
    "a column that is one value": (
        *("t.csv", "path,text,lang\n" + "".join(f"{n},{t},de\n" for n, t in PLAIN), []),
        ("a.wav", 2.0, 0.0, "text a"),
    ),
    "a column that is ignored": (
        "t.csv",
        "path,text,lang\n" + "".join(f"{n},{t},{n[0]}\n" for n, t in PLAIN),
        ["--ignore", "lang"],
        ("a.wav", 2.0, 0.0, "text a"),
    ),
    "speakers that differ by a blank": (
        "t.csv",
        "path,text,speaker\n" + "".join(f"{n},{t},s{i // 2}{' ' * (i % 2)}\n" for i, (n, t) in enumerate(PLAIN)),
        [],
        ("a.wav", 2.0, 0.0, "text a"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_rows_that_are_read(script, audio, name):
    table, content, options, expected = READ[name]
    write(audio / table, content)
    refusal, text = script(
        "transcribed.py", audio / table, audio / "out", *SIDES, *options, "--text", *RULES
    )
    assert refusal is None, refusal + text
    rows = all_rows(audio / "out")
    assert rows[0] == expected and len(rows) == 6
    if "speaker" in name:
        sides = [set(read(audio / "out" / f"{s}.spk").split()) for s in ("train", "valid", "test")]
        assert sorted(map(len, sides)) == [1, 1, 1] and len(set.union(*sides)) == 3
    if "later rows" in name:
        assert {row[1] for row in rows[1:]} == {0.5}


RULES = ["apostrophes", "no-punctuation", "lower"]


def table(header, *rows, ending="csv", delimiter=","):
    return f"t.{ending}", "".join(delimiter.join(row) + "\n" for row in [header, *rows])


# table's name, content, options, what is said
REFUSED = {
    "an unquoted comma": (
        *table(["path", "text"], ["a.wav", "yes, please"], ["b.wav", "no"]),
        [],
        "line 2: 3 fields, expected 2 (path, text)",
    ),
    "a tab in a sentence": (
        *table(
            *(["path", "text", "speaker"], ["a.wav", "yes\tplease", "s1"]),
            ending="tsv",
            delimiter="\t",
        ),
        [],
        "line 2: 4 fields, expected 3",
    ),
    "a row that is cut": (
        *table(["path", "text", "speaker"], ["a.wav", "yes", "s"], ["b.wav", "no"]),
        [],
        "line 3: 2 fields, expected 3",
    ),
    "a quote that is not closed": (
        *table(["path", "text"], ["a.wav", '"yes'], ["b.wav", "no"], ["c.wav", "so"]),
        [],
        "line 2",
    ),
    "a quote over two lines": (
        *table(["path", "text"], ["a.wav", '"yes'], ["b.wav", 'no"']),
        [],
        "line 2: a field continues over lines",
    ),
    "no header": (
        *table(["a.wav", "yes"], ["b.wav", "no"]),
        [],
        "line 1: 'a.wav' is a file, expected names of columns: add a line with them, or number them, "
        "as --columns audio=1 text=2",
    ),
    "a channel that nobody can tell": (
        *table(["path", "text", "channel"], ["a.wav", "yes", "1"], ["b.wav", "no", "1"]),
        [],
        "every channel is 1, which may be the first or the second",
    ),
    "a channel that is none": (
        *table(["path", "text", "channel"], ["a.wav", "yes", "mono"]),
        [],
        "line 2: channel 'mono', expected a number, or A and B",
    ),
    "a channel that the file lacks": (
        *table(["path", "text", "channel"], *[[n, "yes", str(i)] for i, n in enumerate(NAMES)]),
        [],
        "no channel 2, it has 2",
    ),
    "times under another name": (
        *table(["path", "text", "start_ms"], ["a.wav", "yes", "500"], ["b.wav", "no", "500"]),
        [],
        "has a column 'start_ms' ('500') that is not read and looks like a time",
    ),
    "languages": (
        *table(["path", "text", "lang"], ["a.wav", "yes", "en"], ["b.wav", "ja", "de"]),
        [],
        "column 'lang' ('de', 'en') that is not read and looks like a reason to leave rows out: "
        "name it by --columns, or pass --ignore lang",
    ),
    "partial results": (
        *("t.jsonl", jsonl(*[{"path": n, "text": "a", "is_final": n > "c"} for n in NAMES])),
        [],
        "column 'is_final' ('False', 'True')",
    ),
    "two texts": (
        *table(["path", "text", "transcript"], ["a.wav", "yes", "no"]),
        [],
        "line 2: text and transcript differ: choose by --columns text=NAME",
    ),
    "a column twice": (
        *table(["path", "text", "text"], ["a.wav", "yes", "no"]),
        [],
        "two columns are called 'text'",
    ),
    "an end and a duration that differ": (
        *table(["path", "text", "start", "end", "duration"], ["a.wav", "yes", "0", "1", "2"]),
        [],
        "line 2: start 0 and duration 2 s do not make end 1 s",
    ),
    "an end before the start": (
        *table(["path", "text", "start", "end"], ["a.wav", "yes", "1", "0.5"]),
        [],
        "line 2: ends at 0.5 s, and begins at 1 s",
    ),
    "a time that is not a number": (
        *table(["path", "text", "start"], ["a.wav", "yes", "nan"]),
        [],
        "line 2: start 'nan', expected seconds",
    ),
    "an infinite end": (
        *table(["path", "text", "end"], ["a.wav", "yes", "inf"]),
        [],
        "line 2: end 'inf', expected seconds",
    ),
    "a speaker of some rows": (
        *table(["path", "text", "speaker"], *[[n, "yes", "s1" if n > "c" else ""] for n in NAMES]),
        [],
        "2 of 6 recordings have no speaker",
    ),
    "milliseconds": (
        *table(["path", "text", "duration"], *[[n, "yes", "1500"] for n in NAMES]),
        [],
        "6 of 6 recordings cannot be read",
    ),
    "a split of some rows": (
        *(
            "t.jsonl",
            jsonl({"path": "a.wav", "text": "a"}, {"path": "b.wav", "text": "b", "split": "test"}),
        ),
        [],
        "1 rows have no split, the others have one",
    ),
    "a line that is not JSON": ("t.jsonl", jsonl(NEMO[0]) + "{\n", [], "line 2: no JSON"),
    "rows without names": ("t.json", "[[1, 2]]", [], "expected named values"),
    "JSON as deep as can be": ("t.json", "[" * 100000, [], "no JSON"),
    "audio that is an object": (
        *("t.jsonl", jsonl({"audio": {"bytes": 1}, "text": "a"})),
        [],
        "expected a path and a text",
    ),
    "an empty table": ("t.csv", "", [], "has no rows with named columns"),
    "Latin-1": ("t.csv", "path,text\na.wav,ñ\n".encode("latin-1"), [], "is not UTF-8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_rows_that_are_refused(script, audio, name):
    table, content, options, expected = REFUSED[name]
    write(audio / table, content)
    refusal, text = script("transcribed.py", audio / table, audio / "out", *SIDES, *options)
    assert refusal and expected in refusal + text, (refusal, text)
    assert not os.path.exists(str(audio / "out" / "train.tsv"))


def kaldi(folder, **files):
    """A folder of six utterances; files: others, by their names."""
    given = {
        "wav.scp": "".join(f"rec.{n[0]} {folder}/{n}\n" for n in NAMES),
        "text": "".join(f"utt.{n[0]} text {n[0]}\n" for n in NAMES),
        "segments": "".join(f"utt.{n[0]} rec.{n[0]} 0.5 1.5\n" for n in NAMES),
        "utt2spk": "".join(f"utt.{n[0]} s{i // 2}\n" for i, n in enumerate(NAMES)),
        **{name.replace("_scp", ".scp"): content for name, content in files.items()},
    }
    data = folder / "data"
    data.mkdir(exist_ok=True)
    for name, content in given.items():
        write(data / name, content)
    return data


KALDI = {
    "ids with dots": ({}, ("utt.a.wav", 1.0, 0.0, "text a")),
    "tabs between fields": (
        {
            "segments": "".join(f"utt.{n[0]}\trec.{n[0]}\t0.5\t1.5\n" for n in NAMES),
            "text": "".join(f"utt.{n[0]}\ttext {n[0]}\n" for n in NAMES),
        },
        ("utt.a.wav", 1.0, 0.0, "text a"),
    ),
    "an end of -1": (
        {"segments": "".join(f"utt.{n[0]} rec.{n[0]} 0.5 -1\n" for n in NAMES)},
        ("utt.a.wav", 1.5, 0.0, "text a"),
    ),
    "an end some ms late": (
        {"segments": "".join(f"utt.{n[0]} rec.{n[0]} 0.5 2.03\n" for n in NAMES)},
        ("utt.a.wav", 1.5, 0.0, "text a"),
    ),
    "a channel of a segment": (
        {"segments": "".join(f"utt.{n[0]} rec.{n[0]} 0.5 1.5 1\n" for n in NAMES)},
        ("utt.a_channel1.wav", 1.0, -0.01, "text a"),
    ),
    "channels by a file": (
        {"reco2file_and_channel": "".join(f"rec.{n[0]} f A\n" for n in NAMES)},
        ("utt.a_channel0.wav", 1.0, 0.01, "text a"),
    ),
}


@pytest.mark.parametrize("name", KALDI)
def test_kaldi_folders(script, audio, name):
    files, expected = KALDI[name]
    refusal, text = script("transcribed.py", kaldi(audio, **files), audio / "out", *SIDES)
    assert refusal is None, refusal + text
    assert all_rows(audio / "out")[0] == expected
    assert ("6 ends lie up to 0.5 s behind their audio" in text) == ("late" in name)


NOT_KALDI = {
    "an end long past": (
        {"segments": "".join(f"utt.{n[0]} rec.{n[0]} 0.5 2.6\n" for n in NAMES)},
        "a.wav (utt.a.wav): ends at 2.000 s, before 2.6 s",
    ),
    "times that are none": ({"segments": "utt.a rec.a nan 1\n"}, "utt.a 'rec.a nan 1', expected"),
    "an utterance without a segment": ({"segments": "utt.b rec.b 0 1\n"}, "segments has no utt.a"),
    "an utterance without a speaker": ({"utt2spk": "utt.b s1\n"}, "utt2spk has no utt.a"),
    "an id twice": ({"text": "utt.a x\nutt.a y\n"}, "line 2: 'utt.a y', expected an id of its own"),
    "Latin-1": ({"text": b"utt.a \xf1\n"}, "is not UTF-8"),
}


@pytest.mark.parametrize("name", NOT_KALDI)
def test_kaldi_folders_that_do_not_fit(script, audio, name):
    files, expected = NOT_KALDI[name]
    refusal, text = script("transcribed.py", kaldi(audio, **files), audio / "out", *SIDES)
    assert refusal and expected in refusal + text, (refusal, text)


def test_segments_without_a_text_are_counted(script, audio):
    more = "".join(f"utt.{n[0]} rec.{n[0]} 0.5 1.5\n" for n in NAMES) + "utt.x rec.a 0 0.3\n"
    _, text = script("transcribed.py", kaldi(audio, segments=more), audio / "out", *SIDES)
    assert "segments: 1 utterances have no text, the first utt.x" in text


def times(path, ns):
    os.utime(str(path), ns=(ns, ns))


def swap(path):
    """Other audio of the same size, with the time of the old one."""
    before = os.stat(str(path)).st_mtime_ns
    soundfile.write(str(path), np.full((2 * RATE, 2), 0.09), RATE)
    times(path, before)


CHANGED = {
    "corrected segments": lambda a: write(
        a / "data" / "segments", read(a / "data" / "segments").replace("0.5 1.5", "0.0 1.0")
    ),
    "another source under the same names": lambda a: [
        write(a / "data" / "wav.scp", read(a / "data" / "wav.scp").replace(f"{a}/a.wav", f"{a}/b.wav"))
    ],
    "a file of the same time": lambda a: swap(a / "a.wav"),
    "a side of it": lambda a: write(
        a / "data" / "segments", read(a / "data" / "segments").replace("0.5 1.5", "0.5 1.5 0")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_a_copy_is_of_what_is_asked_for(script, audio, name):
    data, out = kaldi(audio), audio / "out"
    script("transcribed.py", data, out, *SIDES)
    _, text = script("transcribed.py", data, out, *SIDES)
    assert "6 of 6 recordings are there already" in text
    CHANGED[name](audio)
    refusal, text = script("transcribed.py", data, out, *SIDES)
    assert refusal is None and "6 of 6 recordings are there already" not in text
    fresh = audio / "fresh"
    script("transcribed.py", data, fresh, *SIDES)
    assert all_rows(out) == all_rows(fresh)


def test_a_full_disk_is_no_unreadable_audio(script, audio, monkeypatch):
    from varan_fairseq.corpora import labelled

    real = open

    def full(path, mode="r", *more, **others):
        if "out" in str(path) and "w" in mode and ".wav" in str(path):
            raise OSError(28, "No space left on device", str(path))
        return real(path, mode, *more, **others)

    monkeypatch.setattr(labelled, "open", full, raising=False)
    refusal, text = script("transcribed.py", kaldi(audio), audio / "out", *SIDES)
    assert "No space left on device" in refusal and "cannot be read" not in text


def test_names_that_lead_out(script, tmp_path):
    """Of Common Voice, whose rows name files."""
    source = tmp_path / "cv"
    tone(source / "clips" / "a.wav")
    tone(tmp_path / "x.wav")
    row = "client_id\tpath\tsentence\n{}\t../../x.wav\tyes\n"
    for index, name in enumerate(("train", "dev", "test")):
        write(source / f"{name}.tsv", row.format(index))
    refusal, _ = script("commonvoice.py", source, tmp_path / "out")
    assert "'../../x.wav' leads out of the folder of the copies" in refusal
    assert os.listdir(str(tmp_path / "out")) == [] if (tmp_path / "out").exists() else True


def common_voice(folder, tables):
    for name, speakers in tables.items():
        lines = ["client_id\tpath\tsentence"]
        for index, speaker in enumerate(speakers):
            tone(folder / "clips" / f"{name}{index}.wav")
            lines.append(f"{speaker}\t{name}{index}.wav\tyes")
        write(folder / f"{name}.tsv", "\n".join(lines) + "\n")
    return folder


def test_a_small_language_of_common_voice(script, tmp_path):
    source = common_voice(tmp_path / "cv", {"validated": "aabbccdd"})
    refusal, _ = script("commonvoice.py", source, tmp_path / "out")
    assert "pass --validated to divide the speakers of validated.tsv" in refusal
    options = ["--validated", "--valid", "0.2", "--test", "0.2"]
    refusal, _ = script("commonvoice.py", source, tmp_path / "out", *options)
    sides = [set(read(tmp_path / "out" / f"{s}.spk").split()) for s in ("train", "valid", "test")]
    assert refusal is None and sorted(map(len, sides)) == [1, 1, 2]
    assert len(set.union(*sides)) == 4


def test_clips_elsewhere(script, tmp_path):
    tables = {"train": "ab", "dev": "c", "test": "d"}
    source = common_voice(tmp_path / "cv", tables)
    os.rename(str(source / "clips"), str(tmp_path / "audio"))
    refusal, _ = script("commonvoice.py", source, tmp_path / "out")
    assert "with the audio: give it by --clips" in refusal
    refusal, _ = script("commonvoice.py", source, tmp_path / "out", "--clips", tmp_path / "audio")
    assert refusal is None and len(rows_of(tmp_path / "out", "train")) == 2


def test_a_row_of_common_voice_with_a_tab(script, tmp_path):
    source = common_voice(tmp_path / "cv", {"train": "ab", "dev": "c", "test": "d"})
    write(source / "train.tsv", read(source / "train.tsv").replace("yes", "yes\tplease", 1))
    refusal, _ = script("commonvoice.py", source, tmp_path / "out")
    assert "train.tsv, line 2: expected 3 fields" in refusal


def libri(folder, *splits):
    for speaker, split in enumerate(splits, 1):
        chapter = folder / split / str(speaker) / "7"
        os.makedirs(str(chapter))
        soundfile.write(str(chapter / f"{speaker}-7-0000.flac"), np.zeros(2000), RATE)
        write(chapter / f"{speaker}-7.trans.txt", f"{speaker}-7-0000 YES\n")
        write(chapter / f"._{speaker}-7-0000.flac", b"\0\5\x16\7")  # as macOS writes them
    return folder


def test_librispeech_from_a_mac(script, tmp_path):
    source = libri(tmp_path / "LibriSpeech", "train-clean-100", "dev-clean")
    refusal, text = script("librispeech.py", source, tmp_path / "out", "--allow-incomplete")
    assert refusal is None and "train 1 utterances" in text


def test_training_on_dev(script, tmp_path):
    source = libri(tmp_path / "LibriSpeech", "train-clean-100", "dev-clean")
    arguments = ["--train", "dev-clean", "--allow-incomplete"]
    refusal, text = script("librispeech.py", source, tmp_path / "out", *arguments)
    assert refusal == "2" and "invalid choice: 'dev-clean'" in text


def cuts(path, *rows):
    """Lhotse's, of one recording: (id, start, end of the cut, [(start, end, text, speaker)])."""
    lhotse = pytest.importorskip("lhotse")
    made = []
    for name, audio, start, end, supervisions in rows:
        cut = lhotse.Recording.from_file(str(audio), name).to_cut().truncate(
            offset=start, duration=end - start
        ).with_id(name)  # fmt: skip
        for number, (first, last, text, speaker) in enumerate(supervisions):
            segment = lhotse.SupervisionSegment(
                f"{name}-{number}", name, first, last - first, 0, text=text, speaker=speaker
            )
            cut.supervisions.append(segment)
        made.append(cut)
    lhotse.CutSet.from_cuts(made).to_file(str(path))
    return path


def mono(folder, name):
    tone(folder / f"{name}.wav", samples=2 * RATE)
    return folder / f"{name}.wav"


def test_supervisions_in_the_order_of_time(script, tmp_path):
    parts = [(1.0, 1.5, "two", "s"), (0.0, 0.5, "one", "s")]
    path = cuts(tmp_path / "c.jsonl", ("c", mono(tmp_path, "a"), 0, 2, parts))
    script("lhotse_cuts.py", tmp_path / "out", "--train", path)
    assert read(tmp_path / "out" / "train.wrd") == "one two\n"


def test_a_supervision_outside_of_its_cut(script, tmp_path):
    parts = [(0.0, 0.5, "one", "s"), (3.0, 3.5, "two", "s")]
    path = cuts(tmp_path / "c.jsonl", ("c", mono(tmp_path, "a"), 0, 2, parts))
    refusal, _ = script("lhotse_cuts.py", tmp_path / "out", "--train", path)
    assert "cut c: supervision c-1 is from 3 to 3.5 s of it, and it has 2 s" in refusal


def test_cuts_of_one_speaker_on_both_sides(script, tmp_path):
    parts = [(0.0, 0.5, "one", "s")]
    train = cuts(tmp_path / "t.jsonl", ("t", mono(tmp_path, "a"), 0, 2, parts))
    valid = cuts(tmp_path / "v.jsonl", ("v", mono(tmp_path, "b"), 0, 2, parts))
    arguments = [tmp_path / "out", "--train", train, "--valid", valid]
    refusal, _ = script("lhotse_cuts.py", *arguments)
    assert "speaker s is in train and in valid" in refusal
    refusal, _ = script("lhotse_cuts.py", *arguments, "--allow-shared-speakers")
    assert refusal is None


def test_cuts_whose_audio_is_gone(script, tmp_path):
    path = cuts(tmp_path / "c.jsonl", ("c", mono(tmp_path, "a"), 0, 2, [(0, 1, "one", "s")]))
    os.remove(str(tmp_path / "a.wav"))
    refusal, _ = script("lhotse_cuts.py", tmp_path / "out", "--train", path)
    assert refusal.startswith("lhotse_cuts.py: cut c: ")


def test_cuts_without_words_are_counted(script, tmp_path):
    rows = [(n, mono(tmp_path, n), 0, 2, [(0, 1, t, "s")]) for n, t in (("a", "yes"), ("b", "5"))]
    path = cuts(tmp_path / "c.jsonl", *rows)
    _, text = script("lhotse_cuts.py", tmp_path / "out", "--train", path)
    assert "dropped 1: digits ('5')" in text


def test_manifests_over_their_tables(script, tmp_path, audio):
    """Of Common Voice, whose tables are called like manifests; of a table in OUT."""
    source = common_voice(tmp_path / "cv", {"train": "ab", "dev": "c", "test": "d"})
    before = read(source / "train.tsv")
    refusal, text = script("commonvoice.py", source, source)
    assert refusal == "2" and "train.tsv would overwrite its own input" in text
    assert read(source / "train.tsv") == before and not (source / "wav").exists()
    table = "path\ttext\n" + "".join(f"{n}\t{t}\n" for n, t in PLAIN)
    write(audio / "train.tsv", table)
    refusal, text = script("transcribed.py", audio / "train.tsv", audio, *SIDES)
    assert refusal == "2" and "train.tsv would overwrite its own input" in text
    assert read(audio / "train.tsv") == table


def test_a_lexicon_over_its_words(script, tmp_path):
    write(tmp_path / "train.wrd", "one two\n")
    write(tmp_path / "lexicon.txt", "three\n")
    refusal, text = script("dictionary.py", tmp_path, "--words", tmp_path / "lexicon.txt")
    assert refusal == "2" and "lexicon.txt would overwrite its own input" in text
    assert read(tmp_path / "lexicon.txt") == "three\n"
