"""The vote of the layers, edit by edit, against every alignment enumerated in float64."""

import itertools
import math
import os

import numpy as np
import pytest
import torch
from build import build_model, setup_task
from conftest import REPO

from varan_fairseq.method import vote as method
from varan_fairseq.method.consensus import consensus_layer
from varan_fairseq.method.emission import Reading, nearest_layer, read_path, read_paths, say
from varan_fairseq.method.kernels import edit_distance, stretches
from varan_fairseq.method.kernels.edit_distance import shared_labels
from varan_fairseq.method.kernels.stretches import Stretch, stretch_log_likelihood
from varan_fairseq.method.vote import CLIP, Ballot, Edit, vote

BLANK, V = 1, 4


def collapse(path):
    return tuple(label for label, _ in itertools.groupby(path) if label != BLANK)


def log_likelihood(log_probs, labels):
    """log p(labels) of [T, V], over all V^T alignments."""
    found = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if collapse(path) == tuple(labels):
            found += math.exp(sum(float(log_probs[t, label]) for t, label in enumerate(path)))
    return math.log(found) if found else -math.inf


def problem(seed, layers=3, frames=6, utterances=5, sharpness=2.5, classes=V):
    torch.manual_seed(seed)
    shape = (layers, frames, utterances, classes)
    log_probs = (sharpness * torch.randn(shape, dtype=torch.float64)).log_softmax(-1)
    log_q = torch.randn(utterances, layers, dtype=torch.float64).log_softmax(-1)
    return log_probs, log_q, torch.randint(1, frames + 1, (utterances,))


def alike(seed, layers=4, frames=60, utterances=4, classes=9, wrong=0.25):
    """Layers that read about the same, each a little earlier or later: as trained ones do."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (layers, frames, utterances, classes))
    values[..., BLANK] += 6
    for b in range(utterances):
        for at in range(2, frames - 3, 4):
            right = rng.choice([c for c in range(classes) if c != BLANK])
            for k in range(layers):
                label = right if rng.random() > wrong else rng.integers(classes)
                values[k, at + rng.integers(-1, 2), b, label] += 12
    log_probs = torch.from_numpy(values).log_softmax(-1)
    log_q = torch.from_numpy(rng.normal(0, 0.5, (utterances, layers))).log_softmax(-1)
    return log_probs, log_q, torch.full((utterances,), frames)


def says(emission, lengths):
    """What the best path of each utterance says."""
    paths = emission.argmax(-1).t().tolist()
    return [collapse(path[:length]) for path, length in zip(paths, lengths.tolist())]


# What two transcripts share


def distance(one, other):
    """The fewest edits, by the definition."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


@pytest.mark.parametrize("budget", [1, 2**24])
@pytest.mark.parametrize("seed", range(5))
def test_what_two_transcripts_share(seed, budget, monkeypatch):
    """Equal labels, in order, and between them as few edits as can be."""
    monkeypatch.setattr(edit_distance, "TABLE_BYTES", budget)
    rng = np.random.default_rng(seed)
    pairs = [tuple(rng.integers(0, 4, rng.integers(0, 12)) for _ in "ab") for _ in range(30)]
    for (one, other), places in zip(pairs, shared_labels(pairs)):
        assert len(places) == len(one)
        here = np.flatnonzero(places >= 0)
        assert (one[here] == other[places[here]]).all() and (np.diff(places[here]) > 0).all()
        ours = np.diff(np.concatenate([[-1], here, [len(one)]])) - 1
        theirs = np.diff(np.concatenate([[-1], places[here], [len(other)]])) - 1
        assert np.maximum(ours, theirs).sum() == distance(one.tolist(), other.tolist())


def test_nothing_to_share():
    empty, one = np.zeros(0, np.int64), np.array([3])
    found = shared_labels([(empty, empty), (empty, one), (one, empty), (one, one)])
    assert [places.tolist() for places in found] == [[], [], [-1], [0]]
    assert shared_labels([]) == []


# Likelihoods of stretches


@pytest.fixture(params=["CPU", "GPU"])
def device(request, monkeypatch):
    """Whose way of scoring stretches is taken."""
    if request.param == "GPU":
        monkeypatch.setattr(stretches, "on_host", lambda tensor: False)


