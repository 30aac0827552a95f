"""The consensus of the layers against every alignment enumerated in float64."""

import itertools
import math

import pytest
import torch
from build import batch, build_criterion, build_model, setup_task

from varan_fairseq.method import consensus, kernels
from varan_fairseq.method.consensus import consensus_layer
from varan_fairseq.method.kernels.ctc_likelihood import log_likelihood
from varan_fairseq.method.kernels.forward_recursion import weighted_log_likelihood


@pytest.fixture(params=["CPU", "GPU"], autouse=True)
def device(request, monkeypatch):
    """Whose way of scoring transcripts is taken."""
    if request.param == "GPU":
        monkeypatch.setattr(kernels, "on_host", lambda tensor: False)


V = 3
BLANK = 1  # not 0, which a wrong default would be


def collapse(path):
    """What an alignment says: repetitions merged, then blanks dropped."""
    return tuple(label for label, _ in itertools.groupby(path) if label != BLANK)


def likelihoods(log_probs):
    """{transcript: p(y | x)} of one layer and utterance, [T, V], over all V^T alignments."""
    found = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        each = math.exp(sum(float(log_probs[t, label]) for t, label in enumerate(path)))
        found[collapse(path)] = found.get(collapse(path), 0.0) + each
    return found


def by_hand(log_probs, q):
    """The layer that the definition chooses. log_probs: [L, T, V], q: L numbers."""
    spoken = [collapse(layer.argmax(-1).tolist()) for layer in log_probs]
    tables = [likelihoods(layer) for layer in log_probs]
    score = {}
    for transcript in spoken:
        each = [table.get(transcript, 0.0) for table in tables]
        score[transcript] = sum(
            weight * (math.log(p) if p > 0 else -math.inf) for weight, p in zip(q, each) if weight
        )
    best = max(score.values())
    of_best = [layer for layer, transcript in enumerate(spoken) if score[transcript] == best]
    return max(of_best, key=lambda layer: (q[layer], -layer))


def problem(seed, layers=4, frames=5, utterances=6, sharpness=2.0):
    torch.manual_seed(seed)
    shape = (layers, frames, utterances, V)
    log_probs = (sharpness * torch.randn(shape, dtype=torch.float64)).log_softmax(-1)
    log_q = torch.randn(utterances, layers, dtype=torch.float64).log_softmax(-1)
    return log_probs, log_q, torch.randint(1, frames + 1, (utterances,))


@pytest.mark.parametrize("budget", [1, 2000, 2**30])
@pytest.mark.parametrize("seed", range(8))
def test_equals_the_definition(seed, budget, monkeypatch):
    """Ragged batches, padding filled with NaN, any memory budget."""
    monkeypatch.setattr(consensus, "CPU_TABLE_BYTES", budget)
    monkeypatch.setattr(consensus, "GPU_TABLE_BYTES", budget)
    log_probs, log_q, lengths = problem(seed)
    padding = torch.arange(5).unsqueeze(1) >= lengths
    dirty = log_probs.masked_fill(padding.unsqueeze(-1), float("nan"))
    found = consensus_layer(dirty, log_q, lengths, BLANK)
    assert found.dtype == torch.long
    expected = [
        by_hand(log_probs[:, : lengths[b], b], log_q[b].exp().tolist()) for b in range(len(lengths))
    ]
    assert found.tolist() == expected
    assert torch.equal(consensus_layer(list(dirty), log_q, lengths, BLANK), found)


def test_is_not_what_other_rules_choose():
    """The problems above are none that the largest q, or one score alone, would solve."""
    differ = 0
    for seed in range(8):
        log_probs, log_q, lengths = problem(seed)
        found = consensus_layer(log_probs, log_q, lengths, BLANK)
        differ += int((found != log_q.argmax(1)).sum())
    assert 8 <= differ <= 40


def from_paths(*paths, certainty=0.9):
    """[L, T, 1, V]: layers that each find their path likely."""
    rest = (1 - certainty) / (V - 1)
    rows = torch.full((len(paths), len(paths[0]), V), rest, dtype=torch.float64)
    for layer, path in enumerate(paths):
        rows[layer, torch.arange(len(path)), torch.tensor(path)] = certainty
    return rows.log().unsqueeze(2)


