"""Builds our models and criterions, and fairseq's own, in-process for tests."""

import os

import torch
from conftest import REPO
from fairseq import criterions, tasks
from fairseq.tasks.audio_finetuning import AudioFinetuningConfig
from omegaconf import OmegaConf

import varan_fairseq.models  # noqa: F401  (registers all)
from varan_fairseq.finetuned.load import save_state
from varan_fairseq.upstream import read_checkpoint


def setup_task(data, **changes):
    # tpu and seed (fairseq main only) are interpolations into a whole configuration
    cfg = {"_name": "audio_finetuning", "data": data, "labels": "ltr", "tpu": False, **changes}
    if hasattr(AudioFinetuningConfig, "seed"):
        cfg["seed"] = 1
    return tasks.setup_task(OmegaConf.create(cfg))


def setup_classification(data, **changes):
    return setup_task(data, _name="utterance_classification", labels="emo", seed=1, **changes)


def setup_regression(data, **changes):
    return setup_task(data, _name="utterance_regression", labels="val", seed=1, **changes)


def build_model(w2v_path, task, name="varan_ctc", **changes):
    """A fine-tuning model on a pre-trained checkpoint."""
    cfg = {
        "_name": name,
        "w2v_path": w2v_path,
        "normalize": task.cfg.normalize,
        "data": task.cfg.data,
        "ddp_backend": "legacy_ddp",
    }
    if name.startswith("varan"):
        cfg.update(posterior_heads=4, train_subset="train", valid_subset="valid")
    if name == "varan_ctc":
        cfg.update(check_audio=False)
    cfg.update(changes)
    torch.manual_seed(1)
    return task.build_model(OmegaConf.create(cfg))


def build_criterion(task, name="varan_ctc", **changes):
    cfg = {"_name": name, **changes}
    if name.startswith("varan"):
        cfg.setdefault("max_update", 1000)
    if name in ("ctc", "varan_ctc"):
        cfg = {"zero_infinity": True, "sentence_avg": True, **cfg}
    return criterions.build_criterion(OmegaConf.create(cfg), task)


def batch(task, split="train", indices=None, num_samples=None):
    """A collated batch of a split."""
    if split not in task.datasets:
        task.load_dataset(split)
    dataset = task.dataset(split)
    return dataset.collater([dataset[i] for i in (indices or range(num_samples or len(dataset)))])


def train(recipe, data, out, w2v_path, updates=3, **changes):
    """What `fairseq-hydra-train` does with a recipe's file, in this process, small and on the
    CPU. changes: by section. Returns the checkpoint's path."""
    from fairseq.dataclass.configs import FairseqConfig
    from fairseq_cli.hydra_train import _hydra_main

    cfg = OmegaConf.load(recipe)
    del cfg["hydra"]
    small = {
        "common": {
            "fp16": False,
            "cpu": True,
            "user_dir": os.path.join(REPO, "varan_fairseq"),
            "tensorboard_logdir": None,
        },
        "checkpoint": {"save_dir": str(out)},
        "task": {"data": str(data)},
        "dataset": {"num_workers": 0, "max_tokens": 40000, "validate_after_updates": 0},
        "optimization": {"max_update": updates, "update_freq": [1]},
        # fairseq fails where masking selects nothing: 32 channels need a likely mask
        "model": {"w2v_path": w2v_path, "mask_channel_length": 8, "mask_channel_prob": 0.5},
    }
    _hydra_main(OmegaConf.merge(OmegaConf.structured(FairseqConfig), cfg, small, changes))
    return os.path.join(str(out), "checkpoint_last.pt")


def save_run(path, corpus, pretrained, name="varan_ctc", losses=None, **changes):
    """A checkpoint of a model that nothing trained, but whose weights are no defaults. losses: of the
    layers, in its last validation."""
    from fairseq.dataclass.configs import FairseqConfig

    normalize = read_checkpoint(pretrained).config.task.normalize
    make = setup_task if name == "varan_ctc" else setup_classification
    task = make(corpus, normalize=normalize)
    model = build_model(pretrained, task, name, **changes)
    torch.manual_seed(2)
    for part, parameter in model.named_parameters():
        if "w2v_model" not in part or "norm" in part or "lora" in part:
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    whole = OmegaConf.structured(FairseqConfig)
    OmegaConf.set_struct(whole, False)
    whole.model, whole.task = model.cfg, task.cfg
    whole.criterion = {"_name": name, "post_process": "letter"}
    meters = [
        (0, f"nll_{layer:02d}", "AverageMeter", {"sum": 10 * loss, "count": 10})
        for layer, loss in enumerate(losses or (), 1)
    ]
    save_state(
        {
            "args": None,
            "cfg": whole,
            "model": model.state_dict(),
            "criterion": None,
            "optimizer_history": [{"num_updates": 1, "lr_scheduler_state": {}}],
            "task_state": {"target_dictionary": task.target_dictionary},
            "extra_state": {"metrics": {"valid": meters}, "train_iterator": {"epoch": 1}},
            "last_optimizer_state": None,
        },
        str(path),
    )
    return str(path)