@pytest.mark.parametrize("budget", [1, 2**24])
@pytest.mark.parametrize("seed", range(3))
def test_likelihoods_of_stretches(device, seed, budget, monkeypatch):
    monkeypatch.setattr(stretches, "TABLE_BYTES", budget)
    rng = np.random.default_rng(seed)
    log_probs, _, _ = problem(seed)
    asked = []
    for _ in range(25):
        first, last = sorted(rng.integers(0, 7, 2))
        last = max(last, first + 1) if first < 6 else 6
        first = min(first, last - 1)
        labels = rng.choice([0, 2, 3], rng.integers(0, 4))
        b, k = int(rng.integers(5)), int(rng.integers(3))
        asked.append(Stretch(b, k, int(first), int(last), labels))
    found = stretch_log_likelihood(list(log_probs), asked, BLANK)
    for value, each in zip(found, asked):
        part = log_probs[each.layer, each.first : each.last, each.utterance]
        expected = log_likelihood(part, each.labels.tolist())
        assert value == pytest.approx(expected, abs=1e-9) or value == expected == -math.inf


def test_repeats_without_room_and_labels_that_are_impossible(device):
    log_probs = torch.zeros(1, 3, 1, V, dtype=torch.float64).log_softmax(-1)
    log_probs[..., 3] = -math.inf
    two = [Stretch(0, 0, 0, 2, np.array([2, 2])), Stretch(0, 0, 0, 3, np.array([2, 2]))]
    found = stretch_log_likelihood(log_probs, [*two, Stretch(0, 0, 0, 3, np.array([3]))], BLANK)
    assert found[0] == found[2] == -math.inf and found[1] == pytest.approx(3 * math.log(1 / 4))


# Gains


@pytest.mark.parametrize("seed", range(12))
def test_gains_are_those_of_all_alignments(device, seed):
    """Of every edit of the first round: each layer's likelihoods over its own frames."""
    log_probs, log_q, lengths = problem(seed)
    ballot = Ballot(list(log_probs), log_q, lengths, BLANK)
    ballot._align(range(5))
    edits = list(dict.fromkeys(ballot._edits({b: [(0, 9)] for b in range(5)})))
    assert edits
    for edit, gain in zip(edits, ballot._votes(edits).sum(1)):
        b, expected = edit.utterance, 0.0
        text = ballot.texts[b].tolist()
        for k in range(3):
            left, right, first, last = ballot._anchors(b, k, edit.start, edit.end)
            part = log_probs[k, first:last, b]
            old = log_likelihood(part, text[left:right])
            new = text[left : edit.start] + list(edit.labels) + text[edit.end : right]
            change = log_likelihood(part, new) - old
            change = 0.0 if math.isnan(change) else min(max(change, -CLIP), CLIP)
            expected += float(log_q[b, k].exp()) * change
        assert gain == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_anchors(seed):
    """The nearest shared labels beyond one label of context, and the layer's own frames of them."""
    log_probs, log_q, lengths = alike(seed)
    ballot = Ballot(list(log_probs), log_q, lengths, BLANK)
    ballot._align(range(4))
    for edit in set(ballot._edits({b: [(0, 99)] for b in range(4)})):
        for k in range(4):
            b, place = edit.utterance, ballot.places[edit.utterance][k]
            left, right, first, last = ballot._anchors(b, k, edit.start, edit.end)
            path = log_probs[k, : lengths[b], b].argmax(-1).tolist()
            shared = [j for j in range(len(place)) if place[j] >= 0]
            before = [j for j in shared if j <= edit.start - 2]
            behind = [j for j in shared if j >= edit.end + 1]
            assert left == (before[-1] if before else 0)
            assert right == (behind[0] + 1 if behind else len(place))
            # the frames say what the layer reads from its first anchor to its second
            reading = ballot.readings[b][k].labels.tolist()
            start = place[before[-1]] if before else 0
            end = place[behind[0]] + 1 if behind else len(reading)
            assert collapse(path[first:last]) == tuple(reading[start:end])


def test_edits_that_touch_wait(monkeypatch):
    log_probs, log_q, lengths = alike(1)
    ballot = Ballot(list(log_probs), log_q, lengths, BLANK)
    text = ballot.texts[0]
    edits = [Edit(0, 2, 3, (8,)), Edit(0, 3, 4, (7,)), Edit(0, 5, 5, (6, 6)), Edit(0, 9, 10, ())]
    fresh = ballot._apply(edits, np.array([[1.0], [2.0], [0.5], [-1.0]]))
    wanted = [*text[:3], 7, *text[4:5], 6, 6, *text[5:]]
    assert ballot.texts[0].tolist() == wanted and fresh == {0: [(3, 4), (5, 7)]}


