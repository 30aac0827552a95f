"""Manifests and the scripts that make them."""

import importlib.util
import os

import numpy as np
import planted
import preloaded
import pytest
import soundfile
from conftest import REPO

from varan_fairseq.corpora.digits import VOICES
from varan_fairseq.data.manifest import letters, read_manifest
from varan_fairseq.runtime.files import write_lines


def script(name):
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(REPO, "manifests", name + ".py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *arguments):
    program = os.path.join(REPO, "manifests", name + ".py")
    return preloaded.run([program, *arguments], REPO, separate=True)


def test_letters():
    assert letters("ONE  TWO") == "O N E | T W O |"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = str(tmp_path / "file")
    write_lines(path, ["old"])

    def lines():
        yield "new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lines(path, lines())
    with open(path) as file:
        assert file.read() == "old\n"


def test_digits(tmp_path):
    pytest.importorskip("espeakng_loader")
    done = run("digits", tmp_path, "--train", 8, "--valid", 2, "--test", 4)
    assert "8 train, 2 valid, 4 test" in done.stdout, done.stderr
    for split, count in (("train", 8), ("valid", 2), ("test", 4)):
        manifest = read_manifest(str(tmp_path / f"{split}.tsv"))
        assert len(manifest.entries) == count
        for name, samples in manifest.entries:
            info = soundfile.info(os.path.join(manifest.root, name))
            assert (info.samplerate, info.channels, info.frames) == (16000, 1, samples)
            assert np.abs(soundfile.read(os.path.join(manifest.root, name))[0]).max() > 0.05
    with open(str(tmp_path / "train.ltr")) as ltr, open(str(tmp_path / "train.wrd")) as wrd:
        assert [line.strip() for line in ltr] == [letters(line) for line in wrd]


def test_voices_of_the_splits_are_disjoint():
    everyone = [voice for split in VOICES.values() for voice in split]
    assert set(VOICES) == {"train", "valid", "test"} and len(everyone) == len(set(everyone))


@pytest.fixture
def asterisk():
    pytest.importorskip("num2words")
    from varan_fairseq.corpora import asterisk

    return asterisk


@pytest.mark.parametrize(
    "text, spoken",
    [
        ("Press 1 to mute, or 12 to exit.", "PRESS ONE TO MUTE OR TWELVE TO EXIT"),
        ("De-activated.", "DE ACTIVATED"),
        ("press * then #", "PRESS STAR THEN POUND"),
        ("I'd like 3D audio", "I'D LIKE THREE D AUDIO"),
        ("visit www.example.org", "VISIT WWW DOT EXAMPLE DOT ORG"),
    ],
)
def test_asterisk_text(asterisk, text, spoken):
    assert asterisk.normalise(text) == spoken


def test_asterisk_text_in_spanish(asterisk):
    said = asterisk.normalise("¿Cuál es su número? Marque 2.", "es")
    assert said == "CUÁL ES SU NÚMERO MARQUE DOS"


@pytest.mark.parametrize(
    "text, reason",
    [
        ("[beep]", "brackets"),
        ("(tone) hello", "brackets"),
        ("H.323", "more than one reading"),
        ("50% off", "no spoken form for %"),
        ("...", "no words"),
    ],
)
def test_asterisk_drops(asterisk, text, reason):
    with pytest.raises(ValueError, match=reason):
        asterisk.normalise(text)


@pytest.mark.parametrize("code", ["en", "es"])
def test_asterisk_corpus(asterisk, tmp_path, code):
    """Some prompts are unusable, and all are counted."""
    planted.asterisk(tmp_path / "unpacked", asterisk.LANGUAGES[code])
    where = [tmp_path / "out", "--unpacked", tmp_path / "unpacked"]
    done = run("asterisk", *where, "--language", code)
    assert "20 prompts" in done.stdout and "(2 valid, 4 test, 14 train)" in done.stdout, done.stderr
    for reason in (
        "dropped 2: no speech",
        "dropped 1: carries brackets",
        "dropped 1: no recording",
    ):
        assert reason in done.stdout
    names = []
    for split in ("train", "valid", "test"):
        manifest = read_manifest(str(tmp_path / "out" / f"{split}.tsv"))
        names += [name for name, _ in manifest.entries]
        assert all(samples == 8000 for _, samples in manifest.entries)
    assert len(set(names)) == 20
    words = {"en": "MESSAGE NUMBER NINETEEN", "es": "MESSAGE NUMBER DIECINUEVE"}[code]
    texts = [
        (tmp_path / "out" / f"{split}.wrd").read_text() for split in ("train", "valid", "test")
    ]
    assert words in "".join(texts)


def test_asterisk_refuses_another_folder(asterisk, tmp_path):
    done = run("asterisk", tmp_path / "out", "--unpacked", tmp_path)
    assert done.returncode == 1 and "is" in done.stderr and str(tmp_path) in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("asterisk.py: no ")
