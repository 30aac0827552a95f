"""The campaign, what is kept: emissions and transcripts that are used again are those of what is
asked for, and a file that we did not write stays."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile
import torch
from faulty import copy, decode, edit, read, tool, write
from lm import write_lm
from test_data import stored

from varan_fairseq.cli import export, transcribe
from varan_fairseq.decoding import cache, emissions, evaluate, request
from varan_fairseq.runtime.files import read_json

# Emissions


@pytest.fixture
def data(ctc, tmp_path):
    folder = copy(ctc.data, tmp_path / "data")
    rows = read(os.path.join(folder, "test.tsv")).split("\n")
    write(os.path.join(folder, "test.tsv"), "\n".join([f"{folder}/wav", *rows[1:]]))
    return folder


@pytest.fixture
def computed(monkeypatch):
    """How often the encoder ran over a split."""
    count, real = [], emissions.outputs
    monkeypatch.setattr(emissions, "outputs", lambda *a, **k: count.append(1) or real(*a, **k))
    return count


@pytest.fixture
def infer(ctc, data, tmp_path):
    """Decodes into a folder of its own; what it printed, without its paths."""

    def run(*more):
        out = ["--emissions", f"{tmp_path}/kept", f"decoding.results_path={tmp_path}/out"]
        code, text, error = decode(ctc, f"task.data={data}", *out, *more)
        assert code == 0, error
        return text.split("->")[0]

    return run


def rename(data, name):
    """The first recording of the test split gets a name, or lies in an archive."""
    path = os.path.join(data, "test.tsv")
    rows = read(path).split("\n")
    old, samples = rows[1].split("\t")
    rows[1] = f"{name}\t{samples}"
    write(path, "\n".join(rows))
    return os.path.join(data, "wav", old), int(samples)


def louder(path, samples):
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.3, samples), 16000)


def test_a_name_with_colons_that_is_replaced(data, infer, computed):
    old, samples = rename(data, "12:30:05.wav")
    new = os.path.join(data, "wav", "12:30:05.wav")
    os.rename(old, new)
    infer()
    assert infer() and len(computed) == 1
    louder(new, samples)
    infer()
    assert len(computed) == 2


def test_an_archive_that_is_replaced(data, infer, computed):
    wave = np.random.default_rng(2).normal(0, 0.1, 9000)
    path = os.path.join(data, "test.tsv")
    rows = read(path).split("\n")
    rows[1] = f"{stored(data, wave)}\t9000"
    write(path, "\n".join(rows))
    infer()
    assert infer() and len(computed) == 1
    stored(data, wave[::-1])
    infer()
    assert len(computed) == 2


def test_emissions_whose_bytes_changed(infer, computed, tmp_path, caplog):
    first = infer()
    path = tmp_path / "kept" / "emissions-test-checkpoint_last" / "log_probs.f32"
    with open(str(path), "r+b") as file:
        file.seek(1000)
        file.write(b"\0\0\x80\x7f")
    assert infer() == first and len(computed) == 2
    assert "are damaged (another checksum): they are computed again" in caplog.text


@pytest.mark.parametrize("name", ["rows.npy", "log_probs.f32", "computed.json"])
def test_emissions_that_are_cut_off(infer, computed, tmp_path, name):
    first = infer()
    path = str(tmp_path / "kept" / "emissions-test-checkpoint_last" / name)
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)
    assert infer() == first and len(computed) == 2


@pytest.mark.parametrize("mask_group_norm", [True, False])
def test_batches_are_of_the_key_where_they_matter(ctc, monkeypatch, mask_group_norm):
    overrides = [f"common_eval.path={ctc.checkpoint}", f"task.data={ctc.data}"]
    decoding = request.build(request.Options(overrides))
    decoding.mask_group_norm = mask_group_norm
    keys = []
    monkeypatch.setattr(cache, "cached", lambda folder, key, *rest: keys.append(key))
    cache.split_emissions(decoding, evaluate._check(decoding, "test").split)
    assert ("max_tokens" in keys[0]) != mask_group_norm


def emission_folder(tmp_path, value):
    """(key, function that makes emissions of this value)."""

    def make(folder):
        matrix = np.full((4, 3), value, np.float32)
        rows, log_q = np.array([[0, 4]]), np.zeros((1, 2), np.float32)
        return emissions.save(folder, [matrix], 3, rows, log_q, np.zeros(1, int), 1.0, "CPU")

    return {"value": value}, make


def test_two_decodings_at_once(tmp_path, monkeypatch):
    """Another process puts its emissions there, before ours are read or after they are written."""
    folder = str(tmp_path / "kept")
    ours, theirs = emission_folder(tmp_path, 1.0), emission_folder(tmp_path, 2.0)
    made = cache.cached(folder, *ours, 1.0)
    cache.cached(folder, *theirs, 1.0)
    assert (made[0].log_probs == 1).all()
    cache.cached(folder, *ours, 1.0)
    real, calls = cache.is_cached, []

    def replaced_after_the_first_look(where, key):
        found = real(where, key)
        if not calls:
            calls.append(1)
            cache.cached(folder, *theirs, 1.0)
        return found

    monkeypatch.setattr(cache, "is_cached", replaced_after_the_first_look)
    assert (cache.cached(folder, *ours, 1.0)[0].log_probs == 1).all()
    opened = cache.cached(folder, *ours, 1.0)
    cache.cached(folder, *theirs, 1.0)
    assert (opened[0].log_probs == 1).all()


def test_a_checkpoint_replaced_after_it_was_read(ctc, data, tmp_path, computed):
    """What was computed by the old one is not taken for the new one's."""
    path = str(tmp_path / "model.pt")
    shutil.copy(ctc.checkpoint, path)
    given = [f"common_eval.path={path}", f"task.data={data}", f"decoding.results_path={tmp_path}/o"]
    decoding = request.build(request.Options(given))
    state = torch.load(path)
    state["model"]["aggregation.heads.heads.0.1.bias"] += 1
    torch.save(state, path)
    list(evaluate.decode(decoding))
    list(evaluate.decode(request.build(request.Options(given))))
    assert len(computed) == 2


