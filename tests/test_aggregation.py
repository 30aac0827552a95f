"""The three readings of the layers: values, padding, batch, precision, gradients."""

import pytest
import torch
from torch.nn import functional as F

from varan_fairseq.method import kernels
from varan_fairseq.method.aggregation import build_aggregation
from varan_fairseq.method.choices import AGGREGATIONS
from varan_fairseq.method.ctc import layerwise_ctc
from varan_fairseq.method.heads import ContextMap
from varan_fairseq.method.objective import variational_objective
from varan_fairseq.method.prior import layer_prior

L, T, B, D, V = 4, 7, 3, 8, 5
FRAMES = [7, 4, 5]
GARBAGE = 1234.5  # in the padding
MASK = torch.arange(T) >= torch.tensor(FRAMES).unsqueeze(1)


def build(name, train=True, **options):
    torch.manual_seed(3)
    module = build_aggregation(
        name, num_layers=L, dim=D, num_classes=V, posterior_heads=2, **options
    ).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module.train(train)


def random_states():
    torch.manual_seed(4)
    return [torch.randn(T, B, D, dtype=torch.float64, requires_grad=True) for _ in range(L)]


def reference(module, name, states, frames):
    """(logits [K, T, V], log q [K]) of one utterance, from its valid frames alone."""
    states = [state[:frames] for state in states]
    if name == "last_layer":
        return torch.stack([logits_of(module.heads[0], states[-1])]), torch.zeros(
            1, dtype=torch.float64
        )
    if module.norms.norms:
        normed = [norm(state) for norm, state in zip(module.norms.norms, states)]
        states = normed + states[-1:]
    pooled = torch.stack([state.sum(0) / frames for state in states]).unsqueeze(0)
    if name != "varan":
        total = single(module, name, states, pooled)
        return torch.stack([logits_of(module.heads[0], total)]), torch.zeros(1, dtype=torch.float64)
    logits = torch.stack([logits_of(module.heads[k], state) for k, state in enumerate(states)])
    return logits, module.posterior(pooled)[0]


def logits_of(head, state):
    """[T, V] of [T, D]; a context by shifting the frames."""
    dropout, first, *rest = head
    if not isinstance(first, ContextMap):
        return head(state)
    context = first.padding[0]
    padded = F.pad(state, (0, 0, context, context))
    read = first.bias + sum(
        padded[shift : shift + len(state)] @ first.weight[:, :, shift].t()
        for shift in range(2 * context + 1)
    )
    return torch.nn.Sequential(*rest)(read)


def single(module, name, states, pooled):
    """What the head of a baseline reads, [T, ...]. pooled: [1, L, D]."""
    if name == "hconv":  # by torch's own convolution over depth
        stacked = torch.stack(states, dim=-1)  # [T, D, L]
        for convolution in module.convolutions:
            stacked = convolution(stacked).clamp(min=0)
        return stacked.transpose(1, 2).flatten(1)
    if name == "concat":
        return torch.cat(states, dim=-1)
    if name == "weighted_sum":
        weights = module.scalars.exp() / module.scalars.exp().sum()
    else:
        weights = module.posterior(pooled)[0].exp()
    return sum(weight * state for weight, state in zip(weights, states))


def same_gradients(module, found, dirty, expected, clean):
    """Of the found scalar by `dirty` and the parameters, and of the expected one by `clean`."""
    parameters = list(module.parameters())
    expected_grads = torch.autograd.grad(expected, clean + parameters, allow_unused=True)
    found_grads = torch.autograd.grad(found, dirty + parameters, allow_unused=True)
    for one, other in zip(found_grads, expected_grads):
        if other is None:
            assert one is None or not one.any()
        else:
            assert torch.allclose(one, other, rtol=1e-9, atol=1e-10)


@pytest.fixture
def like_a_gpu(monkeypatch):
    """Layers are read as on a GPU, by `kernels.read_layers`."""
    monkeypatch.setattr(kernels, "on_host", lambda tensor: False)


@pytest.fixture(params=["CPU", "GPU"])
def device(request):
    """Whose way of reading the layers is taken."""
    if request.param == "GPU":
        request.getfixturevalue("like_a_gpu")


