#!/usr/bin/env python3
"""HuBERT's targets: k-means clusters of MFCC, one label every 10 ms, or of a layer's states of an
earlier round.

    python examples/demo/kmeans.py work/digits/data --clusters 100
    python examples/demo/kmeans.py work/digits/data --checkpoint HUBERT --layer 6 --clusters 200

Writes train.km, valid.km and dict.km.txt beside the manifests, or to --out. fairseq's own scripts for
this (examples/hubert/simple_kmeans) need a torchaudio that loads, which CPU builds of torch
often lack.
"""

import argparse
import os

import numpy as np
from tqdm import tqdm

from varan_fairseq.data.manifest import read_manifest
from varan_fairseq.runtime.files import write_lines

FIT = 1000000  # frames at most that the clusters are found from


def mfcc(path):
    """[frames, 39]: 13 coefficients with first and second differences over time."""
    import kaldi_native_fbank
    import soundfile

    samples, rate = soundfile.read(path, dtype="float32")
    options = kaldi_native_fbank.MfccOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = rate
    options.use_energy = False
    extractor = kaldi_native_fbank.OnlineMfcc(options)
    extractor.accept_waveform(rate, (samples * 32768).tolist())  # Kaldi counts in 16 bits
    extractor.input_finished()
    frames = [extractor.get_frame(index) for index in range(extractor.num_frames_ready)]
    plain = np.stack(frames)
    first = np.gradient(plain, axis=0)
    return np.concatenate([plain, first, np.gradient(first, axis=0)], axis=1)


def states(checkpoint, layer):
    """A function from a path to [frames, width]: states behind block `layer`, from 1. The checkpoint
    is a pickle: your own."""
    import soundfile
    import torch
    from fairseq.checkpoint_utils import load_model_ensemble

    import varan_fairseq.models  # noqa: F401  (registers all)

    model = load_model_ensemble([checkpoint])[0][0].eval()

    @torch.no_grad()
    def of(path):
        samples, _ = soundfile.read(path, dtype="float32")
        found, _ = model.extract_features(torch.from_numpy(samples)[None], output_layer=layer)
        return found[0].numpy()

    return of


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", help="folder with train.tsv and valid.tsv")
    parser.add_argument("--out", help="folder for the labels; default: data")
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--checkpoint", help="a HuBERT whose states to cluster; default: MFCC")
    parser.add_argument("--layer", type=int, default=6, help="of the checkpoint")
    args = parser.parse_args()
    from sklearn.cluster import MiniBatchKMeans

    out = args.out or args.data
    os.makedirs(out, exist_ok=True)
    of = states(args.checkpoint, args.layer) if args.checkpoint else mfcc
    features = {}
    for split in ("train", "valid"):
        manifest = read_manifest(os.path.join(args.data, f"{split}.tsv"))
        files = tqdm(manifest.entries, desc=f"features of {split}")
        features[split] = [of(os.path.join(manifest.root, path)) for path, _ in files]
    every = np.concatenate(features["train"])
    mean, scale = every.mean(0), every.std(0)
    drawn = every[:: -(-len(every) // FIT)]
    kmeans = MiniBatchKMeans(args.clusters, batch_size=10000, n_init=5, random_state=0)
    kmeans.fit((drawn - mean) / scale)
    for split, files in features.items():
        labels = (" ".join(map(str, kmeans.predict((file - mean) / scale))) for file in files)
        write_lines(os.path.join(out, f"{split}.km"), labels)
    names = (f"{cluster} 1" for cluster in range(args.clusters))
    write_lines(os.path.join(out, "dict.km.txt"), names)
    print(f"{out}: {len(every)} frames in {args.clusters} clusters")


if __name__ == "__main__":
    main()