def test_a_checkpoint_written_over_in_place(ctc, tmp_path):
    """As by cp: what was read of it stays, where a mapped file would end the process."""
    from varan_fairseq.finetuned.load import model_from_state, read_state

    path = str(tmp_path / "model.pt")
    shutil.copy(ctc.checkpoint, path)
    state = read_state(path)
    with open(path, "r+b") as file:
        file.truncate(100)
    model, _, _ = model_from_state(state, path)
    assert all(torch.isfinite(value).all() for value in model.parameters())


def test_emissions_of_an_adapter(ctc, adapter, data, tmp_path, computed):
    folder = copy(adapter, tmp_path / "adapter")
    given = [f"model.adapter={folder}", f"model.w2v_path={ctc.base}", f"task.data={data}"]
    from varan_fairseq.cli import infer

    for _ in range(2):  # results and emissions lie beside the adapter
        code, _, error = tool(infer.main, *given, "dataset.num_workers=0")
        assert code == 0, error
    assert len(computed) == 1
    edit(os.path.join(folder, "adapter.json"), lambda text: text + " ")
    assert tool(infer.main, *given, "dataset.num_workers=0")[0] == 0 and len(computed) == 2


def test_shards_of_an_adapter(ctc, adapter, data, tmp_path, monkeypatch):
    from varan_fairseq.cli import infer
    from varan_fairseq.decoding import shards

    folder = copy(adapter, tmp_path / "adapter")
    given = [f"model.adapter={folder}", f"model.w2v_path={ctc.base}", f"task.data={data}"]
    given += ["dataset.num_workers=0", "dataset.max_tokens=20000"]
    for part in ("1/2", "2/2"):
        assert tool(infer.main, *given, "--shard", part)[0] == 0
    monkeypatch.setattr(shards, "run_shards", lambda *a: pytest.fail("they are there"))
    code, text, error = tool(infer.main, *given, "--shards", 2)
    assert code == 0 and "WER" in text, error


def test_a_model_folder_that_nobody_may_write(ctc, data, tmp_path, monkeypatch):
    real = os.access
    model = os.path.dirname(ctc.checkpoint)
    monkeypatch.setattr(os, "access", lambda path, mode: path != model and real(path, mode))
    before = sorted(os.listdir(model))
    code, _, error = decode(ctc, f"task.data={data}", f"decoding.results_path={tmp_path}/out")
    assert code == 0, error
    assert sorted(os.listdir(model)) == before
    assert os.path.isdir(str(tmp_path / "emissions-test-checkpoint_last"))


NOT_DECODED = {
    "no subset": (["dataset.gen_subset="], "dataset.gen_subset is empty"),
    "subsets of nothing": (["dataset.gen_subset=,"], "dataset.gen_subset is empty"),
    "bf16": (["common.bf16=true"], "common.bf16=true changes nothing of decoding"),
}


