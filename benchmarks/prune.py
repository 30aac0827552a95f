#!/usr/bin/env python3
"""Inference with fewer blocks: `varan_ctc` on a base encoder cut to 8 of its 12 blocks, against all
of them, emissions of the default rule included.

    python benchmarks/prune.py

Random weights with emissions like a trained model's (see consensus.py), 20 utterances of 10 s; fp16 on
a GPU, float32 on a CPU. What feature encoder and blocks cost by themselves says how far this can go.
"""

import argparse
import logging

import torch
from consensus import SECONDS, UTTERANCES, Spiky, batches
from measure import cores, interleaved_seconds, keep_freed_memory, report, short
from models import CUDA, ENCODERS, build

BLOCKS = 8


def main() -> None:
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=10 if CUDA else 3)
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    torch.set_num_threads(cores())
    keep_freed_memory()
    models = {}
    for blocks in (12, BLOCKS):
        ENCODERS["cut"] = ("wav2vec2", {"encoder_layers": blocks})
        task, model = build("varan_ctc", "cut", apply_mask=False)
        assert model.w2v_encoder.num_layers == blocks
        models[f"{blocks} blocks"] = (Spiky(model.eval()), model)
    samples = list(batches(len(task.target_dictionary)))

    def emissions(spiky, model):
        def run():
            with torch.no_grad():
                for sample in samples:
                    model.predict(spiky(**sample["net_input"]))

        return run

    def features(model):
        def run():
            with torch.no_grad():
                for sample in samples:
                    model.w2v_encoder.w2v_model.feature_extractor(sample["net_input"]["source"])

        return run

    work = {name: emissions(*pair) for name, pair in models.items()}
    work["feature encoder"] = features(models["12 blocks"][1])
    seconds = interleaved_seconds(work, args.rounds)
    whole = seconds["12 blocks"]
    rows = [
        {"what": name, "seconds": short(value), "time": round(value / whole, 3)}
        for name, value in seconds.items()
    ]
    report(rows, args.json)
    print(f"{UTTERANCES} utterances of {SECONDS} s; wanted for {BLOCKS} blocks: 0.75")


if __name__ == "__main__":
    main()
