"""Learning rates of their own for encoder, low-rank factors, heads and posterior."""

import os
import re

import pytest
import torch
from build import build_model, setup_task, train
from conftest import ENCODERS, REPO, save_pretrained
from omegaconf import OmegaConf

from varan_fairseq.models.finetune import check_groups, group_of

RECIPE = os.path.join(REPO, "examples", "hubert_base_libri_100h_lora_groups.yaml")
LORA = {"lora_rank": 2, "lora_magnitude": True}


@pytest.mark.parametrize(
    "options, groups",
    [
        ({}, {"encoder", "heads", "posterior"}),
        ({"feature_grad_mult": 0.0, "layer_norm": "true"}, {"encoder", "heads", "posterior"}),
        ({**LORA, "feature_grad_mult": 0.0}, {"factors", "heads", "posterior"}),
        ({**LORA, "lora_extra": "norms"}, {"encoder", "factors", "heads", "posterior"}),
        ({"finetune": "probe", "feature_grad_mult": 0.0}, {"heads", "posterior"}),
        ({"posterior": "static"}, {"encoder", "heads", "posterior"}),
        ({"posterior": "prior"}, {"encoder", "heads"}),
        ({"aggregation": "weighted_sum"}, {"encoder", "heads"}),
        ({"aggregation": "attentive"}, {"encoder", "heads", "posterior"}),
        ({"aggregation": "hconv"}, {"encoder", "heads"}),
    ],
)
def test_groups(wav2vec2, corpus, options, groups):
    model = build_model(wav2vec2, setup_task(corpus), **options)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    assert {p.param_group for _, p in named} == groups
    for name, p in named:
        inside = name.startswith("w2v_encoder.")
        assert (p.param_group in ("encoder", "factors")) == inside, name
        assert (p.param_group == "factors") == ("lora_" in name), name
        assert (p.param_group == "posterior") == (".posterior." in name), name


@pytest.mark.parametrize("kind", ENCODERS)
def test_nothing_of_the_pretrainings_groups_is_left(tmp_path, corpus, kind):
    model = build_model(save_pretrained(tmp_path / "c.pt", kind), setup_task(corpus))
    for name, p in model.named_parameters():
        assert p.param_group == group_of(name) and not hasattr(p, "optim_overrides"), name


def run(tmp_path, corpus, hubert, updates, rates=(0.1, 0.1, 0.1), **common):
    rates = dict(zip(("factors", "heads", "posterior"), rates))
    fixed = {"_name": "fixed", "warmup_updates": 0}
    groups = {name: {"lr_float": lr, "lr_scheduler": fixed} for name, lr in rates.items()}
    return train(
        RECIPE,
        corpus,
        tmp_path / "out",
        hubert,
        updates,
        common=common,
        dataset={"valid_subset": "valid"},
        optimizer={"groups": groups},
        model={"posterior_heads": 4, "layerdrop": 0.0},
    )


@pytest.mark.parametrize("still", ["factors", "heads", "posterior"])
def test_each_has_its_rate(tmp_path, corpus, hubert, still):
    """A group with rate 0 stays where it is, also after resuming."""
    rates = [0.1 * (name != still) for name in ("factors", "heads", "posterior")]
    states = []
    for updates in (1, 2, 3):
        path = run(tmp_path, corpus, hubert, updates, rates)
        states.append(torch.load(path)["model"])
        assert set(torch.load(path)["last_optimizer_state"]) == {"factors", "heads", "posterior"}
    for name in states[0]:
        if re.search(r"lora_B|aggregation.*weight", name):
            for before, after in zip(states, states[1:]):
                same = torch.equal(before[name], after[name])
                assert same == (group_of(name) == still), name


def test_bf16(tmp_path, corpus, hubert):
    """Whose optimizer has copies of the parameters in float32, as that of fp16."""
    before, after = (
        torch.load(run(tmp_path, corpus, hubert, updates, (0.1, 0.0, 0.1), bf16=True))["model"]
        for updates in (1, 2)
    )
    heads = [name for name in before if "aggregation.heads" in name]
    assert heads and all(torch.equal(before[name], after[name]) for name in heads)
    factors = [name for name in before if "lora_B" in name]
    assert factors and not any(torch.equal(before[name], after[name]) for name in factors)


def whole(groups, **common):
    common = {"fp16": False, "fp16_no_flatten_grads": False, **common}
    return OmegaConf.create(
        {"common": common, "optimizer": {"_name": "composite", "groups": dict.fromkeys(groups, {})}}
    )


def test_groups_that_do_not_fit(wav2vec2, corpus):
    model = build_model(wav2vec2, setup_task(corpus))
    check_groups(whole(["encoder", "heads", "posterior"]), model)
    with pytest.raises(
        ValueError, match="has encoder, heads, but what trains is encoder, heads, po"
    ):
        check_groups(whole(["heads", "encoder"]), model)
    fine = whole(["encoder", "heads", "posterior"], fp16=True)
    with pytest.raises(ValueError, match="needs common.fp16_no_flatten_grads=true"):
        check_groups(fine, model)
    fine.common.fp16_no_flatten_grads = True
    check_groups(fine, model)


def test_one_group_for_all_as_fairseqs_files_have_it(wav2vec2, corpus):
    model = build_model(wav2vec2, setup_task(corpus))
    check_groups(whole(["default", "posterior"]), model)
    trained = {name: p.param_group for name, p in model.named_parameters() if p.requires_grad}
    assert set(trained.values()) == {"default", "posterior"}
    assert all((".posterior." in name) == (group == "posterior") for name, group in trained.items())
    dynamic = whole(["default", "unused"])
    dynamic.optimizer.dynamic_groups = True
    check_groups(dynamic, build_model(wav2vec2, setup_task(corpus)))
    dynamic = whole(["heads"])
    dynamic.optimizer.dynamic_groups = True
    with pytest.raises(ValueError, match="or all of them the one group default"):
        check_groups(dynamic, build_model(wav2vec2, setup_task(corpus)))