@pytest.mark.parametrize("name", NOT_DECODED)
def test_options_that_say_nothing(ctc, name):
    options, expected = NOT_DECODED[name]
    code, _, error = decode(ctc, *options)
    assert code == 2 and expected in error and error.count("\n") == 1


def test_a_sweep_on_what_is_tested(ctc, data, tmp_path):
    """Under another name, in another folder, or with one recording of it."""
    lm, lexicon = write_lm(tmp_path, ["ONE", "TWO", "SIX"])
    given = ["decoding.type=kenlm", f"decoding.lmpath={lm}", f"decoding.lexicon={lexicon}"]
    given += [f"task.data={data}", "decoding.lmweight=1,2", f"decoding.results_path={tmp_path}/o"]
    copied = copy(data, tmp_path / "copy")
    for ending in ("tsv", "ltr"):
        shutil.copy(f"{data}/test.{ending}", f"{data}/tuning.{ending}")
        rows, other = (read(f"{data}/{split}.{ending}").split("\n") for split in ("valid", "test"))
        first = 1 if ending == "tsv" else 0
        if first:
            rows[first:-1] = [f"{rows[0]}/{row}" for row in rows[first:-1]]
            other[first] = f"{data}/wav/{other[first]}"
        write(f"{data}/mixed.{ending}", "\n".join([*rows[:-1], other[first], ""]))
    for name, count in (("tuning", 6), (f"../{os.path.basename(copied)}/test", 6), ("mixed", 1)):
        code, _, error = decode(ctc, *given, "--sweep", name)
        assert code == 2, error
        assert f"--sweep {name}: {count} of its recordings are in test too" in error, error


# Transcripts


