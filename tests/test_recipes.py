"""Every recipe trains: a tiny encoder, three updates, CPU."""

import glob
import os
import re

import pytest
import torch
from conftest import REPO, save_pretrained, write_corpus, write_labelled_corpus
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
    }


def test_no_two_recipes_share_a_folder():
    loaded = [OmegaConf.to_container(OmegaConf.load(path)) for path in RECIPES]
    folders = [cfg["checkpoint"]["save_dir"].replace("/${task.data}", "") for cfg in loaded]
    assert len(folders) >= 34 and len(set(folders)) == len(folders)


@pytest.mark.parametrize("path", RECIPES, ids=[os.path.basename(path) for path in RECIPES])
def test_recipe(tmp_path, data, path):
    from fairseq.dataclass.configs import FairseqConfig
    from fairseq_cli.hydra_train import _hydra_main

    name = os.path.basename(path)[: -len(".yaml")]
    with open(path) as file:
        text = file.read()
    head = rf"# fairseq-hydra-train --config-dir examples/(demo)? --config-name {name} "
    assert re.match(head, text)
    cfg = OmegaConf.load(path)
    plain = OmegaConf.to_container(cfg)  # a fold's save_dir waits for task.data
    assert plain["hydra"]["run"]["dir"] == "." and plain["checkpoint"]["save_dir"]
    # encoders that are not supported yet are stood in for
    kind = "hubert" if "hubert" in name or "wavlm" in name else "wav2vec2"
    classifies = cfg.task._name == "utterance_classification"
    pretrained = save_pretrained(
        tmp_path / "pretrained.pt",
        kind,
        normalize=cfg.task.normalize,
        layer_norm_first="large" in name,
        encoder_attention_heads=4,
        encoder_embed_dim=32,
    )
    del cfg["hydra"]
    overrides = {
        "common": {
            "fp16": False,
            "cpu": True,
            "user_dir": os.path.join(REPO, "varan_fairseq"),
            "tensorboard_logdir": None,
        },
        "checkpoint": {"save_dir": str(tmp_path / "out")},
        "task": {"data": data[cfg.task._name]},
        "dataset": {
            "num_workers": 0,
            "max_tokens": 40000,
            "validate_after_updates": 0,
            "valid_subset": "valid" if classifies else "dev_other",
        },
        "optimization": {"max_update": 3, "update_freq": [1]},
        # fairseq fails where masking selects nothing: 32 channels need a likely mask
        "model": {
            "w2v_path": pretrained,
            "freeze_finetune_updates": 0 if classifies else 1,
            "mask_channel_length": 8,
            "mask_channel_prob": 0.5,
        },
    }
    _hydra_main(OmegaConf.merge(OmegaConf.structured(FairseqConfig), cfg, overrides))
    state = torch.load(str(tmp_path / "out" / "checkpoint_last.pt"))
    assert state["optimizer_history"][-1]["num_updates"] == 3
    assert state["cfg"]["model"]["w2v_args"]["model"]["_name"] == kind
    linears = sum(key.endswith(".weight") and "heads" in key for key in state["model"])
    assert linears == (8 if classifies else 4)  # classifiers have a bottleneck
    assert sum("lora_A" in key for key in state["model"]) == (8 if name.endswith("lora") else 0)


def test_lora_recipes_have_the_methods_settings():
    """method.md, "Release settings"."""
    recipes = [OmegaConf.load(path) for path in RECIPES if path.endswith("_lora.yaml")]
    assert len(recipes) == 10
    for cfg in recipes:
        assert cfg.optimization.lr == [1e-3] and cfg.lr_scheduler._name == "cosine"
        assert cfg.criterion.prior == "chi2_reversed" and cfg.criterion.prior_df == 6
        assert cfg.criterion.beta == 0.05
        assert (cfg.model.lora_rank, cfg.model.lora_alpha, cfg.model.lora_targets) == (
            16,
            16,
            "ffn",
        )
        assert cfg.lr_scheduler.warmup_updates == 0.05 * cfg.optimization.max_update


def test_full_recipes_of_emotion_have_the_methods_settings():
    """method.md, "Release settings"."""
    recipes = [
        OmegaConf.load(path) for path in RECIPES if re.search(r"(ravdess|iemocap)\.yaml$", path)
    ]
    assert len(recipes) == 6
    for cfg in recipes:
        assert cfg.optimization.lr == [1e-4] and cfg.optimizer.weight_decay == 0.05
        assert cfg.lr_scheduler._name == "cosine" and cfg.dataset.batch_size == 32
        assert cfg.criterion.prior == "chi2_reversed" and cfg.criterion.prior_df == 35
        assert cfg.criterion.beta == 0.05 and cfg.model.feature_grad_mult == 0
        assert cfg.model.head_dim == 256
        assert cfg.lr_scheduler.warmup_updates == 0.05 * cfg.optimization.max_update


@pytest.mark.parametrize("path", RECIPES, ids=[os.path.basename(path) for path in RECIPES])
def test_lora_is_one_word_in_every_recipe(path):
    """`model.lora_rank=16` without a plus needs the key in the file."""
    keys = ("finetune", "lora_rank", "lora_alpha", "lora_dropout", "lora_targets")
    keys += ("lora_magnitude", "lora_extra", "adapter")
    assert not set(keys) - set(OmegaConf.load(path).model)
