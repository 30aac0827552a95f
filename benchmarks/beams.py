#!/usr/bin/env python3
"""With a language model: is one KenLM beam, on the layer that the consensus chooses, worse than
the union of the beams of all layers, rescored by all layers together?

    python benchmarks/beams.py work/demo/hubert

Wants what `make demo` leaves. The validation split of digits, a bigram language model of its
training strings. Union: a beam on every layer of weight q_l >= 0.05, ten best of each, and of all
of them the largest sum_l q_l log p_l(y | x) + lmweight * LM + wordscore * words.
"""

import argparse
import glob
import itertools
import math
import os
import tempfile
from collections import Counter

import editdistance
import torch
from measure import write_figures
from torch.nn import functional as F
from tqdm import tqdm

from varan_fairseq.data.manifest import read_manifest
from varan_fairseq.finetuned.load import load_model
from varan_fairseq.finetuned.outputs import load_audio, outputs
from varan_fairseq.method.consensus import consensus_layer
from varan_fairseq.runtime.fairseq_compat import import_example
from varan_fairseq.runtime.files import write_lines

WEIGHTS, WORD_SCORES = (0.0, 1.0), (-2.0, -1.0, 0.0, 1.0)
BEAM, NBEST, FLOOR = 50, 10, 0.05


def language_model(data: str, folder: str):
    """Writes a bigram ARPA file and a lexicon; returns log10 p of every pair of words."""
    with open(os.path.join(data, "train.wrd"), encoding="utf-8") as file:
        lines = [["<s>", *line.split(), "</s>"] for line in file]
    pairs = Counter(pair for line in lines for pair in zip(line, line[1:]))
    firsts = Counter(word for line in lines for word in line[:-1])
    log10 = {pair: math.log10(count / firsts[pair[0]]) for pair, count in pairs.items()}
    words = sorted(set(firsts) - {"<s>"})
    # every pair of digits occurs, so nothing ever backs off
    singles = [f"-1\t{word}\t0" for word in words] + ["-1\t</s>", "-99\t<s>\t0", "-99\t<unk>"]
    doubles = [f"{value:.6f}\t{' '.join(pair)}" for pair, value in log10.items()]
    arpa = ["\\data\\", f"ngram 1={len(singles)}", f"ngram 2={len(doubles)}", ""]
    arpa += ["\\1-grams:", *singles, "", "\\2-grams:", *doubles, "", "\\end\\"]
    write_lines(f"{folder}/words.arpa", arpa)
    write_lines(f"{folder}/lexicon.txt", [f"{word}\t{' '.join(word)} |" for word in words])
    return log10


def read_split(checkpoint: str, data: str):
    """(model, dictionary, [(emissions of the layers, q, consensus layer)]) of the validation."""
    model, cfg, task = load_model(checkpoint, data=data)
    load_audio(model, cfg, task, "valid", read_manifest(os.path.join(data, "valid.tsv")))
    read = {}
    for rows, out in outputs(model, task, "valid", 4000000):
        each = [layer.float().log_softmax(-1) for layer in out["layer_logits"]]
        chosen = consensus_layer(each, out["log_q"], out["lengths"], model.blank)
        for column, row in enumerate(rows.tolist()):
            frames = out["lengths"][column]
            emissions = torch.stack([layer[:frames, column] for layer in each]).contiguous()
            read[row] = (emissions, out["log_q"][column].exp(), int(chosen[column]))
    return model, task.target_dictionary, [read[row] for row in sorted(read)]


def rescored(hypotheses, emissions, q, blank, weight, word_score, log10):
    """The best word sequence of `hypotheses`, {words: tokens}."""
    best = None
    for words, tokens in hypotheses.items():
        layers, frames, _ = emissions.shape
        nll = F.ctc_loss(
            emissions.transpose(0, 1),
            tokens.expand(layers, -1),
            torch.full((layers,), frames),
            torch.full((layers,), len(tokens)),
            blank=blank,
            reduction="none",
        )
        pairs = zip(("<s>", *words), (*words, "</s>"))
        language = sum(log10.get(pair, -99.0) for pair in pairs)
        score = -(q * nll).sum() + weight * language + word_score * len(words)
        if best is None or score > best[0]:
            best = (score, words)
    return best[1]


def table(rows):
    """Markdown: each way at its best setting."""
    yield "| way | WER % | lmweight | wordscore | words |"
    yield "| --- | --- | --- | --- | --- |"
    for row in rows:
        settings = f"{row['lmweight']:g} | {row['wordscore']:g} | {row['words']:,}"
        yield f"| {row['way']} | {row['wer']:.2f} | {settings} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = os.path.join(args.folder, "..", "data")
    scratch = tempfile.mkdtemp()
    log10 = language_model(data, scratch)
    with open(os.path.join(data, "valid.wrd"), encoding="utf-8") as file:
        references = [line.split() for line in file]
    decoders = import_example("speech_recognition.new.decoders.flashlight_decoder")
    errors = {way: Counter() for way in ("one beam", "union")}
    checkpoints = sorted(glob.glob(os.path.join(args.folder, "*varan-*", "checkpoint_last.pt")))
    for checkpoint in checkpoints:
        model, labels, read = read_split(checkpoint, data)
        for setting in tqdm(list(itertools.product(WEIGHTS, WORD_SCORES)), desc=checkpoint):
            weight, word_score = setting
            options = decoders.FlashlightDecoderConfig(
                nbest=NBEST,
                lmpath=f"{scratch}/words.arpa",
                lexicon=f"{scratch}/lexicon.txt",
                beam=BEAM,
                lmweight=weight,
                wordscore=word_score,
            )
            decoder = decoders.KenLMDecoder(options, labels)
            for (emissions, q, chosen), reference in zip(read, references):
                beams = {
                    layer: decoder.decode(emissions[layer : layer + 1])[0]
                    for layer in range(len(q))
                    if layer == chosen or q[layer] >= FLOOR
                }
                first = beams[chosen][0]["words"] if beams[chosen] else []
                found = {tuple(h["words"]): h["tokens"] for beam in beams.values() for h in beam}
                union = rescored(found, emissions, q, model.blank, *setting, log10)
                errors["one beam"][setting] += editdistance.eval(first, reference)
                errors["union"][setting] += editdistance.eval(list(union), reference)
    words = len(checkpoints) * sum(len(reference) for reference in references)
    rows = []
    for way, counts in errors.items():
        setting, count = min(counts.items(), key=lambda item: item[1])
        rows.append({"way": way, "lmweight": setting[0], "wordscore": setting[1]})
        rows[-1].update(wer=100 * count / words, words=words)
    print("\n".join(table(rows)))
    if args.json:
        write_figures(args.json, rows)


if __name__ == "__main__":
    main()
