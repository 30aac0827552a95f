"""The scripts for transcribed corpora on generated trees of the true layout, against fairseq's own
scripts; text rules; dictionaries of one's own language."""

import contextlib
import csv
import io
import json
import os
import runpy
import subprocess
import sys
import unicodedata
from unittest import mock

import fairseq
import numpy as np
import planted
import pytest
import soundfile
from conftest import REPO
from fairseq.data import Dictionary
from planted import WORDS, chapter
from test_labelled_manifests import read, refusal

from varan_fairseq.corpora import text as rules
from varan_fairseq.data.checks import dictionary_findings
from varan_fairseq.data.findings import Split, enforce, split_files
from varan_fairseq.data.manifest import read_manifest
from varan_fairseq.finetuned.labelled import check_transcribed

EXAMPLES = os.path.join(os.path.dirname(fairseq.__file__), "examples", "wav2vec")
rng = np.random.default_rng(0)


def script(name, *arguments):
    """Output of a script of manifests/, in this process: much faster to start."""
    path, out = os.path.join(REPO, "manifests", f"{name}.py"), io.StringIO()
    with mock.patch.object(sys, "argv", [path, *map(str, arguments)]):
        with contextlib.redirect_stdout(out):
            runpy.run_path(path, run_name="__main__")
    return out.getvalue()


@pytest.fixture(scope="module")
def librispeech(tmp_path_factory):
    root = tmp_path_factory.mktemp("libri") / "LibriSpeech"
    planted.librispeech(root, ("dev-clean", "test-other", "train-clean-100", "train-clean-360"))
    return root


def by_fairseq(root, out):
    """What its scripts write of a folder: rows (path, samples, letters, words) by path."""
    stock = [sys.executable, os.path.join(EXAMPLES, "wav2vec_manifest.py"), str(root)]
    subprocess.run([*stock, "--dest", str(out), "--valid-percent", "0"], check=True)
    labels = [sys.executable, os.path.join(EXAMPLES, "libri_labels.py"), f"{out}/train.tsv"]
    subprocess.run([*labels, "--output-dir", str(out), "--output-name", "train"], check=True)
    return table(out, "train")


def table(out, split):
    """(root, rows sorted by path)."""
    root, *lines = read(out, split, "tsv")
    rows = zip(lines, read(out, split, "ltr"), read(out, split, "wrd"))
    return root, sorted(tuple(row) for row in rows)


def fairseqs_dictionary(path, out):
    """As `fairseq-preprocess --dict-only --padding-factor 1` makes it of a label file."""
    dictionary = Dictionary()
    Dictionary.add_file_to_dictionary(str(path), dictionary, lambda line: line.split(), 1)
    dictionary.finalize(padding_factor=1)
    dictionary.save(str(out))
    with open(str(out)) as file:
        return file.read()


def test_librispeech_is_fairseqs(librispeech, tmp_path):
    out = tmp_path / "out"
    text = script("librispeech", librispeech, out, "--allow-incomplete")
    assert "train 30 utterances" in text and "3 speakers" in text
    for split, name in (
        ("train", "train-clean-100"),
        ("dev_clean", "dev-clean"),
        ("test_other", "test-other"),
    ):
        assert table(out, split) == by_fairseq(librispeech / name, tmp_path / f"stock-{name}")
        speakers = read(out, split, "spk")
        paths = [row.split("\t")[0] for row in read(out, split, "tsv")[1:]]
        assert speakers == [path.split("/")[0] for path in paths]
        for ending in ("ltr", "wrd"):  # to the last byte, in fairseq's order of the files
            ours = (out / f"{split}.{ending}").read_bytes().splitlines()
            theirs = (tmp_path / f"stock-{name}" / f"train.{ending}").read_bytes().splitlines()
            assert sorted(ours) == sorted(theirs)
    assert not (out / "test_clean.tsv").exists()
    expected = fairseqs_dictionary(out / "train.ltr", tmp_path / "dict")
    found = (out / "dict.ltr.txt").read_text()
    assert found.startswith(expected)
    missing = found[len(expected) :].split()  # letters of English that did not occur
    assert set(missing[1::2]) <= {"0"}
    assert len(found.splitlines()) == 28
    for row in (out / "lexicon.txt").read_text().splitlines():
        word, spelling = row.split("\t")
        assert spelling == " ".join(word) + " |"
    audio_finetuning_takes(out, "train", "dev_clean", "test_other")


