"""Encoders of other libraries, read where checkpoints are read: against transformers' own models,
and against recorded outputs of transformers and of fairseq2, which need neither."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from build import batch, build_model, setup_task, train
from conftest import REPO, write_corpus
from safetensors.torch import load_file, save_file

from varan_fairseq.cli import check, export, inspect_checkpoint
from varan_fairseq.finetuned.load import load_model
from varan_fairseq.upstream import build_encoder, load_weights, read_checkpoint

FIXTURES = os.path.join(REPO, "tests", "fixtures")
SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 20,
    "codevector_dim": 16,
    "proj_codevector_dim": 16,
    "num_codevectors_per_group": 8,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
SEVERAL = {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}
CONFORMER = {"hidden_act": "swish", "conv_depthwise_kernel_size": 7, "conv_bias": True, **LARGE}
# what they call the model -> (its class, options that differ, what is left out)
KINDS = {
    "wav2vec2 base": ("Wav2Vec2ForSequenceClassification", {}, {"projector", "classifier"}),
    "wav2vec2 large": (
        "Wav2Vec2ForPreTraining",
        {**LARGE, "conv_bias": True, "hidden_act": "gelu_new"},
        {"quantizer", "project_q", "project_hid"},
    ),
    "wav2vec2 pre-norm, group": ("Wav2Vec2Model", {"do_stable_layer_norm": True}, set()),
    "hubert base": ("HubertForCTC", {}, {"lm_head"}),
    "hubert large": ("HubertModel", LARGE, set()),
    "wavlm base": ("WavLMModel", {"max_bucket_distance": 40}, set()),
    "wavlm large": ("WavLMForCTC", LARGE, {"lm_head"}),
    "data2vec": ("Data2VecAudioForCTC", SEVERAL, {"lm_head"}),
    "conformer relative": ("Wav2Vec2ConformerModel", CONFORMER, set()),
    "conformer rotary": (
        "Wav2Vec2ConformerForCTC",
        {**CONFORMER, "position_embeddings_type": "rotary"},
        {"lm_head"},
    ),
    "unispeech": (
        "UniSpeechForPreTraining",
        {},
        {"quantizer", "project_q", "project_hid", "ctc_proj"},
    ),
    "unispeech-sat": (
        "UniSpeechSatForPreTraining",
        LARGE,
        {
            *("quantizer", "project_q", "project_hid", "speaker_proj"),
            *("label_embeddings_concat", "layer_norm_for_extract"),
        },
    ),
}


def their_model(name, **changes):
    """A model of transformers with random weights, its norms and biases too."""
    import transformers

    title, options, _ = KINDS[name]
    made = getattr(transformers, title)
    torch.manual_seed(0)
    model = made(made.config_class(**{**SIZE, **options, **changes})).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """name of KINDS -> (model of transformers, its folder), made once."""
    made = {}

    def of(name):
        if name not in made:
            folder = str(tmp_path_factory.mktemp("saved") / "folder")
            made[name] = their_model(name), folder
            made[name][0].save_pretrained(folder)
        return made[name]

    return of


def read(folder, **options):
    found = read_checkpoint(folder)
    encoder = build_encoder(found.config, **options)
    load_weights(encoder, found.weights, folder)
    return encoder.eval(), found


def largest_difference(encoder, source, states, padding_mask=None, row=0):
    """Between all layers' states of `encoder` and those recorded, each [T, D], the last normed."""
    with torch.no_grad():
        found = encoder(source, padding_mask)
    ours = [*found.states[:-1], found.output]
    assert len(ours) == len(states)
    frames = len(states[0])
    return max(
        float((own[:frames, row] - torch.as_tensor(theirs)).abs().max())
        for own, theirs in zip(ours, states)
    )