@pytest.fixture
def recordings(ctc, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(3):
        shutil.copy(os.path.join(ctc.data, "wav", f"test{index}.wav"), str(folder / f"{index}.wav"))
    return folder


@pytest.fixture
def write_down(ctc, recordings, tmp_path):
    """varan-transcribe into tmp_path/out: (exit code, stderr, texts by file)."""
    out = tmp_path / "out"

    def run(*more, audio=None, checkpoint=None):
        arguments = [checkpoint or ctc.checkpoint, audio or recordings, "--out", out, *more]
        code, _, error = tool(transcribe.main, *arguments)
        names = [n for n in sorted(os.listdir(str(out))) if n[0] != "."] if out.exists() else []
        return code, error, {name: read(out / name) for name in names}

    return run


def test_a_text_of_the_users_own(write_down, tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out" / "1.txt", "my notes\n")
    for more in ([], ["--overwrite"]):
        code, error, texts = write_down(*more)
        assert code == 2 and "1.txt was not written by varan-transcribe, or was changed" in error
        assert texts == {"1.txt": "my notes\n"}


def test_a_text_that_was_corrected(write_down, tmp_path):
    write_down()
    write(tmp_path / "out" / "1.txt", "as I heard it\n")
    for more in ([], ["--overwrite"], ["--layer", "1", "--overwrite"]):
        code, error, texts = write_down(*more)
        assert code == 2 and "or was changed since: move it" in error
        assert texts["1.txt"] == "as I heard it\n"


def test_another_recording_of_the_same_name(write_down, recordings, tmp_path):
    _, _, first = write_down()
    other = tmp_path / "other"
    shutil.copytree(str(recordings), str(other))
    code, error, texts = write_down(audio=other)
    assert code == 2 and "made with other settings or of another recording (3 such" in error
    assert texts == first
    code, error, _ = write_down("--overwrite", audio=other)
    assert code == 0 and "3 recordings ->" in error


def test_a_recording_that_was_replaced_by_an_older_one(write_down, recordings, ctc):
    _, _, first = write_down()
    path = str(recordings / "1.wav")
    shutil.copy(os.path.join(ctc.data, "wav", "test5.wav"), path)
    os.utime(path, (1e9, 1e9))
    code, error, _ = write_down()
    assert code == 0 and "2 of 3 are there already" in error and "1 recordings ->" in error


def test_settings_of_a_part_are_not_those_of_the_rest(write_down, recordings, tmp_path):
    """Once, the last call's settings were those of the whole folder."""
    code, _, _ = write_down("--layer", "1", audio=recordings / "1.wav")
    assert code == 0
    code, error, texts = write_down()
    assert code == 2 and "1.txt is there already, made with other settings" in error
    assert list(texts) == ["1.txt"]


def test_a_model_that_was_trained_on(write_down, ctc, tmp_path):
    path = str(tmp_path / "model.pt")
    shutil.copy(ctc.checkpoint, path)
    assert write_down(checkpoint=path)[0] == 0
    other = str(tmp_path / "copy.pt")
    shutil.copy(path, other)  # the same weights under another name
    code, error, _ = write_down(checkpoint=other)
    assert code == 0 and "3 of 3 are there already" in error
    state = torch.load(path)
    state["model"]["aggregation.heads.heads.0.1.bias"] += 1
    torch.save(state, path)
    code, error, _ = write_down(checkpoint=path)
    assert code == 2 and "made with other settings" in error


def test_a_record_without_its_result(write_down, tmp_path):
    """Killed between the two."""
    _, _, first = write_down()
    os.remove(str(tmp_path / "out" / "1.txt"))
    code, error, texts = write_down()
    assert code == 0 and texts == first and "2 of 3 are there already" in error


def test_a_record_that_was_cut_off(write_down, tmp_path):
    _, _, first = write_down()
    path = tmp_path / "out" / ".varan-transcribe.jsonl"
    lines = read(path).splitlines()
    write(path, "\n".join([*lines[:2], lines[2][:40]]))
    os.remove(str(tmp_path / "out" / json.loads(lines[2])["target"]))
    code, error, texts = write_down()
    assert code == 0 and texts == first
    assert len(read(path).splitlines()) == 4


def test_a_folder_of_an_earlier_version(write_down, tmp_path):
    """It had one line of settings for all: its files are ours, of settings that nobody knows."""
    write_down()
    out = tmp_path / "out"
    os.remove(str(out / ".varan-transcribe.jsonl"))
    write(out / ".varan-transcribe.json", "{}\n")
    code, error, _ = write_down()
    assert code == 2 and "give another --out, or --overwrite" in error
    code, error, _ = write_down("--overwrite")
    assert code == 0 and "3 recordings ->" in error


def test_two_formats_in_one_folder(write_down):
    assert write_down()[0] == 0
    code, _, texts = write_down("--format", "srt")
    assert code == 0 and len(texts) == 6
    code, error, _ = write_down()
    assert code == 0 and "3 of 3 are there already" in error


# Outputs that are inputs, or somebody else's


OUTPUTS = {
    "layers over a manifest": (
        ["varan-layers", "{model}", "{data}", "test", "--out", "{data}/test"],
        "{data}/test.tsv", "would overwrite its own input",
    ),
    "layers over another table": (
        ["varan-layers", "{model}", "{data}", "test", "--out", "{out}/mine"],
        "{out}/mine.tsv", "mine.tsv is there already and holds something else",
    ),
    "a curve over layers": (
        ["varan-layers", "{model}", "{data}", "test", "--curve", "--out", "{out}/mine"],
        "{out}/mine.tsv", "mine.tsv is there already and holds something else",
    ),
    "a report over the checkpoint": (
        ["varan-report", "{model}", "{data}", "test", "--out", "{model}"],
        "{model}", "would overwrite its own input",
    ),
    "a report over labels": (
        ["varan-report", "{model}", "{data}", "test", "--out", "{data}/test.ltr"],
        "{data}/test.ltr", "would overwrite its own input",
    ),
    "a report over a page": (
        ["varan-report", "{model}", "{data}", "test", "--out", "{out}/mine.html"],
        "{out}/mine.html", "mine.html is there already and holds something else",
    ),
    "findings over the dictionary": (
        ["varan-check", "{data}", "--json", "{data}/dict.ltr.txt"],
        "{data}/dict.ltr.txt", "would overwrite its own input",
    ),
    "findings over a manifest": (
        ["varan-check", "{data}", "--json", "{data}/train.tsv"],
        "{data}/train.tsv", "would overwrite its own input",
    ),
    "findings over a file": (
        ["varan-check", "{data}", "--json", "{out}/mine.json"],
        "{out}/mine.json", "mine.json is there already and holds something else",
    ),
    "a checkpoint over its adapter": (
        ["varan-export", "restore", "{adapter}", "{base}", "{adapter}/adapter.json"],
        "{adapter}/adapter.json", "would overwrite its own input",
    ),
    "a checkpoint over its base": (
        ["varan-export", "restore", "{adapter}", "{base}", "{base}"],
        "{base}", "would overwrite its own input",
    ),
    "a merged checkpoint over a training's": (
        ["varan-export", "merge", "{model}", "{out}/other.pt"],
        "{out}/other.pt", "other.pt is there already and holds something else",
    ),
    "a cut checkpoint over a training's": (
        ["varan-export", "prune", "{model}", "{out}/other.pt", "--layers", "1"],
        "{out}/other.pt", "other.pt is there already and holds something else",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_that_are_something_else(ctc, adapter, data, tmp_path, name):
    from varan_fairseq.cli import check, layers, report

    tools = {"varan-layers": layers, "varan-report": report, "varan-check": check}
    tools["varan-export"] = export
    arguments, target, expected = OUTPUTS[name]
    places = {
        "data": data,
        "out": str(tmp_path),
        "model": str(tmp_path / "model.pt"),
        "base": str(tmp_path / "base.pt"),
        "adapter": copy(adapter, tmp_path / "adapter"),
    }
    shutil.copy(ctc.checkpoint, places["model"])
    shutil.copy(ctc.checkpoint, str(tmp_path / "other.pt"))
    shutil.copy(ctc.base, places["base"])
    for ending in ("tsv", "html", "json"):
        write(tmp_path / f"mine.{ending}", "id\tq_1\tmine\n")
    command, *rest = (argument.format(**places) for argument in arguments)
    path = target.format(**places)
    with open(path, "rb") as file:
        before = file.read()
    code, _, error = tool(tools[command].main, *rest)
    assert code == 2 and expected in error and error.count("\n") == 1, error
    with open(path, "rb") as file:
        assert file.read() == before


def test_outputs_of_ours_are_replaced(ctc, data, tmp_path):
    from varan_fairseq.cli import check, layers, report

    for main, *arguments in (
        (layers.main, ctc.checkpoint, data, "test", "--out", tmp_path / "layers"),
        (layers.main, ctc.checkpoint, data, "test", "--curve", "--out", tmp_path / "curve"),
        (report.main, ctc.checkpoint, data, "test", "--out", tmp_path / "page.html"),
        (check.main, data, "--json", tmp_path / "found.json"),
        (export.main, "merge", ctc.checkpoint, tmp_path / "merged.pt"),
        (export.main, "prune", ctc.checkpoint, tmp_path / "cut.pt", "--layers", 2),
    ):
        for _ in range(2):
            code, _, error = tool(main, *arguments)
            assert code == 0, error
    assert read_json(str(tmp_path / "found.json"))["findings"] == []


def test_a_language_model_over_its_text(script, tmp_path):
    write(tmp_path / "x", "ONE TWO\n")
    refusal, _ = script("bigrams.py", tmp_path / "x", tmp_path / "x")
    assert "would overwrite its own input" in refusal and read(tmp_path / "x") == "ONE TWO\n"
    write(tmp_path / "y", "mine\n")
    refusal, _ = script("bigrams.py", tmp_path / "x", tmp_path / "y")
    assert "holds something else" in refusal and read(tmp_path / "y") == "mine\n"
    for _ in range(2):
        refusal, _ = script("bigrams.py", tmp_path / "x", tmp_path / "lm.arpa")
        assert refusal is None


@pytest.mark.parametrize("name", ["hypotheses.tsv", "asr.json", "ref.word"])
def test_results_over_files_of_the_users_own(ctc, tmp_path, runs_nothing, name):
    out = tmp_path / "out"
    out.mkdir()
    write(out / name, "mine\n")
    code, _, error = decode(ctc, f"decoding.results_path={out}")
    assert code == 2 and f"{name} is there already and holds something else" in error, error
    assert os.listdir(str(out)) == [name] and read(out / name) == "mine\n"


@pytest.fixture
def runs_nothing(monkeypatch):
    monkeypatch.setattr(emissions, "outputs", lambda *a, **k: pytest.fail("it began to work"))


def test_scores_over_files_of_the_users_own(emotion, tmp_path):
    from varan_fairseq.cli import classify

    out = tmp_path / "out"
    out.mkdir()
    write(out / "confusion.csv", "mine\n")
    arguments = [emotion.checkpoint, emotion.data, "test", "--out", out]
    code, _, error = tool(classify.main, *arguments)
    assert code == 2 and "confusion.csv is there already and holds something else" in error
    os.remove(str(out / "confusion.csv"))
    for _ in range(2):
        assert tool(classify.main, *arguments)[0] == 0
    os.remove(str(out / "scores.json"))  # killed while it was replaced
    os.rename(str(out / ".varan_fairseq"), str(out / "kept"))
    assert tool(classify.main, *arguments)[0] == 2
    os.rename(str(out / "kept"), str(out / ".varan_fairseq"))
    assert tool(classify.main, *arguments)[0] == 0
