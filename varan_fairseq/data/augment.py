"""Augmentation of the waveform in training, on the device of the model.

It happens in the model's forward pass, so that every task of fairseq's has it as it is. Of the same
kind as the conditions of `corpora/conditions.py`, but each utterance has a strength of its own."""

from typing import Optional, Sequence, Tuple

import torch
from torch import Tensor

from ..method.choices import check_choice

RATE = 16000  # Hz, of all encoders
KINDS = ("speed", "room", "noise", "telephone")  # in the order in which they happen
SPEEDS = (0.9, 1.1)
SNR = (5.0, 20.0)  # dB of speech over pink noise
REVERBERATION = (0.2, 0.8)  # seconds until an echo has lost 60 dB
DIRECT_TO_ECHOES = (0.0, 10.0)  # dB
BAND = (300.0, 3400.0)  # Hz, of a telephone


def parse_kinds(option: str) -> Tuple[str, ...]:
    """`model.augment` as names of `KINDS`, in their order; raises ValueError for others."""
    names = [name.strip() for name in option.split(",")]
    if names in (["none"], [""]):
        return ()
    for name in names:
        check_choice("model.augment", name, KINDS)
    return tuple(kind for kind in KINDS if kind in names)


class Augment:
    """kinds: of `KINDS`. prob: share of the utterances that each of them changes (`speed`: of the
    batches, whose utterances share a length). normalize: whether audio has mean 0 and variance 1."""

    def __init__(self, kinds: Sequence[str], prob: float, normalize: bool):
        if not 0 <= prob <= 1:
            raise ValueError(f"model.augment_prob={prob}: expected a share, 0 .. 1")
        self.kinds, self.prob, self.normalize = kinds, prob, normalize

    @torch.no_grad()
    def __call__(
        self, source: Tensor, padding_mask: Optional[Tensor]
    ) -> Tuple[Tensor, Optional[Tensor]]:
        """source: [B, samples], padding_mask: [B, samples] bool or None. Returns both as they are
        afterwards; `speed` changes their length."""
        wave = source.float()
        if "speed" in self.kinds and float(torch.rand(())) < self.prob:
            speed = SPEEDS[int(torch.randint(len(SPEEDS), ()))]
            wave, padding_mask = change_speed(wave, padding_mask, speed)
        valid = torch.ones_like(wave) if padding_mask is None else (~padding_mask).float()
        for kind, change in (("room", echo), ("noise", add_noise), ("telephone", narrow)):
            if kind in self.kinds:
                chosen = torch.rand(len(wave), 1, device=wave.device) < self.prob
                wave = torch.where(chosen, change(wave, valid) * valid, wave)
        if self.normalize:
            wave = standardised(wave, valid)
        return wave.type_as(source), padding_mask


def change_speed(
    wave: Tensor, padding_mask: Optional[Tensor], speed: float
) -> Tuple[Tensor, Optional[Tensor]]:
    """Pitch and tempo of [B, samples] times `speed`, by resampling without aliases."""
    before = wave.shape[1]
    after = max(round(before / speed), 1)
    spectrum = torch.fft.rfft(wave)[:, : after // 2 + 1]
    wave = torch.fft.irfft(spectrum, n=after) * (after / before)
    if padding_mask is None:
        return wave, None
    lengths = ((~padding_mask).sum(1, keepdim=True) / speed).round().clamp(1, after)
    padding_mask = torch.arange(after, device=wave.device) >= lengths
    return wave.masked_fill(padding_mask, 0), padding_mask


def echo(wave: Tensor, valid: Tensor) -> Tensor:
    """Echoes as of a room: noise that dies away (Polack's model) behind the direct sound; as loud
    as before."""
    count, samples = wave.shape
    seconds = torch.arange(int(REVERBERATION[1] * RATE), device=wave.device) / RATE
    tail = torch.randn(count, len(seconds), device=wave.device)
    tail = tail * 10 ** (-3 * seconds / _between(REVERBERATION, wave))
    tail[:, 0] = 0
    strength = 10 ** (-_between(DIRECT_TO_ECHOES, wave) / 20)
    tail = tail * strength / tail.norm(dim=1, keepdim=True)
    tail[:, 0] = 1
    size = samples + len(seconds) - 1
    heard = torch.fft.irfft(torch.fft.rfft(wave, n=size) * torch.fft.rfft(tail, n=size), n=size)
    heard = heard[:, :samples] * valid
    return heard * (_power(wave, valid) / _power(heard, valid)).sqrt()


def add_noise(wave: Tensor, valid: Tensor) -> Tensor:
    """Pink noise, whose power falls with the frequency as that of speech about does."""
    spectrum = torch.fft.rfft(torch.randn_like(wave))
    fall = torch.arange(spectrum.shape[1], device=wave.device).clamp(min=1).rsqrt()
    fall[0] = 0
    noise = torch.fft.irfft(spectrum * fall, n=wave.shape[1]) * valid
    wanted = _power(wave, valid) / 10 ** (_between(SNR, wave) / 10)
    return wave + noise * (wanted / _power(noise, valid)).sqrt()


def narrow(wave: Tensor, valid: Tensor) -> Tensor:
    """The band of a telephone, with edges as of a Butterworth filter of order 8."""
    spectrum = torch.fft.rfft(wave)
    hertz = torch.linspace(0, RATE / 2, spectrum.shape[1], device=wave.device)
    low, high = BAND
    gain = (
        1 / torch.sqrt(1 + (low / hertz.clamp(min=1)) ** 16) / torch.sqrt(1 + (hertz / high) ** 16)
    )
    return torch.fft.irfft(spectrum * gain, n=wave.shape[1])


def standardised(wave: Tensor, valid: Tensor) -> Tensor:
    """Mean 0 and variance 1 of each utterance, as fairseq's datasets have it."""
    counts = valid.sum(1, keepdim=True).clamp(min=1)
    wave = (wave - (wave * valid).sum(1, keepdim=True) / counts) * valid
    return wave / (wave.square().sum(1, keepdim=True) / counts + 1e-5).sqrt()


def _power(wave: Tensor, valid: Tensor) -> Tensor:
    """[B, 1], over what is valid."""
    counts = valid.sum(1, keepdim=True).clamp(min=1)
    return ((wave * valid).square().sum(1, keepdim=True) / counts).clamp(min=1e-20)


def _between(bounds: Tuple[float, float], wave: Tensor) -> Tensor:
    """A number for each utterance, [B, 1]."""
    low, high = bounds
    return low + (high - low) * torch.rand(len(wave), 1, device=wave.device)