@pytest.mark.parametrize("name", KINDS)
def test_every_layer_is_transformers_own(saved, name):
    """Alone and in a padded batch, whose other utterance must not matter; what transformers makes
    of a batch is not a reference: there padding changes most kinds."""
    theirs, folder = saved(name)
    if name == "data2vec" and sys.version_info < (3, 11):
        pytest.importorskip("fairseq.examples.data2vec", reason="this fairseq has no data2vec")
    encoder, found = read(folder)
    assert set(found.dropped) == KINDS[name][2]
    assert found.finetuned == (KINDS[name][0] if found.dropped else None)
    core = getattr(theirs, theirs.base_model_prefix, theirs)
    lengths = (16399, 6480, 12001)
    torch.manual_seed(1)
    source = torch.randn(len(lengths), max(lengths))
    padding = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
    for row, samples in enumerate(lengths):
        alone = source[row : row + 1, :samples]
        with torch.no_grad():
            states = core(alone, output_hidden_states=True).hidden_states[1:]
        states = [state[0] for state in states]
        assert largest_difference(encoder, alone, states) < 1e-5
        assert largest_difference(encoder, source, states, padding, row) < 1e-4


@pytest.mark.parametrize("layout", ["one", "shards", "bin"])
def test_every_layout_without_transformers(layout, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    folder = os.path.join(FIXTURES, "transformers", layout)
    recorded = np.load(folder + ".npz")
    if layout == "bin" and torch.__version__ < "2.6":
        with pytest.raises(ValueError, match="is a pickle, which torch .* 2.6 or newer"):
            read(folder)
        return
    encoder, _ = read(folder)
    states = list(recorded["states"])
    assert largest_difference(encoder, torch.from_numpy(recorded["source"]), states) < 1e-4


@pytest.mark.parametrize("name, heads", [("base", 4), ("large", 4)])
def test_every_layer_is_fairseq2s_own(name, heads):
    path = os.path.join(FIXTURES, "fairseq2", f"{name}.pt")
    recorded = np.load(path[:-3] + ".npz")
    found = read_checkpoint(path, heads)
    assert found.config.task.normalize == found.config.model.layer_norm_first == (name == "large")
    encoder = build_encoder(found.config)
    load_weights(encoder, found.weights, path)
    states = [*recorded["states"][:-1], recorded["output"]]
    source = torch.from_numpy(recorded["source"])
    assert largest_difference(encoder.eval(), source, states) < 1e-5


def test_heads_of_fairseq2(tmp_path):
    path = os.path.join(FIXTURES, "fairseq2", "base.pt")
    with pytest.raises(
        ValueError, match="12 attention heads do not divide its width 16: set model"
    ):
        read_checkpoint(path)
    state = torch.load(path)
    state["model"]["llama_decoder.layers.0.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "llm.pt")
    with pytest.raises(ValueError, match="holds a language model too: use the W2V or CTC file"):
        read_checkpoint(str(tmp_path / "llm.pt"), 4)
    del state["model"]["llama_decoder.layers.0.weight"]
    state["model"]["encoder.layers.0.conv.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="1 of its .* the first is encoder.layers.0.conv.weight"):
        read_checkpoint(str(tmp_path / "other.pt"), 4)


def test_a_ctc_model_of_fairseq2_has_a_mask_embedding_drawn(tmp_path):
    state = torch.load(os.path.join(FIXTURES, "fairseq2", "large.pt"))
    del state["model"]["masker.temporal_mask_embed"]
    torch.save(state, tmp_path / "ctc.pt")
    drawn = [read_checkpoint(str(tmp_path / "ctc.pt"), 4).weights["mask_emb"] for _ in range(2)]
    assert torch.equal(*drawn) and drawn[0].shape == (16,) and drawn[0].min() > 0


@pytest.fixture(scope="module")
def tuned(saved, tmp_path_factory):
    """(folder of an encoder, corpus, checkpoint that was fine-tuned on it with LoRA)."""
    _, folder = saved("wavlm large")
    place = tmp_path_factory.mktemp("tuned")
    data = write_corpus(place / "data")
    recipe = os.path.join(REPO, "examples", "wavlm_large_libri_100h.yaml")
    model = {"posterior_heads": 4, "lora_rank": 2, "finetune": "auto", "freeze_finetune_updates": 0}
    changes = {"model": model, "dataset": {"valid_subset": "valid"}, "task": {"normalize": True}}
    return folder, data, train(recipe, data, place / "out", folder, updates=2, **changes)


def test_from_a_folder_to_an_adapter_and_back(tuned, tmp_path, capsys):
    folder, data, checkpoint = tuned
    adapter, restored = str(tmp_path / "adapter"), str(tmp_path / "restored.pt")
    assert export.main(["adapter", checkpoint, adapter]) == 0
    assert export.main(["restore", adapter, folder, restored]) == 0
    emissions = []
    for path in (checkpoint, restored):
        model, _, task = load_model(path, data=data)
        with torch.no_grad():
            output = model(**batch(task, "test")["net_input"])
            emissions.append(model.get_logits(output))
    assert torch.equal(*emissions)
    # the same weights in another file are another base
    moved = str(tmp_path / "moved")
    shutil.copytree(folder, moved)
    assert export.main(["restore", adapter, moved, str(tmp_path / "again.pt")]) == 0
    weights = os.path.join(moved, "model.safetensors")
    tensors = load_file(weights)
    tensors["wavlm.encoder.layer_norm.bias"] += 1
    save_file(tensors, weights, metadata={"format": "pt"})
    capsys.readouterr()
    assert export.main(["restore", adapter, moved, str(tmp_path / "third.pt")]) == 2
    assert "another base" in capsys.readouterr().err


def test_inspect_and_check_read_a_folder(saved, tmp_path, capsys):
    _, folder = saved("wavlm large")
    assert inspect_checkpoint.main([folder]) == 0
    printed = capsys.readouterr().out
    assert "WavLM (wavlm)" in printed and "lm_head" in printed and "normalize=true" in printed
    data = write_corpus(tmp_path / "data")
    assert check.main([data, "--encoder", folder]) == 0
    assert inspect_checkpoint.main([str(tmp_path / "data")]) == 2
    assert "neither adapter.json (of an adapter) nor config.json" in capsys.readouterr().err


def changed(folder, target, **changes):
    """A copy of a folder with other values in config.json; None takes one out."""
    shutil.copytree(folder, target)
    path = os.path.join(target, "config.json")
    with open(path) as file:
        config = {**json.load(file), **changes}
    with open(path, "w") as file:
        json.dump({key: value for key, value in config.items() if value is not None}, file)
    return str(target)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"model_type": "wav2vec2-bert"}, "model_type 'wav2vec2-bert'; supported are data2vec-"),
        ({"hidden_size": None}, "config.json lacks hidden_size"),
        ({"hidden_size": "32"}, "hidden_size='32', expected int"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0, expected a number from 1"),
        ({"conv_dim": ["__import__('os')"] * 7}, "expected a list of numbers from 1"),
        ({"conv_stride": [5]}, "of different lengths"),
        ({"hidden_act": "swish"}, "hidden_act='swish'; supported are 'gelu'"),
        ({"feat_extract_norm": "batch"}, "feat_extract_norm='batch'; supported are"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps=1e-12: fairseq's LayerNorms have 1e-05"),
        ({"adapter_attn_dim": 16}, "as MMS has: use mms-1b or mms-300m"),
        ({"add_adapter": True}, "layers that pool frames"),
        ({"hidden_dropout": 1.5}, "hidden_dropout=1.5, expected 0 .. 1"),
    ],
)
def test_a_config_that_no_encoder_has(saved, tmp_path, changes, words):
    folder = changed(saved("wav2vec2 large")[1], tmp_path / "copy", **changes)
    with pytest.raises(ValueError, match="is not a checkpoint that can be read: ") as caught:
        read_checkpoint(folder)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_weights_that_are_not_there_or_not_whole(saved, tmp_path):
    _, folder = saved("wav2vec2 large")

    def fails(path, words, load=False):
        with pytest.raises(ValueError) as caught:
            read(path) if load else read_checkpoint(path)
        assert words in str(caught.value) and "\n" not in str(caught.value)

    (tmp_path / "empty").mkdir()
    fails(str(tmp_path / "empty"), "the folder has no config.json: expected one that transformers")
    bare = changed(folder, tmp_path / "bare")
    path = os.path.join(bare, "model.safetensors")
    os.remove(path)
    fails(bare, "the folder has no model.safetensors and no pytorch_model.bin")
    whole = open(os.path.join(folder, "model.safetensors"), "rb").read()
    open(path, "wb").write(whole[: len(whole) // 2])
    fails(bare, "model.safetensors is not a file of safetensors, or cut off")
    index = os.path.join(bare, "model.safetensors.index.json")
    os.remove(path)
    json.dump({"weight_map": {"a": "../../etc/model-1.safetensors"}}, open(index, "w"))
    fails(bare, "model-1.safetensors is missing, which its index names")
    open(index, "w").write("{")
    fails(bare, "model.safetensors.index.json is not JSON")
    os.remove(index)
    torch.save({"weight": object()}, os.path.join(bare, "pytorch_model.bin"))
    old = torch.__version__ < "2.6"
    fails(bare, "2.6 or newer" if old else "is not a file of weights alone, or cut off")

    tensors = load_file(os.path.join(folder, "model.safetensors"))
    for name, tensor, words in (
        ("encoder.layers.0.new.weight", torch.zeros(1), "the first is encoder.layers.0.new.weight"),
        ("wav2vec2.encoder.layer_norm.bias", torch.full((32,), np.nan), "hold NaN or infinite"),
        ("wav2vec2.encoder.layer_norm.bias", torch.zeros(31), "do not fit their own configur"),
    ):
        save_file({**tensors, name: tensor}, path, metadata={"format": "pt"})
        fails(bare, words, load=True)
    smaller = changed(folder, tmp_path / "smaller", intermediate_size=40)
    fails(
        smaller, "do not fit their own configuration: missing none, surplus none, of another", True
    )


def test_normalisation_goes_by_the_feature_encoder(saved, tmp_path, caplog):
    """As in wav2vec2-base-960h, whose preprocessor_config.json says otherwise."""
    folder = changed(saved("wav2vec2 base")[1], tmp_path / "copy")
    path = os.path.join(folder, "preprocessor_config.json")
    json.dump({"do_normalize": True, "sampling_rate": 16000}, open(path, "w"))
    config = read_checkpoint(folder).config
    assert config.task.normalize is False and config.task.sample_rate == 16000
    assert "were pre-trained with task.normalize=false" in caplog.text
    json.dump({"sampling_rate": "16k"}, open(path, "w"))
    with pytest.raises(ValueError, match="preprocessor_config.json has sampling_rate='16k'"):
        read_checkpoint(folder)


def test_a_projection_that_fairseq_does_not_have(tmp_path):
    model = their_model("hubert base", conv_dim=[16] * 6 + [32])
    model.save_pretrained(str(tmp_path / "map"))
    with pytest.raises(
        ValueError, match="maps 32 to 32 channels, where fairseq's encoders have no"
    ):
        read_checkpoint(str(tmp_path / "map"))
    projection = model.hubert.feature_projection.projection
    projection.weight.data, projection.bias.data = torch.eye(32), torch.zeros(32)
    model.save_pretrained(str(tmp_path / "identity"))
    encoder, _ = read(str(tmp_path / "identity"))
    source = torch.randn(1, 6480)
    with torch.no_grad():
        states = model.hubert(source, output_hidden_states=True).hidden_states[1:]
    assert largest_difference(encoder, source, [state[0] for state in states]) < 1e-5


def test_a_model_without_masking_has_a_mask_embedding_drawn(tmp_path, corpus):
    model = their_model("hubert base", mask_time_prob=0.0, mask_feature_prob=0.0)
    model.save_pretrained(str(tmp_path / "folder"))
    first, second = (read_checkpoint(str(tmp_path / "folder")).weights for _ in range(2))
    assert torch.equal(first["mask_emb"], second["mask_emb"])
    built = build_model(str(tmp_path / "folder"), setup_task(corpus))
    assert torch.equal(built.w2v_encoder.w2v_model.mask_emb, first["mask_emb"])
