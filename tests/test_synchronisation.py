"""How often an update waits for its device: asking for a value, or for how many there are."""

import warnings

import pytest
import torch
from build import batch, build_criterion, build_model, setup_classification, setup_task
from fairseq import utils
from torch.utils._python_dispatch import TorchDispatchMode

from varan_fairseq.method import kernels
from varan_fairseq.method.choices import AGGREGATIONS

WAITS = {"_local_scalar_dense", "nonzero", "bincount", "masked_select", "_unique2", "unique_dim"}
MOST = 2


class Waits(TorchDispatchMode):
    """Counts what would make the host of a GPU wait, between encoder and loss: within reads of
    layers, objective and log."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1]
        copied = name == "_to_copy" and (kwargs or {}).get("device") == torch.device("cpu")
        if name in WAITS or copied:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def update(task, model, criterion, monkeypatch):
    """Waits of a forward and backward pass behind the encoder, as if on a GPU; of its metrics."""
    monkeypatch.setattr(kernels, "on_host", lambda tensor: False)
    sample = batch(task)
    with torch.no_grad():
        encoded = model.w2v_encoder(**sample["net_input"])
    monkeypatch.setattr(model.w2v_encoder, "forward", lambda *_: encoded)
    waits, ctc_loss = Waits(), torch.nn.functional.ctc_loss

    def without_its_own(*args, **kwargs):
        """It reads lengths, which are on the host by then."""
        assert not any(args[index].is_cuda for index in (2, 3))
        before = list(waits.found)
        result = ctc_loss(*args, **kwargs)
        waits.found[:] = before
        return result

    monkeypatch.setattr(torch.nn.functional, "ctc_loss", without_its_own)
    with waits:
        loss, _, log = criterion(model, sample)
        loss.backward()
    tensors = {key: torch.as_tensor(value) for key, value in log.items()}
    with Waits() as metrics:
        type(criterion).reduce_metrics([tensors])
    return waits.found, metrics.found


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("pre_norm", [False, True])
def test_ctc(corpus, encoders, aggregation, pre_norm, monkeypatch):
    task = setup_task(corpus)
    model = build_model(encoders[pre_norm], task, aggregation=aggregation, final_dropout=0.1)
    criterion = build_criterion(task, zero_infinity=True)
    waits, metrics = update(task, model.train(), criterion, monkeypatch)
    assert len(waits) <= MOST and len(metrics) <= 1, (waits, metrics)


def said_to_wait(work):
    """How often CUDA says so."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(each.message) for each in found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("pre_norm", [False, True])
def test_on_a_gpu(corpus, encoders, pre_norm, monkeypatch):
    """By what CUDA itself says; what `F.ctc_loss` waits for is torch's."""
    task = setup_task(corpus)
    model = build_model(encoders[pre_norm], task).cuda().train()
    criterion = build_criterion(task)
    sample = utils.move_to_cuda(batch(task))
    criterion(model, sample)
    log_probs = torch.randn(40, 2, 30, device="cuda").log_softmax(-1).requires_grad_()
    target, lengths = torch.ones(2, 3, dtype=torch.long, device="cuda"), torch.tensor([40, 40])

    def torchs_own():
        with torch.backends.cudnn.flags(enabled=False):
            torch.nn.functional.ctc_loss(log_probs, target, lengths, lengths // 20).backward()

    with torch.no_grad():
        encoded = model.w2v_encoder(**sample["net_input"])
    monkeypatch.setattr(model.w2v_encoder, "forward", lambda *_: encoded)
    own = said_to_wait(torchs_own)
    assert said_to_wait(lambda: criterion(model, sample)[0].backward()) <= own + MOST


def test_classification(labelled_corpus, encoders, monkeypatch):
    task = setup_classification(labelled_corpus)
    model = build_model(encoders[True], task, name="varan_classification")
    criterion = build_criterion(task, "varan_classification")
    waits, metrics = update(task, model.train(), criterion, monkeypatch)
    assert len(waits) <= MOST and len(metrics) <= 1, (waits, metrics)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    from conftest import save_pretrained

    folder = tmp_path_factory.mktemp("encoders")
    return {
        pre_norm: save_pretrained(folder / f"{pre_norm}.pt", layer_norm_first=pre_norm)
        for pre_norm in (False, True)
    }
