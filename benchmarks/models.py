"""Base-size models with random weights and batches of noise, shared by the benchmarks."""

import os
import tempfile

import torch
from fairseq import criterions, tasks
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from omegaconf import OmegaConf

import varan_fairseq  # noqa: F401

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")


def pretraining():
    """wav2vec 2.0 Base as its checkpoint describes it."""
    model = OmegaConf.structured(Wav2Vec2Config(quantize_targets=True, final_dim=256))
    task = {"_name": "audio_pretraining", "data": "", "normalize": False, "tpu": False, "seed": 1}
    model = OmegaConf.to_container(model, enum_to_str=True)
    return OmegaConf.create({"task": task, "model": {**model, "_name": "wav2vec2"}})


def build(name: str, **options):
    """A task and a model `name` on wav2vec 2.0 Base, in training mode; fp16 on a GPU."""
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "dict.ltr.txt"), "w") as file:
        file.writelines(f"{letter} 1\n" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ'|")
    base = {"_name": "audio_finetuning", "data": folder, "labels": "ltr", "tpu": False, "seed": 1}
    task = tasks.setup_task(OmegaConf.create(base))
    cfg = {
        "_name": name, "w2v_path": "", "w2v_args": pretraining(), "data": folder,
        "normalize": False, "ddp_backend": "legacy_ddp", "apply_mask": True, "mask_prob": 0.65,
        "layerdrop": 0.0, "mask_channel_prob": 0.5, "mask_channel_length": 64,
        "activation_dropout": 0.1, **options,
    }  # fmt: skip
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