def audio_finetuning_takes(out, *splits, labels="ltr"):
    from build import setup_task

    task = setup_task(str(out), labels=labels)
    enforce(dictionary_findings(split_files(task.cfg, splits[0]).dictionary))
    for split in splits:
        checked = Split(split, split_files(task.cfg, split))
        check_transcribed(checked, task.target_dictionary, 16000)
        task.load_dataset(split)
        assert len(task.dataset(split)) == len(read(out, split, labels))


def test_several_training_splits(librispeech, tmp_path):
    out = tmp_path / "out"
    train = ["--train", "train-clean-100", "train-clean-360"]
    script("librispeech", librispeech, out, *train, "--allow-incomplete")
    manifest = read_manifest(str(out / "train.tsv"))
    assert manifest.root == os.path.realpath(str(librispeech)) and len(manifest.entries) == 60
    assert {path.split("/")[0] for path, _ in manifest.entries} == set(train[1:])


def test_librispeech_that_is_not_whole(librispeech, tmp_path):
    line = refusal("librispeech", librispeech, tmp_path / "out")
    assert "train-clean-100 has 30 utterances, expected 28539; pass --allow-incomplete" in line
    line = refusal("librispeech", tmp_path, tmp_path / "out")
    assert "has no folder train-clean-100" in line
    folder = tmp_path / "copy" / "train-clean-100"
    chapter(folder, 1, 2)
    os.remove(str(folder / "1" / "2" / "1-2.trans.txt"))
    line = refusal("librispeech", tmp_path / "copy", tmp_path / "out", "--allow-incomplete")
    assert "no transcripts" in line and "1-2.trans.txt" in line
    chapter(folder, 1, 3)
    (folder / "1" / "2" / "1-2.trans.txt").write_text("1-2-0000 ONE\n")
    line = refusal("librispeech", tmp_path / "copy", tmp_path / "out", "--allow-incomplete")
    assert "1-2-0001.flac has no line in the .trans.txt" in line
    (folder / "1" / "2" / "1-2.trans.txt").write_text(
        "".join(f"1-2-{index:04d} ONE\n" for index in range(5))
    )
    soundfile.write(str(folder / "1" / "2" / "1-2-0003.flac"), np.zeros(100), 8000)
    line = refusal("librispeech", tmp_path / "copy", tmp_path / "out", "--allow-incomplete")
    assert "1-2-0003.flac has 8000 Hz and 1 channels, expected 16000 Hz and 1" in line
    (folder / "1" / "2" / "1-2-0003.flac").write_bytes(b"fLaC cut off")
    line = refusal("librispeech", tmp_path / "copy", tmp_path / "out", "--allow-incomplete")
    assert "1-2-0003.flac cannot be read" in line
    assert not (tmp_path / "out").exists()


def test_librilight_is_fairseqs(librispeech, tmp_path):
    root, out = tmp_path / "librispeech_finetuning", tmp_path / "out"
    for number, folder in enumerate(("1h/0/clean", "1h/0/other", "1h/5/clean", "9h/clean")):
        chapter(root / folder, 40 + number, 7)
    for size, folders in (("10m", ["1h/0"]), ("1h", ["1h"]), ("10h", ["1h", "9h"])):
        script("librilight", root, out, "--size", size, "--allow-incomplete")
        rows = []
        for folder in folders:
            _, each = by_fairseq(root / folder, tmp_path / f"{size}-{folder.replace('/', '_')}")
            rows += [(f"{folder}/{path}", *labels) for path, *labels in each]
        assert table(out, "train") == (os.path.realpath(str(root)), sorted(rows))
    script("librispeech", librispeech, out, "--train", "--allow-incomplete")
    assert len(read(out, "train", "ltr")) == 20  # it stays
    audio_finetuning_takes(out, "train", "dev_clean", "test_other")
    line = refusal("librilight", root, tmp_path / "out2", "--size", "10h")
    assert "hours for --size 10h; pass --allow-incomplete" in line
    line = refusal("librilight", tmp_path, tmp_path / "out2", "--size", "1h")
    assert "has no folder 1h, expected 1h/clean" in line


SENTENCES = [
    ("¿Cómo estás, niño?", "cómo estás niño"),
    ("Él dijo: «sí».", "él dijo sí"),
    ("O’Higgins es franco-alemán -", "o'higgins es franco-alemán"),
    (unicodedata.normalize("NFD", "Mañana\u200b  lloverá…"), "mañana lloverá"),
    ("Tengo 3 gatos.", None),
    ("[ruido] hola", None),
    ("!!!", None),
]


