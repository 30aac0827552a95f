#!/usr/bin/env python3
"""What decoding costs: VARAN beside stock `wav2vec_ctc` of the same size, by the best path; and a
sweep of 12 settings of a language model beside one setting.

    python benchmarks/decoding.py

Base size, random weights with emissions like a trained model's (see consensus.py), 20 utterances of
10 s; fp16 on a GPU, float32 on a CPU, all cores. The language model has 20,000 words of random
letters, the beam is fairseq's default of 50.
"""

import argparse
import logging
import random
import tempfile
import time

import numpy as np
import torch
from consensus import BATCH, SECONDS, UTTERANCES, Spiky, batches
from measure import cores, interleaved_seconds, keep_freed_memory, write_figures
from models import CUDA, build

from varan_fairseq.corpora import bigrams
from varan_fairseq.decoding.emissions import Emissions, batch_emissions
from varan_fairseq.decoding.evaluate import search_split
from varan_fairseq.decoding.search import Search, options
from varan_fairseq.runtime.fairseq_compat import import_decoder
from varan_fairseq.runtime.files import write_lines

WORDS, SETTINGS = 20000, 12


def language_model(folder: str):
    """(ARPA file, lexicon) of words of random letters."""
    rng = random.Random(1)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    words = sorted({"".join(rng.choices(letters, k=rng.randint(2, 7))) for _ in range(WORDS)})
    lines = [" ".join(rng.choices(words, k=8)) for _ in range(4 * WORDS // 8)]
    write_lines(f"{folder}/lm.arpa", bigrams.arpa(*bigrams.probabilities([*words, *lines])))
    write_lines(f"{folder}/lexicon.txt", [f"{word}\t{' '.join(word)} |" for word in words])
    return f"{folder}/lm.arpa", f"{folder}/lexicon.txt"


def encode(model, samples) -> Emissions:
    """Emissions of batches, as varan-infer keeps them."""
    start = time.perf_counter()
    found = []
    with torch.no_grad():
        for sample in samples:
            found += batch_emissions(model, model(**sample["net_input"]))
    ends = np.cumsum([len(each.log_probs) for each in found])
    rows = np.stack([ends - [len(each.log_probs) for each in found], ends], 1)
    rows[:, 1] -= rows[:, 0]
    log_probs = np.concatenate([each.log_probs for each in found])
    log_q, layer = np.stack([each.log_q for each in found]), np.zeros(len(found), int)
    return Emissions(log_probs, rows, log_q, layer, time.perf_counter() - start, "")


def main() -> None:
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=10 if CUDA else 3)
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    torch.set_num_threads(cores())
    keep_freed_memory()
    task, varan = build("varan_ctc", apply_mask=False)
    _, stock = build("wav2vec_ctc", apply_mask=False)
    labels = task.target_dictionary
    samples = list(batches(len(labels)))
    assert len(samples) * BATCH == UTTERANCES
    spiky = Spiky(varan.eval())
    spiky.predict, spiky.blank = varan.predict, varan.blank
    models = {"wav2vec_ctc": stock.eval(), "varan_ctc": spiky, "varan_ctc, random": varan}
    decoder = import_decoder().Decoder(options(), labels)

    def work(model):
        def run():
            with torch.no_grad():
                for sample in samples:
                    decoder.generate([model], sample)

        return run

    print(
        f"{torch.cuda.get_device_name() + ', fp16' if CUDA else 'CPU, float32'}, torch "
        f"{torch.__version__}; {UTTERANCES} utterances of {SECONDS} s"
    )
    seconds = interleaved_seconds({name: work(m) for name, m in models.items()}, args.rounds)
    rows = []
    for name in ("varan_ctc", "varan_ctc, random"):
        ratio = seconds[name] / seconds["wav2vec_ctc"]
        rows.append({"what": f"best path, {name} / wav2vec_ctc", "ratio": round(ratio, 3)})
        print(
            f"best path: wav2vec_ctc {seconds['wav2vec_ctc']:.3g} s, {name} {seconds[name]:.3g} s, "
            f"ratio {ratio:.3f} (wanted 1.10)",
            flush=True,
        )

    lm, lexicon = language_model(tempfile.mkdtemp())
    search = Search(options(type="kenlm", lmpath=lm, lexicon=lexicon), labels)
    grid = [{"lmweight": 0.5 * n, "wordscore": float(s)} for n in range(1, 5) for s in (-1, 0, 1)]
    assert len(grid) == SETTINGS
    emissions = encode(spiky, samples)
    took = {
        len(each): search_split(search, emissions, cores(), each)[1] for each in (grid[:1], grid)
    }
    one, twelve = (emissions.seconds + took[count] for count in (1, SETTINGS))
    rows.append({"what": "sweep of 12 settings / one", "ratio": round(twelve / one, 3)})
    print(
        f"sweep: emissions {emissions.seconds:.2f} s, one search {took[1]:.2f} s, {SETTINGS} "
        f"searches {took[SETTINGS]:.2f} s, ratio of the wholes {twelve / one:.3f} (wanted 2)"
    )
    if args.json:
        write_figures(args.json, rows)


if __name__ == "__main__":
    main()
