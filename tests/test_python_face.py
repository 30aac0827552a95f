"""`varan_fairseq.load`: what it returns says what it is, moves, and takes lists everywhere."""

import os
import threading

import numpy as np
import pytest
import soundfile
import torch
from build import save_run

import varan_fairseq


@pytest.fixture(scope="module")
def wavs(corpus):
    return [os.path.join(corpus, "wav", f"test{index}.wav") for index in range(3)]


@pytest.fixture(scope="module", params=["varan", "weighted_sum"])
def recognizer(request, tmp_path_factory, corpus, wav2vec2):
    path = tmp_path_factory.mktemp("run") / "run.pt"
    return varan_fairseq.load(save_run(path, corpus, wav2vec2, aggregation=request.param))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, labelled_corpus, wav2vec2):
    path = tmp_path_factory.mktemp("run") / "run.pt"
    return varan_fairseq.load(save_run(path, labelled_corpus, wav2vec2, "varan_classification"))


def test_it_says_what_it_is(recognizer, classifier):
    aggregation = recognizer.model.cfg.aggregation
    labels = len(recognizer.labels)
    words = f"Recognizer(wav2vec 2.0, 4 layers, {aggregation}, {labels} labels, cpu)"
    assert repr(recognizer) == words
    assert repr(classifier) == "Classifier(wav2vec 2.0, 4 layers, varan, 3 labels, cpu)"


def test_it_moves(classifier):
    assert classifier.to("cpu") is classifier
    with pytest.raises(ValueError, match="device=nowhere: "):
        classifier.to("nowhere")
    with pytest.raises(ValueError, match="device=meta: it computes nothing"):
        classifier.to("meta")
    assert classifier.device.type == "cpu"


def test_a_list_for_a_list(recognizer, classifier, wavs):
    samples, rate = soundfile.read(wavs[0], dtype="float32")
    forms = [wavs[0], (samples, rate), {"array": samples, "sampling_rate": rate}]
    with open(wavs[0], "rb") as file:
        forms += [file.read()]
    for one in (recognizer.transcribe, recognizer.layer_posterior, classifier.classify):
        single, several = one(wavs[0]), one(forms)
        assert isinstance(several, list) and len(several) == 4
        for each in several:
            if isinstance(single, np.ndarray):
                assert np.array_equal(each, single)
            else:
                assert each == single
    assert recognizer.layer_posterior([]) == []


def test_layers(recognizer, wavs):
    read = recognizer.layers(wavs[0])
    model, count = recognizer.model, recognizer.model.num_predictions
    samples, _ = soundfile.read(wavs[0], dtype="float32")
    with torch.no_grad():
        output = model(torch.from_numpy(samples)[None])
        states = model.w2v_encoder(torch.from_numpy(samples)[None], None)
    frames = output["layer_logits"][0].shape[0]
    assert read.hidden_states.shape == (4, frames, 32)
    assert read.log_probs.shape == (count, frames, len(recognizer.labels))
    for layer, state in enumerate([*states.states[:-1], states.output]):
        assert np.array_equal(read.hidden_states[layer], state[:, 0].numpy())
    for layer, logits in enumerate(output["layer_logits"]):
        assert np.allclose(read.log_probs[layer], logits[:, 0].log_softmax(-1), atol=1e-6)
    assert np.allclose(read.posterior, recognizer.layer_posterior(wavs[0]))
    assert [each.log_probs.shape[1] for each in recognizer.layers(wavs[:2])][0] == frames


def test_layers_of_a_classifier(classifier, wavs):
    read = classifier.layers(wavs[0])
    assert read.log_probs.shape == (4, 3) and read.posterior.shape == (4,)


def test_threads_do_not_see_each_others_layers(recognizer, wavs):
    alone = [each.hidden_states for each in recognizer.layers(wavs)]
    found = {}

    def work(index):
        for _ in range(3):
            found[index] = recognizer.layers(wavs[index]).hidden_states

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, expected in enumerate(alone):
        assert np.array_equal(found[index], expected)
