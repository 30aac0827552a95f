#!/usr/bin/env python3
"""What docs/first-hour.md does, in English and in Spanish: manifests, check, training, sweep,
decoding, the recordings as one, report. `make first-hour` calls this.

    python examples/demo/first_hour.py

Run from the root of the repository. Everything goes to work/first-hour; what is trained already is
not trained again.
"""

import argparse
import json
import os
import time

import editdistance
import soundfile
from runs import call, pretrain, run_all, train, write_results

from varan_fairseq.data.manifest import read_manifest

WORK = "work/first-hour"
LANGUAGES = {"en": "English", "es": "Spanish"}
TRAINING = [
    "optimization.max_update=1000",
    "dataset.max_tokens=500000",
    "dataset.batch_size=8",
    "dataset.validate_interval=10",
    "common.log_format=json",
    "common.log_interval=50",
]


def run(log, *command):
    """A command with its output in work/first-hour/LANGUAGE/NAME.log."""
    call(list(command), log, threads=1)


def scores(folder):
    """Of a folder of varan-infer's."""
    with open(f"{folder}/asr.json", encoding="utf-8") as file:
        return json.load(file)


def concatenate(data, path):
    """All recordings, one after the other and those of the test set first, as one file; (seconds
    of the test set, seconds)."""
    samples = []
    with soundfile.SoundFile(path, "w", 16000, 1) as file:
        for split in ("test", "valid", "train"):
            manifest = read_manifest(f"{data}/{split}.tsv")
            for name, _ in manifest.entries:
                file.write(soundfile.read(os.path.join(manifest.root, name))[0])
            samples.append(manifest.samples.sum())
    return samples[0] / 16000, sum(samples) / 16000


def first_hour(language, pretrained):
    """A row of the table."""
    data = f"{WORK}/{language}"
    checkpoint = train(
        f"{data}/run", "finetune", [f"task.data={data}", f"model.w2v_path={pretrained}", *TRAINING]
    )
    lm, lexicon = f"{data}/lm.arpa", f"{data}/lexicon.txt"
    run(f"{data}/lm.log", "python", "manifests/bigrams.py", f"{data}/train.wrd", lm)
    infer = ["varan-infer", f"common_eval.path={checkpoint}", f"task.data={data}"]
    infer += ["dataset.gen_subset=test"]
    run(f"{data}/viterbi.log", *infer, f"decoding.results_path={data}/viterbi")
    run(
        f"{data}/sweep.log",
        *infer,
        "--sweep",
        "valid",
        f"decoding.results_path={data}/kenlm",
        "decoding.type=kenlm",
        f"decoding.lmpath={lm}",
        f"decoding.lexicon={lexicon}",
        "decoding.lmweight=0.5,1,2,3,4",
        "decoding.wordscore=-2,0,2,4",
    )
    viterbi, swept = scores(f"{data}/viterbi"), scores(f"{data}/kenlm/test")
    weights = swept["decoding"]
    test_seconds, seconds = concatenate(data, f"{data}/long.flac")
    transcribe = ["varan-transcribe", checkpoint, f"{data}/long.flac", "--overwrite"]
    transcribe += ["--lm", lm, "--lexicon", lexicon, "--out", f"{data}/long"]
    transcribe += [
        "--lmweight",
        str(weights["lmweight"]),
        "--wordscore",
        str(weights["wordscore"]),
    ]
    for kind in ("srt", "jsonl"):
        run(f"{data}/transcribe.log", *transcribe, "--format", kind)
    with open(f"{data}/long/long.jsonl", encoding="utf-8") as file:
        found = json.load(file)
    words = [word for segment in found["segments"] for word in segment["words"]]
    heard = [word["word"] for word in words if word["start"] < test_seconds]
    with open(f"{data}/test.wrd", encoding="utf-8") as file:
        said = file.read().split()
    report = ["varan-report", checkpoint, data, "test", "--out", f"{data}/report.html"]
    run(f"{data}/report.log", *report, "--log", f"{data}/run/train.log")
    minutes = {
        split: read_manifest(f"{data}/{split}.tsv").samples.sum() / 960000
        for split in ("train", "test")
    }
    return {
        "language": LANGUAGES[language],
        "training_minutes": round(minutes["train"], 1),
        "test_minutes": round(minutes["test"], 1),
        "wer_best_path": viterbi["wer"],
        "wer_best_path_interval": viterbi["wer_interval"],
        "wer_language_model": swept["wer"],
        "wer_language_model_interval": swept["wer_interval"],
        "lmweight": weights["lmweight"],
        "wordscore": weights["wordscore"],
        "wer_as_one_recording": 100 * editdistance.eval(heard, said) / len(said),
        "long_seconds": round(float(seconds)),
    }


def table(rows):
    """Markdown."""
    names = ["", "train, min", "test, min", "best path", "with bigrams", "weights"]
    names += ["in one file of", "then"]
    yield "| " + " | ".join(names) + " |"
    yield "| --- " * len(names) + "|"
    for row in rows:
        each = [
            "{:.2f} ({:.2f} - {:.2f})".format(row[f"wer_{way}"], *row[f"wer_{way}_interval"])
            for way in ("best_path", "language_model")
        ]
        weights = f"{row['lmweight']:g}, {row['wordscore']:g}"
        minutes = f"{row['training_minutes']} | {row['test_minutes']}"
        whole = f"{row['long_seconds'] / 60:.1f} min | {row['wer_as_one_recording']:.2f}"
        yield f"| {row['language']} | {minutes} | {each[0]} | {each[1]} | {weights} | {whole} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    parser.add_argument(
        "--prepare",
        action="store_true",
        help="only make what the page's commands start from: an encoder, one long recording",
    )
    args = parser.parse_args()
    start = time.time()
    for language in LANGUAGES:
        data = f"{WORK}/{language}"
        os.makedirs(data, exist_ok=True)
        if not os.path.exists(f"{data}/test.tsv"):
            asterisk = ["python", "manifests/asterisk.py", data, "--language", language]
            call(asterisk, f"{data}/manifests.log", bars=True)
        run(f"{data}/check.log", "varan-check", data)
    pretrained = pretrain(
        f"{WORK}/pretrain",
        f"{WORK}/en",
        "hubert",
        ["optimization.max_update=2000"],
        args.jobs,
    )
    if args.prepare:
        for language in LANGUAGES:
            concatenate(f"{WORK}/{language}", f"{WORK}/{language}/long.flac")
        return
    rows = run_all(args.jobs, first_hour, [(language, pretrained) for language in LANGUAGES])
    write_results(WORK, rows, list(table(rows)), time.time() - start)


if __name__ == "__main__":
    main()
