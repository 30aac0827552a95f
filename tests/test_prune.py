"""Models without their upper blocks: cut after training, or never built."""

import json
import os

import pytest
import torch
from build import batch, train
from conftest import REPO, save_pretrained
from test_bad_input import tool

from varan_fairseq.cli import classify, export, infer, layers
from varan_fairseq.finetuned.load import load_model
from varan_fairseq.method.posterior import masked_mean

RECIPE = os.path.join(REPO, "examples", "wav2vec2_base_libri_10m.yaml")
K = 2


def cut(checkpoint, out, layers=K):
    assert export.main(["prune", checkpoint, str(out), "--layers", str(layers)]) == 0
    return str(out)


def check_pruned(checkpoint, out, data, layers=K):
    """Cuts a checkpoint whose heads and posterior are made to disagree; what is left says what
    the whole one's lower layers say."""
    state = torch.load(checkpoint)
    torch.manual_seed(3)
    for name, value in state["model"].items():
        if name.startswith("aggregation.") and value.ndim and "lr_mult" not in name:
            value.normal_(std=0.5)
    state["model"]["prior.probs"] = torch.rand(4).softmax(0)
    scrambled = os.path.join(os.path.dirname(out), "scrambled.pt")
    torch.save(state, scrambled)
    whole, _, task = load_model(scrambled, data=data)
    pruned = load_model(cut(scrambled, out, layers), data=data)[0]
    assert pruned.w2v_encoder.num_layers == layers == pruned.num_predictions
    inputs = batch(task, "test")["net_input"]
    with torch.no_grad():
        wanted, found = whole(**inputs), pruned(**inputs)
        encoded = whole.w2v_encoder(inputs["source"], inputs["padding_mask"])
        pooled = [
            masked_mean(
                (whole.aggregation.norms[layer] or torch.nn.Identity())(state), encoded.padding_mask
            )
            for layer, state in enumerate(encoded.states[:layers])
        ]
        prior = whole.prior.probs[:layers] / whole.prior.probs[:layers].sum()
        log_q = whole.aggregation.posterior(torch.stack(pooled, 1), prior)
        # [T, B, V], of which padding does not count, or [B, C]
        valid = ~encoded.padding_mask.t() if wanted["layer_logits"][0].dim() == 3 else ...
        depth = whole.at_depth(wanted, layers)
        assert torch.allclose(
            pruned.get_normalized_probs(found, True)[valid],
            whole.get_normalized_probs(depth, True)[valid],
            atol=1e-4,
        )
    assert len(found["layer_logits"]) == layers
    for ours, theirs in zip(found["layer_logits"], wanted["layer_logits"]):
        assert torch.allclose(ours[valid], theirs[valid], atol=1e-5)
    assert torch.allclose(found["log_q"], log_q, atol=1e-5)
    assert not torch.allclose(found["log_q"], wanted["log_q"][:, :layers], atol=1e-2)
    assert torch.allclose(pruned.prior.probs, prior)
    return scrambled


@pytest.fixture(scope="module")
def pre_norm(corpus, tmp_path_factory):
    """(folder, base, checkpoint of a LoRA run)."""
    folder = tmp_path_factory.mktemp("prune")
    base = save_pretrained(folder / "base.pt", layer_norm_first=True)
    changes = {
        "posterior_heads": 4,
        "lora_rank": 2,
        "freeze_finetune_updates": 0,
        "layer_embedding": True,
    }
    run = train(RECIPE, corpus, folder / "run", base, model=changes, dataset=VALID)
    return folder, base, run


VALID = {"valid_subset": "valid"}


def test_a_pre_norm_encoder(pre_norm, corpus, tmp_path):
    """The LayerNorm of the layer that becomes the last takes the encoder's own place. Every kind
    of encoder: test_every_encoder."""
    scrambled = check_pruned(pre_norm[2], str(tmp_path / "pruned.pt"), corpus)
    pruned = str(tmp_path / "pruned.pt")
    assert os.path.getsize(pruned) < os.path.getsize(scrambled)
    arguments = [f"common_eval.path={pruned}", f"task.data={corpus}", "dataset.gen_subset=test"]
    assert infer.main([*arguments, f"decoding.results_path={tmp_path}/out"]) == 0
    again = cut(pruned, tmp_path / "again.pt", layers=1)
    assert load_model(again)[0].w2v_encoder.num_layers == 1
    code, error = tool(export.main, "adapter", pruned, str(tmp_path / "adapter"))
    assert code == 2 and "cut after its training" in error


def test_a_pruned_model_trains_on(pre_norm, corpus, tmp_path):
    pruned = cut(pre_norm[2], tmp_path / "pruned.pt")
    model = {
        "posterior_heads": 4,
        "lora_rank": 2,
        "freeze_finetune_updates": 0,
        "layer_embedding": True,
        "keep_layers": K,
    }
    further = train(
        RECIPE,
        corpus,
        tmp_path / "further",
        pre_norm[1],
        model=model,
        dataset=VALID,
        checkpoint={"finetune_from_model": pruned},
    )
    assert load_model(further)[0].w2v_encoder.num_layers == K


