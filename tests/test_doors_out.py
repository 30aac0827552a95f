"""One layer of a run for transformers, ONNX Runtime and sherpa-onnx, against our own model."""

import importlib
import json
import os
import sys
import types

import onnxruntime
import pytest
import sherpa_onnx
import soundfile
import torch
from build import save_run
from conftest import ENCODERS, save_pretrained

from varan_fairseq.cli import export, transcribe
from varan_fairseq.finetuned.load import load_model
from varan_fairseq.finetuned.one_layer import one_layer
from varan_fairseq.upstream import read_checkpoint

NORMED = {"extractor_mode": "layer_norm", "layer_norm_first": True}
# name -> (kind of encoder, changes to it, options of the model)
RUNS = {
    "wav2vec2, LoRA": ("wav2vec2", {}, {"lora_rank": 2, "blank_weight": 2.0}),
    "wav2vec2 pre-norm, head_dim": (
        "wav2vec2",
        {**NORMED, "normalize": True, "conv_bias": True},
        {"head_dim": 8},
    ),
    "hubert, DoRA, one head": (
        "hubert",
        {},
        {"lora_rank": 2, "lora_magnitude": True, "shared_head": True},
    ),
    "hubert pre-norm": ("hubert", {**NORMED, "normalize": True}, {}),
    "wavlm": ("wavlm", {}, {"blank_weight": -1.0, "blank_mode": "set"}),
    "wavlm pre-norm": ("wavlm", {**NORMED, "normalize": True}, {}),
}
if "data2vec_audio" in ENCODERS:
    RUNS["data2vec"] = ("data2vec_audio", {"normalize": True, "conv_pos": 15}, {})


@pytest.fixture(scope="module")
def runs(tmp_path_factory, corpus):
    """name of RUNS -> checkpoint, made once."""
    made = {}

    def of(name):
        if name not in made:
            kind, changes, options = RUNS[name]
            folder = tmp_path_factory.mktemp("run")
            pretrained = save_pretrained(folder / "pretrained.pt", kind, **changes)
            made[name] = save_run(folder / "run.pt", corpus, pretrained, **options)
        return made[name]

    return of


def layer_log_probs(checkpoint, source, layer):
    """What the whole run makes of audio [B, samples] at a layer: [B, T, V]."""
    model, _, _ = load_model(checkpoint)
    with torch.no_grad():
        output = model(source)
        return model.layer_log_probs(output)[layer - 1].transpose(0, 1)


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("layer", [2, 4])
def test_one_layer_computes_what_the_run_does(runs, name, layer):
    source = torch.randn(2, 9600)
    cut = one_layer(runs(name), layer)
    with torch.no_grad():
        difference = (cut.log_probs(source) - layer_log_probs(runs(name), source, layer)).abs()
    assert difference.max() < 1e-4
    assert cut.encoder.num_layers == layer and cut.layer == layer


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("layer", [2, 4])
def test_a_folder_for_transformers(runs, name, layer, tmp_path, capsys):
    import transformers

    folder = str(tmp_path / "folder")
    assert export.main(["hf", runs(name), folder, "--layer", str(layer)]) == 0
    printed = capsys.readouterr().out
    assert f"of layer {layer} (as asked for) -> {folder}" in printed
    assert "loaded by transformers" in printed
    assert sorted(os.listdir(folder)) == [
        *("README.md", "config.json", "model.safetensors", "preprocessor_config.json"),
        *("special_tokens_map.json", "tokenizer_config.json", "vocab.json"),
    ]
    with open(os.path.join(folder, "config.json")) as file:
        made = getattr(transformers, json.load(file)["architectures"][0])
    model = made.from_pretrained(folder).eval()
    source = torch.randn(1, 9601)
    with torch.no_grad():
        theirs = model(source).logits.log_softmax(-1)
    assert (theirs - layer_log_probs(runs(name), source, layer)).abs().max() < 1e-4
    # what we wrote, we read: the encoder is the run's, cut and merged
    back = read_checkpoint(folder)
    assert set(back.dropped) == {"lm_head"} and back.config.model.encoder_layers == layer


