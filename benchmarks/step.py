#!/usr/bin/env python3
"""A whole training step (forward, backward, Adam) of `varan_ctc` against fairseq's own
`wav2vec_ctc` with its `ctc` criterion: base encoder, random weights.

    python benchmarks/step.py

fp16 on a GPU, float32 on a CPU. Time: medians, interleaved in one process. Memory: peak
that the first two steps add to the model, each in a fresh process.
"""

import argparse
import os
import statistics
import tempfile
from types import SimpleNamespace

import torch
from fairseq import criterions, tasks
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config
from measure import in_fresh_process, interleaved_seconds, peak_megabytes
from omegaconf import OmegaConf

import varan_fairseq  # noqa: F401

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
BATCH, SECONDS, POSITIONS = (16, 15, 200) if CUDA else (2, 8, 100)


def pretraining():
    """wav2vec 2.0 Base as its checkpoint describes it."""
    model = OmegaConf.structured(Wav2Vec2Config(quantize_targets=True, final_dim=256))
    task = {"_name": "audio_pretraining", "data": "", "normalize": False, "tpu": False, "seed": 1}
    model = OmegaConf.to_container(model, enum_to_str=True)
    return OmegaConf.create({"task": task, "model": {**model, "_name": "wav2vec2"}})


def build(name: str):
    """A function that does one training step."""
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "dict.ltr.txt"), "w") as file:
        file.writelines(f"{letter} 1\n" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ'|")
    base = {"_name": "audio_finetuning", "data": folder, "labels": "ltr", "tpu": False, "seed": 1}
    task = tasks.setup_task(OmegaConf.create(base))
    cfg = {
        "_name": name, "w2v_path": "", "w2v_args": pretraining(), "data": folder, "normalize": False,
        "ddp_backend": "legacy_ddp", "apply_mask": True, "mask_prob": 0.65, "layerdrop": 0.0,
        "mask_channel_prob": 0.5, "mask_channel_length": 64, "activation_dropout": 0.1,
    }  # fmt: skip
    if name == "varan_ctc":
        cfg.update(train_subset="train", valid_subset="valid")
    torch.manual_seed(0)
    model = task.build_model(OmegaConf.create(cfg)).to(DEVICE).train()
    loss = {"_name": "varan_ctc" if name == "varan_ctc" else "ctc", "zero_infinity": True}
    criterion = criterions.build_criterion(OmegaConf.create({**loss, "sentence_avg": True}), task)
    samples = 16000 * SECONDS
    source = torch.randn(BATCH, samples, device=DEVICE)
    if CUDA:
        model, source = model.half(), source.half()
    lengths = torch.linspace(0.8 * samples, samples, BATCH, device=DEVICE)
    sample = {
        "id": torch.arange(BATCH),
        "net_input": {
            "source": source,
            "padding_mask": torch.arange(samples, device=DEVICE) >= lengths.unsqueeze(1),
        },
        "target": torch.randint(4, 30, (BATCH, POSITIONS), device=DEVICE),
        "target_lengths": torch.full((BATCH,), POSITIONS, device=DEVICE),
        "ntokens": BATCH * POSITIONS,
    }
    optimizer = torch.optim.Adam(model.parameters(), 1e-5, eps=1e-4 if CUDA else 1e-8)

    def step():
        optimizer.zero_grad()
        loss, size, _ = criterion(model, sample)
        (loss / size).backward()
        optimizer.step()

    return SimpleNamespace(step=step, parameters=sum(p.numel() for p in model.parameters()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20 if CUDA else 5)
    parser.add_argument("--memory", metavar="MODEL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    if args.memory:
        step = build(args.memory).step
        print(peak_megabytes(lambda: (step(), step())))
        return
    names = ("wav2vec_ctc", "varan_ctc")
    built = {name: build(name) for name in names}
    seconds = interleaved_seconds({name: built[name].step for name in names}, args.rounds)
    memory = {
        name: statistics.median(in_fresh_process(__file__, name) for _ in range(3))
        for name in names
    }
    print(
        f"{torch.cuda.get_device_name() + ', fp16' if CUDA else 'CPU, float32'}, torch "
        f"{torch.__version__}; {BATCH} utterances of {SECONDS} s"
    )
    for name in names:
        print(
            f"{name}: {seconds[name]:.3f} s, {memory[name]:.0f} MB, "
            f"{built[name].parameters / 1e6:.1f} M parameters"
        )
    print(
        f"ratio: time {seconds[names[1]] / seconds[names[0]]:.3f} (wanted 1.05), "
        f"memory {memory[names[1]] / memory[names[0]]:.3f} (wanted 1.10)"
    )


if __name__ == "__main__":
    main()
