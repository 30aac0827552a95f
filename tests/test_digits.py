"""A model that has learned something: spoken digits by espeak-ng, read early in training."""

import argparse
import csv
import json
import os

import editdistance
import numpy as np
import pytest
import soundfile
from build import train
from conftest import REPO, save_pretrained, shell
from lm import write_lm
from word_times import errors

import varan_fairseq
from varan_fairseq.cli import infer, transcribe
from varan_fairseq.corpora.digits import WORDS
from varan_fairseq.data.manifest import read_manifest
from varan_fairseq.inference.recognizer import Recognizer

SHAPE = {
    "conv_feature_layers": "[(48,40,20), (64,3,2), (96,3,2)] + [(96,2,2)] * 2",
    "encoder_layers": 3,
    "encoder_embed_dim": 96,
    "encoder_ffn_embed_dim": 256,
    "conv_pos": 32,
    "conv_pos_groups": 8,
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """(corpus, checkpoint) of half a minute's training from random weights."""
    folder = tmp_path_factory.mktemp("digits")
    sizes = ["--train", "500", "--valid", "40", "--test", "60"]
    data = str(folder / "data")
    shell("manifests/digits.py", data, *sizes)
    base = save_pretrained(folder / "base.pt", **SHAPE)
    recipe = os.path.join(REPO, "examples", "demo", "finetune.yaml")
    checkpoint = train(
        recipe,
        data,
        folder / "run",
        base,
        260,
        dataset={"max_tokens": 140000, "validate_after_updates": 10**6},
        criterion={"prior": "chi2_reversed"},  # of the models that the bounds below were set for
        model={"posterior_heads": 4, "apply_mask": False, "mask_channel_prob": 0.0},
    )
    return data, checkpoint


def test_strings_of_a_length(tmp_path):
    shell(
        "manifests/digits.py", tmp_path, "--train=3", "--valid=1", "--test=1", "--seconds", "4", "8"
    )
    with open(tmp_path / "train.wrd") as file:
        words = [line.split() for line in file]
    samples = read_manifest(str(tmp_path / "train.tsv")).samples
    assert all(4 * 16000 <= count <= 8 * 16000 for count in samples)
    assert all(len(line) >= 6 and set(line) <= set(WORDS) for line in words)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    return write_lm(tmp_path_factory.mktemp("lm"), WORDS)


def decode(digits, out, *options):
    """{subset: asr.json} of what was decoded."""
    data, checkpoint = digits
    common = [f"common_eval.path={checkpoint}", f"task.data={data}", f"--emissions={out}"]
    assert infer.main([*common, f"decoding.results_path={out}", *options]) == 0
    found = {}
    for subset in ("valid", "test"):
        path = os.path.join(str(out), subset, "asr.json")
        if os.path.isfile(path):
            with open(path) as file:
                found[subset] = json.load(file)
    return found


def test_a_language_model_weighed_on_validation_lowers_the_wer(
    digits, language_model, tmp_path, capsys
):
    lm, lexicon = language_model
    viterbi = decode(digits, tmp_path, "dataset.gen_subset=valid,test")["test"]
    capsys.readouterr()
    options = ["decoding.type=kenlm", f"decoding.lmpath={lm}", f"decoding.lexicon={lexicon}"]
    options += ["decoding.lmweight=0.5,2", "decoding.wordscore=-2,0,2", "decoding.nbest=3"]
    swept = decode(digits, tmp_path, "--sweep", "valid", *options)["test"]
    assert swept["wer"] < viterbi["wer"] - 10, (swept["wer"], viterbi["wer"])
    low, high = viterbi["wer_interval"]
    assert low < viterbi["wer"] < high and swept["wer"] < low

    # the best of all settings, and nothing chosen on the test split
    with open(
        os.path.join(str(tmp_path), "sweep-valid-kenlm-lm-checkpoint_last", "sweep.tsv")
    ) as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 6 == swept["chosen_on"]["settings"]
    best = min(float(row["wer"]) for row in rows)
    assert swept["chosen_on"]["subset"] == "valid"
    assert swept["chosen_on"]["wer"] == pytest.approx(best, abs=1e-3)
    for name in ("lmweight", "wordscore"):
        assert swept["decoding"][name] == swept["chosen_on"][name]
    assert "of 6 settings on valid" in capsys.readouterr().out

    # a single setting gives what the sweep said of it
    again = [f"decoding.{name}={swept['decoding'][name]:g}" for name in ("lmweight", "wordscore")]
    single = decode(digits, tmp_path, "dataset.gen_subset=valid,test", *options[:3], *again)
    assert single["valid"]["wer"] == pytest.approx(best, abs=1e-3)
    assert single["test"]["wer"] == swept["wer"]

    # three hypotheses of each utterance, the best first
    with open(str(tmp_path / "test" / "hypotheses.tsv")) as file:
        best_texts = {row["id"]: row["hypothesis"] for row in csv.DictReader(file, delimiter="\t")}
    assert not os.path.exists(str(tmp_path / "test" / "nbest.tsv"))  # of the sweep, not this one
    decode(digits, tmp_path, "dataset.gen_subset=valid,test", *options[:3], *again, options[-1])
    with open(str(tmp_path / "test" / "nbest.tsv")) as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert {row["id"]: row["hypothesis"] for row in rows if row["rank"] == "1"} == best_texts
    scores = {}
    for row in rows:
        scores.setdefault(row["id"], []).append(float(row["score"]))
    assert max(map(len, scores.values())) == 3
    assert all(each == sorted(each, reverse=True) for each in scores.values())


def test_times_of_words(digits):
    late = np.array(errors(varan_fairseq.load(digits[1]), 60))
    assert len(late) > 30 and np.median(np.abs(late)) <= 0.06, (len(late), np.median(np.abs(late)))


def test_a_long_recording_says_what_its_pieces_say(digits, language_model, tmp_path):
    """Of any rate and number of channels, from Python and by the tool."""
    lm, lexicon = language_model
    manifest = read_manifest(os.path.join(digits[0], "valid.tsv"))
    paths = [os.path.join(manifest.root, name) for name, _ in manifest.entries]
    model = varan_fairseq.load(digits[1])
    model.use_language_model(lm, lexicon, beam=30)
    pieces = model.transcribe(paths)
    whole = np.concatenate([soundfile.read(path)[0] for path in paths])
    found = model.recognize(whole)
    assert len(found.utterances) > 2
    expected = " ".join(pieces).split()
    assert editdistance.eval(found.text.split(), expected) <= 0.1 * len(expected)
    # whatever is wrong is so because the model has never heard so much at once
    task = argparse.Namespace(target_dictionary=model.labels)
    at_once = Recognizer(model.model, model.cfg, task, window=600.0)
    at_once.use_language_model(lm, lexicon, beam=30)
    once = at_once.recognize(whole)
    assert len(once.utterances) == 1
    assert editdistance.eval(found.text.split(), once.text.split()) <= 0.03 * len(expected)
    starts = [word.start for word in found.words]
    assert starts == sorted(starts) and found.words[-1].end <= len(whole) / 16000
    assert found.layer_posterior.sum() == pytest.approx(1, abs=1e-4)

    stereo = str(tmp_path / "stereo.flac")
    import soxr

    fast = soxr.resample(whole, 16000, 44100)
    soundfile.write(stereo, np.stack([fast, 0.5 * fast], 1), 44100)
    out = str(tmp_path / "out")
    options = ["--lm", lm, "--lexicon", lexicon, "--beam", "30", "--format", "jsonl"]
    assert transcribe.main([digits[1], stereo, "--out", out, *options]) == 0
    with open(os.path.join(out, "stereo.jsonl")) as file:
        text = json.load(file)["text"]
    assert editdistance.eval(text.split(), found.text.split()) <= 0.05 * len(expected)