@pytest.mark.parametrize("seed", range(4))
def test_minutes(seed):
    """What went in leads from the likeliest layer's reading to the result, and nothing else does."""
    log_probs, log_q, lengths = alike(seed)
    minutes = []
    ballot = Ballot(list(log_probs), log_q, lengths, BLANK, minutes)
    texts = [text.tolist() for text in ballot.texts]
    ballot.run()
    assert any(motion.carried for motion in minutes)
    for motion in minutes:
        assert motion.votes.shape == (4,)
        assert np.all(np.abs(motion.votes) <= CLIP * log_q[motion.edit.utterance].exp().numpy())
        assert not motion.carried or motion.votes.sum() > 0
    for b, text in enumerate(texts):
        mine = [motion for motion in minutes if motion.edit.utterance == b]
        for before, motions in itertools.groupby(mine, lambda motion: motion.text.tolist()):
            assert before == text, "as the rounds left it"
            carried = [motion.edit for motion in motions if motion.carried]
            for edit in sorted(carried, key=lambda edit: -edit.start):
                text[edit.start : edit.end] = edit.labels
        assert ballot.texts[b].tolist() == text


def by_hand(log_probs, log_q, length):
    """The transcript by the definition, in plain Python: rounds of judging every difference."""
    layers = range(len(log_probs))
    q = [float(value.exp()) for value in log_q]
    paths = [log_probs[k, :length].argmax(-1).tolist() for k in layers]
    readings = [read_path(np.array(path), BLANK) for path in paths]
    first_layer = max(layers, key=lambda k: (q[k], -k))
    text, near = readings[first_layer].labels.tolist(), [(0, 99)]
    for _ in range(3):
        pairs = [(np.array(text, int), reading.labels) for reading in readings]
        places = shared_labels(pairs)
        edits = {}
        for k in sorted(layers, key=lambda k: (-q[k], k)):
            anchors = [(-1, -1)]
            anchors += [(i, int(j)) for i, j in enumerate(places[k]) if j >= 0]
            anchors += [(len(text), len(readings[k].labels))]
            for (i, j), (i2, j2) in zip(anchors, anchors[1:]):
                if i2 - i > 1 or j2 - j > 1:
                    new = tuple(readings[k].labels[j + 1 : j2].tolist())
                    if any(i + 1 <= b + 2 and i2 >= a - 2 for a, b in near):
                        edits.setdefault((i + 1, i2, new), 0.0)
        for start, end, new in edits:
            for k in layers:
                left, right = start - 2, end + 1
                while left >= 0 and places[k][left] < 0:
                    left -= 1
                while right < len(text) and places[k][right] < 0:
                    right += 1
                first = readings[k].start[places[k][left]] if left >= 0 else 0
                last = readings[k].end[places[k][right]] if right < len(text) else length
                part, left = log_probs[k, first:last], max(left, 0)
                old = log_likelihood(part, text[left : right + 1])
                change = log_likelihood(
                    part, [*text[left:start], *new, *text[end : right + 1]]
                ) - old  # fmt: skip
                change = 0.0 if math.isnan(change) else min(max(change, -CLIP), CLIP)
                edits[start, end, new] += q[k] * change
        taken = []
        for edit, gain in sorted(edits.items(), key=lambda item: -item[1]):
            if gain > 1e-6 and all(edit[1] < s or edit[0] > e for s, e, _ in taken):
                taken.append(edit)
        if not taken:
            break
        near, shift = [], 0
        for start, end, new in sorted(taken):
            text[start + shift : end + shift] = new
            near.append((start + shift, start + shift + len(new)))
            shift += len(new) - (end - start)
    return tuple(text)


@pytest.mark.parametrize("seed", range(12))
def test_the_transcript_is_that_of_the_definition(device, seed):
    """Ragged batches, padding of NaN."""
    log_probs, log_q, lengths = problem(seed)
    padding = torch.arange(6).unsqueeze(1) >= lengths
    dirty = log_probs.masked_fill(padding.unsqueeze(-1), float("nan"))
    emission, _ = vote(list(dirty), log_q, lengths, BLANK)
    expected = [by_hand(log_probs[:, :, b], log_q[b], int(lengths[b])) for b in range(5)]
    assert says(emission, lengths) == expected


def test_no_other_rule_finds_these():
    others = 0
    for seed in range(12):
        log_probs, log_q, lengths = alike(seed)
        text = says(vote(list(log_probs), log_q, lengths, BLANK)[0], lengths)
        layer = consensus_layer(log_probs, log_q, lengths, BLANK)
        one = torch.stack([log_probs[k, :, b] for b, k in enumerate(layer)], 1)
        others += sum(a != b for a, b in zip(text, says(one, lengths)))
    assert others > 24  # of 48: parts of several layers


