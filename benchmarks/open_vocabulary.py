#!/usr/bin/env python3
"""With a language model that does not know every word: one beam on the prediction of each rule, or a
beam on every layer and all their candidates rescored by all layers together?

    python benchmarks/open_vocabulary.py DATA CHECKPOINT .. --json docs/results/open-vocabulary.json

Wants transcribed sentences (manifests/prose.py) and runs of VARAN on them, several seeds. The language
model is a bigram of the training sentences (manifests/bigrams.py), the lexicon their words; some of
the validation split's words are in neither. Every way has the same settings to choose from: those
of one half of the split are chosen on the other. Checkpoints are pickles: your own.

Union: ten best of a beam on every layer of weight q_l >= 0.02, at the setting that the vote's beam
has; of all of them the largest sum_l q_l log p_l(y | x) + lmweight * LM + wordscore * words.
"""

import argparse
import itertools
import os
import tempfile
from collections import defaultdict

import editdistance
import numpy as np
import torch
from measure import report
from torch.nn import functional as F
from tqdm import tqdm
from vote import RULES, emissions, predictions

from varan_fairseq.corpora.bigrams import arpa, probabilities
from varan_fairseq.data.manifest import read_lines
from varan_fairseq.decoding import search
from varan_fairseq.finetuned.labelled import load_transcribed
from varan_fairseq.finetuned.load import load_model
from varan_fairseq.runtime.files import write_lines

LMWEIGHTS, WORDSCORES = (0.5, 1.0, 2.0, 4.0), (-2.0, 0.0, 2.0)
SETTINGS = list(itertools.product(LMWEIGHTS, WORDSCORES))
BEAM, NBEST, FLOOR = 50, 10, 0.02


def language_model(data, folder):
    """(ARPA file, lexicon, the words) of the training sentences."""
    lines = [line for line in read_lines(os.path.join(data, "train.wrd")) if line.split()]
    words = sorted({word for line in lines for word in line.split()})
    write_lines(f"{folder}/words.arpa", arpa(*probabilities(lines)))
    write_lines(f"{folder}/lexicon.txt", [f"{word}\t{' '.join(word)} |" for word in words])
    return f"{folder}/words.arpa", f"{folder}/lexicon.txt", words


def log_likelihoods(texts, layers, labels, blank):
    """log p_l(y | x) of each text [N, L] under each layer's emission [L, T, V]."""
    found = np.empty((len(texts), len(layers)))
    for place, text in enumerate(texts):
        units = [labels.index(label) for word in text.split() for label in (*word, "|")]
        target = torch.tensor(units).expand(len(layers), -1)
        sizes = [torch.full((len(layers),), size) for size in (layers.shape[1], len(units))]
        nll = F.ctc_loss(layers.transpose(0, 1), target, *sizes, blank=blank, reduction="none")
        found[place] = -nll.double().numpy()
    return found


def language_scores(texts, model, index):
    """log10 p of each text by flashlight's KenLM."""
    scores = []
    for text in texts:
        state, total = model.start(False), 0.0
        for word in text.split():
            state, score = model.score(state, index.get_index(word))
            total += score
        scores.append(total + model.finish(state)[1])
    return np.array(scores)


def union(found, decoder, setting, labels, blank):
    """Per utterance: (texts, sum_l q_l log p_l of each, LM of each, words of each)."""
    decoder.set_weights(lmweight=setting[0], wordscore=setting[1])
    inner = decoder._decoder  # fairseq's, for the language model itself
    rows = []
    for layers, log_q in tqdm(found, desc="union", leave=False):
        q = log_q.exp()
        texts = {
            hypothesis.text
            for layer in np.flatnonzero(q >= FLOOR)
            for hypothesis in decoder(layers[layer].numpy())[:NBEST]
            if hypothesis.text
        }
        texts = sorted(texts) or [""]
        likely = log_likelihoods(texts, layers, labels, blank) @ q.double().numpy()
        counts = np.array([len(text.split()) for text in texts])
        rows.append((texts, likely, language_scores(texts, inner.lm, inner.word_dict), counts))
    return rows


def chosen_apart(errors, halves):
    """Errors of each half at the setting that is best on the other, and those settings. errors:
    {setting: [errors of each utterance]}."""
    total, settings = 0, []
    for here, there in (halves, halves[::-1]):
        setting = min(errors, key=lambda each: sum(errors[each][row] for row in there))
        total += sum(errors[setting][row] for row in here)
        settings.append(setting)
    return total, settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data")
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    scratch = tempfile.mkdtemp()
    lm, lexicon, words = language_model(args.data, scratch)
    options = search.options(
        type="kenlm", lmpath=lm, lexicon=lexicon, beam=BEAM, nbest=NBEST, lmweight=1, wordscore=0
    )
    known, errors, without = set(words), defaultdict(lambda: defaultdict(list)), defaultdict(int)
    for checkpoint in args.checkpoints:
        model, cfg, task = load_model(checkpoint, data=args.data)
        references = load_transcribed(model, cfg, task, "valid").references
        texts = [line.split() for line in references.text]
        found = emissions(model, task, "valid", len(texts))
        labels, blank = task.target_dictionary, model.blank
        decoder = search.Search(options, labels)

        def count(heard, texts=texts):
            return [editdistance.eval(line.split(), text) for line, text in zip(heard, texts)]

        for way in RULES:
            paths = list(predictions(found, way, blank))
            greedy = [
                search.best_paths(path.unsqueeze(1), [len(path)], blank, labels, "letter")[0].text
                for path in paths
            ]
            without[way] += sum(count(greedy))
            for setting in tqdm(SETTINGS, desc=f"{checkpoint.split('/')[-2]} {way}", leave=False):
                decoder.set_weights(lmweight=setting[0], wordscore=setting[1])
                heard = [decoder(path.float().numpy())[0].text for path in paths]
                errors[way][setting] += count(heard)
        votes = errors["vote"]
        best = min(SETTINGS, key=lambda setting: sum(votes[setting]))
        candidates = union(found, decoder, best, labels, blank)
        for setting in SETTINGS:
            heard = [
                lines[int(np.argmax(likely + setting[0] * score + setting[1] * counts))]
                for lines, likely, score, counts in candidates
            ]
            errors["union"][setting] += count(heard)
    spoken = len(args.checkpoints) * sum(map(len, texts))
    unknown = sum(word not in known for text in texts for word in text) / sum(map(len, texts))
    size = len(args.checkpoints) * len(texts)
    halves = [range(start, size, 2) for start in (0, 1)]
    rows = []
    for way, counted in errors.items():
        total, settings = chosen_apart(counted, halves)
        rows.append(
            {
                "way": way,
                "WER %": round(100 * total / spoken, 2),
                "best path": round(100 * without[way] / spoken, 2) if way in without else "",
                "lmweight, wordscore": "; ".join(f"{w:g}, {s:g}" for w, s in settings),
                "words": spoken,
                "unknown %": round(100 * unknown, 1),
            }
        )
    report(rows, args.json)


if __name__ == "__main__":
    main()
