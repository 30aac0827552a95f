"""Two gloo processes give the gradients of one."""

import os
import time

import pytest
import torch
from build import batch, build_criterion, build_model, setup_task, train
from conftest import REPO, save_pretrained, write_corpus, write_labelled_corpus
from preloaded import in_two

from varan_fairseq.lora import lora_parameters


def setup(path, data, options):
    task = setup_task(data)
    model = build_model(path, task, **options).eval()
    for name, factors in lora_parameters(model).items():
        if name.endswith("lora_B"):  # at its start, zero, no gradient reaches A
            torch.nn.init.normal_(factors, std=0.1)
    return task, model, build_criterion(task)


def join(rank, path):
    """Makes this process one of two, which meet in a file beside `path`: a port that was free
    may not be so any more."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{path}.meet", rank=rank, world_size=2
    )


def leave(rank, path):
    """Ends this process when both have come here: ending gloo itself hangs now and then (seen with
    torch 2.4 on a busy machine)."""
    with open(f"{path}.left{rank}", "w"):
        pass
    while not os.path.exists(f"{path}.left{1 - rank}"):
        time.sleep(0.01)
    os._exit(0)


OPTIONS = {
    "weighted_sum": {"aggregation": "weighted_sum"},
    "varan": {},
    "dora": {"lora_rank": 2, "lora_targets": "all", "lora_magnitude": True},
    "probe": {"finetune": "probe"},
}


def worker(rank, path, data):
    join(rank, path)
    for name, options in OPTIONS.items():
        task, model, criterion = setup(path, data, options)
        wrapped = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        # get_normalized_probs is the model's; fairseq's own wrapper passes it through
        wrapped.get_normalized_probs = model.get_normalized_probs
        loss, _, _ = criterion(wrapped, batch(task, indices=[0, 1, 2] if rank == 0 else [3, 4, 5]))
        loss.backward()
        if rank == 0:
            gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
            torch.save({"gradients": gradients, "prior": model.prior.probs}, f"{path}.{name}")
    leave(rank, path)


@pytest.fixture(scope="module")
def gradients(tmp_path_factory, corpus):
    """Path of an encoder; beside it lie the gradients that two processes found."""
    path = save_pretrained(tmp_path_factory.mktemp("gradients") / "c.pt")
    in_two(worker, path, corpus)
    return path


@pytest.mark.parametrize("name", OPTIONS)
def test_two_processes(gradients, corpus, name):
    found = torch.load(f"{gradients}.{name}")
    task, model, criterion = setup(gradients, corpus, OPTIONS[name])
    criterion(model, batch(task))[0].backward()
    expected = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    idle = {name for name in trained if "mask_emb" in name}
    assert found["gradients"].keys() == expected.keys() == trained - idle
    for key, gradient in expected.items():  # DDP averages over the two processes
        assert torch.allclose(found["gradients"][key] * 2, gradient, rtol=1e-3, atol=1e-4), key
    assert torch.equal(found["prior"], model.prior.probs)


RECIPE = os.path.join(REPO, "examples", "demo", "finetune.yaml")
EMOTION = os.path.join(REPO, "examples", "demo", "emotion.yaml")
# Nothing random, and steps as large as the gradients.
PLAIN = {
    "apply_mask": False,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "dropout_input": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
    "posterior_heads": 4,
}
CASES = {
    "varan": (RECIPE, {}),
    "weighted_sum": (RECIPE, {"aggregation": "weighted_sum"}),
    "last_layer": (RECIPE, {"aggregation": "last_layer"}),
    "attentive": (RECIPE, {"aggregation": "attentive"}),
    "hconv": (RECIPE, {"aggregation": "hconv"}),
    "static": (RECIPE, {"posterior": "static"}),
    "dora": (RECIPE, {"lora_rank": 2, "lora_targets": "all", "lora_magnitude": True}),
    "classification": (EMOTION, {}),
}


def parameters(name, folder, update_freq, **changes):
    """Those after 3 updates of 4 batches of an utterance each; None in the second process."""
    recipe, options = CASES[name]
    changes.update(
        model={**PLAIN, **options},
        optimizer={"adam_eps": 1.0},
        dataset={"batch_size": 1, "valid_subset": "valid", "num_workers": 0},
        optimization={"update_freq": [update_freq], "lr": [1.0]},
    )
    data, out = f"{folder}/{os.path.basename(recipe)}", f"{folder}/{name}-{update_freq}"
    checkpoint = train(recipe, data, out, f"{folder}/base.pt", **changes)
    return torch.load(checkpoint)["model"] if os.path.exists(checkpoint) else None


def trainer(rank, folder):
    """One of two processes of fairseq's own training."""
    torch.set_num_threads(1)
    training = dict(
        distributed_world_size=2,
        distributed_rank=rank,
        distributed_init_method=f"file://{folder}/meet",
        distributed_backend="gloo",
        distributed_no_spawn=True,
        ddp_backend="legacy_ddp",
    )
    for name in CASES:
        parameters(name, folder, 2, distributed_training=training)
    leave(rank, folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with runs of two processes on five utterances: in an epoch's second update, one
    process has an empty batch. (Not seven: of a process with a batch and then an empty one, fairseq
    forgets to count the first.)"""
    folder = str(tmp_path_factory.mktemp("uneven"))
    write_corpus(f"{folder}/{os.path.basename(RECIPE)}", count=5)
    write_labelled_corpus(f"{folder}/{os.path.basename(EMOTION)}", count=5)
    save_pretrained(f"{folder}/base.pt", dropout_features=0.0)
    in_two(trainer, folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_fairseqs_trainer(trained, name):
    found = torch.load(f"{trained}/{name}-2/checkpoint_last.pt")["model"]
    expected = parameters(name, trained, 4)
    start = torch.load(f"{trained}/base.pt")["model"]
    moved = 0
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.allclose(found[key], value, rtol=1e-3, atol=1e-5), key
        inner = start.get(key.replace("w2v_encoder.w2v_model.", ""))
        moved += inner is None or not torch.equal(inner, value)
    assert moved > 8