def choose(log_probs, *q):
    log_q = torch.tensor([q], dtype=torch.float64).log()
    return consensus_layer(log_probs, log_q, torch.tensor([log_probs.shape[1]]), BLANK).item()


def test_layers_that_agree_outvote_the_likeliest_though_their_frames_differ():
    early, late, other = [0, 1, 2, 1, 1], [1, 0, 0, 2, 1], [2, 1, 0, 1, 0]
    assert choose(from_paths(other, early, late), 0.4, 0.35, 0.25) == 1
    assert choose(from_paths(other, early, late), 0.4, 0.25, 0.35) == 2


def test_ties_go_to_the_larger_q_then_to_the_higher_layer():
    same = from_paths([0, 1], [0, 0], [1, 0])
    assert choose(same, 0.2, 0.5, 0.3) == 1
    assert choose(same, 0.4, 0.2, 0.4) == 2
    mirrored = from_paths([0, 0], [2, 2])
    assert choose(mirrored, 0.5, 0.5) == 1
    # likelihoods of 0 both: neither can be told from the other
    certain = from_paths([0, 0], [2, 2], certainty=1.0)
    assert choose(certain, 0.4, 0.6) == 1


def test_empty_transcripts():
    silent = [1, 1, 1]
    assert choose(from_paths(silent, silent), 0.3, 0.7) == 1
    assert choose(from_paths(silent, [1, 1, 0], silent), 0.4, 0.2, 0.4) == 2
    assert choose(from_paths([0, 1, 0], [1, 1, 0], silent, certainty=0.6), 0.1, 0.8, 0.1) == 1


def test_a_layer_of_no_weight_has_no_say():
    """Not even where it forbids a transcript, and whatever it reads itself."""
    log_probs = from_paths([0, 0], [0, 0], [2, 2])
    log_probs[2, :, :, 0] = -math.inf
    assert choose(log_probs, 0.4, 0.6, 0.0) == 1
    assert choose(log_probs, 0.0, 0.0, 1.0) == 2


def test_a_layer_with_weight_can_forbid_a_transcript():
    log_probs = from_paths([0, 0], [2, 2], [2, 2])
    log_probs[2, :, :, 0] = -math.inf
    assert choose(log_probs, 0.98, 0.01, 0.01) == 2


def test_float32_is_enough():
    log_probs, log_q, lengths = problem(3, layers=5, frames=60, utterances=40)
    lengths = lengths.clamp(min=30)
    found = consensus_layer(log_probs.float(), log_q.float(), lengths, BLANK)
    assert torch.equal(found, consensus_layer(log_probs, log_q, lengths, BLANK))


@pytest.mark.parametrize("frames, width", [(6, 3), (300, 90)])
def test_likelihoods_are_torchs(frames, width):
    """In float64, whatever the lengths, down to e^-1000 and less; weighed over layers."""
    torch.manual_seed(0)
    log_probs = (2 * torch.randn(2, frames, 3, 9, dtype=torch.float64)).log_softmax(-1)
    weights = torch.rand(20, 2, dtype=torch.float64)
    weights[3, 0] = weights[5] = 0
    utterance, count = torch.randint(3, (20,)), torch.randint(0, width + 1, (20,))
    labels = torch.randint(1, 9, (20, width))
    labels[torch.arange(width) >= count.unsqueeze(1)] = -1
    lengths = torch.randint(frames // 2, frames + 1, (3,))[utterance]
    each = [
        -torch.nn.functional.ctc_loss(
            layer[:, utterance], labels.clamp(min=0), lengths, count, blank=0, reduction="none"
        )
        for layer in log_probs
    ]
    expected = (weights * torch.stack(each, 1)).sum(1)
    for bound in (expected - math.inf, expected.mean().expand(20)):
        found = weighted_log_likelihood(log_probs, weights, utterance, labels, lengths, 0, bound)
        wanted = expected.masked_fill(expected < bound, -math.inf)
        assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-10)
    found = log_likelihood(log_probs, utterance, labels, lengths, 0)
    assert torch.allclose(found, torch.stack(each, 1), rtol=1e-12, atol=1e-10)


