#!/usr/bin/env python3
"""A small HuBERT whose layers differ, pre-trained from nothing by stock fairseq: two rounds, as in
HuBERT's paper (arXiv 2106.07447), on clusters of MFCC and then of the first round's states.

    python examples/evidence/pretrain.py [--out work/evidence]
    python examples/evidence/pretrain.py --out work/evidence-wide --wide    # on a GPU; never run

Makes all speech that is to be had without an account (English and Spanish prompts, digit strings,
speaking styles, prose; training parts alone), and leaves OUT/round2/checkpoint_last.pt. About
an hour on one core; what is there already is not made again. One thread, so that the same machine
makes the same weights (other processors round otherwise: other weights, as good).
"""

import argparse
import os
import sys

from varan_fairseq.data.manifest import manifest_rows, read_manifest
from varan_fairseq.runtime.files import write_lines
from varan_fairseq.runtime.training import call, train

# What makes each corpus, and how often an epoch hears it: there is little of human speech.
CORPORA = {
    "prompts": (["manifests/asterisk.py"], 4),
    "prompts-es": (["manifests/asterisk.py", "--language", "es"], 4),
    "digits": (["manifests/digits.py"], 1),
    "styles": (["manifests/styles.py"], 1),
    "sentences": (["manifests/sentences.py"], 1),
}
UPDATES = {"round1": 1000, "round2": 2500}
# With --wide: four times the parameters, four times the speech in an update, twice the updates.
WIDE = [
    "model.encoder_embed_dim=384",
    "model.encoder_ffn_embed_dim=1536",
    "model.encoder_attention_heads=6",
    "common.fp16=true",
    "dataset.max_tokens=1280000",
    "dataset.num_workers=4",
]
LAYER = 6  # of the first round, whose states are clustered for the second


def gather(out):
    """OUT/speech: one manifest a split of all corpora."""
    for split in ("train", "valid"):
        rows = []
        for name, (_, times) in CORPORA.items():
            manifest = read_manifest(f"{out}/{name}/{split}.tsv")
            below = os.path.relpath(manifest.root, out)
            rows += [(f"{below}/{path}", samples) for path, samples in manifest.entries] * times
        os.makedirs(f"{out}/speech", exist_ok=True)
        write_lines(f"{out}/speech/{split}.tsv", manifest_rows(os.path.abspath(out), rows))


def overrides_of(out, name, labels, label_rate, wide):
    overrides = [f"task.data={out}/speech", f"task.label_dir={labels}"]
    overrides += [f"task.label_rate={label_rate}", f"model.label_rate={label_rate}"]
    overrides.append(f"optimization.max_update={UPDATES[name] * (2 if wide else 1)}")
    return [*overrides, *(WIDE if wide else [])]


def round_of(out, name, *settings):
    overrides = overrides_of(out, name, *settings)
    return train(f"{out}/{name}", "pretrain", overrides, folder="examples/evidence")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", default="work/evidence", help="folder for everything")
    parser.add_argument("--wide", action="store_true", help="width 384 instead of 192, on a GPU")
    args = parser.parse_args()
    out = args.out
    if not os.path.isdir("examples/evidence"):
        sys.exit("pretrain.py: run it from the root of the repository")
    for name, (command, _) in CORPORA.items():
        if not os.path.exists(f"{out}/{name}/train.tsv"):
            os.makedirs(f"{out}/{name}", exist_ok=True)
            log = f"{out}/{name}/made.log"
            call(["python", command[0], f"{out}/{name}", *command[1:]], log, bars=True)
    gather(out)

    kmeans = ["python", "examples/demo/kmeans.py", f"{out}/speech"]
    mfcc, states = f"{out}/speech/mfcc", f"{out}/speech/states"
    if not os.path.exists(f"{mfcc}/dict.km.txt"):
        call([*kmeans, "--out", mfcc], f"{out}/kmeans-mfcc.log", bars=True)
    first = round_of(out, "round1", mfcc, 100, args.wide)
    if not os.path.exists(f"{states}/dict.km.txt"):
        command = [*kmeans, "--out", states, "--clusters", "200"]
        command += ["--checkpoint", first, "--layer", str(LAYER)]
        call(command, f"{out}/kmeans-states.log", bars=True)
    print(round_of(out, "round2", states, 50, args.wide))


if __name__ == "__main__":
    main()
