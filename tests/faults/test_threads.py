"""Threads that share a model get what each would get alone, and nothing of a call stays behind."""

import concurrent.futures

import numpy as np
import pytest
import torch
from build import build_model, setup_task
from conftest import ENCODERS, save_pretrained
from omegaconf import OmegaConf

from varan_fairseq.inference.recognizer import Recognizer

LENGTHS = [4000, 16000, 7300, 12345, 900, 9999]


@pytest.fixture(scope="module", params=ENCODERS)
def recognizers(request, tmp_path_factory, corpus):
    path = save_pretrained(tmp_path_factory.mktemp("threads") / "base.pt", request.param)
    task = setup_task(corpus)

    def build():
        model = build_model(path, task, decode_layer=3)
        for weight in model.aggregation.parameters():
            torch.nn.init.normal_(weight, std=0.5)  # so that layers differ
        return Recognizer(model.eval(), OmegaConf.create({"task": task.cfg}), task)

    return build


@pytest.fixture
def recognizer(recognizers):
    return recognizers()


def test_any_number_of_threads(recognizers):
    rng = np.random.default_rng(0)
    waves = [rng.normal(0, 0.1, samples).astype(np.float32) for samples in LENGTHS]
    single, recognizer = recognizers(), recognizers()
    alone = [(single.layer_posterior(wave), single.transcribe(wave)) for wave in waves]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        posteriors = [pool.submit(recognizer.layer_posterior, wave) for wave in waves * 7]
        texts = [pool.submit(recognizer.transcribe, wave) for wave in waves * 7]
    for index, (posterior, text) in enumerate(zip(posteriors, texts)):
        expected = alone[index % len(waves)]
        np.testing.assert_allclose(posterior.result(), expected[0], atol=1e-6)
        assert text.result() == expected[1]
    assert len({text for _, text in alone}) > 1


def test_a_model_used_directly_is_as_fairseq_made_it(recognizer):
    """Between and after calls with padding of the encoder around it."""
    encoder = recognizer.model.w2v_encoder
    source = torch.randn(2, 12000)
    with torch.no_grad():
        before, _ = encoder.spec.extract(encoder.w2v_model, source, None, False)
        padding = torch.arange(16000) >= torch.tensor([[16000], [3000]])
        encoder(torch.randn(2, 16000), padding)
        after, _ = encoder.spec.extract(encoder.w2v_model, source, None, False)
    assert torch.equal(before, after)


def test_audio_shorter_than_a_frame(recognizer):
    assert recognizer.model.w2v_encoder.receptive_field == 400
    for samples in (0, 1, 399):
        with pytest.raises(ValueError, match=f"{samples} samples .*400"):
            recognizer.transcribe(np.zeros(samples, dtype=np.float32))
    assert isinstance(recognizer.transcribe(np.zeros(400, dtype=np.float32)), str)