@pytest.fixture(scope="module")
def commonvoice(tmp_path_factory):
    root = tmp_path_factory.mktemp("cv") / "es"
    os.makedirs(str(root / "clips"))
    header = ["client_id", "path", "sentence", "up_votes", "locale"]
    for table_, count in (("train", 14), ("dev", 7), ("test", 7)):
        with open(str(root / f"{table_}.tsv"), "w", newline="", encoding="utf-8") as file:
            file.write("\t".join(header) + "\n")
            for index in range(count):
                name = f"common_voice_es_{table_}{index}.mp3"
                wave = rng.normal(0, 0.1, 16000)
                soundfile.write(str(root / "clips" / name), wave, 32000, format="MP3")
                sentence = SENTENCES[index % 7][0]
                file.write(f"{table_}{index // 3}\t{name}\t{sentence}\t2\tes\n")
    return root


def test_commonvoice(commonvoice, tmp_path):
    out = tmp_path / "out"
    text = script("commonvoice", commonvoice, out)
    assert "text rules: NFC no-brackets no-digits apostrophes no-punctuation lower" in text
    for reason in ("4: digits ('Tengo 3 gatos.')", "4: brackets", "4: no words ('!!!')"):
        assert f"dropped {reason}" in text
    expected = [clean for _, clean in SENTENCES if clean]
    assert read(out, "train", "wrd") == expected * 2 and read(out, "valid", "wrd") == expected
    assert set(read(out, "valid", "spk")) == {"dev0", "dev1"}
    manifest = read_manifest(str(out / "train.tsv"))
    assert soundfile.info(os.path.join(manifest.root, manifest.entries[0][0])).samplerate == 16000
    audio_finetuning_takes(out, "train", "valid", "test")
    expected = fairseqs_dictionary(out / "train.ltr", tmp_path / "dict")
    assert (out / "dict.ltr.txt").read_text(encoding="utf-8") == expected
    # again, otherwise: what is there stays
    text = script("commonvoice", commonvoice, out, "--text", "upper", "no-punctuation")
    assert "are there already" in text and "TENGO 3 GATOS" in read(out, "train", "wrd")


def test_commonvoice_that_is_another(commonvoice, tmp_path):
    line = refusal("commonvoice", tmp_path, tmp_path / "out")
    assert "no table" in line and "is" in line
    (tmp_path / "train.tsv").write_text("path\tsentence\n")
    assert "has no column client_id" in refusal("commonvoice", tmp_path, tmp_path / "out")


# One's own


@pytest.fixture
def takes(tmp_path):
    """Eight recordings of four speakers."""
    rows = []
    for index in range(8):
        name = f"takes/{index}.flac"
        os.makedirs(str(tmp_path / "takes"), exist_ok=True)
        wave = rng.normal(0, 0.1, (22050, 2))
        soundfile.write(str(tmp_path / name), wave, 22050)
        rows.append({"path": name, "text": f"Satz {WORDS[index % 2]}.", "speaker": f"s{index % 4}"})
    return tmp_path, rows


def save_table(path, rows):
    with open(str(path), "w", newline="", encoding="utf-8") as file:
        if str(path).endswith("jsonl"):
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            delimiter = "\t" if str(path).endswith("tsv") else ","
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_a_table(takes, ending):
    folder, rows = takes
    path, out = save_table(folder / f"table.{ending}", rows), folder / "out"
    text = script("transcribed", path, out, "--valid", "0.2", "--test", "0.2")
    assert "train 4 utterances" in text
    sides = [set(read(out, split, "spk")) for split in ("train", "valid", "test")]
    assert [len(side) for side in sides] == [2, 1, 1] and len(set.union(*sides)) == 4
    audio_finetuning_takes(out, "train", "valid", "test")
    samples = {size for _, size in read_manifest(str(out / "train.tsv")).entries}
    assert samples == {16000}


