"""Every recipe trains: a tiny encoder, three updates, CPU."""

import glob
import itertools
import os
import re
import runpy

import compare
import pytest
import runs
import torch
from build import train
from conftest import (
    ENCODERS,
    REPO,
    save_pretrained,
    write_corpus,
    write_labelled_corpus,
    write_rated_corpus,
)
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.models import MODEL_DATACLASS_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import OmegaConf

RECIPES = sorted(glob.glob(os.path.join(REPO, "examples", "*.yaml")))
# The demo's pre-training recipes are run by test_end_to_end.py.
RECIPES.append(os.path.join(REPO, "examples", "demo", "finetune.yaml"))
RECIPES.append(os.path.join(REPO, "examples", "demo", "emotion.yaml"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder by task."""
    return {
        "audio_finetuning": write_corpus(
            tmp_path_factory.mktemp("libri"), splits=("train", "dev_other")
        ),
        "utterance_classification": write_labelled_corpus(tmp_path_factory.mktemp("emotion")),
        "utterance_regression": write_rated_corpus(tmp_path_factory.mktemp("values")),
    }


def test_no_two_recipes_share_a_folder():
    loaded = [OmegaConf.to_container(OmegaConf.load(path)) for path in RECIPES]
    folders = [cfg["checkpoint"]["save_dir"].replace("/${task.data}", "") for cfg in loaded]
    assert len(folders) >= 34 and len(set(folders)) == len(folders)


def test_hydra_is_told_which_keys_a_recipe_lacks():
    recipe = OmegaConf.create({"a": {"one": 1, "two": "???"}})
    given = ["a.one=2", "+a.one=x=y", "a.two=[1]", "a.three=3", "+b.c=4", "b.c.d=5"]
    wanted = ["a.one=2", "a.one=x=y", "a.two=[1]", "+a.three=3", "+b.c=4", "+b.c.d=5"]
    assert list(runs.as_overrides(recipe, given)) == wanted


def test_the_demos_settings_are_of_their_recipe():
    recipe = OmegaConf.load(os.path.join(REPO, "examples", "demo", "finetune.yaml"))
    budgets = [base["finetune"] for c in compare.CORPORA.values() for base in list(c.values())[1:]]
    lists = [compare.HUBERT, *budgets, *compare.FINETUNE.values()]
    for override in itertools.chain(*lists):
        section, name = override.split("=")[0].split(".")
        assert name in list(recipe[section]) or override == "dataset.batch_size=8", override


def encoder_of(name):
    """The kind of encoder that a recipe's name says; the demo's are wav2vec 2.0."""
    prefixes = {
        "hubert": "hubert",
        "wavlm": "wavlm",
        "data2vec2": "data2vec_multi",
        "data2vec": "data2vec_audio",
    }
    return next((kind for prefix, kind in prefixes.items() if name.startswith(prefix)), "wav2vec2")


@pytest.mark.parametrize("path", RECIPES, ids=[os.path.basename(path) for path in RECIPES])
def test_recipe(tmp_path, data, path):
    name = os.path.basename(path)[: -len(".yaml")]
    with open(path) as file:
        text = file.read()
    head = rf"# fairseq-hydra-train --config-dir examples/(demo)? --config-name {name} "
    assert re.match(head, text)
    cfg = OmegaConf.load(path)
    plain = OmegaConf.to_container(cfg)  # a fold's save_dir waits for task.data
    assert plain["hydra"]["run"]["dir"] == "." and plain["checkpoint"]["save_dir"]
    kind = encoder_of(name)
    if kind not in ENCODERS:
        pytest.skip(f"this fairseq has no code for {kind}")
    pooled = cfg.task._name.startswith("utterance_")
    pretrained = save_pretrained(
        tmp_path / "pretrained.pt",
        kind,
        normalize=cfg.task.normalize,
        layer_norm_first="large" in name or "xls_r" in name,
        encoder_attention_heads=4,
        encoder_embed_dim=32,
    )
    checkpoint = train(
        path,
        data[cfg.task._name],
        tmp_path / "out",
        pretrained,
        dataset={"valid_subset": "valid" if pooled else "dev_other"},
        model={"freeze_finetune_updates": 0 if pooled else 1},
    )
    state = torch.load(checkpoint)
    assert state["optimizer_history"][-1]["num_updates"] == 3
    assert state["cfg"]["model"]["w2v_args"]["model"]["_name"] == kind
    linears = sum(key.endswith(".weight") and "heads" in key for key in state["model"])
    assert linears == (8 if pooled else 4)  # those of utterances have a bottleneck
    assert sum("lora_A" in key for key in state["model"]) == (8 if "_lora" in name else 0)


def test_lora_recipes_have_the_methods_settings():
    """Those of the method's published recipes (docs/method.md, "Low-rank adaptation")."""
    recipes = [OmegaConf.load(path) for path in RECIPES if path.endswith("_lora.yaml")]
    assert len(recipes) == 10
    for cfg in recipes:
        assert cfg.optimization.lr == [1e-3] and cfg.lr_scheduler._name == "cosine"
        # recognition has the flat prior of its measurements (docs/results.md, "A flat prior")
        recognises = cfg.model._name == "varan_ctc"
        assert cfg.criterion.prior == ("uniform" if recognises else "chi2_reversed")
        assert cfg.criterion.prior_df == "auto" and cfg.criterion.beta == 0.05
        assert (cfg.model.lora_rank, cfg.model.lora_alpha, cfg.model.lora_targets) == (
            16,
            16,
            "ffn",
        )
        assert cfg.lr_scheduler.warmup_updates == 0.05 * cfg.optimization.max_update


def test_full_recipes_of_emotion_have_the_methods_settings():
    """Those of the method's published recipes (docs/method.md, "Low-rank adaptation")."""
    recipes = [
        OmegaConf.load(path) for path in RECIPES if re.search(r"(ravdess|iemocap)\.yaml$", path)
    ]
    assert len(recipes) == 6
    for cfg in recipes:
        assert cfg.optimization.lr == [1e-4] and cfg.optimizer.weight_decay == 0.05
        assert cfg.lr_scheduler._name == "cosine" and cfg.dataset.batch_size == 32
        assert cfg.criterion.prior == "chi2_reversed" and cfg.criterion.prior_df == "auto"
        assert cfg.criterion.beta == 0.05 and cfg.model.feature_grad_mult == 0
        assert cfg.model.head_dim == 256
        assert cfg.lr_scheduler.warmup_updates == 0.05 * cfg.optimization.max_update


def own_options(section, name):
    """Options that we add to fairseq's: of the dataclass, without its interpolations."""
    registries = {
        "model": MODEL_DATACLASS_REGISTRY,
        "criterion": CRITERION_DATACLASS_REGISTRY,
        "task": TASK_DATACLASS_REGISTRY,
    }
    options = registries[section][name]
    stock = {
        key
        for base in options.__mro__
        if base.__module__.startswith("fairseq.")
        for key in getattr(base, "__dataclass_fields__", ())
    }
    return {
        key
        for key, field in options.__dataclass_fields__.items()
        if key not in stock and not str(field.default).startswith("${")
    }


@pytest.mark.parametrize("path", RECIPES, ids=[os.path.basename(path) for path in RECIPES])
def test_every_option_of_ours_needs_no_plus(path):
    """hydra overrides what a file has, and wants `+` for the rest."""
    cfg = OmegaConf.load(path)
    for section in ("model", "criterion", "task"):
        name = cfg[section]["_name"]
        if name in ("varan_ctc", "varan_classification", "utterance_classification"):
            options = own_options(section, name)
            assert len(options) >= 4
            assert not options - set(cfg[section]), section


@pytest.mark.parametrize("path", RECIPES, ids=[os.path.basename(path) for path in RECIPES])
def test_every_key_has_a_comment(path):
    with open(path) as file:
        lines = file.read().split("\n")
    keys = [line for line in lines if re.match(r"^ +\w+: *[^ #]", line)]
    assert len(keys) > 60
    assert not [line for line in keys if "  # " not in line and "  _name: " not in line]
    assert max(map(len, keys)) <= 100


def test_recipes_are_what_the_template_makes():
    """A new option is one line of examples/recipes/template.yaml."""
    made = dict(runpy.run_path(os.path.join(REPO, "examples", "recipes", "write.py"))["recipes"]())
    paths = glob.glob(os.path.join(REPO, "examples", "*.yaml"))
    names = {os.path.basename(path)[: -len(".yaml")] for path in paths}
    assert set(made) == names | {"demo/finetune", "demo/emotion"}
    for name, text in made.items():
        with open(os.path.join(REPO, "examples", f"{name}.yaml")) as file:
            assert text == file.read(), "run python examples/recipes/write.py"