def test_training_the_lower_blocks(pre_norm, corpus, tmp_path):
    """Upper blocks are not built, and an adapter of the run travels."""
    folder, base, whole = pre_norm
    model = {"posterior_heads": 4, "lora_rank": 2, "freeze_finetune_updates": 0, "keep_layers": K}
    run = train(RECIPE, corpus, tmp_path / "run", base, model=model, dataset=VALID)
    state, full, source = torch.load(run), torch.load(whole), torch.load(base)["model"]
    blocks = {name.split("layers.")[1][0] for name in state["model"] if "encoder.layers." in name}
    assert blocks == {"0", "1"}
    moments = [len(each["last_optimizer_state"]["state"]) for each in (state, full)]
    assert moments[0] < moments[1]
    for name, value in source.items():
        ours = state["model"].get(f"w2v_encoder.w2v_model.{name}")
        assert ours is None or torch.equal(ours, value), name
    adapter, restored = str(tmp_path / "adapter"), str(tmp_path / "restored.pt")
    assert export.main(["adapter", run, adapter]) == 0
    assert export.main(["restore", adapter, base, restored]) == 0
    other = torch.load(restored)["model"]
    assert other.keys() == state["model"].keys()
    assert all(torch.equal(other[name], value) for name, value in state["model"].items())


@pytest.mark.parametrize("layers", [-1, 5])
def test_no_such_depth(pre_norm, corpus, tmp_path, layers):
    expected = (
        f"model.keep_layers={layers}: the encoder has 4 blocks: expected 1 .. 4 \\(0 for all\\)"
    )
    with pytest.raises(ValueError, match=expected):
        train(RECIPE, corpus, tmp_path, pre_norm[1], model={"keep_layers": layers}, dataset=VALID)
    code, error = tool(
        export.main, "prune", pre_norm[2], str(tmp_path / "x.pt"), "--layers", str(layers)
    )
    assert code == 2 and "expected 1 .. 4" in error and not os.path.exists(tmp_path / "x.pt")


CANNOT = {
    "one head": ({"aggregation": "weighted_sum"}, "only varan has a head at every depth"),
    "no norms": ({"layer_norm": "false"}, "model.layer_norm=false"),
    "a layer above": ({"decode_layer": 4}, "it predicts from layer 4"),
}


@pytest.mark.parametrize("name", CANNOT)
def test_models_that_cannot_be_cut(pre_norm, corpus, tmp_path, name):
    changes, expected = CANNOT[name]
    model = {"posterior_heads": 4, **changes}
    run = train(RECIPE, corpus, tmp_path / "run", pre_norm[1], model=model, dataset=VALID)
    code, error = tool(export.main, "prune", run, str(tmp_path / "x.pt"), "--layers", "2")
    assert code == 2 and expected in error and error.count("\n") == 1, error


def test_nothing_to_cut(pre_norm, tmp_path):
    code, error = tool(export.main, "prune", pre_norm[2], str(tmp_path / "x.pt"), "--layers", "4")
    assert code == 2 and "nothing to cut" in error


def read_curve(path):
    with open(f"{path}.tsv") as file:
        return [[float(value) for value in line.split("\t")] for line in file.readlines()[1:]]


def test_the_curve_is_what_pruned_models_do(pre_norm, corpus, tmp_path):
    scrambled = check_pruned(pre_norm[2], str(tmp_path / "pruned.pt"), corpus)
    prefix = str(tmp_path / "curve")
    assert layers.main([scrambled, corpus, "test", "--curve", "--out", prefix]) == 0
    assert os.path.getsize(f"{prefix}.png") > 5000
    rows = read_curve(prefix)

    def wer(checkpoint, *options):
        out = str(tmp_path / "-".join(["out", os.path.basename(checkpoint), *options]))
        arguments = [f"common_eval.path={checkpoint}", f"task.data={corpus}", *options]
        arguments += ["dataset.gen_subset=test", f"decoding.results_path={out}"]
        assert infer.main(arguments) == 0
        with open(os.path.join(out, "asr.json")) as file:
            return pytest.approx(json.load(file)["wer"], abs=1e-3)

    assert rows[K - 1][1] == wer(str(tmp_path / "pruned.pt"))
    assert rows[-1][1] == wer(scrambled)
    assert rows[0][2] == wer(scrambled, "--layer", "1")
    assert [row[0] for row in rows] == [1, 2, 3, 4]
    for column in (3, 4):
        shares = [row[column] for row in rows]
        assert shares == sorted(shares) and shares[-1] == 1 and shares[0] > 0
    # by hand, of the blocks alone: q, k, v, out, two of the feed-forward network, attention
    added = [after[4] - before[4] for before, after in zip(rows, rows[1:])]
    assert added == pytest.approx([added[0]] * 3, abs=1e-3)


def test_a_classifiers_curve(corpus, tmp_path, labelled_corpus):
    base = save_pretrained(tmp_path / "base.pt")
    recipe = os.path.join(REPO, "examples", "demo", "emotion.yaml")
    model = {"posterior_heads": 4}
    run = train(recipe, labelled_corpus, tmp_path / "run", base, model=model)
    scrambled = check_pruned(run, str(tmp_path / "pruned.pt"), labelled_corpus)
    prefix, out = str(tmp_path / "curve"), str(tmp_path / "out")
    assert layers.main([scrambled, labelled_corpus, "test", "--curve", "--out", prefix]) == 0
    pruned = str(tmp_path / "pruned.pt")
    assert classify.main([pruned, labelled_corpus, "test", "--out", out]) == 0
    with open(os.path.join(out, "scores.json")) as file:
        wanted = json.load(file)["accuracy"]
    assert read_curve(prefix)[K - 1][1] == pytest.approx(wanted, abs=1e-3)
