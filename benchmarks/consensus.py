#!/usr/bin/env python3
"""What `combine: consensus` and `vote` cost beside `best_layer`: decoding with fairseq's Viterbi decoder,
and a validation pass, of a base encoder with random weights.

    python benchmarks/consensus.py

One thread, float32 on a CPU; fp16 on a GPU. Random heads agree on nothing, which is the worst
case, so a third figure is of emissions like a trained model's: spikes of 15 labels a second in
every layer, of which the lower layers have more wrong.
"""

import argparse
import logging

import torch
from fairseq import criterions
from measure import interleaved_seconds
from models import CUDA, DEVICE, build, waveforms
from omegaconf import OmegaConf

from varan_fairseq.runtime.fairseq_compat import import_example

UTTERANCES, SECONDS, BATCH, LABELS = 20, 10, 4, 150
RULES = ("best_layer", "consensus", "vote")


def batches(classes: int):
    """Five batches of four utterances, with targets."""
    for _ in range(UTTERANCES // BATCH):
        source = waveforms(BATCH, SECONDS)
        yield {
            "id": torch.arange(BATCH),
            "net_input": {"source": source, "padding_mask": torch.zeros_like(source).bool()},
            "target": torch.randint(4, classes, (BATCH, LABELS), device=DEVICE),
            "ntokens": BATCH * LABELS,
        }


class Spiky(torch.nn.Module):
    """A model whose emissions look like those of a trained one: labels are added to what its
    heads say, the same for all layers but for 20% wrong ones in the lowest and 2% in the
    highest."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.get_logits = model.get_logits
        generator = torch.Generator().manual_seed(1)
        layers, classes = model.num_predictions, model.aggregation.heads[0][1].out_features
        right = torch.randint(4, classes, (LABELS,), generator=generator)
        where = torch.arange(0, 3 * LABELS, 3)
        self.spikes = []
        for layer in range(layers):
            other = torch.randint(4, classes, (LABELS,), generator=generator)
            wrong = torch.rand(LABELS, generator=generator) < 0.2 - 0.18 * layer / (layers - 1)
            spikes = torch.zeros(50 * SECONDS - 1, 1, classes)
            spikes[:, 0, model.blank] = 8
            spikes[where, 0, model.blank] = 0
            spikes[where, 0, torch.where(wrong, other, right)] = 8
            self.spikes.append(spikes.to(DEVICE))

    def forward(self, **inputs):
        output = self.model(**inputs)
        pairs = zip(output["layer_logits"], self.spikes)
        output["layer_logits"] = [logits + spikes for logits, spikes in pairs]
        return output


def main() -> None:
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=10 if CUDA else 3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    task, model = build("varan_ctc", apply_mask=False)
    model.eval()
    labels = task.target_dictionary
    samples = list(batches(len(labels)))
    decoder = import_example("speech_recognition.new.decoders.viterbi_decoder").ViterbiDecoder(
        labels
    )
    loss = {"_name": "varan_ctc", "zero_infinity": True, "sentence_avg": True, "max_update": 0}
    criterion = criterions.build_criterion(OmegaConf.create(loss), task)

    def work(rule, each):
        def run():
            model.cfg.combine = rule
            with torch.no_grad():
                for sample in samples:
                    each(sample)

        return run

    spikes = Spiky(model)
    jobs = {
        "decoding": lambda sample: decoder.generate([model], sample),
        "validation": lambda sample: criterion(model, sample),
        "decoding, spikes": lambda sample: decoder.generate([spikes], sample),
    }
    print(
        f"{torch.cuda.get_device_name() + ', fp16' if CUDA else 'CPU, float32, one thread'}, torch "
        f"{torch.__version__}; {UTTERANCES} utterances of {SECONDS} s, 12 layers"
    )
    for name, each in jobs.items():
        seconds = interleaved_seconds({rule: work(rule, each) for rule in RULES}, args.rounds)
        consensus = seconds["consensus"] / seconds["best_layer"]
        vote = seconds["vote"] / seconds["consensus"]
        wanted = 1.05 if "spikes" in name else 1.10
        each = ", ".join(f"{rule} {value:.3g} s" for rule, value in seconds.items())
        print(
            f"{name}: {each}; consensus / best_layer {consensus:.3f}, vote / consensus {vote:.3f} "
            f"(wanted {wanted})",
            flush=True,
        )


if __name__ == "__main__":
    main()