def test_transformers_pipeline_reads_what_we_transcribe(runs, tmp_path, corpus, capsys):
    import transformers

    name, folder = "hubert pre-norm", str(tmp_path / "folder")
    assert export.main(["hf", runs(name), folder, "--layer", "3"]) == 0
    pipeline = transformers.pipeline("automatic-speech-recognition", folder)
    wavs = [os.path.join(corpus, "wav", f"test{index}.wav") for index in range(3)]
    capsys.readouterr()
    assert transcribe.main(["--layer", "3", runs(name), *wavs]) == 0
    ours = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    for wav, text in zip(wavs, ours):
        # fairseq's own symbols, which an untrained model makes, are printed by neither alike
        theirs = pipeline(soundfile.read(wav, dtype="float32")[0])["text"]
        assert [c for c in theirs if c.isalpha() and c.isupper()] == [
            c for c in text if c.isalpha() and c.isupper()
        ]


@pytest.mark.parametrize("name", RUNS)
def test_a_graph_for_onnx_runtime(runs, name, tmp_path, capsys):
    folder = str(tmp_path / "folder")
    assert export.main(["onnx", runs(name), folder, "--layer", "3"]) == 0
    assert "ONNX Runtime's log-probabilities differ" in capsys.readouterr().out
    assert sorted(os.listdir(folder)) == ["model.onnx", "tokens.txt"]
    session = onnxruntime.InferenceSession(os.path.join(folder, "model.onnx"))
    for rows, samples in ((1, 5003), (2, 40001)):
        source = torch.randn(rows, samples)
        (logits,) = session.run(None, {"x": source.numpy()})
        theirs = torch.from_numpy(logits).log_softmax(-1)
        assert (theirs - layer_log_probs(runs(name), source, 3)).abs().max() < 1e-4


def test_sherpa_onnx_reads_what_we_transcribe(runs, tmp_path, corpus, capsys):
    name, folder = "wav2vec2 pre-norm, head_dim", str(tmp_path / "folder")
    assert export.main(["onnx", runs(name), folder, "--layer", "3"]) == 0
    recognizer = sherpa_onnx.OfflineRecognizer.from_omnilingual_asr_ctc(
        model=os.path.join(folder, "model.onnx"), tokens=os.path.join(folder, "tokens.txt")
    )
    wavs = [os.path.join(corpus, "wav", f"test{index}.wav") for index in range(4)]
    capsys.readouterr()
    assert transcribe.main(["--layer", "3", runs(name), *wavs]) == 0
    ours = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    for wav, text in zip(wavs, ours):
        audio, rate = soundfile.read(wav, dtype="float32")
        stream = recognizer.create_stream()
        stream.accept_waveform(rate, audio)
        recognizer.decode_stream(stream)
        assert [c for c in stream.result.text if c.isupper()] == [c for c in text if c.isupper()]


ALL = {
    **{name: (*RUNS[name][:2], {**RUNS[name][2], "combine": "vote"}) for name in RUNS},
    "relu, context, consensus": (
        "hubert",
        {},
        {"head_dim": 8, "head_activation": "relu", "head_context": 1, "combine": "consensus"},
    ),
    "static, mixture": ("wav2vec2", {}, {"posterior": "static", "combine": "mixture"}),
    "prior, best layer": ("wav2vec2", {}, {"posterior": "prior", "combine": "best_layer"}),
    "layer embedding, log-linear": (
        "wav2vec2",
        {},
        {"layer_embedding": True, "combine": "log_linear"},
    ),
    "one layer": ("wav2vec2", {}, {"decode_layer": 2}),
    "weighted sum": ("wavlm", NORMED, {"aggregation": "weighted_sum"}),
    "attentive": ("wav2vec2", {}, {"aggregation": "attentive"}),
    "hconv": ("wav2vec2", {}, {"aggregation": "hconv"}),
    "concat": ("wav2vec2", {}, {"aggregation": "concat"}),
    "conformer": (
        "conformer_rotary",
        {"normalize": True, **NORMED},
        {"lora_rank": 2, "lora_targets": "ffn"},
    ),
}


