"""What only a GPU shows: fairseq's own commands in half precision, and losses beside the CPU's."""

import json
import os
import re
import subprocess
import sys

import pytest
import runs
import torch
from build import batch, build_criterion, build_model, setup_classification, setup_task
from conftest import ENCODERS, REPO, command, save_pretrained
from fairseq import utils
from omegaconf import OmegaConf

from varan_fairseq.method.choices import AGGREGATIONS
from varan_fairseq.method.consensus import consensus_layer
from varan_fairseq.upstream.padding import Valid, ValidGroupNorm, during

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


def gpu(*arguments):
    """A command as a user gives it; a process that is forked could not use the GPU."""
    program = [sys.executable, "-W", "ignore", *map(str, arguments)]
    env = {**os.environ, "HYDRA_FULL_ERROR": "1"}
    done = subprocess.run(program, cwd=REPO, env=env, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout + done.stderr


def finetune(recipe, folder, data, pretrained, updates, *overrides):
    """Its log. As the recipe has it, but for what a tiny encoder on six files needs."""
    settings = [
        f"task.data={data}",
        f"model.w2v_path={pretrained}",
        f"checkpoint.save_dir={folder}",
        f"optimization.max_update={updates}",
        "common.tensorboard_logdir=null",
        "common.log_interval=1",
        "common.fp16_init_scale=128",
        "dataset.valid_subset=valid",
        "dataset.num_workers=1",
        "dataset.max_tokens=40000",
        "dataset.validate_after_updates=0",
        "dataset.validate_interval=1",
        "optimization.update_freq=[1]",
        "model.mask_channel_length=8",
        "model.mask_channel_prob=0.5",
        "model.freeze_finetune_updates=1",
        *overrides,
    ]
    where = ["--config-dir", "examples/", "--config-name", recipe]
    known = OmegaConf.load(os.path.join(REPO, "examples", f"{recipe}.yaml"))
    of_model = [each for each in settings if each.startswith("model.")]
    others = [each for each in settings if each not in of_model]
    # fairseq's own sections have all their keys; the model's has what the recipe lists
    overrides = [*others, *runs.as_overrides(known, of_model)]
    return gpu(command("fairseq-hydra-train"), *where, *overrides)


def losses(log):
    return [float(value) for value in re.findall(r'"(?:train_|valid_)?loss": "([^"]+)"', log)]


@pytest.mark.parametrize(
    "recipe, kind, overrides",
    [
        ("wav2vec2_base_libri_10m", "wav2vec2", []),
        ("wav2vec2_base_libri_10m", "wav2vec2", ["common.fp16=false", "common.bf16=true"]),
        ("hubert_base_libri_100h_lora_groups", "hubert", []),
        ("wavlm_base_plus_libri_100h", "wavlm", []),
    ],
)
def test_trains_resumes_and_decodes(tmp_path, corpus, recipe, kind, overrides):
    pretrained = save_pretrained(tmp_path / "pretrained.pt", kind)
    arguments = (recipe, tmp_path / "out", corpus, pretrained)
    finetune(*arguments, 3, *overrides)
    log = finetune(*arguments, 6, *overrides)
    assert "Loaded checkpoint" in log and re.search(r"@ 3 updates", log)
    found = losses(log)
    assert found and all(0 < loss < float("inf") for loss in found), found
    checkpoint = tmp_path / "out" / "checkpoint_last.pt"
    state = torch.load(checkpoint, weights_only=False)
    assert state["optimizer_history"][-1]["num_updates"] == 6
    assert all(torch.isfinite(value).all() for value in state["model"].values())
    decode = [command("varan-infer"), f"common_eval.path={checkpoint}", f"task.data={corpus}"]
    gpu(*decode, "dataset.gen_subset=test", f"decoding.results_path={tmp_path}/found")
    assert json.loads((tmp_path / "found" / "asr.json").read_text())["wer"] > 0


@pytest.mark.parametrize("recipe", ["wavlm_base_plus_ravdess", "wavlm_base_plus_ravdess_lora"])
def test_classifies(tmp_path, labelled_corpus, recipe):
    pretrained = save_pretrained(tmp_path / "pretrained.pt", "wavlm")
    log = finetune(recipe, tmp_path / "out", labelled_corpus, pretrained, 3)
    assert all(0 < loss < float("inf") for loss in losses(log))
    checkpoint = tmp_path / "out" / "checkpoint_last.pt"
    gpu(command("varan-classify"), checkpoint, labelled_corpus, "test", "--out", tmp_path / "gpu")
    assert json.loads((tmp_path / "gpu" / "scores.json").read_text())["utterances"] == 6


NO_DROPOUT = dict(
    dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, dropout_input=0.0, layerdrop=0.0
)


def loss_and_gradient(model, criterion, sample, dtype):
    """Of the heads and the posterior, all gradients as one vector; on the CPU."""
    model.zero_grad()
    inputs = {**sample["net_input"], "source": sample["net_input"]["source"].to(dtype)}
    loss, size, _ = criterion(model, {**sample, "net_input": inputs})
    (loss / size).backward()
    grads = [p.grad for p in model.aggregation.parameters() if p.grad is not None]
    return (loss / size).item(), torch.cat([grad.flatten().float().cpu() for grad in grads])


def compare(model, criterion, sample, half):
    """Loss within 1%, gradient within a cosine of 0.99, of float32 on a CPU."""
    wanted, gradient = loss_and_gradient(model, criterion, sample, torch.float32)
    model.cuda().to(HALF[half])
    sample = utils.move_to_cuda(sample)
    found, other = loss_and_gradient(model, criterion, sample, HALF[half])
    assert found == pytest.approx(wanted, rel=0.01)
    assert torch.nn.functional.cosine_similarity(gradient, other, dim=0) > 0.99


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize(
    "kind, aggregation",
    [(kind, "varan") for kind in ENCODERS] + [("wav2vec2", rival) for rival in AGGREGATIONS[:-1]],
)
def test_half_precision_is_near_the_cpus(tmp_path, corpus, kind, aggregation, half):
    task = setup_task(corpus)
    pretrained = save_pretrained(tmp_path / "pretrained.pt", kind)
    options = dict(aggregation=aggregation, apply_mask=False, **NO_DROPOUT)
    model = build_model(pretrained, task, **options).train()
    compare(model, build_criterion(task), batch(task), half)


def test_consensus_is_the_cpus():
    torch.manual_seed(0)
    log_probs = (3 * torch.randn(6, 40, 30, 9)).log_softmax(-1)
    log_q, lengths = torch.randn(30, 6).log_softmax(1), torch.randint(20, 41, (30,))
    wanted = consensus_layer(log_probs, log_q, lengths, 0)
    found = consensus_layer(log_probs.cuda(), log_q.cuda(), lengths.cuda(), 0)
    assert len(set(wanted.tolist())) > 3 and torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("half", HALF)
def test_group_norm_is_the_cpus(half):
    """Of values far from zero on average, too, where a variance by squares is worst."""
    torch.manual_seed(0)
    frames = torch.tensor([500, 320, 77])
    x = (torch.randn(3, 16, 500) + torch.linspace(0, 10, 16)[:, None]).to(HALF[half])
    grad = torch.randn(3, 16, 500).to(HALF[half])
    grad.masked_fill_((torch.arange(500) >= frames[:, None, None]), 0)
    results = []
    for device, dtype in (("cpu", torch.float64), ("cuda", HALF[half])):
        norm = torch.nn.GroupNorm(16, 16).to(device, dtype)
        norm.__class__ = ValidGroupNorm
        source = x.to(device, dtype).requires_grad_()
        with during(Valid(frames, {norm: frames.to(device)})):
            found = norm(source)
        found.backward(grad.to(device, dtype))
        found = found.masked_fill((grad == 0).to(device), 0)
        parts = (found, source.grad, norm.weight.grad, norm.bias.grad)
        results.append([part.detach().double().cpu() for part in parts])
    for found, wanted in zip(*reversed(results)):
        assert (found - wanted).norm() < 4 * torch.finfo(HALF[half]).eps * wanted.norm()


@pytest.mark.parametrize("half", HALF)
def test_half_precision_of_classes(tmp_path, labelled_corpus, half):
    task = setup_classification(labelled_corpus)
    pretrained = save_pretrained(tmp_path / "pretrained.pt", "wavlm")
    options = dict(apply_mask=False, **NO_DROPOUT)
    model = build_model(pretrained, task, name="varan_classification", **options).train()
    compare(model, build_criterion(task, "varan_classification"), batch(task), half)
