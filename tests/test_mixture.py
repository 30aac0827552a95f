"""Corpora as one: how often each is there, what goes with its audio, what is refused."""

import collections
import os

import pytest
from conftest import write_corpus
from test_manifests import run

from varan_fairseq.corpora.mixture import times
from varan_fairseq.data.manifest import read_lines, read_manifest


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    first, second = (
        str(write_corpus(root / "one" / "libri")),
        str(write_corpus(root / "two" / "cv")),
    )
    lines = read_manifest(f"{second}/train.tsv").entries
    for split in ("train", "valid"):
        count = len(read_manifest(f"{second}/{split}.tsv").entries)
        with open(f"{second}/{split}.spk", "w") as file:
            file.writelines(f"{row % 2}\n" for row in range(count))
    for ending in ("ltr", "wrd"):  # a shorter corpus, with a letter of its own
        kept = read_lines(f"{second}/train.{ending}")[:3]
        kept[0] = "Ä |" if ending == "ltr" else "Ä"
        with open(f"{second}/small.{ending}", "w") as file:
            file.writelines(line + "\n" for line in kept)
    with open(f"{second}/small.tsv", "w") as file:
        file.write(read_manifest(f"{second}/train.tsv").root + "\n")
        file.writelines(f"{path}\t{samples}\n" for path, samples in lines[:3])
    with open(f"{second}/dict.ltr.txt", "a") as file:
        file.write("Ä 1\n")
    return first, second


def test_shares():
    for temperature in (1, 2, 3, 1e9):
        hours = [100.0, 10.0, 1.0]
        factors = times(hours, temperature)
        wanted = [own ** (1 / temperature) for own in hours]
        shares = [own * factor for own, factor in zip(hours, factors)]
        assert factors[0] == 1
        assert [share / sum(shares) for share in shares] == pytest.approx(
            [value / sum(wanted) for value in wanted]
        )


def test_two_corpora(corpora, tmp_path):
    first, second = corpora
    out = tmp_path / "out"
    done = run(
        "mixture", out, "--train", first, f"{second}:small", "--valid", first, second,
        "--temperature", "2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "dataset.valid_subset='libri_valid,cv_valid'\"" in done.stdout
    assert f"{second} brings 1 labels that those before it do not have: Ä" in done.stdout
    mixed = read_manifest(f"{out}/train.tsv")
    sources = {name: read_manifest(f"{folder}/{split}.tsv")
               for name, folder, split in (("libri", first, "train"), ("cv", second, "small"))}  # fmt: skip
    labels = {
        os.path.join(manifest.root, path): (line, samples)
        for (name, manifest), source in zip(sources.items(), (f"{first}/train", f"{second}/small"))
        for (path, samples), line in zip(manifest.entries, read_lines(f"{source}.ltr"))
    }
    counts = collections.Counter()
    for (path, samples), line in zip(mixed.entries, read_lines(f"{out}/train.ltr")):
        path = os.path.join(mixed.root, path)
        assert labels[path] == (line, samples) and os.path.isfile(path)
        counts[path] += 1
    assert set(counts) == set(labels)
    hours = [float(manifest.samples.sum()) for manifest in sources.values()]
    factor = (hours[0] / hours[1]) ** 0.5
    for path, count in counts.items():
        assert count == 1 if "libri" in path else int(factor) <= count <= int(factor) + 1
    assert len(read_lines(f"{out}/train.wrd")) == len(mixed.entries)
    assert not os.path.exists(f"{out}/train.spk")  # libri has none
    assert set(read_lines(f"{out}/cv_valid.spk")) == {"cv/0", "cv/1"}
    dictionary = [line.split()[0] for line in read_lines(f"{out}/dict.ltr.txt")]
    assert dictionary == [line.split()[0] for line in read_lines(f"{first}/dict.ltr.txt")] + ["Ä"]
    again = run(
        "mixture", tmp_path / "again", "--train", first, f"{second}:small", "--valid", first, second,
        "--temperature", "2",
    )  # fmt: skip
    assert again.returncode == 0
    assert read_lines(f"{out}/train.tsv") == read_lines(f"{tmp_path}/again/train.tsv")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--train", "{0}", "{0}/none", "--valid", "{0}"], "no folder {0}/none"),
        (["--train", "{0}:none", "--valid", "{0}"], "no manifest {0}/none.tsv"),
        (["--train", "{0}", "--valid", "{0}", "{0}"], "--valid names a split twice"),
        (["--train", "{0}", "--valid", "{0}", "--labels", "phn"], "no {0}/train.phn: --labels"),
        (["--train", "{0}", "--valid", "{0}", "--temperature", "0.5"], "'0.5', expected 1 or more"),
    ],
)
def test_what_is_refused(corpora, tmp_path, arguments, message):
    done = run("mixture", tmp_path / "out", *(text.format(*corpora) for text in arguments))
    assert done.returncode != 0 and message.format(*corpora) in done.stderr
    assert "Traceback" not in done.stderr and not os.path.exists(tmp_path / "out" / "train.tsv")


def test_its_own_input(corpora):
    done = run("mixture", corpora[0], "--train", *corpora, "--valid", corpora[1])
    assert done.returncode != 0 and "is one of the corpora" in done.stderr