def test_recorded_emissions():
    """Of a trained model, with what another implementation found."""
    with np.load(os.path.join(REPO, "tests", "fixtures", "vote.npz")) as kept:
        log_probs = torch.from_numpy(kept["log_probs"]).float().log_softmax(-1)
        lengths, log_q = torch.from_numpy(kept["lengths"]), torch.from_numpy(kept["log_q"])
        texts = np.split(kept["labels"], np.cumsum(kept["counts"])[:-1])
        layers = kept["layer"].tolist()
    emission, layer = vote(list(log_probs), log_q, lengths, 0)
    assert layer.tolist() == layers
    for b, text in enumerate(texts):
        path = emission[: lengths[b], b].argmax(1).numpy()
        assert np.array_equal(read_path(path, 0).labels, text)


# The emission


@pytest.mark.parametrize("seed", range(10))
def test_the_emission(seed):
    """Says what was voted for, is of the layer nearest to it, and is normalised in every frame: values
    changed places."""
    log_probs, log_q, lengths = alike(seed)
    ballot = Ballot(list(log_probs), log_q, lengths, BLANK)
    ballot.run()
    emission, layer = vote(list(log_probs), log_q, lengths, BLANK)
    assert says(emission, lengths) == [tuple(text.tolist()) for text in ballot.texts]
    for b, k in enumerate(layer.tolist()):
        assert k == nearest_layer(*ballot.about(b))
        ours, theirs = emission[:, b], log_probs[k, :, b]
        assert torch.allclose(ours.sort(1).values, theirs.sort(1).values, atol=1e-12)
        changed = (ours != theirs).any(1)
        assert changed.float().mean() < 0.35
        edits = distance(ballot.texts[b].tolist(), collapse(theirs.argmax(1).tolist()))
        others = [
            distance(ballot.texts[b].tolist(), collapse(x[:, b].argmax(1).tolist()))
            for x in log_probs
        ]
        assert edits == min(others)


def reading_of(emission):
    return read_path(emission.argmax(1).numpy(), BLANK)


@pytest.mark.parametrize("seed", range(20))
def test_an_emission_that_says_anything(seed):
    rng = np.random.default_rng(seed)
    emission = torch.from_numpy(rng.normal(0, 2, (14, V))).log_softmax(-1)
    before = emission.clone()
    reading, text = reading_of(emission), rng.choice([0, 2, 3], rng.integers(0, 6))
    (places,) = shared_labels([(text, reading.labels)])
    say(emission, text, reading, places, BLANK)
    assert collapse(emission.argmax(1).tolist()) == tuple(text.tolist())
    assert torch.allclose(emission.exp().sum(1), torch.ones(14, dtype=torch.float64))
    assert torch.allclose(emission.sort(1).values, before.sort(1).values, atol=1e-12)


def test_ties_in_a_frame():
    emission = torch.full((3, V), -math.log(V))
    text = np.array([2])
    say(emission, text, reading_of(emission), shared_labels([(text, np.zeros(1, int))])[0], BLANK)
    assert collapse(emission.argmax(1).tolist()) == (2,)


def test_too_few_frames():
    emission = torch.zeros(2, V).log_softmax(-1)
    with pytest.raises(ValueError, match="do not fit into 2 frames"):
        say(emission, np.array([2, 2]), reading_of(emission), np.array([-1, -1]), BLANK)


def test_readings():
    paths = np.array([[1, 2], [2, 2], [2, 1], [2, 2]])[None]  # [1, 4, 2]
    (one,), (other,) = read_paths(paths, [3, 4], BLANK)
    assert (one.labels.tolist(), one.start.tolist(), one.end.tolist()) == ([2], [1], [3])
    assert (other.labels.tolist(), other.start.tolist()) == ([2, 2], [0, 3])
    (empty,) = read_paths(paths[:, :, :1], [0], BLANK)[0]
    assert isinstance(empty, Reading) and not len(empty.labels)


# Edge cases


@pytest.mark.parametrize("seed", range(4))
def test_an_utterance_does_not_depend_on_its_batch(seed):
    log_probs, log_q, lengths = alike(seed, utterances=6)
    lengths = torch.tensor([60, 41, 33, 60, 7, 1])
    emission, layer = vote(list(log_probs), log_q, lengths, BLANK)
    for b, length in enumerate(lengths.tolist()):
        alone = [values[:length, b : b + 1] for values in log_probs]
        one, of = vote(alone, log_q[b : b + 1], lengths[b : b + 1], BLANK)
        assert of.item() == layer[b] and torch.equal(one[:, 0], emission[:length, b])