@pytest.mark.parametrize("name", ALL)
def test_all_layers_for_transformers(name, tmp_path, corpus, capsys):
    """The exporter compares one utterance by itself; here a padded batch."""
    kind, changes, options = ALL[name]
    pretrained = save_pretrained(tmp_path / "pretrained.pt", kind, **changes)
    run, folder = save_run(tmp_path / "run.pt", corpus, pretrained, **options), tmp_path / "folder"
    assert export.main(["hf", run, str(folder), "--all-layers"]) == 0
    assert "layers, their weights and the prediction differ" in capsys.readouterr().out
    model = load_all(folder)
    source, lengths = torch.randn(2, 12000), [12000, 7001]
    mask = torch.arange(12000) < torch.tensor(lengths)[:, None]
    ours, _, _ = load_model(run)
    with torch.no_grad():
        found = model(source, mask.long())
        expected = ours(source, ~mask)
        log_probs = ours.get_logits(expected).transpose(0, 1)
        layers = ours.layer_log_probs(expected)
    assert found.lengths.tolist() == expected["lengths"].tolist()
    assert (found.log_q - expected["log_q"]).abs().max() < 1e-4
    assert found.layer_logits.shape[1] == len(layers)
    for row, frames in enumerate(found.lengths):
        difference = found.logits[row, :frames] - log_probs[row, :frames]
        assert difference.abs().max() < 1e-4
        assert (found.logits[row, frames:].argmax(-1) == 0).all()
        for layer, own in enumerate(layers):
            difference = found.layer_logits[row, layer, :frames] - own[:frames, row]
            assert difference.abs().max() < 1e-4


def load_all(folder):
    """As transformers does it with trust_remote_code, which copies the code to a cache of its own."""
    program = types.ModuleType("exported")
    program.__path__ = [str(folder)]
    for name in [name for name in sys.modules if name.split(".")[0] == "exported"]:
        del sys.modules[name]
    sys.modules["exported"] = program
    module = importlib.import_module("exported.modeling_varan")
    with open(os.path.join(folder, "config.json")) as file:
        made = getattr(module, json.load(file)["architectures"][0])
    return made.from_pretrained(str(folder)).eval()


def test_all_layers_of_a_classifier(tmp_path, labelled_corpus, wav2vec2, capsys):
    run = save_run(tmp_path / "run.pt", labelled_corpus, wav2vec2, "varan_classification")
    folder = tmp_path / "folder"
    assert export.main(["hf", run, str(folder), "--all-layers"]) == 0
    model = load_all(folder)
    assert list(model.config.id2label.values()) == ["ang", "hap", "sad"]
    source = torch.randn(2, 9600)
    ours, _, _ = load_model(run)
    with torch.no_grad():
        found, expected = model(source), ours(source)
    whole = ours.get_normalized_probs(expected, log_probs=True)
    assert (found.logits - whole).abs().max() < 1e-4
    assert found.layer_logits.shape == (2, 4, 3)
    assert export.main(["hf", run, str(tmp_path / "no"), "--all-layers", "--layer", "2"]) == 2
    assert "give one of them" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["conformer_relative", "conformer_rotary"])
