"""Augmentation of the waveform: what it promises of level, band, pitch, padding and normalisation."""

import math

import numpy as np
import pytest
import torch
from build import batch, build_model, setup_task, train
from conftest import REPO
from scipy import signal
from torch.nn import functional as F

from varan_fairseq.data import augment
from varan_fairseq.data.augment import KINDS, Augment, parse_kinds

RECIPE = f"{REPO}/examples/demo/finetune.yaml"


@pytest.fixture
def speech():
    """(wave [3, 24000], padding_mask): noise of speech's slope, of three lengths."""
    torch.manual_seed(3)
    wave = torch.randn(3, 24000).cumsum(1)
    wave = wave - wave.mean(1, keepdim=True)
    wave = 0.1 * wave / wave.std(1, keepdim=True)
    padding_mask = torch.arange(24000) >= torch.tensor([[24000], [16000], [9000]])
    return wave.masked_fill(padding_mask, 0), padding_mask


def power(wave, lengths):
    return np.array([np.square(row[:n]).mean() for row, n in zip(wave.double().numpy(), lengths)])


LENGTHS = (24000, 16000, 9000)


def test_noise_is_pink_and_as_loud_as_it_says(speech):
    wave, padding_mask = speech
    noise = augment.add_noise(wave, (~padding_mask).float()) - wave
    ratios = 10 * np.log10(power(wave, LENGTHS) / power(noise, LENGTHS))
    assert ((ratios > 4.9) & (ratios < 20.1)).all() and np.ptp(ratios) > 0.5
    assert not noise[padding_mask].any()
    hertz, density = signal.welch(noise[0].double().numpy(), fs=16000, nperseg=2048)
    band = (hertz > 100) & (hertz < 7000)
    slope = np.polyfit(np.log10(hertz[band]), 10 * np.log10(density[band]), 1)[0]
    assert -13 < slope < -7  # 3 dB an octave: 10 a decade


def test_an_echo_keeps_level_and_first_sound(speech):
    wave, padding_mask = speech
    heard = augment.echo(wave, (~padding_mask).float())
    np.testing.assert_allclose(power(heard, LENGTHS), power(wave, LENGTHS), rtol=1e-4)
    assert not heard[padding_mask].any()
    click = torch.zeros(1, 16000)
    click[0, 1000] = 1.0
    heard = augment.echo(click, torch.ones_like(click))[0].double().numpy()
    assert np.abs(heard[:1000]).max() < 1e-6 and heard[1000] == np.abs(heard).max()
    energy = np.square(heard[1001:])
    fall = 10 * np.log10(energy[:800].mean() / energy[2400:3200].mean())  # over 0.15 s
    assert 60 * 0.15 / 0.8 - 2 < fall < 60 * 0.15 / 0.2 + 2


def test_a_telephone_has_its_band():
    time = torch.arange(16000) / 16000
    for hertz, low, high in ((100, -200, -60), (1000, -0.1, 0.1), (7000, -200, -20)):
        wave = torch.sin(2 * math.pi * hertz * time)[None]
        kept = augment.narrow(wave, torch.ones_like(wave))
        assert low <= 10 * math.log10(kept.square().mean() / wave.square().mean()) <= high


@pytest.mark.parametrize("speed", augment.SPEEDS)
def test_speed_is_resampling(speed):
    """Against the sines themselves, in float64."""
    time = np.arange(16000) / 16000
    wave = torch.from_numpy(np.sin(2 * np.pi * 440 * time)).float()[None].repeat(2, 1)
    mask = torch.arange(16000) >= torch.tensor([[16000], [8000]])
    changed, padding_mask = augment.change_speed(wave, mask, speed)
    count = round(16000 / speed)
    assert changed.shape == (2, count)
    assert (~padding_mask).sum(1).tolist() == [count, round(8000 / speed)]
    assert not changed[padding_mask].any()
    exact = np.sin(2 * np.pi * 440 * np.arange(count) / count)  # the speed is that of whole samples
    inside = slice(400, count - 400)  # at the ends the sine is not periodic
    np.testing.assert_allclose(changed[0].numpy()[inside], exact[inside], atol=2e-3)


def test_all_of_it(speech):
    wave, padding_mask = speech
    change = Augment(KINDS, 1.0, normalize=True)
    torch.manual_seed(0)
    one, mask = change(wave, padding_mask)
    torch.manual_seed(0)
    assert torch.equal(one, change(wave, padding_mask)[0])
    torch.manual_seed(0)
    plain, _ = Augment(KINDS, 1.0, normalize=False)(wave, padding_mask)
    for row, before, padding in zip(one, plain, mask):
        kept = before[~padding]  # fairseq's datasets normalise so
        torch.testing.assert_close(
            row[~padding], F.layer_norm(kept, kept.shape), rtol=1e-4, atol=1e-4
        )
        assert not row[padding].any()
    half, _ = change(wave.half(), padding_mask)
    assert half.dtype == torch.half and torch.isfinite(half).all()
    whole, none = change(wave, None)
    assert none is None and torch.isfinite(whole).all()
    silent, _ = change(torch.zeros(2, 8000), None)
    assert torch.isfinite(silent).all()


def test_only_a_share_is_changed(speech):
    wave, padding_mask = speech
    wave, padding_mask = wave.repeat(100, 1), padding_mask.repeat(100, 1)
    torch.manual_seed(0)
    changed, _ = Augment(("telephone",), 0.25, normalize=False)(wave, padding_mask)
    share = float((changed != wave).any(1).float().mean())
    assert 0.18 < share < 0.32
    same, _ = Augment(KINDS, 0.0, normalize=False)(wave, padding_mask)
    assert torch.equal(same, wave)


def test_only_in_training(corpus, wav2vec2):
    task = setup_task(corpus)
    sample = batch(task)["net_input"]
    plain = build_model(wav2vec2, task)
    noisy = build_model(wav2vec2, task, augment="noise", augment_prob=1.0, apply_mask=False)
    noisy.load_state_dict(plain.state_dict())
    for model in (plain, noisy):
        model.eval()
    found = [model(**sample)["layer_logits"][-1] for model in (plain, noisy)]
    assert torch.equal(*found)
    noisy.train()
    assert not torch.allclose(noisy(**sample)["layer_logits"][-1], found[0], atol=1e-3)


def test_a_training(corpus, wav2vec2, tmp_path):
    model = {"augment": ",".join(KINDS), "augment_prob": 1.0, "freeze_finetune_updates": 0}
    checkpoint = train(RECIPE, corpus, tmp_path / "out", wav2vec2, model=model)
    assert torch.load(checkpoint)["optimizer_history"][-1]["num_updates"] == 3


def test_options(corpus, wav2vec2):
    assert parse_kinds("none") == () and parse_kinds("noise, speed") == ("speed", "noise")
    task = setup_task(corpus)
    for option, expected in (
        ({"augment": "noise,rain"}, "model.augment=rain"),
        ({"augment": "noise", "augment_prob": 2.0}, "model.augment_prob=2.0: expected a share"),
    ):
        with pytest.raises(ValueError, match=expected):
            build_model(wav2vec2, task, **option)
