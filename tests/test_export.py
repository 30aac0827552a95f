"""A LoRA run from training to adapters that travel, and every way that can go wrong."""

import json
import os
import re
import shutil
import signal

import preloaded
import pytest
import torch
from build import batch, build_model, save_run, setup_task, train
from conftest import REPO, save_pretrained, write_corpus
from test_bad_input import tool
from test_end_to_end import finetune, scores

import varan_fairseq
from varan_fairseq.adapters.file import read_adapter
from varan_fairseq.cli import export, infer, layers
from varan_fairseq.finetuned.load import MARK, load_model

LORA = ["model.lora_rank=4", "model.lora_targets=all", "model.lora_magnitude=true"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A DoRA run of fairseq-hydra-train with gradient accumulation, stopped and resumed.
    Returns (folder, corpus, base, checkpoint)."""
    folder = tmp_path_factory.mktemp("lora")
    data = write_corpus(folder / "data")
    base = save_pretrained(folder / "base.pt")
    for updates in (3, 6):
        log = finetune(
            data,
            *LORA,
            f"model.w2v_path={base}",
            "model.freeze_finetune_updates=1",
            "optimization.lr=[0.01]",
            "optimization.update_freq=[2]",
            f"optimization.max_update={updates}",
            f"checkpoint.save_dir={folder}/out",
            f"common.tensorboard_logdir={folder}/tensorboard",
            cwd=REPO,
        )
    assert "Loaded checkpoint" in log and "@ 3 updates" in log
    return folder, data, base, str(folder / "out" / "checkpoint_last.pt")


def call(*arguments):
    assert export.main([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def adapter(run):
    """An exported adapter; its tests copy it before they change it."""
    call("adapter", run[3], run[0] / "adapter")
    return str(run[0] / "adapter")


def emissions(path, data, base=None, split="test"):
    model, _, task = load_model(str(path), data=data, base=base)
    with torch.no_grad():
        return model.get_logits(model(**batch(task, split)["net_input"]))


def fail(*arguments):
    code, error = tool(export.main, *arguments)
    assert code == 2 and error.startswith("varan-export: error: ") and error.count("\n") == 1
    return error


# What training leaves


def test_the_base_is_bit_identical_after_training(run):
    saved, base = torch.load(run[3]), torch.load(run[2])["model"]
    assert saved["optimizer_history"][-1]["num_updates"] == 6
    prefix, seen = "w2v_encoder.w2v_model.", set()
    for name, value in saved["model"].items():
        plain = name[len(prefix) :]
        if name.startswith(prefix) and "lora_" not in name:
            assert torch.equal(value, base[plain]), name
            seen.add(plain)
        elif "lora_B" in name:
            assert value.any(), name
    assert len(seen) > 70
    # no optimizer state for what is frozen
    trained = sum("lora_" in name or name.startswith("aggregation.") for name in saved["model"])
    trained -= 2  # buffers of the posterior: lr_multiplier, centred
    assert len(saved["last_optimizer_state"]["state"]) == trained


def test_model_loads_for_python_users(run):
    model = varan_fairseq.load(run[3])
    assert isinstance(model.transcribe(os.path.join(run[1], "wav", "test0.wav")), str)


# Round trips


def test_merge(run, tmp_path, capsys):
    _, data, _, checkpoint = run
    call("merge", checkpoint, tmp_path / "merged.pt")
    assert "merged 24 layers" in capsys.readouterr().out
    state = torch.load(str(tmp_path / "merged.pt"))
    assert not any("lora" in name for name in state["model"])
    plain = build_model(run[2], setup_task(data))
    assert state["model"].keys() == plain.state_dict().keys()
    assert torch.allclose(
        emissions(tmp_path / "merged.pt", data), emissions(checkpoint, data), atol=1e-5
    )
    assert os.listdir(str(tmp_path)) == ["merged.pt"]
    assert infer.main(
        [
            f"common_eval.path={tmp_path}/merged.pt",
            f"task.data={data}",
            f"decoding.results_path={tmp_path}/decoded",
        ]
    ) == 0  # fmt: skip
    assert "no adapters to merge" in fail("merge", tmp_path / "merged.pt", tmp_path / "again.pt")


def test_training_goes_on_from_a_merged_checkpoint(run, tmp_path):
    call("merge", run[3], tmp_path / "merged.pt")
    log = finetune(
        run[1],
        f"model.w2v_path={run[2]}",
        f"checkpoint.finetune_from_model={tmp_path}/merged.pt",
        "optimization.max_update=3",
        f"checkpoint.save_dir={tmp_path}/out",
        "common.tensorboard_logdir=null",
        cwd=REPO,
    )
    assert "loading pretrained model from" in log
    assert torch.load(str(tmp_path / "out" / "checkpoint_last.pt"))["model"]


def test_adapter_and_restore(run, adapter, tmp_path):
    _, data, base, checkpoint = run
    call("restore", adapter, base, tmp_path / "restored.pt")
    expected, restored = torch.load(checkpoint), torch.load(str(tmp_path / "restored.pt"))
    assert restored["model"].keys() == expected["model"].keys()
    for name, value in expected["model"].items():
        assert torch.equal(restored["model"][name], value), name
    assert torch.equal(emissions(tmp_path / "restored.pt", data), emissions(checkpoint, data))
    labels = restored["task_state"]["target_dictionary"]
    assert labels.symbols == expected["task_state"]["target_dictionary"].symbols
    assert labels.count == expected["task_state"]["target_dictionary"].count
    # an ordinary checkpoint: it can be exported again, to the same adapter
    call("adapter", tmp_path / "restored.pt", tmp_path / "again")
    one, two = read_adapter(adapter), read_adapter(str(tmp_path / "again"))
    assert (
        one.metadata["weights"] == two.metadata["weights"]
        and one.metadata["base"] == two.metadata["base"]
    )


def test_what_an_adapter_holds(run, adapter, capsys):
    read = read_adapter(adapter)
    metadata, tensors = read.metadata, read.tensors
    kinds = {name.rpartition(".")[2] if "lora_" in name else name.split(".")[1] for name in tensors}
    assert kinds == {"lora_A", "lora_B", "lora_magnitude", "heads", "posterior", "probs"}
    assert metadata["base"]["file"] == "base.pt" and metadata["num_updates"] == 6
    assert [symbol for symbol, _ in metadata["labels"]][:2] and "|" in dict(metadata["labels"])
    text = open(os.path.join(adapter, "adapter.json")).read()
    assert run[1] not in text and str(run[0]) not in text  # no path of this machine
    assert json.loads(text)["config"]["model"]["lora_rank"] == 4
    call("adapter", run[3], run[0] / "listed")
    out = capsys.readouterr().out
    assert "low-rank factors: 7,168 numbers" in out and "posterior: 7,331 numbers" in out


def test_half_precision(run, adapter, tmp_path):
    call("adapter", run[3], tmp_path / "half", "--half")
    sizes = [
        os.path.getsize(os.path.join(folder, read_adapter(folder).metadata["weights"]["file"]))
        for folder in (adapter, str(tmp_path / "half"))
    ]
    assert sizes[1] < 0.65 * sizes[0]  # headers and vectors count, in a model this small
    full, half = (
        emissions(folder, run[1], base=run[2]) for folder in (adapter, str(tmp_path / "half"))
    )
    assert torch.allclose(full, half, atol=0.02) and not torch.equal(full, half)
    assert torch.equal(
        read_adapter(adapter).tensors["prior.probs"],
        read_adapter(str(tmp_path / "half")).tensors["prior.probs"],
    )


@pytest.mark.parametrize(
    "reading",
    [
        {"aggregation": "last_layer"},
        {"aggregation": "weighted_sum"},
        {"aggregation": "attentive"},
        {"aggregation": "hconv"},
        {"aggregation": "concat", "head_context": 1},
        {"posterior": "static"},
        {"posterior": "prior"},
        {"head_dim": 5, "head_activation": "relu"},
    ],
    ids=lambda reading: "-".join(map(str, reading.values())),
)
def test_probe_adapter_of_a_baseline(run, tmp_path, reading):
    _, data, base, _ = run
    recipe = os.path.join(REPO, "examples", "demo", "finetune.yaml")
    probe = {"finetune": "probe", "feature_grad_mult": 0.0, "posterior_heads": 4, **reading}
    trained = train(recipe, data, tmp_path / "out", base, model=probe)
    call("adapter", trained, tmp_path / "adapter")
    call("restore", tmp_path / "adapter", base, tmp_path / "restored.pt")
    expected = emissions(trained, data)
    assert torch.equal(emissions(tmp_path / "restored.pt", data), expected)


# Decoding and training from an adapter


def test_decoding_from_an_adapter(run, adapter, tmp_path, capsys):
    _, data, base, checkpoint = run
    found = []
    for name, model in (
        ("adapter", [f"model.adapter={adapter}", f"model.w2v_path={base}"]),
        ("checkpoint", [f"common_eval.path={checkpoint}"]),
    ):
        where = [f"task.data={data}", f"decoding.results_path={tmp_path}/{name}"]
        assert infer.main([*model, *where, "--combine", "log_linear"]) == 0
        found.append(scores(str(tmp_path / name)))
        with open(str(tmp_path / name / "hypotheses.tsv")) as file:
            found[-1]["hypotheses"] = file.read()
    assert found[0].pop("checkpoint") == adapter and found[1].pop("checkpoint") == checkpoint
    assert found[0] == found[1]
    out = str(tmp_path / "layers")
    assert layers.main([adapter, data, "test", "--base", base, "--out", out]) == 0
    path = os.path.join(data, "wav", "test0.wav")
    posteriors = [
        model.layer_posterior(path)
        for model in (varan_fairseq.load(adapter, base), varan_fairseq.load(checkpoint))
    ]
    assert (posteriors[0] == posteriors[1]).all()


def test_training_from_an_adapter(run, adapter, tmp_path):
    _, data, base, checkpoint = run
    log = finetune(
        data,
        *LORA,
        f"model.w2v_path={base}",
        f"model.adapter={adapter}",
        "optimization.lr=[0.0]",
        "optimization.max_update=3",
        f"checkpoint.save_dir={tmp_path}/out",
        "common.tensorboard_logdir=null",
        cwd=REPO,
    )
    assert f"starting from adapter {adapter}" in log
    # nothing learned at a rate of 0, so what it started from shows
    path = tmp_path / "out" / "checkpoint_last.pt"
    assert torch.equal(emissions(path, data), emissions(checkpoint, data))


def test_a_probe_can_start_lora(run, tmp_path):
    """Heads first, then the encoder: the adapter need not hold low-rank factors."""
    _, data, base, checkpoint = run
    probe = build_model(base, setup_task(data), finetune="probe")
    state = torch.load(checkpoint)
    state["model"] = probe.state_dict()
    state["cfg"]["model"].update(finetune="probe", lora_rank=0, lora_magnitude=False)
    torch.save(state, str(tmp_path / "probe.pt"))
    call("adapter", tmp_path / "probe.pt", tmp_path / "adapter")
    options = dict(adapter=str(tmp_path / "adapter"), lora_rank=2)
    model = build_model(base, setup_task(data), **options)
    for name, value in probe.aggregation.state_dict().items():
        assert torch.equal(model.aggregation.state_dict()[name], value), name


# What is refused


@pytest.fixture
def copy(adapter, tmp_path):
    return shutil.copytree(adapter, str(tmp_path / "copy"))


def weights_of(folder):
    with open(os.path.join(folder, "adapter.json")) as file:
        return os.path.join(folder, json.load(file)["weights"]["file"])


def change_card(folder, sign=False, **changes):
    from varan_fairseq.adapters.file import _metadata_digest

    path = os.path.join(folder, "adapter.json")
    with open(path) as file:
        metadata = {**json.load(file), **changes}
    if sign:
        metadata["sha256"] = _metadata_digest(metadata)
    with open(path, "w") as file:
        json.dump(metadata, file)


def test_another_base(run, adapter, tmp_path):
    other = save_pretrained(tmp_path / "other.pt", encoder_ffn_embed_dim=48)
    error = fail("restore", adapter, other, tmp_path / "out.pt")
    assert "was trained on base.pt with SHA-256" in error and "other.pt has" in error
    options = dict(lora_rank=4, lora_targets="all", lora_magnitude=True, adapter=adapter)
    with pytest.raises(ValueError, match="another base"):
        build_model(other, setup_task(run[1]), **options)
    assert "no such file" in fail("restore", adapter, "gone.pt", tmp_path / "out.pt")
    assert os.listdir(str(tmp_path)) == ["other.pt"]


def test_tampered_weights(run, copy, tmp_path):
    path = weights_of(copy)
    with open(path, "r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\xff")
    error = fail("restore", copy, run[2], tmp_path / "out.pt")
    assert f"{path} was changed after it was written" in error
    with open(path, "r+b") as file:
        file.truncate(100)
    assert "was changed" in fail("restore", copy, run[2], tmp_path / "out.pt")
    os.remove(path)
    assert f"there is no {path}" in fail("restore", copy, run[2], tmp_path / "out.pt")


def test_tampered_card(run, copy, tmp_path):
    change_card(copy, num_updates=7)
    assert "adapter.json was changed after" in fail("restore", copy, run[2], tmp_path / "out.pt")


def test_another_version(run, copy, tmp_path):
    change_card(copy, version=2)
    error = fail("restore", copy, run[2], tmp_path / "out.pt")
    assert "has format version 2, this varan_fairseq reads 1" in error


def test_no_card(run, copy, tmp_path):
    assert "no adapter" in fail("restore", tmp_path / "gone", run[2], tmp_path / "out.pt")
    path = os.path.join(copy, "adapter.json")
    for text, words in (
        ("{", "is not JSON"),
        ("[]", "is not the metadata"),
        ("{}", "is not the metadata"),
    ):
        with open(path, "w") as file:
            file.write(text)
        assert words in fail("restore", copy, run[2], tmp_path / "out.pt")


def test_weights_outside_the_folder(run, copy, tmp_path):
    change_card(copy, sign=True, weights={"file": "../x.safetensors", "sha256": "0"})
    error = fail("restore", copy, run[2], tmp_path / "out.pt")
    assert "weights.file is '../x.safetensors', which it never is" in error


def config_with(folder, section, **changes):
    with open(os.path.join(folder, "adapter.json")) as file:
        config = json.load(file)["config"]
    return {**config, section: {**config[section], **changes}}


def test_malformed_cards(run, copy, tmp_path):
    """Signed by whoever wrote them, and still not trusted."""
    out = tmp_path / "out.pt"
    good = shutil.copytree(copy, str(tmp_path / "good"))
    for changes, words in (
        ({"base": {"file": "x"}}, "malformed: base.sha256 is missing"),
        ({"labels": [["A", "many"]]}, "malformed: a label is .'A', 'many'., expected"),
        ({"config": {}}, "malformed: config.model is missing"),
        (
            {"config": config_with(good, "task", labels="${env:HOME}")},
            "config.task.labels is '..env:HOME.', ",
        ),
        (
            {"config": config_with(good, "model", _name="wav2vec_ctc")},
            "made with model 'wav2vec_ctc'",
        ),
        (
            {"config": config_with(good, "task", _name="translation")},
            "and task 'translation', expected model varan_ctc and task audio_finetuning or",
        ),
    ):
        shutil.rmtree(copy)
        shutil.copytree(good, copy)
        change_card(copy, sign=True, **changes)
        assert re.search(words, fail("restore", copy, run[2], out)), words


def test_no_safetensors(run, copy, tmp_path):
    import hashlib

    name = "adapter-0123456789ab.safetensors"
    with open(os.path.join(copy, name), "wb") as file:
        file.write(b"pickle")
    digest = hashlib.sha256(b"pickle").hexdigest()
    change_card(copy, sign=True, weights={"file": name, "sha256": digest})
    assert "is not a safetensors file" in fail("restore", copy, run[2], tmp_path / "out.pt")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"lora_rank": 2}, "model.lora_rank=2, made with 4"),
        ({"lora_rank": 0, "lora_magnitude": False}, "model.lora_rank=0, made with 4"),
        ({"lora_alpha": 8.0}, "model.lora_alpha=8.0, made with 16.0"),
        ({"head_dim": 3}, "model.head_dim=3, made with 0"),
        ({"head_dim": 3, "head_activation": "relu"}, "model.head_activation=relu, made with none"),
        ({"aggregation": "last_layer"}, "model.aggregation=last_layer, made with varan"),
        ({"adapter": "gone"}, "no adapter gone"),
    ],
)
def test_options_that_differ(run, adapter, options, words):
    made = dict(lora_rank=4, lora_targets="all", lora_magnitude=True, adapter=adapter)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        build_model(run[2], setup_task(run[1]), **{**made, **options})


def test_other_labels(run, adapter, tmp_path):
    data = shutil.copytree(run[1], str(tmp_path / "data"))
    path = os.path.join(data, "dict.ltr.txt")
    with open(path) as file:
        rows = file.readlines()
    options = dict(lora_rank=4, lora_targets="all", lora_magnitude=True, adapter=adapter)
    options["max_unknown_labels"] = 1.0
    for changed, words in (
        (rows[1:2] + rows[:1] + rows[2:], "here label 4 is .*, there "),
        (rows[:-1], f"here {len(rows) + 3} labels, there {len(rows) + 4}"),
    ):
        with open(path, "w") as file:
            file.writelines(changed)
        with pytest.raises(ValueError, match=f"other labels: {words}"):
            build_model(run[2], setup_task(data), **options)


def test_what_has_no_adapter(run, tmp_path):
    _, data, base, checkpoint = run
    assert "made by model 'wav2vec2'" in fail("adapter", base, tmp_path / "out")
    assert "no checkpoint gone.pt" in fail("merge", "gone.pt", tmp_path / "out.pt")
    state = torch.load(checkpoint)
    state["model"] = build_model(base, setup_task(data)).state_dict()
    state["cfg"]["model"].update(finetune="full", lora_rank=0, lora_magnitude=False)
    torch.save(state, str(tmp_path / "full.pt"))
    assert "would be the whole model" in fail("adapter", tmp_path / "full.pt", tmp_path / "out")
    state = torch.load(checkpoint)
    del state["cfg"]["model"]["w2v_args"]["source"]
    torch.save(state, str(tmp_path / "old.pt"))
    assert "does not say which pre-trained" in fail(
        "adapter", tmp_path / "old.pt", tmp_path / "out"
    )
    (tmp_path / "file").write_text("")
    assert "is a file, expected a folder" in fail("adapter", checkpoint, tmp_path / "file")
    assert sorted(os.listdir(str(tmp_path))) == ["file", "full.pt", "old.pt"]


def test_values_too_large_for_half_precision(run, tmp_path):
    state = torch.load(run[3])
    state["model"]["aggregation.heads.heads.0.1.weight"][0, 0] = 1e6
    torch.save(state, str(tmp_path / "large.pt"))
    error = fail("adapter", tmp_path / "large.pt", tmp_path / "out", "--half")
    assert "heads.0.1.weight holds values up to 1e+06: float16 ends at 65504" in error
    assert not os.path.exists(str(tmp_path / "out"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["model.adapter={adapter}", "common_eval.path=x"], "are both set"),
        (["model.adapter={adapter}"], "give its base too, base.pt"),
        (["model.adapter=gone", "model.w2v_path={base}"], "no adapter gone"),
        (["model.dropout=1", "common_eval.path=x"], "model.dropout is not for decoding"),
    ],
)
def test_decoding_arguments(run, adapter, arguments, words):
    filled = [text.format(adapter=adapter, base=run[2]) for text in arguments]
    code, error = tool(infer.main, f"task.data={run[1]}", *filled)
    assert code == 2 and words in error and error.count("\n") == 1


def test_a_checkpoint_needs_no_base(run):
    with pytest.raises(ValueError, match="has its encoder in itself, so it needs no base"):
        varan_fairseq.load(run[3], base=run[2])


# Killed in the middle


KILL = """
import os, signal, sys
from varan_fairseq.cli import export
left, replace = int(sys.argv[1]), os.replace
def killed(*paths):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    replace(*paths)
os.replace = killed
sys.exit(export.main(sys.argv[2:]))
"""


@pytest.fixture
def killed(tmp_path):
    """Runs varan-export and kills it as it is about to rename its file number `after`."""
    (tmp_path / "kill.py").write_text(KILL)

    def run(after, *arguments):
        done = preloaded.run([tmp_path / "kill.py", after, *arguments], REPO)
        return done.returncode == -signal.SIGKILL

    return run


@pytest.mark.parametrize("after", [0, 1])
def test_killed_while_exporting_an_adapter(run, copy, killed, after):
    old = read_adapter(copy)
    assert killed(after, "adapter", run[3], copy, "--half")
    kept = read_adapter(copy)
    assert kept.metadata == old.metadata
    assert all(torch.equal(kept.tensors[name], value) for name, value in old.tensors.items())
    call("adapter", run[3], copy, "--half")  # and the next attempt replaces it
    assert read_adapter(copy).metadata["weights"] != old.metadata["weights"]
    assert sum(name.endswith(".safetensors") for name in os.listdir(copy)) == 1


@pytest.mark.parametrize("command", ["merge", "restore"])
def test_killed_while_writing_a_checkpoint(run, adapter, killed, tmp_path, command):
    (tmp_path / "out.pt").write_text(old := f"{MARK}: old")
    source = [run[3]] if command == "merge" else [adapter, run[2]]
    assert killed(0, command, *source, tmp_path / "out.pt")
    assert (tmp_path / "out.pt").read_text() == old


def test_average(corpus, wav2vec2, tmp_path, capsys):
    first, second = (
        save_run(tmp_path / f"{number}.pt", corpus, wav2vec2, lora_rank=2) for number in range(2)
    )
    state = torch.load(second)
    changed = {
        name: t + torch.randn(t.shape) for name, t in state["model"].items() if "lora" in name
    }
    state["model"].update(changed)
    torch.save(state, second)
    out = str(tmp_path / "mean.pt")
    assert export.main(["average", first, second, out]) == 0
    assert f"mean of 2 checkpoints, of 1 updates and others -> {out}" in capsys.readouterr().out
    one, two, mean = (torch.load(path)["model"] for path in (first, second, out))
    for name in one:
        assert torch.allclose(mean[name], (one[name] + two[name]) / 2, atol=1e-6), name
    assert torch.load(out)["last_optimizer_state"] is None
    assert load_model(out)[0] is not None


def test_averages_of_different_runs(corpus, wav2vec2, tmp_path, capsys):
    first = save_run(tmp_path / "first.pt", corpus, wav2vec2)
    other = save_run(tmp_path / "other.pt", corpus, wav2vec2, head_dim=4)
    prior = torch.load(first)
    prior["model"]["prior.probs"] = prior["model"]["prior.probs"].flip(0) + torch.arange(4.0)
    torch.save(prior, str(tmp_path / "prior.pt"))
    labels = torch.load(first)
    labels["task_state"]["target_dictionary"].add_symbol("new")
    torch.save(labels, str(tmp_path / "labels.pt"))
    out = str(tmp_path / "out.pt")
    for paths, words in (
        ([first], "expected two checkpoints or more"),
        ([first, other], "has other weights than"),
        ([first, str(tmp_path / "prior.pt")], "has another prior than"),
        ([first, str(tmp_path / "labels.pt")], "has other labels than"),
        ([first, str(tmp_path / "gone.pt")], "no checkpoint"),
    ):
        assert export.main(["average", *paths, out]) == 2
        assert words in capsys.readouterr().err and not os.path.exists(out)
    assert export.main(["average", first, first, first]) == 2
    assert "would overwrite its own input" in capsys.readouterr().err


def test_ema(corpus, wav2vec2, tmp_path, capsys):
    recipe = os.path.join(REPO, "examples", "wav2vec2_base_libri_100h_lora.yaml")
    kept = {"store_ema": True, "ema_decay": 0.5, "ema_start_update": 0}
    changes = {"ema": kept, "model": {"posterior_heads": 4, "lora_rank": 2}}
    changes["dataset"] = {"valid_subset": "valid"}
    run = train(recipe, corpus, tmp_path / "out", wav2vec2, updates=3, **changes)
    out = str(tmp_path / "ema.pt")
    assert export.main(["ema", run, out]) == 0
    assert f"moving average of 3 updates -> {out}" in capsys.readouterr().out
    state, written = torch.load(run), torch.load(out)["model"]
    averaged = state["extra_state"]["ema"]
    assert all(torch.equal(written[name], averaged[name]) for name in written)
    moved = [name for name in written if not torch.equal(written[name], state["model"][name])]
    assert any("lora_B" in name for name in moved)
    assert load_model(out)[0] is not None
    plain = save_run(tmp_path / "plain.pt", corpus, wav2vec2)
    assert export.main(["ema", plain, str(tmp_path / "no.pt")]) == 2
    assert "has no moving average: it is kept with ema.store_ema" in capsys.readouterr().err