def test_conformers(kind, tmp_path, corpus, capsys):
    pretrained = save_pretrained(
        tmp_path / "pretrained.pt", kind, normalize=True, max_positions=500, **NORMED
    )
    run = save_run(tmp_path / "run.pt", corpus, pretrained)
    assert export.main(["hf", run, str(tmp_path / "folder"), "--layer", "4"]) == 0
    assert "loaded by transformers" in capsys.readouterr().out
    assert export.main(["hf", run, str(tmp_path / "lower"), "--layer", "2"]) == 2
    assert "none of them can become the last" in capsys.readouterr().err
    assert export.main(["prune", run, str(tmp_path / "pruned.pt"), "--layers", "2"]) == 2
    assert "none of them can become the last" in capsys.readouterr().err
    wanted = 0 if kind == "conformer_relative" else 2
    assert export.main(["onnx", run, str(tmp_path / "graph"), "--layer", "4"]) == wanted
    if wanted:
        assert "rotary positions keeps a table" in capsys.readouterr().err
    assert ("graph" in os.listdir(tmp_path)) == (not wanted)
    assert "pruned.pt" not in os.listdir(tmp_path)
    post = save_run(tmp_path / "post.pt", corpus, save_pretrained(tmp_path / "post-norm.pt", kind))
    source = torch.randn(2, 9600)
    with torch.no_grad():
        difference = one_layer(post, 2).log_probs(source) - layer_log_probs(post, source, 2)
    assert difference.abs().max() < 1e-5
    assert export.main(["hf", post, str(tmp_path / "lower")]) == 2
    assert (
        "transformers' Conformer ends in a LayerNorm, this one does not" in capsys.readouterr().err
    )


def test_a_classifier(tmp_path, labelled_corpus, wav2vec2, capsys):
    import transformers

    for options in ({}, {"head_dim": 8, "lora_rank": 2}):
        run = save_run(
            tmp_path / "run.pt", labelled_corpus, wav2vec2, "varan_classification", **options
        )
        folder, graph = str(tmp_path / f"hf{len(options)}"), str(tmp_path / f"onnx{len(options)}")
        assert export.main(["hf", run, folder, "--layer", "3"]) == 0
        assert export.main(["onnx", run, graph, "--layer", "3"]) == 0
        capsys.readouterr()
        theirs = transformers.Wav2Vec2ForSequenceClassification.from_pretrained(folder).eval()
        assert list(theirs.config.id2label.values()) == ["ang", "hap", "sad"]
        model, _, _ = load_model(run)
        source = torch.randn(2, 9600)
        with torch.no_grad():
            expected = model(source)["layer_logits"][2].log_softmax(-1)
            found = theirs(source).logits.log_softmax(-1)
        session = onnxruntime.InferenceSession(os.path.join(graph, "model.onnx"))
        (logits,) = session.run(None, {"x": source.numpy()})
        assert (found - expected).abs().max() < 1e-4
        assert (torch.from_numpy(logits).log_softmax(-1) - expected).abs().max() < 1e-4
        with open(os.path.join(graph, "tokens.txt")) as file:
            assert file.read() == "ang 0\nhap 1\nsad 2\n"


def test_which_layer(tmp_path, corpus, wav2vec2, capsys):
    run = save_run(tmp_path / "run.pt", corpus, wav2vec2, losses=[3.0, 0.5, 0.25, 1.0])
    assert one_layer(run).layer == 3
    assert one_layer(run).chosen == "lowest loss in the last validation, 0.250 bits"
    run = save_run(tmp_path / "run.pt", corpus, wav2vec2)
    cut = one_layer(run)
    assert cut.layer == 4 and cut.chosen.startswith("largest prior, since the checkpoint holds no")
    run = save_run(tmp_path / "run.pt", corpus, wav2vec2, aggregation="last_layer")
    assert one_layer(run).layer == 4
    for argv, words in (
        (["--layer", "3"], "has a head on its last layer alone (4)"),
        (["--layer", "0"], "has a head on its last layer alone (4)"),
    ):
        assert export.main(["hf", run, str(tmp_path / "folder"), *argv]) == 2
        assert words in capsys.readouterr().err


