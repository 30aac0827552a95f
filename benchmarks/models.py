"""Models of released sizes with random weights and batches of noise, shared by the benchmarks."""

import os
import tempfile

import torch
from fairseq import criterions, tasks
from fairseq.models import MODEL_DATACLASS_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import OmegaConf

import varan_fairseq.models  # noqa: F401  (registers all)
from varan_fairseq.runtime.fairseq_compat import find_example
from varan_fairseq.upstream import data2vec
from varan_fairseq.upstream.wavlm import WavLMConfig

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")

_LARGE = {
    "encoder_layers": 24,
    "encoder_embed_dim": 1024,
    "encoder_ffn_embed_dim": 4096,
    "encoder_attention_heads": 16,
    "layer_norm_first": True,
    "extractor_mode": "layer_norm",
}
_POSITIONS = {"pos_conv_depth": 5, "conv_pos": 95}
# data2vec 2.0 as examples/data2vec/config/v2/base_audio_only_task.yaml has it
_DATA2VEC2 = {
    "depth": 12,
    "norm_eps": 1e-5,
    "modalities": {
        "audio": {
            "prenet_depth": 0,
            "use_alibi_encoder": True,
            "learned_alibi_scale": True,
            "learned_alibi_scale_per_head": True,
        }
    },
    "supported_modality": "AUDIO",
    "skip_ema": True,
}
# fairseq's relative positions are a table for any length up to max_positions, made at once
_CONFORMER = {
    "layer_type": "conformer",
    "attn_type": "espnet",
    "pos_enc_type": "rel_pos",
    "max_positions": 6000,
}
# name -> (fairseq's model, what differs from its defaults, which are base size)
ENCODERS = {
    "wav2vec2_base": ("wav2vec2", {"quantize_targets": True, "final_dim": 256}),
    "hubert_base": ("hubert", {"label_rate": 50}),
    "wavlm_base": ("wavlm", {}),
    "data2vec_base": ("data2vec_audio", {"extractor_mode": "layer_norm", **_POSITIONS}),
    "conformer_base": ("wav2vec2", _CONFORMER),
    "wav2vec2_large": ("wav2vec2", {**_LARGE, "conv_bias": True}),
    "hubert_large": ("hubert", {**_LARGE, "label_rate": 50}),
    "wavlm_large": ("wavlm", {**_LARGE, "normalize": True}),
    "data2vec_large": (
        "data2vec_audio",
        {**_LARGE, "layer_norm_first": False, **_POSITIONS},
    ),
}
if find_example("data2vec.models.data2vec2"):
    ENCODERS["data2vec2_base"] = ("data2vec_multi", _DATA2VEC2)


def pretraining(encoder: str):
    """The configuration of one of `ENCODERS`, as its checkpoint has it."""
    name, changes = ENCODERS[encoder]
    if name.startswith("data2vec"):
        data2vec.register(name)
    known = WavLMConfig if name == "wavlm" else MODEL_DATACLASS_REGISTRY[name]
    model = OmegaConf.merge(OmegaConf.structured(known), changes)
    task = {"_name": "audio_pretraining", "data": "", "normalize": False}
    if name == "hubert":
        task.update(_name="hubert_pretraining", labels=["km"], label_rate=50)
    task = OmegaConf.merge(OmegaConf.structured(TASK_DATACLASS_REGISTRY[task["_name"]]), task)
    whole = {"task": task, "model": model, "common": {"seed": 1, "tpu": False}}
    whole["optimization"] = {"max_update": 1}
    whole = OmegaConf.to_container(OmegaConf.create(whole), resolve=True, enum_to_str=True)
    whole["model"]["_name"] = name
    return OmegaConf.create(whole)


def build(name: str, encoder: str = "wav2vec2_base", **options):
    """A task and a model `name` on one of `ENCODERS`, in training mode; fp16 on a GPU."""
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "dict.ltr.txt"), "w") as file:
        file.writelines(f"{letter} 1\n" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ'|")
    base = {"_name": "audio_finetuning", "data": folder, "labels": "ltr", "tpu": False, "seed": 1}
    task = tasks.setup_task(OmegaConf.create(base))
    cfg = {
        "_name": name, "w2v_path": "", "w2v_args": pretraining(encoder), "data": folder,
        "normalize": False, "ddp_backend": "legacy_ddp", "apply_mask": True, "mask_prob": 0.65,
        "layerdrop": 0.0, "mask_channel_prob": 0.5, "mask_channel_length": 64,
        "activation_dropout": 0.1, **options,
    }  # fmt: skip
    # fairseq's own models do not apply these options to a configuration that is given
    encoder_cfg = cfg["w2v_args"].model
    for key, value in {"feature_grad_mult": 0.0, **cfg}.items():
        if key in encoder_cfg and key != "_name":
            encoder_cfg[key] = value
    if name == "varan_ctc":
        cfg.update(train_subset="train", valid_subset="valid")
    torch.manual_seed(0)
    model = task.build_model(OmegaConf.create(cfg)).to(DEVICE)
    return task, (model.half() if CUDA else model).train()


def waveforms(utterances: int, seconds: int):
    """[utterances, samples] of noise; fp16 on a GPU."""
    source = torch.randn(utterances, 16000 * seconds, device=DEVICE)
    return source.half() if CUDA else source


def training_step(task, model, criterion: str, utterances: int, seconds: int, labels: int):
    """A function that does one training step: forward, backward, Adam. The shortest utterance
    has 80% of `seconds`."""
    loss = {"_name": criterion, "zero_infinity": True, "sentence_avg": True}
    if criterion == "varan_ctc":
        loss["max_update"] = 0
    criterion = criterions.build_criterion(OmegaConf.create(loss), task)
    samples = 16000 * seconds
    lengths = torch.linspace(samples, 0.8 * samples, utterances, device=DEVICE)
    sample = {
        "id": torch.arange(utterances),
        "net_input": {
            "source": waveforms(utterances, seconds),
            "padding_mask": torch.arange(samples, device=DEVICE) >= lengths.unsqueeze(1),
        },
        "target": torch.randint(4, 30, (utterances, labels), device=DEVICE),
        "target_lengths": torch.full((utterances,), labels, device=DEVICE),
        "ntokens": utterances * labels,
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, 1e-5, eps=1e-4 if CUDA else 1e-8)

    def step():
        optimizer.zero_grad()
        loss, size, _ = criterion(model, sample)
        (loss / size).backward()
        optimizer.step()

    return step
