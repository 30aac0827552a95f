"""The scripts for labelled corpora, on generated trees with each corpus's layout and names."""

import collections
import itertools
import os
import re
import runpy
import sys
from unittest import mock

import numpy as np
import pytest
import soundfile
from build import setup_classification
from conftest import REPO
from planted import iemocap, plant, ravdess, save_tone
from test_manifests import run

from varan_fairseq.data.manifest import read_manifest


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A short stereo recording at 48 kHz, as RAVDESS has some; its tone is 1 kHz."""
    return save_tone(tmp_path_factory.mktemp("sound") / "sound.wav")


def script(name, *arguments):
    """Output of a script of manifests/."""
    done = run(name, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refusal(name, *arguments):
    """The one line that a script ends with. In this process: much faster to start."""
    path = os.path.join(REPO, "manifests", f"{name}.py")
    with mock.patch.object(sys, "argv", [path, *map(str, arguments)]):
        with mock.patch.object(sys, "path", [os.path.dirname(path), *sys.path]):
            with pytest.raises(SystemExit) as stopped:
                runpy.run_path(path, run_name="__main__")
    line = stopped.value.code
    assert line.startswith(f"{name}.py: ") and "\n" not in line
    return line


def read(out, split, ending="emo"):
    with open(os.path.join(str(out), f"{split}.{ending}")) as lines:
        return [line.strip() for line in lines]


def loads(out):
    """The task reads all three splits; returns the classes."""
    task = setup_classification(str(out))
    for split in ("train", "valid", "test"):
        task.load_dataset(split)
        assert len(task.dataset(split)) == len(read(out, split))
    task.check_splits("train", ["valid", "test"])
    return task.target_dictionary.symbols


def speakers(out):
    return {split: sorted(set(read(out, split, "spk"))) for split in ("train", "valid", "test")}


def test_ravdess(tmp_path, sound):
    plant(sound, tmp_path / "corpus", ravdess())
    (tmp_path / "corpus" / "Actor_01" / "notes.wav").write_text("not of the corpus")
    text = script("ravdess", tmp_path / "corpus", tmp_path / "out", "--classes", "7")
    out = tmp_path / "out"
    assert "train 1080" in text and loads(out) == [
        "neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised",
    ]  # fmt: skip
    counts = collections.Counter(read(out, "train"))
    assert counts["neutral"] == 18 * 12 and counts["happy"] == 18 * 8
    held = speakers(out)
    assert held["valid"] == ["19", "20"] and held["test"] == ["21", "22", "23", "24"]
    manifest = read_manifest(str(out / "train.tsv"))
    for (name, samples), label in zip(manifest.entries, read(out, "train")):
        emotion = int(os.path.basename(name).split("-")[2])
        assert label == ["neutral", "neutral", "happy", "sad", "angry", "fearful", "disgust",
                         "surprised"][emotion - 1]  # fmt: skip
        assert samples == 1600
    wave, rate = soundfile.read(os.path.join(manifest.root, manifest.entries[0][0]))
    assert rate == 16000 and wave.shape == (1600,)
    spectrum = np.abs(np.fft.rfft(wave[400:1200]))
    assert spectrum.argmax() * 16000 / 800 == pytest.approx(1000, abs=20)

    # again, with eight classes and other actors: nothing is resampled twice
    stamp = os.path.getmtime(os.path.join(manifest.root, manifest.entries[0][0]))
    text = script("ravdess", tmp_path / "corpus", out, "--valid", "1", "--test", "2", "3")
    assert "1440 of 1440 recordings are there already" in text and "train 1260" in text
    assert len(loads(out)) == 8 and speakers(out)["test"] == ["02", "03"]
    assert os.path.getmtime(os.path.join(manifest.root, manifest.entries[0][0])) == stamp


def test_an_incomplete_ravdess(tmp_path, sound):
    plant(sound, tmp_path / "corpus", itertools.islice(ravdess(), 130))
    line = refusal("ravdess", tmp_path / "corpus", tmp_path / "out")
    assert "found 130 recordings" in line and "expected 1440; pass --allow-incomplete" in line
    assert not (tmp_path / "out").exists()
    line = refusal("ravdess", tmp_path / "corpus", tmp_path / "out", "--allow-incomplete")
    assert "19: no such speaker, there are 01, 02, 03" in line
    more = ["--allow-incomplete", "--test", "01", "--valid", "01"]
    line = refusal("ravdess", tmp_path / "corpus", tmp_path / "out", *more)
    assert (
        "speaker 01 is in valid and in test (1 shared speakers): pass --allow-shared-speakers"
        in line
    )
    script("ravdess", tmp_path / "corpus", tmp_path / "out", *more, "--allow-shared-speakers")


@pytest.mark.parametrize("name", ["ravdess", "cremad", "emodb", "iemocap", "folder"])
def test_a_tree_that_is_another(tmp_path, sound, name):
    plant(
        sound, tmp_path / "corpus", ["some/file.wav", "wav/other.wav"] if name != "folder" else []
    )
    line = refusal(name, tmp_path / "corpus", tmp_path / "out")
    assert "corpus" in line and not (tmp_path / "out").exists()
    line = refusal(name, tmp_path / "gone", tmp_path / "out", "--allow-incomplete")
    assert "gone" in line


def cremad():
    codes = [
        f"{sentence}_{emotion}"
        for sentence in [
            "IEO",
            "TIE",
            "IOM",
            "IWW",
            "TAI",
            "MTI",
            "IWL",
            "ITH",
            "DFA",
            "ITS",
            "TSI",
            "WSI",
        ]
        for emotion in ["ANG", "DIS", "FEA", "HAP", "NEU", "SAD"]
    ]
    names = [f"AudioWAV/{actor}_{code}_XX.wav" for actor in range(1001, 1092) for code in codes]
    extra = [f"AudioWAV/{actor}_IEO_{code}" for actor in range(1001, 1092)
             for code in ("ANG_LO.wav", "ANG_MD.wav", "ANG_HI.wav", "SAD_LO.wav", "SAD_MD.wav",
                          "SAD_HI.wav", "FEA_LO.wav", "FEA_MD.wav", "FEA_HI.wav", "HAP_LO.wav")]  # fmt: skip
    return (names + extra)[:7442]


def test_cremad(tmp_path, sound):
    """A nineteenth of it, by every actor: files take their time."""
    lost = "AudioWAV/1076_MTI_SAD_XX.wav"
    names = sorted({*cremad()[::19], lost})
    plant(sound, tmp_path / "corpus", names)
    lost = tmp_path / "corpus" / lost
    os.remove(str(lost))
    lost.write_bytes(b"")
    line = refusal("cremad", tmp_path / "corpus", tmp_path / "out")
    assert f"found {len(names)} recordings of CREMA-D (AudioWAV/*.wav), expected 7442" in line
    text = script("cremad", tmp_path / "corpus", tmp_path / "out", "--allow-incomplete")
    assert f"cannot be read: {lost}" in text
    out = tmp_path / "out"
    assert loads(out) == ["ang", "dis", "fea", "hap", "neu", "sad"]
    everything = sum((read(out, split) for split in ("train", "valid", "test")), [])
    assert len(everything) == len(names) - 1
    held = speakers(out)
    assert len(held["train"]) == 63 and len(held["valid"]) == 9 and len(held["test"]) == 19
    strict = ["--allow-incomplete", "--max-unreadable", "0"]
    line = refusal("cremad", tmp_path / "corpus", tmp_path / "o2", *strict)
    assert f"1 of {len(names)} recordings cannot be read" in line
    assert not (tmp_path / "o2/train.tsv").exists()


def test_emodb(tmp_path, sound):
    texts = ["a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10"]
    speakers_ = ["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"]
    names = [
        f"wav/{speaker}{text}{letter}a.wav"
        for text in texts for letter in "WLEAFTN" for speaker in speakers_
    ]  # fmt: skip
    plant(sound, tmp_path / "corpus", names[:535])
    script("emodb", tmp_path / "corpus", tmp_path / "out")
    classes = loads(tmp_path / "out")
    assert classes == ["anger", "boredom", "disgust", "fear", "happiness", "sadness", "neutral"]
    entries = read_manifest(str(tmp_path / "out" / "test.tsv")).entries
    letters = dict(zip(classes, "WLEAFTN"))
    for (name, _), label in zip(entries, read(tmp_path / "out", "test")):
        assert name[5] == letters[label] and name[:2] in ("15", "16")


def test_iemocap(tmp_path, sound):
    root, out = tmp_path / "IEMOCAP_full_release", tmp_path / "out"
    iemocap(root, sound)
    line = refusal("iemocap", root, out)
    assert "found 553 utterances of the four classes of IEMOCAP, expected 5531" in line
    script("iemocap", root, out, "--allow-incomplete")
    tested = []
    for session in range(1, 6):
        fold = out / f"fold{session}"
        assert loads(fold) == ["angry", "happy", "sad", "neutral"]
        held = speakers(fold)
        assert held["test"] == [f"Ses0{session}F", f"Ses0{session}M"]
        assert held["valid"] == [f"Ses0{session % 5 + 1}F"] and len(held["train"]) == 7
        tested += read(fold, "test")
        total = sum(len(read(fold, split)) for split in ("train", "valid", "test"))
        assert total == 553
    # of all labels, by the table above: happy and excited are one class
    assert collections.Counter(tested) == {
        "angry": 110, "happy": 164, "sad": 108, "neutral": 171,
    }  # fmt: skip
    assert os.listdir(str(out)).count("wav") == 1

    evaluation = root / "Session3" / "dialog" / "EmoEvaluation" / "Ses03F_impro01.txt"
    turn = re.search(r"(Ses\w+)\tneu", evaluation.read_text())[1]
    os.remove(str(root / "Session3" / "sentences" / "wav" / "Ses03F_impro01" / f"{turn}.wav"))
    line = refusal("iemocap", root, tmp_path / "o2")
    assert f"Ses03F_impro01.txt names {turn}, but there is no" in line
    for path in (root / "Session2" / "dialog" / "EmoEvaluation").glob("*.txt"):
        path.unlink()
    line = refusal("iemocap", root, tmp_path / "o2")
    assert "Session2" in line and "is not IEMOCAP_full_release" in line


def test_folder_by_speaker(tmp_path, sound):
    names = [
        f"{label}/s{speaker:02d}_{take}.{ending}"
        for label, ending in (("calm", "wav"), ("loud", "wav"))
        for speaker in range(10)
        for take in range(3)
    ]
    plant(sound, tmp_path / "corpus", names)
    text = script("folder", tmp_path / "corpus", tmp_path / "out", "--speaker", r"s(\d+)_")
    assert "train 42" in text and "valid 6" in text and "test 12" in text
    assert loads(tmp_path / "out") == ["calm", "loud"]
    held = speakers(tmp_path / "out")
    assert not set(held["train"]) & set(held["test"])
    for pattern, words in (
        ("s(\\d+", "not a regular expression"),
        ("s", "no group"),
        ("x(y)", "match"),
    ):
        line = refusal("folder", tmp_path / "corpus", tmp_path / "out", "--speaker", pattern)
        assert words in line
    many = ["--speaker", r"(s)\d+"]
    line = refusal("folder", tmp_path / "corpus", tmp_path / "out", *many)
    assert "1 speakers cannot be in 3 splits" in line


def test_folder_without_speakers(tmp_path, sound):
    names = [f"{label}/deep/{take}.wav" for label in ("calm", "loud") for take in range(10)]
    plant(sound, tmp_path / "corpus", names)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.spk").write_text("of an earlier run\n")
    text = script("folder", tmp_path / "corpus", tmp_path / "out")
    assert "a speaker may be in training and test" in text
    assert loads(tmp_path / "out") == ["calm", "loud"]
    for split, count in (("train", 7), ("valid", 1), ("test", 2)):
        assert collections.Counter(read(tmp_path / "out", split)) == {"calm": count, "loud": count}
    assert not (tmp_path / "out" / "train.spk").exists()
    plant(sound, tmp_path / "corpus", ["very loud/1.wav"])
    line = refusal("folder", tmp_path / "corpus", tmp_path / "out")
    assert "class folder 'very loud'" in line
    line = refusal("folder", tmp_path / "corpus", tmp_path / "out", "--test", "0.95")
    assert "expected shares that leave some to train" in line


def test_a_rare_class_without_training_examples(tmp_path, sound):
    names = [f"calm/{take}.wav" for take in range(10)] + ["loud/1.wav", "rare/1.wav"]
    plant(sound, tmp_path / "corpus", names)
    text = script(
        "folder", tmp_path / "corpus", tmp_path / "out", "--test", "0.6", "--valid", "0.3"
    )
    assert "class rare has no examples in train" in text


def test_styles(tmp_path):
    """The demo's corpus: reproducible, balanced, voices apart."""
    pytest.importorskip("espeakng_loader")
    counts = ["--train", 16, "--valid", 8, "--test", 8]
    for out in ("one", "two"):
        script("styles", tmp_path / out, *counts)
    assert loads(tmp_path / "one") == ["angry", "happy", "neutral", "sad"]
    for split, count in (("train", 4), ("valid", 2), ("test", 2)):
        labels = collections.Counter(read(tmp_path / "one", split))
        assert set(labels.values()) == {count}
        for name, _ in read_manifest(str(tmp_path / "one" / f"{split}.tsv")).entries:
            first = (tmp_path / "one" / "wav" / name).read_bytes()
            assert first == (tmp_path / "two" / "wav" / name).read_bytes()
    held = speakers(tmp_path / "one")
    assert not set(held["train"]) & (set(held["valid"]) | set(held["test"]))