OPTIONS = [
    {},
    {"layer_norm": True},
    {"head_dim": 3},
    {"head_dim": 3, "head_activation": "relu"},
    {"head_context": 2},
    {"head_context": 1, "head_dim": 3, "head_activation": "relu", "layer_norm": True},
    {"shared_head": True},
    {"layer_embedding": True},
    {"posterior": "static"},
    {"posterior": "prior"},
]


@pytest.mark.parametrize("name", AGGREGATIONS)
@pytest.mark.parametrize("options", OPTIONS)
def test_values_and_gradients_do_not_depend_on_padding(name, options):
    """Padding filled with large numbers against each utterance computed alone without padding."""
    module, clean = build(name, **options), random_states()
    padding = MASK.t().unsqueeze(-1)
    dirty = [s.detach().masked_fill(padding, GARBAGE).requires_grad_() for s in clean]
    reading = module(dirty, MASK)
    weights = [torch.randn(T, B, V, dtype=torch.float64) for _ in reading.logits]
    weight_q = torch.randn(B, len(weights), dtype=torch.float64)

    expected = torch.zeros((), dtype=torch.float64)
    for b, frames in enumerate(FRAMES):
        logits, log_q = reference(module, name, [s[:, b] for s in clean], frames)
        for k, weight in enumerate(weights):
            assert torch.allclose(reading.logits[k][:frames, b], logits[k], rtol=1e-9, atol=1e-12)
            expected = expected + (logits[k] * weight[:frames, b]).sum()
        assert torch.allclose(reading.log_q[b], log_q, rtol=1e-9, atol=1e-12)
        expected = expected + (log_q * weight_q[b]).sum()
    found = (reading.log_q * weight_q).sum()
    for logits, weight in zip(reading.logits, weights):
        found = found + (logits * weight.masked_fill(padding, 0)).sum()

    same_gradients(module, found, dirty, expected, clean)


@pytest.mark.usefixtures("like_a_gpu")
@pytest.mark.parametrize("options", [each for each in OPTIONS if "layer_norm" not in each])
def test_values_and_gradients_on_a_gpu(options):
    test_values_and_gradients_do_not_depend_on_padding("varan", options)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("name", AGGREGATIONS)
