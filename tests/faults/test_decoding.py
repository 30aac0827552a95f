"""The campaign, decoding: kept emissions are those of what is asked, sweeps are measurements, and
what cannot be transcribed is named while the rest continues."""

import glob
import json
import os
import re
import signal
import sys
import time
from types import SimpleNamespace

import numpy as np
import preloaded
import pytest
import soundfile
from conftest import REPO, command
from faulty import copy, decode, edit, read, tool, write
from lm import save_neural_lm, write_lm

import varan_fairseq
from varan_fairseq.cli import transcribe
from varan_fairseq.data.audio import read_audio, stream_audio
from varan_fairseq.decoding import emissions, shards
from varan_fairseq.decoding.search import Search, options
from varan_fairseq.runtime import processes as parallel

WORDS = ["ONE", "TWO", "SIX"]


@pytest.fixture
def data(ctc, tmp_path):
    return copy(ctc.data, tmp_path / "data")


@pytest.fixture
def runs(monkeypatch):
    """How often the encoder ran over a split."""
    count, real = [], emissions.outputs
    monkeypatch.setattr(emissions, "outputs", lambda *a, **k: count.append(1) or real(*a, **k))
    return count


def test_emissions_are_kept_until_anything_changes(ctc, data, tmp_path, runs):
    where = [
        f"task.data={data}",
        "--emissions",
        str(tmp_path),
        f"decoding.results_path={tmp_path}/o",
    ]

    def wer(*more):
        code, out, error = decode(ctc, *where, *more)
        assert code == 0, error
        return out.split("->")[0]

    first = wer()
    assert wer() == first and len(runs) == 1
    wer("--layer", "2")  # another reading has emissions of its own
    assert wer("--layer", "2") and len(runs) == 2
    # one audio file is replaced
    wave, rate = soundfile.read(os.path.join(ctc.data, "wav", "test0.wav"))
    rows = read(os.path.join(data, "test.tsv")).split("\n")
    write(os.path.join(data, "test.tsv"), "\n".join([os.path.join(data, "wav"), *rows[1:]]))
    wer()
    assert len(runs) == 3 and wer() and len(runs) == 3
    soundfile.write(os.path.join(data, "wav", "test0.wav"), wave[::-1], rate, subtype="PCM_16")
    wer()
    assert len(runs) == 4
    # labels are none of it
    edit(os.path.join(data, "test.ltr"), lambda text: text.replace("O N E |", "T W O |"))
    wer()
    assert "TWO" in read(tmp_path / "o" / "ref.word") and "ONE" not in read(
        tmp_path / "o" / "ref.word"
    )
    assert len(runs) == 4
    # a file cut short, as by another program, is another matter than one of ours: never half
    os.remove(str(tmp_path / "emissions-test-checkpoint_last" / "about.json"))
    wer()
    assert len(runs) == 5


def test_several_subsets(ctc, tmp_path):
    code, out, error = decode(
        ctc, "dataset.gen_subset=valid,test", f"decoding.results_path={tmp_path}/out"
    )
    assert code == 0, error
    assert out.count("WER") == 2
    for subset in ("valid", "test"):
        scores = json.loads(read(tmp_path / "out" / subset / "asr.json"))
        assert scores["subset"] == subset and scores["utterances"] == 6
        for name in ("hypo.word", "hypo.units", "ref.word", "ref.units", "alignment.txt"):
            assert read(tmp_path / "out" / subset / name)


def test_speakers_give_an_interval(ctc, data, tmp_path):
    write(os.path.join(data, "test.spk"), "a\na\nb\nb\nc\nc\n")
    out = [f"task.data={data}", f"decoding.results_path={tmp_path}/out"]
    assert decode(ctc, *out)[0] == 0
    scores = json.loads(read(tmp_path / "out" / "asr.json"))
    # three speakers say too little of others for an interval
    assert scores["speakers"] == 3 and scores["wer_interval_of_speakers"] is None
    write(os.path.join(data, "test.spk"), "a\nb\nc\nd\ne\nf\n")
    assert decode(ctc, *out)[0] == 0
    scores = json.loads(read(tmp_path / "out" / "asr.json"))
    assert scores["wer_interval_of_speakers"] == scores["wer_interval"]
    write(os.path.join(data, "test.spk"), "a\n")
    code, _, error = decode(ctc, *out)
    assert code == 2 and "test.spk has 1 lines" in error