def test_a_table_with_splits_and_times(takes):
    folder, rows = takes
    for index, row in enumerate(rows):
        row.update(split=["train", "dev", "test", "train"][index % 4], offset="0.25", end="0.75")
    out = folder / "out"
    script("transcribed", save_table(folder / "t.csv", rows), out)
    assert len(read(out, "valid", "wrd")) == 2 and read(out, "valid", "spk") == ["s1", "s1"]
    manifest = read_manifest(str(out / "train.tsv"))
    assert {size for _, size in manifest.entries} == {8000}
    name = os.path.join(manifest.root, manifest.entries[0][0])
    import soxr

    whole = soundfile.read(str(folder / "takes" / "0.flac"))[0].mean(1)
    expected = soxr.resample(whole[5512:16537], 22050, 16000)
    np.testing.assert_allclose(soundfile.read(name)[0], expected[:8000], atol=1e-3)


def test_a_kaldi_folder(takes):
    folder, rows = takes
    data, out = folder / "data", folder / "out"
    data.mkdir()
    scp = [f"rec{i} {folder}/{row['path']}\n" for i, row in enumerate(rows)]
    (data / "wav.scp").write_text("".join(scp))
    (data / "segments").write_text("".join(f"utt{i} rec{i} 0.1 0.9\n" for i in range(8)))
    (data / "text").write_text("".join(f"utt{i} {row['text']}\n" for i, row in enumerate(rows)))
    (data / "utt2spk").write_text("".join(f"utt{i} s{i % 4}\n" for i in range(8)))
    script("transcribed", data, out, "--valid", "0.2", "--test", "0.2")
    assert {size for _, size in read_manifest(str(out / "train.tsv")).entries} == {12800}
    assert len(read(out, "train", "wrd")) == 4
    (data / "wav.scp").write_text("rec0 sph2pipe -f wav a.sph |\n")
    line = refusal("transcribed", data, folder / "out2")
    assert "rec0 is made by a command, which is not run" in line


