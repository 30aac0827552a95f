"""Two gloo processes give the gradients of one."""

import os
import time

import pytest
import torch
from build import batch, build_criterion, build_model, setup_task
from conftest import save_pretrained

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


def worker(rank, path, data, options, results):
    join(rank, path)
    task, model, criterion = setup(path, data, options)
    wrapped = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    # get_normalized_probs is the model's; fairseq's own wrapper passes it through
    wrapped.get_normalized_probs = model.get_normalized_probs
    loss, _, _ = criterion(wrapped, batch(task, indices=[0, 1, 2] if rank == 0 else [3, 4, 5]))
    loss.backward()
    if rank == 0:
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        torch.save({"gradients": gradients, "prior": model.prior.probs}, results)
    leave(rank, path)


@pytest.mark.parametrize(
    "options",
    [
        {"aggregation": "weighted_sum"},
        {"aggregation": "varan"},
        {"aggregation": "varan", "lora_rank": 2, "lora_targets": "all", "lora_magnitude": True},
        {"aggregation": "varan", "finetune": "probe"},
    ],
    ids=["weighted_sum", "varan", "dora", "probe"],
)
def test_two_processes(tmp_path, corpus, options):
    path = save_pretrained(tmp_path / "c.pt")
    results = str(tmp_path / "gradients.pt")
    torch.multiprocessing.spawn(worker, (path, corpus, options, results), nprocs=2)
    found = torch.load(results)

    task, model, criterion = setup(path, corpus, options)
    criterion(model, batch(task))[0].backward()
    expected = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    idle = {name for name in trained if "mask_emb" in name}
    assert found["gradients"].keys() == expected.keys() == trained - idle
    for name, gradient in expected.items():  # DDP averages over the two processes
        assert torch.allclose(found["gradients"][name] * 2, gradient, rtol=1e-3, atol=1e-4), name
    assert torch.equal(found["prior"], model.prior.probs)
