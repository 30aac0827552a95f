#!/usr/bin/env python3
"""What sherpa-onnx reads of a test split through `varan-export onnx`, in float32 and in int8, against
`varan-transcribe --layer N`; mean over runs (several seeds of one setting).

    make demo
    python benchmarks/sherpa.py work/demo/data test work/demo/hubert/lora-varan-?/checkpoint_last.pt

int8: the matrices of linear layers, by onnxruntime's dynamic quantization.
"""

import argparse
import logging
import os
import statistics
import tempfile
import warnings

import sherpa_onnx
import soundfile
from measure import report
from onnxruntime.quantization import quantize_dynamic
from tqdm import tqdm

import varan_fairseq
from varan_fairseq.data.manifest import read_lines, read_manifest
from varan_fairseq.finetuned.one_layer import one_layer
from varan_fairseq.finetuned.to_onnx import onnx
from varan_fairseq.scoring.transcripts import distance


def read(folder, graph, wavs):
    """What sherpa-onnx makes of files."""
    recognizer = sherpa_onnx.OfflineRecognizer.from_omnilingual_asr_ctc(
        model=os.path.join(folder, graph), tokens=os.path.join(folder, "tokens.txt")
    )
    for wav in wavs:
        audio, rate = soundfile.read(wav, dtype="float32")
        stream = recognizer.create_stream()
        stream.accept_waveform(rate, audio)
        recognizer.decode_stream(stream)
        yield " ".join(stream.result.text.split())


def words_of(recognizer, wavs):
    return [" ".join(recognizer.transcribe(wav).split()) for wav in wavs]


def readings(run, wavs):
    """name -> (megabytes of the graph or None, texts)."""
    ours = varan_fairseq.load(run)
    found = {"varan-transcribe": (None, words_of(ours, wavs))}
    ours.model.cfg.decode_layer = one_layer(run).layer
    found["varan-transcribe --layer N"] = (None, words_of(ours, wavs))
    with tempfile.TemporaryDirectory() as place:
        folder = os.path.join(place, "graph")
        onnx(run, folder)
        whole, small = (os.path.join(folder, name) for name in ("model.onnx", "int8.onnx"))
        quantize_dynamic(whole, small, op_types_to_quantize=["MatMul"])
        for name, path in (("sherpa-onnx, float32", whole), ("sherpa-onnx, int8", small)):
            texts = list(read(folder, os.path.basename(path), wavs))
            found[name] = (os.path.getsize(path) / 1e6, texts)
    return found


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data")
    parser.add_argument("split")
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    manifest = read_manifest(os.path.join(args.data, f"{args.split}.tsv"))
    wavs = [os.path.join(manifest.root, path) for path, _ in manifest.entries]
    words = [line.split() for line in read_lines(os.path.join(args.data, f"{args.split}.wrd"))]
    every = [readings(run, wavs) for run in tqdm(args.runs)]
    rows = []
    for name in every[0]:
        texts = [found[name][1] for found in every]
        same = [found["varan-transcribe --layer N"][1] for found in every]
        errors = [sum(map(distance, words, (t.split() for t in each))) for each in texts]
        equal = [sum(map(str.__eq__, *pair)) for pair in zip(texts, same)]
        size = every[0][name][0]
        rows.append(
            {
                "read by": name,
                "megabytes": "" if size is None else round(size, 1),
                "as --layer N, of 200" if len(wavs) == 200 else "as --layer N": " ".join(
                    map(str, equal)
                ),
                "WER %": round(statistics.mean(100 * e / sum(map(len, words)) for e in errors), 2),
            }
        )
    report(rows, args.json)


if __name__ == "__main__":
    main()
