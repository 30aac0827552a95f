"""The corpus under four conditions: what each does to the audio, and that labels go with it."""

import collections
import os

import numpy as np
import pytest
import soundfile
from conftest import write_corpus
from test_manifests import run

from varan_fairseq.corpora import conditions
from varan_fairseq.data.manifest import read_lines, read_manifest


def power(wave, low=0, high=8000):
    spectrum = np.abs(np.fft.rfft(wave)) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / conditions.RATE)
    return spectrum[(frequency >= low) & (frequency < high)].sum()


@pytest.fixture
def speech():
    """White noise that starts after 0.1 s and stops at 1 s."""
    wave = np.zeros(32000)
    wave[1600:16000] = np.random.default_rng(0).normal(0, 0.1, 14400)
    return wave


def changed(name, wave, seed=1):
    return conditions.CONDITIONS[name](wave, np.random.default_rng(seed))


def test_telephone(speech):
    found = changed("telephone", speech)
    assert power(found, 500, 3000) == pytest.approx(power(speech, 500, 3000), rel=0.05)
    for low, high in ((0, 150), (4500, 8000)):
        assert power(found, low, high) < 1e-3 * power(speech, low, high)


def test_reverberant(speech):
    found = changed("reverberant", speech)
    assert not found[:1600].any() or np.abs(found[:1600]).max() < 1e-9  # nothing before it is heard
    tail = [np.square(found[start : start + 1600]).mean() for start in (16000, 20800)]
    lost = 10 * np.log10(tail[0] / tail[1])  # in 0.3 s, of 60 dB in 0.6 s
    assert lost == pytest.approx(30, abs=5)
    echoes = found - speech
    assert np.square(echoes).sum() == pytest.approx(np.square(speech).sum(), rel=0.3)


def test_noisy(speech):
    noise = changed("noisy", speech) - speech
    assert 10 * np.log10(np.square(speech).mean() / np.square(noise).mean()) == pytest.approx(5)
    octaves = [power(noise, low, 2 * low) for low in (250, 500, 1000, 2000)]
    assert max(octaves) < 1.5 * min(octaves)  # pink: an octave is as loud as another
    assert not np.allclose(noise, changed("noisy", speech, seed=2) - speech)


def test_a_corpus(tmp_path):
    data = write_corpus(tmp_path / "data")
    for out in ("out", "again"):
        done = run("conditions", data, tmp_path / out, "--splits", "train", "test")
        assert done.returncode == 0, done.stderr
    assert "conditions clean, telephone, reverberant, noisy" in done.stdout
    out = str(tmp_path / "out")
    for split in ("train", "test"):
        for ending in ("ltr", "wrd"):
            assert read_lines(f"{out}/{split}.{ending}") == read_lines(f"{data}/{split}.{ending}")
        labels = [line.strip() for line in read_lines(f"{out}/{split}.condition")]
        counts = collections.Counter(labels)
        assert len(counts) == 4 and max(counts.values()) - min(counts.values()) <= 1
        before, after = read_manifest(f"{data}/{split}.tsv"), read_manifest(f"{out}/{split}.tsv")
        assert [n for _, n in after.entries] == [n for _, n in before.entries]
        for (old, _), (new, _), label in zip(before.entries, after.entries, labels):
            assert new.endswith(f"-{label}.wav")
            old, _ = soundfile.read(os.path.join(before.root, old))
            wave, rate = soundfile.read(os.path.join(after.root, new))
            assert rate == 16000 and np.abs(wave).max() < 1
            assert (np.abs(wave - old).max() < 1e-4) == (label == "clean")
            again, _ = soundfile.read(os.path.join(f"{tmp_path}/again", split, new))
            assert (again == wave).all()
    assert read_lines(f"{out}/dict.ltr.txt") == read_lines(f"{data}/dict.ltr.txt")


def test_bad_input(tmp_path):
    data = write_corpus(tmp_path / "data")
    done = run("conditions", data, data)
    assert done.returncode == 2 and "is the corpus itself" in done.stderr
    done = run("conditions", data, tmp_path / "out", "--splits", "dev")
    assert done.returncode == 2 and "dev.tsv: expected a corpus" in done.stderr
    with open(f"{data}/train.ltr", "a") as file:
        file.write("A |\n")
    done = run("conditions", data, tmp_path / "out")
    assert done.returncode == 2 and "train.ltr has 7 lines, its manifest 6 files" in done.stderr
    assert not (tmp_path / "out").exists()
