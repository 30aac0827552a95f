"""The campaign, adapters: nothing of one is trusted. Every one here is signed, as an attacker
would sign it."""

import hashlib
import json
import os
import re

import pytest
import torch
from faulty import copy, tool, write
from safetensors.torch import load_file, save

import varan_fairseq
from varan_fairseq.adapters.file import METADATA, _metadata_digest, read_adapter
from varan_fairseq.cli import export, infer, inspect_checkpoint
from varan_fairseq.finetuned import load as finetuned


def metadata_of(folder):
    with open(os.path.join(folder, METADATA)) as file:
        return json.load(file)


def signed(folder, metadata):
    metadata["sha256"] = _metadata_digest(metadata)
    write(os.path.join(folder, METADATA), json.dumps(metadata))


def with_tensors(folder, change):
    """Changes the weights, and the metadata's word of them."""
    metadata = metadata_of(folder)
    tensors = load_file(os.path.join(folder, metadata["weights"]["file"]))
    change(tensors)
    data = save(tensors)
    digest = hashlib.sha256(data).hexdigest()
    metadata["weights"] = {"file": f"adapter-{digest[:12]}.safetensors", "sha256": digest}
    write(os.path.join(folder, metadata["weights"]["file"]), data)
    signed(folder, metadata)


def put(path, value):
    """Sets a value of the metadata, or deletes it if that is `None`."""

    def change(folder):
        metadata = metadata_of(folder)
        *above, last = path.split(".")
        place = metadata
        for key in above:
            place = place[key]
        if value is None:
            del place[last]
        else:
            place[last] = value
        signed(folder, metadata)

    return change


def tensor(name, value):
    def change(folder):
        def replace(tensors):
            tensors[name] = value(tensors[name]) if callable(value) else value

        with_tensors(folder, replace)

    return change


def raw(content):
    return lambda folder: write(os.path.join(folder, METADATA), content)


