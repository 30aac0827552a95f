"""Builds our models and criterions, and fairseq's own, in-process for tests."""

import torch
from fairseq import criterions, tasks
from fairseq.tasks.audio_finetuning import AudioFinetuningConfig
from omegaconf import OmegaConf

import varan_fairseq  # noqa: F401


def setup_task(data, **changes):
    # tpu and seed (fairseq main only) are interpolations into a whole configuration
    cfg = {"_name": "audio_finetuning", "data": data, "labels": "ltr", "tpu": False, **changes}
    if hasattr(AudioFinetuningConfig, "seed"):
        cfg["seed"] = 1
    return tasks.setup_task(OmegaConf.create(cfg))


def setup_classification(data, **changes):
    return setup_task(data, _name="utterance_classification", labels="emo", seed=1, **changes)


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
    if name in ("ctc", "varan_ctc"):
        cfg = {"zero_infinity": True, "sentence_avg": True, **cfg}
    return criterions.build_criterion(OmegaConf.create(cfg), task)


def batch(task, split="train", indices=None, num_samples=None):
    """A collated batch of a split."""
    if split not in task.datasets:
        task.load_dataset(split)
    dataset = task.dataset(split)
    return dataset.collater([dataset[i] for i in (indices or range(num_samples or len(dataset)))])