def test_what_underflows_is_computed_in_logarithms():
    """Layer 1 is sure of its path to e^-900, which is nothing in probabilities, but as -900 of
    weight 0.001 costs layer 0's transcript less than it is ahead by. If it is ahead."""
    log_probs = torch.full((2, 3, 1, V), -900.0, dtype=torch.float64)
    log_probs[:1] = from_paths([0, 0, 2])
    log_probs[1, torch.arange(3), 0, torch.tensor([0, 2, 0])] = 0.0
    first = torch.zeros(1, dtype=torch.long)
    for bound, expected in ((-1000.0, math.log(2) - 900), (-650.0, -math.inf)):
        found = weighted_log_likelihood(
            log_probs[1:],
            torch.ones(1, 1, dtype=torch.float64),
            first,
            torch.tensor([[0, 2]]),
            torch.tensor([3]),
            BLANK,
            torch.tensor([bound], dtype=torch.float64),
        )
        assert found.item() == pytest.approx(expected)
    assert choose(log_probs, 0.999, 0.001) == 0
    assert choose(log_probs, 0.9, 0.1) == 1


@pytest.fixture(scope="module")
def task(corpus):
    return setup_task(corpus)


def spread(model, scale=3.0):
    """Heads and posterior that disagree."""
    torch.manual_seed(2)
    for name, parameter in model.aggregation.named_parameters():
        torch.nn.init.normal_(parameter, std=scale if "heads" in name else 0.5)
    return model


def test_the_model_gives_one_layers_emission(task, wav2vec2):
    model = spread(build_model(wav2vec2, task, combine="consensus")).eval()
    with torch.no_grad():
        out = model(**batch(task)["net_input"])
        out["log_q"] = torch.randn(out["log_q"].shape).log_softmax(-1)  # a choice for each
        found = model.get_logits(out)
        each = [layer.log_softmax(-1) for layer in out["layer_logits"]]
    layers = consensus_layer(each, out["log_q"], out["lengths"], model.blank)
    assert len(set(layers.tolist())) > 1 and (layers != out["log_q"].argmax(1)).any()
    for b, (layer, frames) in enumerate(zip(layers.tolist(), out["lengths"].tolist())):
        assert torch.equal(found[:frames, b], each[layer][:frames, b])
        assert (found[frames:, b].argmax(-1) == model.blank).all()


def test_one_layer_alone_is_unaffected(task, wav2vec2, monkeypatch):
    from varan_fairseq.models import varan_ctc

    def never(*_):
        raise AssertionError("consensus was asked for one layer")

    monkeypatch.setattr(varan_ctc, "consensus_layer", never)
    sample = batch(task)
    monkeypatch.setattr(varan_ctc, "vote", never)
    for options in ({"decode_layer": 2}, {"aggregation": "last_layer"}, {"combine": "best_layer"}):
        model = build_model(wav2vec2, task, **options).eval()
        model.get_logits(model(**sample["net_input"]))


@pytest.mark.parametrize("rule", ["consensus", "vote"])
def test_with_gradient_checkpointing_and_while_training(task, wav2vec2, caplog, rule):
    """Under fairseq's own criterion, which trains on the prediction: heads learn, the
    posterior cannot, and the log says so once."""
    options = {"checkpoint_activations": True, "combine": rule}
    model = spread(build_model(wav2vec2, task, **options)).train()
    criterion = build_criterion(task, "ctc")
    for _ in range(2):
        criterion(model, batch(task))[0].backward()
    heads = [p.grad for p in model.aggregation.heads.parameters() if p.grad is not None]
    assert heads and all(torch.isfinite(grad).all() for grad in heads)
    assert all(p.grad is None for p in model.aggregation.posterior.parameters())
    assert caplog.text.count(f"combine={rule} gives the posterior no gradient") == 1


def test_half_precision(task, wav2vec2):
    model = spread(build_model(wav2vec2, task, combine="consensus"), scale=0.5).eval()
    inputs = batch(task)["net_input"]
    with torch.no_grad():
        model.to(torch.bfloat16)
        out = model(inputs["source"].to(torch.bfloat16), inputs["padding_mask"])
        found = model.get_logits(out)
    assert found.dtype == torch.float32
    exact = [layer.double().log_softmax(-1) for layer in out["layer_logits"]]
    expected = consensus_layer(exact, out["log_q"], out["lengths"], model.blank)
    for b, layer in enumerate(expected.tolist()):
        frames = out["lengths"][b]
        assert torch.allclose(found[:frames, b].double(), exact[layer][:frames, b], atol=1e-5)