def test_layers_of_no_weight_have_no_say():
    log_probs, log_q, lengths = alike(2)
    few = vote(list(log_probs[:3]), log_q[:, :3].log_softmax(1), lengths, BLANK)
    with_none = torch.cat([log_q[:, :3].log_softmax(1), torch.full((4, 1), -math.inf)], 1)
    broken = torch.full_like(log_probs[3], -math.inf)
    broken[..., 0] = 0
    for last in (log_probs[3], broken):
        found = vote([*log_probs[:3], last], with_none.double(), lengths, BLANK)
        assert torch.equal(found[0], few[0]) and torch.equal(found[1], few[1])


def test_one_layer_and_no_frames():
    log_probs, log_q, lengths = alike(3)
    emission, layer = vote(list(log_probs[:1]), torch.zeros(4, 1), lengths, BLANK)
    assert torch.equal(emission, log_probs[0]) and layer.tolist() == [0] * 4
    lengths = torch.tensor([0, 1, 60, 2])
    emission, _ = vote(list(log_probs), log_q, lengths, BLANK)
    assert says(emission, lengths)[0] == ()


def test_layers_that_agree_are_left_alone(monkeypatch):
    """Nothing is scored."""
    log_probs, log_q, lengths = alike(4, wrong=0.0)
    one = log_probs[:1].expand(4, -1, -1, -1)
    monkeypatch.setattr(method, "stretch_log_likelihood", None)
    emission, layer = vote(list(one), log_q, lengths, BLANK)
    assert torch.equal(emission, one[0]) and torch.equal(layer, log_q.argmax(1))


def test_where_most_is_contested_whole_transcripts_are_compared(monkeypatch):
    """As of heads that have learned nothing, whose every difference would take long to judge."""
    log_probs, log_q, lengths = problem(5, layers=4, frames=120, utterances=3, classes=30)
    calm, calm_q, _ = alike(5, frames=120, utterances=1, classes=30)
    log_probs, log_q = torch.cat([log_probs, calm], 2), torch.cat([log_q, calm_q])
    lengths = torch.tensor([120, 120, 120, 120])
    owners, real = [], method.stretch_log_likelihood

    def watched(layers, asked, blank):
        owners.extend(each.utterance for each in asked)
        return real(layers, asked, blank)

    monkeypatch.setattr(method, "stretch_log_likelihood", watched)
    emission, layer = vote(list(log_probs), log_q, lengths, BLANK)
    assert set(owners) == {3}
    expected = consensus_layer(log_probs, log_q, lengths, BLANK)
    for b in range(3):
        assert layer[b] == expected[b] and torch.equal(emission[:, b], log_probs[layer[b], :, b])


# In a model


@pytest.fixture(scope="module")
def model(corpus, wav2vec2):
    return build_model(wav2vec2, setup_task(corpus)).eval()


def outputs(model, half=False):
    torch.manual_seed(0)
    source = torch.randn(3, 9000)
    padding = torch.arange(9000) >= torch.tensor([9000, 6000, 3000]).unsqueeze(1)
    with torch.no_grad():
        return model(source=source, padding_mask=padding)


def test_is_what_a_model_predicts(model):
    assert model.cfg.combine == "vote"
    out = outputs(model)
    each = [logits.float().log_softmax(-1) for logits in out["layer_logits"]]
    emission, layer = vote(each, out["log_q"], out["lengths"], model.blank)
    prediction = model.predict(out)
    assert torch.equal(prediction.log_probs, emission) and torch.equal(prediction.layer, layer)
    logits = model.get_logits(out)
    valid = torch.arange(len(emission)).unsqueeze(1) < out["lengths"]
    assert torch.equal(logits[valid], emission[valid])
    assert (logits[~valid].argmax(-1) == model.blank).all()


def test_half_precision(model):
    """Logits of half precision are compared in single."""
    out = outputs(model)
    halves = {**out, "layer_logits": [logits.half() for logits in out["layer_logits"]]}
    wide = {**out, "layer_logits": [logits.half().float() for logits in out["layer_logits"]]}
    assert torch.equal(model.predict(halves).log_probs, model.predict(wide).log_probs)


def test_a_cut_model_votes_among_what_is_left(model):
    out = model.at_depth(outputs(model), 2)
    each = [logits.float().log_softmax(-1) for logits in out["layer_logits"]]
    assert len(each) == 2
    expected, _ = vote(each, out["log_q"], out["lengths"], model.blank)
    assert torch.equal(model.predict(out).log_probs, expected)