def test_loss_of_an_utterance_does_not_depend_on_its_padding(name):
    """Padded with large numbers in a batch, against alone and unpadded."""
    module, states = build(name), random_states()
    targets, lengths = torch.tensor([[1, 2], [3, 0], [4, 4]]), torch.tensor([2, 1, 2])

    def objective(states, mask, rows, frames):
        reading = module(states, mask)
        nll = layerwise_ctc(reading.logits, targets[rows], frames, lengths[rows], 0, True)
        prior = layer_prior("chi2_reversed", reading.log_q.shape[1])
        return variational_objective(nll, reading.log_q, prior, 0.1, "prior_posterior")[0]

    dirty = [s.detach().masked_fill(MASK.t().unsqueeze(-1), GARBAGE) for s in states]
    together = objective(dirty, MASK, [0, 1, 2], torch.tensor(FRAMES))
    for b, frames in enumerate(FRAMES):
        single = [state[:frames, b : b + 1] for state in states]
        alone = objective(single, None, [b], torch.tensor([frames]))
        assert torch.allclose(together[b], alone[0], rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("name", AGGREGATIONS)
def test_no_padding_mask_means_no_padding(name):
    module, states = build(name), random_states()
    none, empty = module(states, None), module(states, torch.zeros(B, T, dtype=torch.bool))
    assert torch.allclose(none.log_q, empty.log_q)
    grads = []
    for reading in (none, empty):
        total = sum(logit.square().sum() for logit in reading.logits) + reading.log_q.square().sum()
        grads.append(
            torch.autograd.grad(total, states + list(module.parameters()), allow_unused=True)
        )
    for one, other in zip(*grads):
        assert (one is None and other is None) or torch.allclose(one, other)


@pytest.mark.usefixtures("device")
def test_dropout_reaches_the_heads_and_not_the_posterior():
    module, states = build("varan", dropout=0.5), random_states()
    torch.manual_seed(5)
    training = module(states, MASK)
    evaluation = module.eval()(states, MASK)
    assert torch.allclose(training.log_q, evaluation.log_q)
    assert not torch.allclose(training.logits[0], evaluation.logits[0])


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_gradients_through_dropout(mask, layer_norm):
    """Against finite differences of what the same random numbers drop."""
    module = build("varan", dropout=0.4, layer_norm=layer_norm)
    parameters = [p for part in (module.norms, module.heads) for p in part.parameters()]

    def read(*tensors):
        torch.manual_seed(5)
        reading = module(list(tensors[:L]), mask)
        return (reading.means, *reading.logits)

    assert torch.autograd.gradcheck(read, (*random_states(), *parameters), fast_mode=True)


@pytest.mark.usefixtures("device")
def test_half_precision_keeps_the_posterior_in_float32():
    module = build("varan").to(torch.bfloat16)
    states = [state.detach().to(torch.bfloat16).requires_grad_() for state in random_states()]
    reading = module(states, MASK)
    assert reading.log_q.dtype == torch.float32 and reading.logits[0].dtype == torch.bfloat16
    (reading.log_q.sum() + sum(logit.float().sum() for logit in reading.logits)).backward()
    assert all(state.grad.dtype == torch.bfloat16 for state in states)


@pytest.mark.usefixtures("device")
def test_autocast():
    module, states = (
        build("varan").float(),
        [s.detach().float().requires_grad_() for s in random_states()],
    )
    plain = module(states, MASK)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reading = module(states, MASK)
    assert torch.allclose(plain.log_q, reading.log_q.float(), atol=0.1)
    (reading.log_q.sum() + sum(logit.float().sum() for logit in reading.logits)).backward()
    assert all(torch.isfinite(state.grad).all() for state in states)


def test_weighted_sum_starts_equal_and_its_scalars_train():
    torch.manual_seed(0)
    module = build_aggregation("weighted_sum", num_layers=L, dim=D, num_classes=V)
    assert torch.allclose(module.weights(), torch.full((L,), 1 / L))
    states = [state.float() for state in random_states()]
    module(states, MASK).logits[0].square().sum().backward()
    assert module.scalars.grad.abs().min() > 0


def test_unknown_aggregation_lists_the_known():
    with pytest.raises(ValueError, match="'mean': choose one of last_layer, weighted_sum,"):
        build("mean")


@pytest.mark.parametrize(
    "layers, depths", [(1, [1, 1]), (2, [2, 1]), (4, [4, 2]), (12, [12, 4, 2]), (24, [24, 8, 3])]
)
def test_depths_of_hierarchical_convolutions(layers, depths):
    module = build_aggregation("hconv", num_layers=layers, dim=8, num_classes=V)
    assert module.depths(layers) == depths
    widths = [convolution.weight.shape[0] for convolution in module.convolutions]
    assert widths == [8] * (len(depths) - 2) + [8 // depths[-1]]
    reading = module([torch.randn(5, 2, 8) for _ in range(layers)], None)
    assert reading.logits[0].shape == (5, 2, V)


def test_an_attentive_sum_that_has_learned_nothing_is_the_mean():
    module, states = build("attentive"), random_states()
    torch.nn.init.zeros_(module.posterior.score.weight)
    expected = module.heads[0](sum(states) / L)
    assert torch.allclose(module(states, None).logits[0], expected)


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"pooled": True}])
def test_a_users_own_head_and_hooks_on_heads_are_called(options):
    """Heads are modules like others: what replaces one is used, and its hooks run."""
    module, states = build("varan", **options), random_states()
    outputs = []
    module.heads.heads[1].register_forward_hook(lambda head, given, made: outputs.append(made))
    found = module(states, MASK)
    assert len(outputs) == 1 and torch.equal(outputs[0], found.logits[1])

    class Doubled(torch.nn.Module):
        def __init__(self, head):
            super().__init__()
            self.head = head

        def forward(self, state):
            return 2 * self.head(state)

    module.heads.heads[2] = Doubled(module.heads.heads[2])
    assert torch.allclose(module(states, MASK).logits[2], 2 * found.logits[2])