def test_scores_and_a_card(runs, tmp_path, capsys):
    path = tmp_path / "asr.json"
    scores = {"subset": "test", "decoder": "viterbi", "wer": 12.345, "wer_interval": [11.0, 14.0]}
    path.write_text(json.dumps(scores))
    folder = tmp_path / "folder"
    assert export.main(["hf", runs("wavlm"), str(folder), "--scores", str(path)]) == 0
    card = (folder / "README.md").read_text()
    assert "| test | viterbi | 12.35 (11.00 - 14.00) |" in card or "12.34 (11.00" in card
    assert "# license:" in card and 'pipeline("automatic-speech-recognition", "folder")' in card
    path.write_text("[]")
    assert export.main(["hf", runs("wavlm"), str(tmp_path / "no"), "--scores", str(path)]) == 2
    assert "is not an asr.json of varan-infer" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["hf", "onnx"])
def test_what_cannot_be_exported(command, runs, tmp_path, corpus, wav2vec2, capsys):
    def fails(run, *argv):
        before = sorted(os.listdir(tmp_path))
        assert export.main([command, run, str(tmp_path / "folder"), *argv]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and sorted(os.listdir(tmp_path)) == before
        return error

    run = str(tmp_path / "run.pt")
    for options, words in (
        ({"aggregation": "weighted_sum"}, "one head on all layers together"),
        ({"head_dim": 4, "head_activation": "relu"}, "a stock head is linear"),
        ({"head_context": 1}, "a stock head sees one frame"),
    ):
        save_run(run, corpus, wav2vec2, **options)
        assert words in fails(run)
    run = runs("wavlm")
    assert "has layers 1 .. 4" in fails(run, "--layer", "5")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    assert "is there already: give the name of a new folder" in fails(run)
    assert (tmp_path / "folder" / "mine.txt").read_text() == "mine"
    assert export.main([command, run, str(tmp_path / "no" / "folder")]) == 2
    assert "make it first" in capsys.readouterr().err


def test_sherpa_would_normalise(tmp_path, corpus, capsys):
    pretrained = save_pretrained(tmp_path / "pretrained.pt", "wav2vec2", **NORMED)
    run = save_run(tmp_path / "run.pt", corpus, pretrained)
    assert export.main(["onnx", run, str(tmp_path / "graph")]) == 2
    assert "sherpa-onnx normalises the audio" in capsys.readouterr().err


def test_without_the_packages(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export.main(["onnx", runs("wavlm"), str(tmp_path / "graph")]) == 2
    assert "pip install 'varan-fairseq[onnx]'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert export.main(["hf", runs("wavlm"), str(tmp_path / "folder")]) == 0
    assert "transformers is not installed: what was written was not" in capsys.readouterr().out


def test_what_float32_rounds_is_allowed(runs):
    cut = one_layer(runs("wavlm"))
    before = {name: value.clone() for name, value in cut.encoder.state_dict().items()}
    source = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    assert cut.allowed(source) == 1e-4
    cut.maps[0].weight.data *= 1e4  # log-probabilities in the thousands: their last digits are off
    assert 1e-4 < cut.allowed(source) < 1.0
    after = cut.encoder.state_dict()
    assert all(value.dtype == after[name].dtype for name, value in before.items())
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("command", ["hf", "onnx"])
def test_a_wrong_graph_is_never_left(command, runs, tmp_path, capsys, monkeypatch):
    """Whatever makes the numbers differ, and a disk that fills."""
    from varan_fairseq.finetuned.one_layer import OneLayer

    plain = OneLayer.single_map
    monkeypatch.setattr(OneLayer, "single_map", lambda self: (2 * plain(self)[0], plain(self)[1]))
    assert export.main([command, runs("wavlm"), str(tmp_path / "folder")]) == 2
    assert "differ" in capsys.readouterr().err and os.listdir(tmp_path) == []
    monkeypatch.setattr(OneLayer, "single_map", plain)

    def full(*unused, **also):
        raise OSError(28, "No space left on device")

    where = {"hf": "hf_files.save_file", "onnx": "to_onnx._trace"}[command]
    where = f"varan_fairseq.finetuned.{where}"
    monkeypatch.setattr(where, full)
    assert export.main([command, runs("wavlm"), str(tmp_path / "folder")]) == 2
    assert "No space left" in capsys.readouterr().err and os.listdir(tmp_path) == []