SWEEPS = {
    "one value": (["--sweep", "valid", "decoding.lmweight=1"], "nothing to choose from"),
    "none": (["--sweep", "valid"], "nothing to choose from"),
    "words": (["--sweep", "valid", "decoding.lmweight=1,x"], "expected numbers between commas"),
    "beam": (["--sweep", "valid", "decoding.beam=5,9"], "several values are for lmweight"),
    "no sweep": (["decoding.lmweight=1,2"], "give --sweep SUBSET to choose"),
    "on test": (
        ["--sweep", "test", "decoding.lmweight=1,2"],
        "--sweep test: weights that were chosen on a split say nothing about it",
    ),
    "viterbi": (
        ["--sweep", "valid", "decoding.lmweight=1,2"],
        "--sweep is for decoding.type=kenlm",
    ),
    "jobs": (["--jobs", "0"], "--jobs 0: expected 1 or more"),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_sweeps_that_are_none(ctc, tmp_path, name):
    arguments, expected = SWEEPS[name]
    lm, lexicon = write_lm(tmp_path, WORDS)
    if name not in ("viterbi", "on test"):
        arguments = [*arguments, "decoding.type=kenlm"]
        arguments += [f"decoding.lmpath={lm}", f"decoding.lexicon={lexicon}"]
    code, out, error = decode(ctc, *arguments)
    assert code == 2 and expected in error and error.count("\n") == 1, error


def test_a_lexicon_of_other_labels(ctc, tmp_path):
    lm, lexicon = write_lm(tmp_path, WORDS)
    write(lexicon, "ONE\tO N E |\nquiz\tq u i z |\n")
    arguments = ["decoding.type=kenlm", f"decoding.lmpath={lm}", f"decoding.lexicon={lexicon}"]
    code, _, error = decode(ctc, *arguments)
    assert code == 2 and "line 2: 'quiz\\tq u i z |': 'q' is not a label of the model" in error
    code, _, error = tool(
        transcribe.main, ctc.checkpoint, f"{ctc.data}/wav", "--lm", lm, "--lexicon", lexicon
    )
    assert code == 2 and "line 2" in error


def test_searches_with_a_language_model(ctc, tmp_path):
    """Of words; of labels, which need no lexicon; the same weights set later."""
    lm, lexicon = write_lm(tmp_path, WORDS)
    units = tmp_path / "units"
    units.mkdir()
    of_labels, _ = write_lm(units, ["|", *"ONETWSIX"])
    model = varan_fairseq.load(ctc.checkpoint)
    wave = os.path.join(ctc.data, "wav", "test0.wav")
    model.use_language_model(lm, lexicon, beam=10, wordscore=4.0)
    said = model.transcribe(wave).split()
    assert said and set(said) <= set(WORDS)
    model.use_language_model(of_labels, unitlm=True, beam=10)
    assert isinstance(model.transcribe(wave), str)
    rng = np.random.default_rng(0)
    log_probs = np.log(rng.dirichlet(np.ones(len(model.labels)), 60)).astype(np.float32)
    given = dict(type="kenlm", lmpath=lm, lexicon=lexicon, beam=10)
    changed = Search(options(**given), model.labels)
    for weights in ({"lmweight": 0.5, "wordscore": 3.0}, {"silweight": -1.0, "wordscore": 1.0}):
        changed.set_weights(**weights)
        found = changed(log_probs)
        assert found == Search(changed.decoding, model.labels)(log_probs)
    with pytest.raises(ValueError, match="decoding.lexicon is not set"):
        model.use_language_model(lm)
    with pytest.raises(FileNotFoundError, match="gone.arpa: no such file"):
        model.use_language_model("gone.arpa", lexicon)


def upper_lexicon(words):
    return "".join(f"{word}\t{' '.join(word.upper())} |\n" for word in words)


LABELS = ["|", *"ONETWSIX"]
LOWER = [word.lower() for word in WORDS]

# words of the language model, the lexicon (None for none), other options, what is said, whether
# decoding continues
LANGUAGE_MODELS = {
    "another case of the LM": (
        LOWER, upper_lexicon(WORDS), [],
        "lm.arpa knows 0 of 3 words of decoding.lexicon=", False,
    ),
    "another case of both": (
        LOWER, upper_lexicon(LOWER), [],
        "lexicon.txt has 0 of 12 words of the references, and not 'ONE'", False,
    ),
    "an LM of letters with words": (
        LABELS, upper_lexicon(WORDS), [], "lm.arpa knows 0 of 3 words of", False,
    ),
    "an LM of words as one of labels": (
        WORDS, None, ["decoding.unitlm=true"],
        "labels, as decoding.unitlm=true has it", False,
    ),
    "an LM of labels with a lexicon": (
        LABELS, upper_lexicon(WORDS), ["decoding.unitlm=true"],
        "decoding.unitlm=true and decoding.lexicon are both set", False,
    ),
    "a byte order mark": (
        WORDS, "\ufeff" + upper_lexicon(WORDS), [],
        "lexicon.txt begins with a byte order mark", False,
    ),
    "no mark after words": (
        WORDS, upper_lexicon(WORDS).replace(" |", ""), [],
        "line 1: 'ONE\\tO N E': 3 of 3 spellings lack the mark |", False,
    ),
    "no mark after one word": (
        WORDS, upper_lexicon(WORDS).replace("I X |", "I X"), [],
        "line 3: 'SIX\\tS I X': 1 of 3 spellings lack the mark |", False,
    ),
    "few words of the LM": (
        ["ONE"], upper_lexicon(WORDS), [],
        "lm.arpa knows 1 of 3 words of decoding.lexicon=", True,
    ),
    "few words of the lexicon": (
        WORDS, upper_lexicon(["ONE"]), [], "words of the references, and not ", True,
    ),
    "few labels": (
        ["|", "O"], None, ["decoding.unitlm=true"], "lm.arpa knows 2 of ", True,
    ),
    "no beam": (
        WORDS, upper_lexicon(WORDS), ["decoding.beam=0"], "decoding.beam=0: expected 1 or more", False,
    ),
    "a weight that is not a number": (
        WORDS, upper_lexicon(WORDS), ["decoding.lmweight=nan"],
        "decoding.lmweight=nan: expected a number", False,
    ),
    "an infinite score": (
        WORDS, upper_lexicon(WORDS), ["decoding.wordscore=inf"],
        "decoding.wordscore=inf: expected a number", False,
    ),
    "no threshold": (
        WORDS, upper_lexicon(WORDS), ["decoding.beamthreshold=0"],
        "decoding.beamthreshold=0.0: expected more than 0", False,
    ),
    "a sweep over no number": (
        WORDS, upper_lexicon(WORDS), ["--sweep", "valid", "decoding.lmweight=1,nan"],
        "decoding.lmweight=1,nan: expected numbers, not nan or inf", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_language_models_of_other_words(ctc, tmp_path, caplog, runs, name):
    words, content, more, expected, goes_on = LANGUAGE_MODELS[name]
    lm, lexicon = write_lm(tmp_path, words)
    given = ["decoding.type=kenlm", f"decoding.lmpath={lm}", *more]
    if content is not None:
        write(lexicon, content)
        given.append(f"decoding.lexicon={lexicon}")
    where = ["--emissions", str(tmp_path), f"decoding.results_path={tmp_path}/o"]
    code, _, error = decode(ctc, *where, *given)
    assert expected in (caplog.text if goes_on else error), error
    assert code == (0 if goes_on else 2) and len(runs) == goes_on


def test_what_a_binary_language_model_knows(ctc, tmp_path, monkeypatch):
    """By its scores, since its words cannot be listed."""
    from varan_fairseq.decoding import vocabulary

    lm, lexicon = write_lm(tmp_path, WORDS)
    write(lexicon, upper_lexicon([*WORDS, *LOWER]))
    search = Search(
        options(type="kenlm", lmpath=lm, lexicon=lexicon), varan_fairseq.load(ctc.checkpoint).labels
    )
    monkeypatch.setattr(vocabulary, "_unigrams", lambda path: None)
    known = vocabulary._known_to_kenlm(lm, search._decoder)
    assert [known(word) for word in [*WORDS, *LOWER]] == [True] * 3 + [False] * 3


# Processes


def _square(item):
    if item == "fail":
        raise ValueError("this one")
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), item


@pytest.mark.skipif(sys.platform != "linux", reason="processes are not forked elsewhere")
def test_processes():
    found = dict(parallel.in_processes(_square, list(range(7)), 3))
    assert {index: item for index, (_, item) in found.items()} == dict(enumerate(range(7)))
    assert len({pid for pid, _ in found.values()}) == 3 and os.getpid() not in found
    assert dict(parallel.in_processes(_square, [1], 8)) == {0: (os.getpid(), 1)}
    with pytest.raises(ValueError, match="this one"):
        list(parallel.in_processes(_square, [1, 2, "fail", 3], 2))
    with pytest.raises(OSError, match="ended with exit code -9"):
        list(parallel.in_processes(_square, [1, "die"], 2))


# varan-transcribe


@pytest.fixture
def wav(ctc):
    return os.path.join(ctc.data, "wav")


BAD = {
    "empty.wav": b"",
    "text.wav": b"no audio at all",
    "short.wav": (np.zeros(399), 16000),
    "none.wav": (np.zeros(0), 16000),
    "nan.wav": (np.full(9000, np.nan), 16000),
}


def test_what_cannot_be_read_is_named_and_passed_over(ctc, wav, tmp_path):
    folder = tmp_path / "audio"
    folder.mkdir()
    for name, content in BAD.items():
        if isinstance(content, bytes):
            write(folder / name, content)
        else:
            soundfile.write(str(folder / name), *content, subtype="FLOAT")
    wave, _ = soundfile.read(os.path.join(wav, "test0.wav"))
    soundfile.write(str(folder / "good.ogg"), wave, 16000)
    whole = read_bytes(os.path.join(wav, "test1.wav"))
    write(folder / "truncated.wav", whole[: len(whole) // 2])
    code, out, error = tool(transcribe.main, ctc.checkpoint, folder, "gone.wav")
    assert code == 1
    lines = error.strip().split("\n")
    assert len(lines) == len(BAD) + 1 and all("varan-transcribe: " in line for line in lines), error
    for name in [*BAD, "gone.wav"]:
        assert name in error
    assert "399 samples are too short, the encoder needs 400" in error
    assert "nan.wav: NaN or infinite samples" in error
    # a file cut off holds the samples that it holds
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        str(folder / "good.ogg"),
        str(folder / "truncated.wav"),
    ]


def read_bytes(path):
    with open(path, "rb") as file:
        return file.read()


ARGUMENTS = {
    "no checkpoint": (["gone.pt", "{wav}"], "no checkpoint gone.pt"),
    "no audio": (["{model}", "{empty}"], "has no audio (.wav"),
    "m4a": (["{model}", "{m4a}"], "a.m4a and others like it cannot be read: convert them"),
    "subtitles": (["{model}", "{wav}", "--format", "srt"], "give --out FOLDER"),
    "a file": (["{model}", "{wav}", "--out", "{file}"], "is a file, expected a folder"),
    "lexicon": (["{model}", "{wav}", "--lexicon", "x"], "give --lm too"),
    "no lexicon": (["{model}", "{wav}", "--lm", "gone"], "lmpath=gone: no such file"),
    "overlap": (["{model}", "{wav}", "--window", "1", "--overlap", "2"], "half a window at most"),
    "batch": (["{model}", "{wav}", "--batch-size", "0"], "expected 1 or more"),
    "layer": (["{model}", "{wav}", "--layer", "9"], "aggregation varan over 3"),
    "device": (["{model}", "{wav}", "--device", "nonsense"], "device=nonsense: "),
    "twice": (["{model}", "{wav}", "{wav}", "--out", "{out}"], "two recordings would be written"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(ctc, wav, tmp_path, name):
    arguments, expected = ARGUMENTS[name]
    for folder in ("empty", "m4a"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "m4a" / "a.m4a", "x")
    write(tmp_path / "file", "x")
    names = {each: str(tmp_path / each) for each in ("empty", "m4a", "file", "out")}
    filled = [each.format(model=ctc.checkpoint, wav=wav, **names) for each in arguments]
    code, out, error = tool(transcribe.main, *filled)
    assert code == 2 and expected in error and error.count("\n") == 1 and not out, error
    assert sorted(os.listdir(str(tmp_path))) == ["empty", "file", "m4a"]


def test_an_interrupted_folder_goes_on(ctc, wav, tmp_path, capsys):
    out = str(tmp_path / "out")
    call = [ctc.checkpoint, wav, "--out", out, "--format", "jsonl"]
    assert tool(transcribe.main, *call)[0] == 0
    names = sorted(name for name in os.listdir(out) if name[0] != ".")
    assert len(names) == 18
    whole = {name: read(os.path.join(out, name)) for name in names}
    os.remove(os.path.join(out, names[3]))
    old = os.stat(os.path.join(out, names[4])).st_mtime_ns
    code, _, error = tool(transcribe.main, *call)
    assert code == 0 and "17 of 18 are there already" in error and "1 recordings ->" in error
    assert os.stat(os.path.join(out, names[4])).st_mtime_ns == old
    assert {name: read(os.path.join(out, name)) for name in names} == whole
    # other settings are not mixed with these
    code, _, error = tool(transcribe.main, *call, "--layer", "1")
    assert code == 2 and "made with other settings" in error and "--overwrite" in error
    assert {name: read(os.path.join(out, name)) for name in names} == whole
    assert tool(transcribe.main, *call, "--layer", "1", "--overwrite")[0] == 0
    found = json.loads(read(os.path.join(out, names[0])))
    assert {each["layer"] for each in found["segments"]} == {1}


def test_killed_at_work(ctc, wav, tmp_path):
    out = str(tmp_path / "out")
    call = [command("varan-transcribe"), ctc.checkpoint, wav, "--out", out, "--batch-size", "1"]
    process = preloaded.start(call, REPO, separate=True)
    while process.poll() is None and not glob.glob(os.path.join(out, "*.txt")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    status, error = process.wait(), process.said()[1]
    assert status in (130, 0), error
    assert "Traceback" not in error
    assert not [name for name in os.listdir(out) if name.endswith(".tmp")]
    assert preloaded.run(call, REPO).returncode == 0
    assert len([name for name in os.listdir(out) if name.endswith(".txt")]) == 18


def test_standard_input_and_formats(ctc, wav, monkeypatch):
    path = os.path.join(wav, "test0.wav")
    expected = varan_fairseq.load(ctc.checkpoint).recognize(path)
    for kind, pattern in (
        ("text", re.escape(expected.text)),
        ("jsonl", r'{"file": "-", "text": '),
        ("srt", r"^1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n"),
        ("vtt", r"^WEBVTT\n\n00:00:0\d\.\d{3} --> 00:00:0\d\.\d{3}\n"),
        ("ctm", r"^- 1 0\.\d{3} 0\.\d{3} \S+ [01]\.\d{4}\n"),
    ):
        if kind in ("srt", "vtt", "ctm") and not expected.words:
            continue
        with open(path, "rb") as file:
            monkeypatch.setattr("sys.stdin", type("stdin", (), {"buffer": file}))
            code, out, error = tool(transcribe.main, ctc.checkpoint, "-", "--format", kind)
        assert code == 0 and re.search(pattern, out), (kind, out, error)


# Audio


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_audio_of_any_rate_and_channels(tmp_path, rate):
    import soxr

    seconds = np.arange(int(1.3 * rate)) / rate
    wave = (0.3 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
    path = str(tmp_path / "a.wav")
    soundfile.write(path, np.stack([wave, np.zeros_like(wave)], 1), rate, subtype="FLOAT")
    expected = soxr.resample(wave / 2, rate, 16000)
    found = read_audio(path, 16000)
    assert found.dtype == np.float32 and abs(len(found) - len(expected)) <= 1
    count = min(len(found), len(expected))
    np.testing.assert_allclose(found[:count], expected[:count], atol=1e-4)
    array = np.concatenate(list(stream_audio(wave / 2, 16000, rate)))
    np.testing.assert_allclose(array[:count], expected[:count], atol=1e-4)


def test_arrays_and_tensors(ctc, wav):
    import torch

    model = varan_fairseq.load(ctc.checkpoint, device="cpu")
    paths = [os.path.join(wav, f"test{index}.wav") for index in range(6)]
    waves = [soundfile.read(path, dtype="float32")[0] for path in paths]
    pcm = [soundfile.read(path, dtype="int16")[0] for path in paths]
    expected = model.transcribe(paths)
    assert expected == [model.transcribe(path) for path in paths]
    assert expected == model.transcribe(waves, batch_size=4) == model.transcribe(pcm)
    assert expected == model.transcribe([torch.from_numpy(wave) for wave in waves])
    assert model.transcribe([]) == []
    found = model.recognize(paths[0])
    np.testing.assert_allclose(found.layer_posterior, model.layer_posterior(paths[0]), atol=1e-5)
    with pytest.raises(ValueError, match="device=cuda:7|device=nonsense"):
        varan_fairseq.load(ctc.checkpoint, device="nonsense")
    with pytest.raises(ValueError, match="batch_size=0"):
        model.transcribe(paths, batch_size=0)


def test_shards(ctc, tmp_path, monkeypatch):
    """Their joint is what one process computes; on a cluster, and by itself."""

    class Process:
        """A subprocess.Popen that begins with the libraries loaded."""

        def __init__(self, arguments, env):
            own = shards.own_command([])
            assert arguments[: len(own)] == own
            infer = [command("varan-infer"), *arguments[len(own) :]]
            self.process = preloaded.start(infer, REPO, env=env)

        def wait(self):
            self.returncode = self.process.wait()
            return self.returncode

        def terminate(self):
            assert self.process.poll() is not None, "left running"

    monkeypatch.setattr(shards, "subprocess", SimpleNamespace(Popen=Process))
    splits = "dataset.gen_subset=valid,test"
    small = "dataset.max_tokens=20000"  # a batch an utterance

    def scores(name, *options):
        where = [f"decoding.results_path={tmp_path}/{name}", "--emissions", str(tmp_path / name)]
        code, _, error = decode(ctc, splits, small, *where, *options)
        assert code == 0, error
        assert not [each for each in os.listdir(str(tmp_path / name)) if "shard" in each]
        found = [json.loads(read(tmp_path / name / s / "asr.json")) for s in ("valid", "test")]
        for each in found:
            del each["time"]
        return found

    expected = scores("one")
    for part in range(1, 8):  # the last one has nothing to do
        where = ["--emissions", str(tmp_path / "cluster"), "--shard", f"{part}/7"]
        assert decode(ctc, splits, small, *where)[:2] == (0, "")
    parts = os.listdir(str(tmp_path / "cluster"))
    assert len(parts) == 14 and all("-of-7" in part for part in parts)
    assert scores("cluster", "--shards", "7") == expected
    assert scores("more", "--shards", "2") == expected  # in processes
    assert read_bytes(tmp_path / "more" / "test" / "hypo.word") == read_bytes(
        tmp_path / "one" / "test" / "hypo.word"
    )
    code, _, error = decode(ctc, "--shards", "0")
    assert code == 2 and "--shards 0: expected 1 or more" in error


def test_a_language_model_of_fairseqs(ctc, tmp_path):
    """A transformer, also where there is no GPU."""
    lm = save_neural_lm(tmp_path, WORDS)
    _, lexicon = write_lm(tmp_path, WORDS)
    neural = ["decoding.type=fairseqlm", f"decoding.lmpath={lm}", f"decoding.lexicon={lexicon}"]
    where = [f"decoding.results_path={tmp_path}/out", "decoding.beam=5"]
    weights = ["--sweep", "valid", "decoding.lmweight=0.1,1", "decoding.wordscore=3"]
    code, out, error = decode(ctc, *neural, *where, *weights)
    assert code == 0, error
    scores = json.loads(read(tmp_path / "out" / "test" / "asr.json"))
    assert scores["decoder"] == "fairseqlm" and scores["chosen_on"]["settings"] == 2
    said = read(tmp_path / "out" / "test" / "hypotheses.tsv").split("\n")[1:-1]
    assert {word for line in said for word in line.split("\t")[1].split()} <= set(WORDS)


def test_threads_with_a_language_model(ctc, wav, tmp_path):
    """A beam search has a state of its own: threads that share a model take turns."""
    from concurrent.futures import ThreadPoolExecutor

    lm, lexicon = write_lm(tmp_path, WORDS)
    model = varan_fairseq.load(ctc.checkpoint)
    model.use_language_model(lm, lexicon, beam=20, wordscore=3.0)
    paths = [os.path.join(wav, f"{split}{i}.wav") for split in ("train", "test") for i in range(6)]
    expected = [model.recognize(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(model.recognize, paths * 3))
    assert [each.text for each in found] == [each.text for each in expected] * 3
    assert [each.words for each in found] == [each.words for each in expected] * 3