TABLES = {
    "no text": (lambda rows: [{"path": row["path"]} for row in rows], "has no column text or"),
    "a split": (
        lambda rows: [dict(rows[0], split="tain")],
        "line 2: split 'tain', expected one of",
    ),
    "half the splits": (
        lambda rows: [dict(rows[0], split="train"), dict(rows[1], split="")],
        "1 rows have no split",
    ),
    "twice": (lambda rows: [rows[0], rows[0]], "would both become takes/0.wav"),
    "seconds": (lambda rows: [dict(rows[0], start="x")], "line 2: start 'x', expected seconds"),
    "a speaker twice": (
        lambda rows: [dict(row, split=s, speaker="a") for row, s in zip(rows, ["train", "test"])],
        "speaker a is in train and in test",
    ),
    "one speaker": (
        lambda rows: [dict(row, speaker="a") for row in rows],
        "1 speakers cannot be in 3",
    ),
    "past its end": (
        lambda rows: [dict(row, start=0.5, end=9) for row in rows],
        "8 of 8 recordings cannot be read",
    ),
    "gone": (
        lambda rows: [dict(row, path="gone/" + row["path"]) for row in rows],
        "cannot be read",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_cannot_be_used(takes, name):
    folder, rows = takes
    change, expected = TABLES[name]
    path = save_table(folder / "t.csv", change(rows))
    shares = ["--valid", "0.2", "--test", "0.2"]
    assert expected in refusal("transcribed", path, folder / "out", *shares)
    assert not (folder / "out" / "train.tsv").exists()


def test_lhotse(takes):
    lhotse = pytest.importorskip("lhotse")
    folder, rows = takes
    cuts = []
    for index, row in enumerate(rows):
        recording = lhotse.Recording.from_file(str(folder / row["path"]), f"rec{index}")
        cut = recording.to_cut()
        cut.supervisions.append(
            lhotse.SupervisionSegment(
                id=f"sup{index}",
                recording_id=recording.id,
                start=0.25,
                duration=0.5,
                channel=[0, 1],
                text=row["text"],
                speaker=f"s{index // 2}",
            )
        )
        cuts.append(cut)
    whole = lhotse.CutSet.from_cuts(cuts)
    whole.subset(first=6).trim_to_supervisions().to_file(str(folder / "train.jsonl.gz"))
    whole.subset(last=2).to_file(str(folder / "valid.jsonl.gz"))
    out = folder / "out"
    script(
        "lhotse_cuts",
        out,
        "--train",
        folder / "train.jsonl.gz",
        "--valid",
        folder / "valid.jsonl.gz",
    )
    assert read(out, "train", "wrd") == ["satz the", "satz quick"] * 3
    assert read(out, "valid", "spk") == ["s3", "s3"]
    sizes = [size for _, size in read_manifest(str(out / "train.tsv")).entries]
    assert sizes == [8000] * 6
    assert "no cuts" in refusal("lhotse_cuts", out, "--train", folder / "gone")


# Text and labels


@pytest.mark.parametrize("sentence, expected", SENTENCES)
def test_text_rules(sentence, expected):
    if expected is None:
        with pytest.raises(rules.Unusable):
            rules.apply(sentence, rules.DEFAULT)
    else:
        assert rules.apply(sentence, rules.DEFAULT) == unicodedata.normalize("NFC", expected)


def test_text_of_other_scripts():
    hindi = "क्\u200dष हिन्दी"
    assert rules.apply(hindi, rules.DEFAULT) == unicodedata.normalize("NFC", hindi)
    assert rules.apply("日本、語。", rules.DEFAULT) == "日本 語"
    assert rules.apply("ΟΔΌΣ", ["lower"]) == "οδός"
    with pytest.raises(rules.Unusable, match="outside the alphabet: 3 T"):
        rules.apply("T 3 a", [], "abc")
    with pytest.raises(rules.Unusable, match="mark between words"):
        rules.apply("a|b", [])


@pytest.mark.parametrize(
    "units, ending", [("letters", "ltr"), ("characters", "chr"), ("sentencepiece", "spm")]
)
def test_a_dictionary_of_ones_own(commonvoice, tmp_path, units, ending):
    out = tmp_path / "out"
    script("commonvoice", commonvoice, out)
    words = tmp_path / "words.txt"
    words.write_text("mañana 7\ncómo\nxylö\n", encoding="utf-8")
    text = script("dictionary", out, "--units", units, "--size", 26, "--words", words)
    assert "left out 1 words with other labels, as 'xylö'" in text
    audio_finetuning_takes(out, "train", "valid", "test", labels=ending)
    from fairseq.data.data_utils import post_process

    spelling = {"ltr": "letter", "chr": "none", "spm": "sentencepiece"}[ending]
    for labels, wrd in zip(read(out, "train", ending), read(out, "train", "wrd")):
        said = post_process(labels, spelling)
        assert said.replace(" ", "") == wrd.replace(" ", "")
        assert said == wrd or ending == "chr"
    expected = fairseqs_dictionary(out / f"train.{ending}", tmp_path / "dict")
    assert (out / f"dict.{ending}.txt").read_text(encoding="utf-8") == expected
    lexicon = dict(
        line.split("\t") for line in (out / "lexicon.txt").read_text("utf-8").splitlines()
    )
    assert (
        post_process(lexicon["cómo"], spelling).replace(" ", "") == "cómo" and "xylö" not in lexicon
    )


def test_a_dictionary_without_its_words(tmp_path):
    assert "train.wrd" in refusal("dictionary", tmp_path)
    (tmp_path / "train.wrd").write_text("one two\n")
    line = refusal("dictionary", tmp_path, "--units", "sentencepiece", "--size", "9999")
    assert "--size 9999: " in line


def test_a_bigram_language_model(tmp_path):
    """What the decoder's KenLM reads from it is a distribution, and that of the text."""
    pytest.importorskip("flashlight.lib.text")
    from flashlight.lib.text.decoder import KenLM
    from flashlight.lib.text.dictionary import Dictionary as Words

    lines = ["one two", "one two three", "two two", "three one"]
    (tmp_path / "train.wrd").write_text("\n".join(lines) + "\n")
    script("bigrams", tmp_path / "train.wrd", tmp_path / "lm.arpa")
    words = Words(["one", "two", "three", "<unk>"])
    lm = KenLM(str(tmp_path / "lm.arpa"), words)
    start = lm.start(False)
    for before in ("", "one", "two two", "three"):
        state = start
        for word in before.split():
            state, _ = lm.score(state, words.get_index(word))
        each = [lm.score(state, index)[1] for index in range(4)] + [lm.finish(state)[1]]
        assert sum(10.0 ** np.array(each)) == pytest.approx(1, abs=1e-4)
    # of 4 lines 2 begin with one; 3 words follow <s>; one is 3 of 13 words and kinds
    state, score = lm.score(start, words.get_index("one"))
    assert 10.0**score == pytest.approx((2 + 3 * 3 / 17) / (4 + 3), abs=1e-4)
    assert "has no words" in refusal("bigrams", os.devnull, tmp_path / "x")
    assert "no folder" in refusal("bigrams", tmp_path / "train.wrd", tmp_path / "gone" / "x")
