"""What the readers of other libraries' files share: fairseq's configuration of an encoder that it
did not write, and weights that such files may lack."""

import logging
from typing import Any, Dict

import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.models import MODEL_DATACLASS_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import OmegaConf
from torch import Tensor

from . import data2vec
from .wavlm import WavLMConfig

logger = logging.getLogger(__name__)


def complete_config(name: str, model: Dict[str, Any], normalize: bool, sample_rate: int) -> Any:
    """The configuration of a pre-training as fairseq saves it, with every default filled in and
    every interpolation resolved.

    name: of fairseq's model. model: its keys that differ from the defaults.
    """
    if name == "data2vec_audio":
        data2vec.register(name)
    known = WavLMConfig if name == "wavlm" else MODEL_DATACLASS_REGISTRY[name]
    task: Dict[str, Any] = {"_name": "audio_pretraining", "data": ""}
    if name == "hubert":
        task.update(_name="hubert_pretraining", labels=["km"], label_rate=50)
    task.update(normalize=normalize, sample_rate=sample_rate)
    tasks = OmegaConf.structured(TASK_DATACLASS_REGISTRY[task["_name"]])
    whole = OmegaConf.structured(FairseqConfig)
    sections = ("common", "dataset", "distributed_training", "optimization")
    filled = OmegaConf.create(
        {
            **{section: whole[section] for section in sections},
            "task": OmegaConf.merge(tasks, task),
            "model": OmegaConf.merge(OmegaConf.structured(known), model),
        }
    )
    resolved: Any = OmegaConf.to_container(filled, resolve=True, enum_to_str=True)
    return OmegaConf.create(
        {"task": resolved["task"], "model": {**resolved["model"], "_name": name}}
    )


def draw_mask_embedding(weights: Dict[str, Tensor], width: int) -> None:
    """Adds what fairseq puts in the place of masked frames, in place, if a file has none: drawn as
    fairseq draws it, always the same."""
    if "mask_emb" not in weights:
        weights["mask_emb"] = torch.rand(width, generator=torch.Generator().manual_seed(0))
        logger.info("the file has no mask embedding: it is drawn at random")
