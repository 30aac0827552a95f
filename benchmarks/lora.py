#!/usr/bin/env python3
"""What LoRA, DoRA and probing save against full fine-tuning: `varan_ctc` on wav2vec 2.0
Base, random weights, dropout as in the recipes.

    python benchmarks/lora.py [--json lora.json]

fp16 on a GPU, float32 on a CPU. Time of a training step (forward, backward, Adam): medians,
interleaved in one process, four utterances of 8 s. Memory: peak of the first two steps,
one utterance of 8 s, weights and optimizer included, each in a fresh process. Then merged
inference against the model without adapters, the size of an exported adapter, and what
storing it in half precision does to the emissions.
"""

import argparse
import logging
from types import SimpleNamespace

import torch
from measure import (
    cores,
    fresh_megabytes,
    interleaved_seconds,
    keep_freed_memory,
    peak_megabytes,
    report,
    short,
)
from models import CUDA, build, training_step, waveforms

from varan_fairseq.adapters.file import halve
from varan_fairseq.adapters.of_model import adapter_parts, adapter_tensors
from varan_fairseq.lora import lora_parameters, merge_lora

SECONDS, LABELS = 8, 100
MODES = {
    "full": {},
    "lora": {"lora_rank": 16},
    "lora, all": {"lora_rank": 16, "lora_targets": "all"},
    "dora": {"lora_rank": 16, "lora_magnitude": True},
    "probe": {"finetune": "probe"},
}
WANTED = {"lora": (0.8, 0.6), "probe": (0.4, 0.3)}  # time, memory


def stepper(mode: str, utterances: int):
    """A function that does one training step."""
    task, model = build("varan_ctc", **MODES[mode])
    step = training_step(task, model, "varan_ctc", utterances, SECONDS, LABELS)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return SimpleNamespace(step=step, trained=trained)


def training_memory(mode: str) -> float:
    """MB at the peak of two steps, counted from before the model is there."""

    def work():
        step = stepper(mode, 1).step
        step(), step()

    return peak_megabytes(work)


def trained_by_chance(model) -> None:
    """Moves the adapters from their start, where B is zero, by about what training does."""
    for name, parameter in lora_parameters(model).items():
        if name.endswith("lora_B"):
            parameter.data.normal_(std=0.01)


@torch.no_grad()
def merged_inference(rounds: int) -> float:
    """Seconds of merged / seconds of a model that never had adapters."""
    _, plain = build("varan_ctc")
    _, merged = build("varan_ctc", **MODES["lora, all"])
    trained_by_chance(merged)
    merge_lora(merged)
    source = waveforms(1, SECONDS)
    works = {
        name: lambda model=model: model(source=source)
        for name, model in (("plain", plain.eval()), ("merged", merged.eval()))
    }
    seconds = interleaved_seconds(works, rounds)
    return seconds["merged"] / seconds["plain"]


@torch.no_grad()
def adapter_size():
    """Rows: megabytes by part, and the effect of half precision on the emissions."""
    _, model = build("varan_ctc", **MODES["lora"])
    model = model.float().eval()
    trained_by_chance(model)
    tensors = adapter_tensors(model)
    whole = sum(tensor.numel() for tensor in model.state_dict().values()) * 4
    total = sum(tensor.numel() for tensor in tensors.values()) * 4
    sizes = {"adapter, rank 16 on ffn": total}
    for group, count in adapter_parts(model, tensors).items():
        sizes[f"of it: {group}"] = 4 * count
    half = halve(tensors)
    sizes["in half precision"] = sum(
        tensor.numel() * tensor.element_size() for tensor in half.values()
    )
    source = waveforms(4, SECONDS).float()
    exact = model.get_logits(model(source=source))
    model.load_state_dict({name: tensor.float() for name, tensor in half.items()}, strict=False)
    rounded = model.get_logits(model(source=source))
    same = (exact.argmax(-1) == rounded.argmax(-1)).float().mean()
    print(
        f"in half precision emissions differ by at most {(exact - rounded).abs().max():.1e} nats, "
        f"the best label is equal in {100 * same:.2f}% of frames"
    )
    return [
        {"what": name, "megabytes": round(size / 1e6, 2), "percent": round(100 * size / whole, 2)}
        for name, size in sizes.items()
    ]


def main() -> None:
    logging.disable(logging.INFO)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=20 if CUDA else 4)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--memory", metavar="MODE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(cores())
    if args.memory:
        print(training_memory(args.memory))
        return
    memory = dict(zip(MODES, fresh_megabytes(__file__, [(mode,) for mode in MODES], 3)))
    keep_freed_memory()
    built = {mode: stepper(mode, 4) for mode in MODES}
    seconds = interleaved_seconds({mode: built[mode].step for mode in MODES}, args.rounds)
    rows = []
    for mode in MODES:
        time_wanted, memory_wanted = WANTED.get(mode, ("", ""))
        row = {
            "training": mode,
            "seconds": short(seconds[mode]),
            "megabytes": round(memory[mode]),
            "trained": built[mode].trained,
            "time": round(seconds[mode] / seconds["full"], 3),
            "time_wanted": time_wanted,
            "memory": round(memory[mode] / memory["full"], 3),
            "memory_wanted": memory_wanted,
        }
        rows.append(row)
    del built
    merged = {
        "inference": "merged / never adapted",
        "time": round(merged_inference(8 * args.rounds), 3),
        "time_wanted": "0.98 - 1.02",
    }
    report([rows, [merged], adapter_size()], args.json)


if __name__ == "__main__":
    main()
