"""Every bad input is one clear error, before any long work starts."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from build import batch, build_criterion, build_model, setup_task
from conftest import REPO, save_pretrained, write_corpus
from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig

from varan_fairseq.cli import infer, layers
from varan_fairseq.data.audio_checks import header_findings
from varan_fairseq.data.checks import dictionary_findings, file_findings, label_findings
from varan_fairseq.data.findings import Split, enforce, split_files
from varan_fairseq.data.manifest import read_manifest


def raises(words, kind=ValueError):
    return pytest.raises(kind, match=words)


@pytest.fixture(scope="module")
def task(corpus):
    return setup_task(corpus)


@pytest.fixture
def folder(tmp_path):
    return write_corpus(tmp_path / "data")


def check(folder, audio=True):
    task = setup_task(folder)
    split = Split("train", split_files(task.cfg, "train"))
    enforce(dictionary_findings(split.files.dictionary))
    enforce(file_findings(split))
    enforce(label_findings(split, task.target_dictionary))
    if audio:
        enforce(header_findings(split, 16000))


# The encoder


def test_no_w2v_path(task):
    with raises(
        r"model.w2v_path is not set: .*\(wav2vec 2.0, HuBERT, WavLM, data2vec, data2vec 2.0\)"
    ):
        build_model("???", task)
    with raises("model.w2v_path is not set"):
        build_model("", task)


def test_missing_checkpoint(task):
    with raises("model.w2v_path=gone.pt: no such file", FileNotFoundError):
        build_model("gone.pt", task)


@pytest.mark.parametrize("content", [b"not a checkpoint", b""])
def test_no_checkpoint(tmp_path, task, content):
    path = tmp_path / "text.pt"
    path.write_bytes(content)
    with raises("text.pt is not a checkpoint that can be read"):
        build_model(str(path), task)


def test_a_pickle_of_something_else(tmp_path, task):
    torch.save({"weights": 1}, str(tmp_path / "other.pt"))
    with raises("other.pt is not a checkpoint that can be read"):
        build_model(str(tmp_path / "other.pt"), task)


def test_truncated_checkpoint(tmp_path, task, wav2vec2):
    path = tmp_path / "cut.pt"
    with open(wav2vec2, "rb") as file:
        path.write_bytes(file.read()[:20000])
    with raises("cut.pt is not a checkpoint that can be read"):
        build_model(str(path), task)


def test_unsupported_model(tmp_path, task, wav2vec2):
    state = torch.load(wav2vec2)
    state["cfg"]["model"]["_name"] = "wav2vec"
    torch.save(state, str(tmp_path / "old.pt"))
    with raises("old.pt holds a model of kind 'wav2vec'; supported are data2vec_audio, .*, wavlm"):
        build_model(str(tmp_path / "old.pt"), task)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"_name": "data2vec_text"}, "kind 'data2vec_text'; supported are data2vec_audio, "),
        (
            {"_name": "data2vec_multi", "supported_modality": "IMAGE"},
            "kind 'data2vec_multi' for IMAGE, expected AUDIO",
        ),
        ({"layer_type": "trf_adp"}, "kind 'wav2vec2' with layer_type=trf_adp"),
    ],
)
def test_a_relative_of_a_supported_model(tmp_path, task, wav2vec2, change, words):
    state = torch.load(wav2vec2)
    state["cfg"]["model"].update(change)
    torch.save(state, str(tmp_path / "other.pt"))
    with raises(f"other.pt holds a model of {words}"):
        build_model(str(tmp_path / "other.pt"), task)


def test_data2vec_without_its_code(tmp_path, task, wav2vec2, monkeypatch):
    """As on fairseq 0.12.2, which has data2vec 1 only."""
    from fairseq.models import MODEL_REGISTRY

    from varan_fairseq.upstream import data2vec

    monkeypatch.delitem(MODEL_REGISTRY, "data2vec_multi", raising=False)
    monkeypatch.setattr(data2vec, "find_example", lambda name: None)
    state = torch.load(wav2vec2)
    state["cfg"]["model"].update(_name="data2vec_multi", supported_modality="AUDIO")
    torch.save(state, str(tmp_path / "d2v2.pt"))
    with raises(
        "without examples/data2vec/models/data2vec2.py, .*install ve-fairseq==0.12.3",
        ModuleNotFoundError,
    ):
        build_model(str(tmp_path / "d2v2.pt"), task)


def test_layer_type_of_another_encoder(task, wav2vec2):
    if not hasattr(Wav2Vec2CtcConfig, "layer_type"):
        pytest.skip("fairseq 0.12.2 has no such key")
    with raises("model.layer_type=conformer, but the checkpoint has layer_type=transformer"):
        build_model(wav2vec2, task, layer_type="conformer")


def test_weights_that_do_not_fit(tmp_path, task, wav2vec2):
    state = torch.load(wav2vec2)
    del state["model"]["encoder.layers.2.fc1.weight"]
    torch.save(state, str(tmp_path / "hole.pt"))
    with raises("missing.*encoder.layers.2.fc1.weight"):
        build_model(str(tmp_path / "hole.pt"), task)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_normalize_differs(tmp_path, corpus, kind):
    path = save_pretrained(tmp_path / "n.pt", kind, normalize=True)
    with raises("task.normalize=false, but .*n.pt was pre-trained with normalize=true"):
        build_model(path, setup_task(corpus))
    build_model(path, setup_task(corpus, normalize=True))


@pytest.mark.parametrize(
    "options, words",
    [
        (
            {"posterior_heads": 5},
            "posterior heads must divide the encoder width: 5 heads, width 32",
        ),
        ({"posterior_heads": 0}, "0 heads, width 32"),
        (
            {"aggregation": "mean"},
            "model.aggregation=mean: choose one of last_layer, weighted_sum, attentive, hconv, "
            "concat, varan",
        ),
        ({"posterior": "layer"}, "model.posterior=layer: choose one of input, static, prior"),
        (
            {"posterior": "static", "aggregation": "hconv"},
            "model.posterior=static is for model.aggregation=varan, here it is hconv",
        ),
        ({"combine": "poll"}, "'poll': choose one of mixture, log_linear, best_layer"),
        ({"layer_norm": "maybe"}, "model.layer_norm=maybe: choose one of auto, true, false"),
        ({"decode_layer": 5}, "model.decode_layer=5: .* 1 .. 4"),
        ({"decode_layer": 2, "aggregation": "last_layer"}, "has predictions 1 .. 1"),
        ({"head_dim": -1}, "head_dim must be 0"),
        ({"head_context": -1}, "head_context must be 0"),
        ({"head_activation": "tanh"}, "head_activation=tanh: choose one of none, relu"),
        ({"head_activation": "relu"}, "head_activation=relu .* set head_dim"),
        ({"ddp_backend": "fully_sharded"}, "fully_sharded is not supported"),
    ],
)
def test_model_options(task, wav2vec2, options, words):
    with raises(words):
        build_model(wav2vec2, task, **options)


# The criterion


@pytest.mark.parametrize(
    "options, words",
    [
        ({"prior": "flat"}, "'flat': choose one of uniform, geometric"),
        ({"divergence": "both"}, "'both': choose one of prior_posterior, posterior_prior"),
        ({"beta": -1.0}, "beta must be a finite number >= 0, got -1.0"),
        ({"prior_df": 0.0}, "prior df must be a finite number > 0, got 0.0"),
        ({"prior_nc": -2.0}, "prior nc must be a finite number >= 0, got -2.0"),
        ({"prior_p": 1.5}, "prior p must lie strictly between 0 and 1, got 1.5"),
    ],
)
def test_criterion_options(task, options, words):
    with raises(words):
        build_criterion(task, **options)


def test_criterion_on_a_model_without_a_posterior(task, wav2vec2):
    model = build_model(wav2vec2, task, "wav2vec_ctc")
    with raises("needs a model with a posterior.*model._name=varan_ctc.*got Wav2VecCtc"):
        build_criterion(task)(model, batch(task))


# The data


def test_missing_dictionary(folder):
    os.remove(os.path.join(folder, "dict.ltr.txt"))
    with raises("no dictionary .*dict.ltr.txt", FileNotFoundError):
        check(folder)


def test_missing_labels(folder):
    os.remove(os.path.join(folder, "train.ltr"))
    with raises("no label file .*train.ltr", FileNotFoundError):
        check(folder)


def test_missing_manifest(folder):
    os.remove(os.path.join(folder, "train.tsv"))
    with raises("no manifest .*train.tsv", FileNotFoundError):
        check(folder)


def test_counts_differ(folder):
    with open(os.path.join(folder, "train.ltr"), "a") as file:
        file.write("O N E |\n")
    with raises("train.ltr has 7 lines, .*train.tsv names 6 audio files"):
        check(folder)


def test_empty_manifest(folder):
    with open(os.path.join(folder, "train.tsv"), "w") as file:
        file.write("/somewhere\n")
    with raises("train.tsv is empty"):
        check(folder)


def test_broken_line(folder):
    path = os.path.join(folder, "train.tsv")
    with open(path, "a") as file:
        file.write("a.wav\tlong\n")
    with raises("train.tsv, line 8: 'a.wav.*long', expected path<TAB>number of samples"):
        read_manifest(path)


def test_missing_audio(folder):
    os.remove(os.path.join(folder, "wav", "train3.wav"))
    os.remove(os.path.join(folder, "wav", "train4.wav"))
    with raises("no audio file .*train3.wav .and 1 more such files"):
        check(folder)
    check(folder, audio=False)


def test_sample_rate(tmp_path):
    folder = write_corpus(tmp_path / "slow", rate=8000)
    with raises("train0.wav has a sample rate of 8000 Hz, expected 16000 Hz"):
        check(folder)


def test_length(folder):
    soundfile.write(os.path.join(folder, "wav", "train2.wav"), np.zeros(99), 16000)
    with raises("train2.wav has 99 samples, the manifest says"):
        check(folder)


def test_unreadable_audio(folder):
    with open(os.path.join(folder, "wav", "train2.wav"), "w") as file:
        file.write("no audio")
    with raises("train2.wav cannot be read"):
        check(folder)


def write_nan(folder):
    manifest = read_manifest(os.path.join(folder, "train.tsv"))
    wave = np.zeros(manifest.entries[1][1], dtype=np.float32)
    wave[100:103] = np.nan
    soundfile.write(os.path.join(folder, "wav", "train1.wav"), wave, 16000, subtype="FLOAT")


def test_nan_in_audio(folder):
    write_nan(folder)
    with raises("train1.wav has 3 samples that are NaN or infinite"):
        check(folder)


def test_nan_in_audio_that_was_not_checked(folder, wav2vec2):
    write_nan(folder)
    task = setup_task(folder)
    model = build_model(wav2vec2, task, check_audio=False)
    with raises("NaN or infinite samples in audio: .*train1.wav .train."):
        build_criterion(task)(model, batch(task))


def test_training_checks_the_data_first(folder):
    os.remove(os.path.join(folder, "valid.ltr"))
    with raises("no label file .*valid.ltr", FileNotFoundError):
        build_model("gone.pt", setup_task(folder), check_audio=True)


# The tools


def tool(main, *arguments):
    """(exit code, stderr) of a command-line tool."""
    import contextlib
    import io

    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        code = main([str(argument) for argument in arguments])
    return code, stderr.getvalue()


def test_infer_on_another_models_checkpoint(corpus, wav2vec2):
    code, error = tool(infer.main, f"common_eval.path={wav2vec2}", f"task.data={corpus}")
    assert code == 2 and "made by model 'wav2vec2', expected a checkpoint of varan_ctc" in error
    assert error.startswith("varan-infer: error: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["task.data=x"], "common_eval.path is not set"),
        (["common_eval.path=x"], "task.data is not set"),
        (["common_eval.path=gone.pt", "task.data=x"], "no checkpoint gone.pt"),
        (["decode"], "'decode' is not an override: expected key=value"),
        (
            ["task.data=x", "--combine", "mixture", "common_eval.path=gone.pt"],
            "no checkpoint gone.pt",
        ),
        (["--combine", "poll", "a=b"], "choose one of mixture, log_linear, best_layer"),
        (
            ["common_eval.path=x", "task.data=x", "common_eval.model_overrides=oops"],
            "expected a Python dictionary",
        ),
    ],
)
def test_infer_arguments(arguments, words):
    code, error = tool(infer.main, *arguments)
    assert code == 2 and words in error and error.count("\n") == 1


def test_layers_on_no_checkpoint(corpus):
    code, error = tool(layers.main, "gone.pt", corpus, "test")
    assert code == 2 and "varan-layers: error: no checkpoint gone.pt" in error
    code, error = tool(layers.main, "gone.pt", corpus, "nosplit")
    assert code == 2 and "nosplit.tsv" in error


def test_fairseq_missing(tmp_path):
    """Importing the plugin where fairseq is not installed says which line to run."""
    shutil.copytree(os.path.join(REPO, "varan_fairseq"), str(tmp_path / "varan_fairseq"))
    script = (
        "import sys; sys.modules['fairseq'] = None\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'fairseq': raise ModuleNotFoundError('no', name='fairseq')\n"
        "del sys.modules['fairseq']; sys.meta_path.insert(0, Gone())\n"
        "import varan_fairseq\n"
        "import varan_fairseq.models\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=str(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 1
    assert 'pip install "fairseq==0.12.2"' in last and 'pip install "ve-fairseq==0.12.3"' in last


def test_the_method_needs_no_fairseq(tmp_path):
    shutil.copytree(os.path.join(REPO, "varan_fairseq", "method"), str(tmp_path / "method"))
    script = "import sys; sys.modules['fairseq'] = None; import method.aggregation, method.objective, method.combine, method.prior"
    subprocess.run([sys.executable, "-c", script], cwd=str(tmp_path), check=True)