A = "w2v_encoder.w2v_model.encoder.layers.0.fc1.lora_A"
HEAD = "aggregation.heads.heads.0.1.bias"
HOSTILE = {
    "deep": (raw("[" * 200000 + "]" * 200000), "nested too deeply|is not JSON"),
    "long": (raw(" " * 2**24 + "{}"), "16777217 bytes, at most 16777216 are read"),
    "no UTF-8": (raw(b'{"a": "\xff"}'), "is not JSON"),
    "NaN": (raw('{"format": NaN}'), "NaN is not a number"),
    "no base": (put("base", None), "base is missing"),
    "no checksum": (put("base.sha256", None), "base.sha256 is missing"),
    "a checksum that is none": (put("base.sha256", "0"), "base.sha256 is '0', which it never is"),
    "a path as base": (put("base.file", "../../x.pt"), "base.file is '../../x.pt'"),
    "an escape in base": (put("base.file", "\x1b[2Jx"), r"base.file is '.x1b\[2Jx'"),
    "a number as base": (put("base.file", 5), "base.file is 5"),
    "no updates": (put("num_updates", None), "num_updates is missing"),
    "many updates": (put("num_updates", 10**30), "num_updates is 1000000"),
    "half an update": (put("num_updates", 0.5), "num_updates is 0.5"),
    "true updates": (put("num_updates", True), "num_updates is True"),
    "no config": (put("config", None), "config is missing"),
    "config that is a list": (put("config", []), "config.model is missing"),
    "no model": (put("config.model", None), "config.model is missing"),
    "another model": (put("config.model._name", "wav2vec_ctc"), "made with model 'wav2vec_ctc'"),
    "a list as model": (put("config.model._name", []), r"made with model \[\]"),
    "another task": (put("config.task._name", "translation"), "and task 'translation'"),
    "the other task": (
        put("config.task._name", "utterance_classification"),
        "made with model 'varan_ctc' and task 'utterance_classification'",
    ),
    "no rank": (put("config.model.lora_rank", None), "config.model.lora_rank is missing"),
    "a huge rank": (put("config.model.lora_rank", 10**8), "rank 2, its metadata says .*100000000"),
    "a larger rank": (
        put("config.model.lora_rank", 10**12),
        "lora_rank is 1000000000000, expected",
    ),
    "rank 0": (put("config.model.lora_rank", 0), "rank 2, its metadata says model.lora_rank=0"),
    "a negative rank": (put("config.model.lora_rank", -2), "rank 2, its metadata says .*=-2"),
    "a text as rank": (put("config.model.lora_rank", "many"), "another type than the option"),
    "a list as rank": (put("config.model.lora_rank", [2]), "lora_rank is .2., expected one value"),
    "a wide head": (put("config.model.head_dim", 10**7), r"heads of widths .*, .* mean .*10000000"),
    "infinite alpha": (put("config.model.lora_alpha", 1e400), "Infinity is not a number"),
    "large alpha": (
        put("config.model.lora_alpha", 1e300),
        "lora_alpha is 1e.300, expected at most",
    ),
    "many stars": (
        put("config.model.lora_targets", "*a*a*a*a*a*a*b"),
        "at most 64 patterns of at most 4 stars",
    ),
    "many patterns": (put("config.model.lora_targets", "a," * 400), "at most 64 patterns"),
    "a long text": (put("config.model.lora_targets", "a" * 9999), "at most 1000 characters"),
    "interpolation": (
        put("config.model.lora_targets", "${oc.env:HOME}"),
        "at most 1000 characters and no interpolation",
    ),
    "labels elsewhere": (put("config.task.labels", "../../etc/x"), "labels is '../../etc/x'"),
    "an odd rate": (put("config.task.sample_rate", "fast"), "sample_rate is 'fast'"),
    "an odd post_process": (
        put("config.criterion.post_process", "__import__('os')"),
        "post_process is .*, which is none of its values",
    ),
    "no labels": (put("labels", None), "labels is missing"),
    "no label": (put("labels", []), r"labels is \[\], expected a list"),
    "a label twice": (put("labels", [["A", 1], ["A", 1]]), "a label is there twice"),
    "half a label": (put("labels", [["A"]]), r"a label is \['A'\], expected"),
    "a number as label": (put("labels", [[1, 1]]), r"a label is \[1, 1\], expected"),
    "an empty label": (put("labels", [["", 1]]), r"a label is \['', 1\], expected"),
    "a million labels": (
        put("labels", [[f"s{index}", 1] for index in range(10**6)]),
        "heads of widths|at most 16777216 are read",
    ),
    "no weights": (put("weights", None), "weights is missing"),
    "weights elsewhere": (put("weights.file", "../x.safetensors"), "weights.file is '../x.safet"),
    "another version": (put("version", 2), "has format version 2, this varan_fairseq reads 1"),
    "another format": (put("format", "x"), "is not the metadata of a varan_fairseq adapter"),
    # the weights
    "NaN in a factor": (tensor(A, lambda x: x * float("nan")), "NaN or infinite numbers in w2v"),
    "no prior": (
        lambda folder: with_tensors(folder, lambda tensors: tensors.pop("prior.probs")),
        "has no prior that is a distribution",
    ),
    "NaN prior": (tensor("prior.probs", torch.full((3,), float("nan"))), "NaN or infinite num"),
    "a prior of 2": (tensor("prior.probs", torch.full((3,), 2 / 3)), "has no prior that is a dist"),
    "a negative prior": (tensor("prior.probs", torch.tensor([2.0, -0.5, -0.5])), "has no prior"),
    "a square prior": (tensor("prior.probs", torch.full((3, 1), 1 / 3)), "has no prior"),
    "a prior of 4 layers": (tensor("prior.probs", torch.full((4,), 0.25)), "does not fit"),
    "factors of another rank": (
        tensor(A, lambda x: x[:1]),
        "has factors of rank 1, 2, its metadata",
    ),
    "a head of other labels": (tensor(HEAD, lambda x: x[:-1]), "has heads of widths"),
    "a weight more": (tensor("evil", None), None),
}
HOSTILE["a weight more"] = (
    lambda folder: with_tensors(folder, lambda tensors: tensors.update(evil=torch.ones(2))),
    r"surplus \['evil'\]",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_cards(ctc, adapter, tmp_path, monkeypatch, name):
    change, expected = HOSTILE[name]
    read, real = [], finetuned.read_pretrained
    monkeypatch.setattr(finetuned, "read_pretrained", lambda cfg: read.append(1) or real(cfg))
    folder = copy(adapter, tmp_path / "copy")
    change(folder)
    code, _, error = tool(export.main, "restore", folder, ctc.base, tmp_path / "out.pt")
    assert code == 2 and re.search(expected, error), error
    assert error.count("\n") == 1 and "\x1b" not in error
    assert not os.path.exists(str(tmp_path / "out.pt"))
    # all but what only the base can tell is refused before that is read and a model built
    assert bool(read) == (name in ("a prior of 4 layers", "a weight more"))


EVIL = "__import__('os').mkdir('code-ran')"
CARRIED = {
    "criterion.wer_args": EVIL,
    "criterion.wer_kenlm_model": EVIL,
    "criterion.wer_lexicon": EVIL,
    "task.post_save_script": EVIL,
    "task.eval_wer_config": {"x": EVIL},
    "task.eval_bleu_args": EVIL,
    "task.target_dictionary": "/etc",
    "model.freeze_regex": "(a+)+$",
    "model.w2v_path": "/etc/passwd",
    "model.w2v_args": {"model": {"_name": EVIL}},
    "model.adapter": "/etc",
    "model.unheard_of": EVIL,
    "dataset.train_subset": EVIL,
}


def test_what_fairseq_would_run_is_not_carried(ctc, adapter, tmp_path, monkeypatch):
    """fairseq `eval`s `wer_args` whenever the restored checkpoint's criterion is built."""
    from fairseq import checkpoint_utils

    monkeypatch.chdir(tmp_path)
    folder, out = copy(adapter, tmp_path / "copy"), str(tmp_path / "out.pt")
    for path, value in CARRIED.items():
        metadata = metadata_of(folder)
        metadata["config"].setdefault(path.split(".")[0], {})
        signed(folder, metadata)
        put(f"config.{path}", value)(folder)
    assert tool(export.main, "restore", folder, ctc.base, out)[0] == 0
    cfg = torch.load(out)["cfg"]
    assert EVIL not in repr(cfg) and "(a+)+$" not in repr(cfg) and "/etc" not in repr(cfg)
    _, cfg, task = checkpoint_utils.load_model_ensemble_and_task([out])
    task.build_criterion(cfg.criterion)
    assert not os.path.exists("code-ran")


def test_labels_cannot_steer_a_terminal(ctc, adapter, tmp_path):
    folder = copy(adapter, tmp_path / "copy")
    labels = metadata_of(folder)["labels"]
    labels[0][0] = "\x1b]0;title\x07\x1b[2J"
    put("labels", labels)(folder)
    code, out, _ = tool(inspect_checkpoint.main, folder)
    assert code == 0 and "\x1b" not in out and "\\x1b]0;title" in out
    out = str(tmp_path / "out.pt")
    assert tool(export.main, "restore", folder, ctc.base, out)[0] == 0
    assert "\x1b" not in tool(inspect_checkpoint.main, out)[1]


def test_a_good_card_is_short_and_says_no_path(ctc, adapter):
    metadata = metadata_of(adapter)
    assert ctc.out not in json.dumps(metadata) and ctc.data not in json.dumps(metadata)
    assert not [key for key in metadata["config"]["criterion"] if key.startswith("wer")]
    assert metadata["config"]["criterion"]["prior"] == "uniform"
    assert read_adapter(adapter).metadata["num_updates"] == 3
    varan_fairseq.load(adapter, base=ctc.base)


# Inputs are not overwritten, and what cannot be written is said first


def test_outputs_that_are_inputs(ctc, adapter, tmp_path):
    base, model = str(tmp_path / "base.pt"), str(tmp_path / "model.pt")
    for source, target in ((ctc.base, base), (ctc.checkpoint, model)):
        os.link(source, target)
    os.symlink(base, str(tmp_path / "link.pt"))
    before = {path: os.stat(path) for path in (base, model)}
    for arguments in (
        ["merge", model, model],
        ["restore", adapter, base, base],
        ["restore", adapter, base, str(tmp_path / "link.pt")],
        ["restore", adapter, base, os.path.join(str(tmp_path), ".", "base.pt")],
    ):
        code, _, error = tool(export.main, *arguments)
        assert code == 2 and "would overwrite its own input" in error
    for path, state in before.items():
        now = os.stat(path)
        assert (now.st_ino, now.st_mtime_ns) == (state.st_ino, state.st_mtime_ns)


def test_targets_that_cannot_be(ctc, adapter, tmp_path):
    write(tmp_path / "file", "x")
    for arguments, expected in (
        (["merge", ctc.checkpoint, tmp_path / "gone" / "m.pt"], "no folder .*gone to write"),
        (["merge", ctc.checkpoint, tmp_path], "is a folder, expected the name of a file"),
        (["restore", adapter, ctc.base, tmp_path / "gone" / "m.pt"], "no folder .*gone to write"),
        (["adapter", ctc.checkpoint, tmp_path / "file"], "file is a file, expected a folder"),
    ):
        code, _, error = tool(export.main, *arguments)
        assert code == 2 and re.search(expected, error), error
    assert os.listdir(str(tmp_path)) == ["file"]


def test_a_full_disk(ctc, tmp_path):
    """/dev/full takes nothing; a write to it is what torch sees on a full disk."""
    state = finetuned.read_state(ctc.checkpoint)
    with pytest.raises(OSError, match="m.pt cannot be written"):
        with pytest.MonkeyPatch.context() as patch:
            real = torch.save
            patch.setattr(torch, "save", lambda content, path: real(content, "/dev/full"))
            finetuned.save_state(state, str(tmp_path / "m.pt"))
    assert os.listdir(str(tmp_path)) == []


def test_results_of_sibling_adapters_do_not_meet(ctc, adapter, tmp_path):
    for name in ("one", "two"):
        folder = copy(adapter, tmp_path / name)
        options = [f"model.adapter={folder}", f"model.w2v_path={ctc.base}", "dataset.num_workers=0"]
        code, out, error = tool(infer.main, *options, f"task.data={ctc.data}")
        assert code == 0, error
        assert os.path.isfile(os.path.join(folder, "decode-test-viterbi", "asr.json"))
    assert sorted(os.listdir(str(tmp_path))) == ["one", "two"]
