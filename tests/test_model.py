"""Model and criterion `varan_ctc`: against fairseq's own, and against float64 by hand."""

import copy
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from build import batch, build_criterion, build_model, setup_task
from conftest import ENCODERS, save_pretrained
from fairseq.models.wav2vec.wav2vec2_asr import Wav2VecCtc
from omegaconf import OmegaConf
from test_objective import divergence_by_hand
from test_posterior import reference

from varan_fairseq.method.choices import AGGREGATIONS
from varan_fairseq.method.prior import layer_prior
from varan_fairseq.upstream.data2vec import without_timm


@pytest.fixture(scope="module")
def task(corpus):
    return setup_task(corpus)


@pytest.fixture(scope="module", params=["wav2vec2", "hubert"])
def checkpoint(request):
    return request.getfixturevalue(request.param)


def stock_model(kind, path, task):
    """fairseq's own fine-tuning model on the same checkpoint."""
    if kind == "wav2vec2":
        return build_model(path, task, "wav2vec_ctc")
    from fairseq import checkpoint_utils
    from fairseq.models.hubert.hubert_asr import HubertCtc, HubertCtcConfig, HubertEncoder
    from omegaconf import OmegaConf, open_dict

    # HubertEncoder takes the pre-training labels from here, or looks for a file.
    state = checkpoint_utils.load_checkpoint_to_cpu(path)
    cfg = OmegaConf.merge(
        OmegaConf.structured(HubertCtcConfig),
        {"w2v_path": path, "normalize": False, "data": task.cfg.data},
    )
    with open_dict(cfg):
        cfg.autoregressive = False
    assert state["task_state"]
    torch.manual_seed(1)
    return HubertCtc(cfg, HubertEncoder(cfg, task))


@pytest.mark.parametrize(
    "kind", [kind for kind in ("data2vec_audio", "data2vec_multi") if kind in ENCODERS]
)
def test_last_layer_equals_stock_data2vec(tmp_path, corpus, kind):
    """Without padding, which fairseq's positional convolutions of data2vec carry into the
    utterance; fine-tuning options mean the same."""
    task = setup_task(corpus, normalize=True)
    path = save_pretrained(tmp_path / "c.pt", kind, normalize=True)
    options = {"layerdrop": 0.3, "dropout": 0.2, "mask_prob": 0.4, "mask_length": 3}
    with without_timm():
        stock = build_model(path, task, "wav2vec_ctc", **options)
    ours = build_model(path, task, aggregation="last_layer", **options)
    ours.aggregation.heads[0][1].load_state_dict(stock.w2v_encoder.proj.state_dict())
    sample, losses = batch(task, indices=[0]), []
    for model in (stock, ours):
        torch.manual_seed(3)
        np.random.seed(3)
        losses.append(build_criterion(task, "ctc")(model.train(), sample)[0])
    assert torch.allclose(*losses, rtol=1e-5)
    theirs, found = (
        OmegaConf.to_container(OmegaConf.create(model.w2v_encoder.w2v_model.cfg), enum_to_str=True)
        for model in (stock, ours)
    )
    differ = {key for key in theirs if found[key] != theirs[key]}
    assert (
        differ <= {"skip_ema"} and found["mask_length" if "mask_length" in found else "depth"] == 3
    )


def where_counts_agree(task):
    """Two utterances that HuBERT, which divides samples by frames and rounds up, gives as many
    frames as the convolutions do."""
    batch(task)
    sizes = {index: task.dataset("train").size(index)[0] for index in range(6)}

    def frames(samples):
        return (samples - 400) // 320 + 1

    for longest, one in itertools.permutations(sizes, 2):
        total = sizes[longest]
        per_frame = total // frames(total)
        if sizes[one] < total and -(-sizes[one] // per_frame) == frames(sizes[one]):
            return [longest, one]
    raise AssertionError("no such pair in the corpus")


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_last_layer_equals_stock(tmp_path, task, kind, pre_norm):
    """With mask_group_norm=false in a padded batch, which HuBERT's own count of frames would
    read beyond its end for some lengths; as it is for an utterance alone."""
    path = save_pretrained(tmp_path / "c.pt", kind, layer_norm_first=pre_norm)
    stock = stock_model(kind, path, task)
    ours = build_model(path, task, aggregation="last_layer", mask_group_norm=False)
    default = build_model(path, task, aggregation="last_layer")
    stock.w2v_encoder.proj.weight.data.normal_()
    ours.aggregation.heads[0][1].load_state_dict(stock.w2v_encoder.proj.state_dict())
    default.load_state_dict(ours.state_dict())
    sample = batch(task, indices=where_counts_agree(task))
    alone = batch(task, indices=[3])
    for model in (stock, ours, default):
        model.eval()
    emissions = [
        model.get_normalized_probs(model(**alone["net_input"]), True) for model in (stock, default)
    ]
    assert torch.allclose(*emissions, atol=1e-6)
    expected = stock(**sample["net_input"])
    found = ours(**sample["net_input"])
    mask = found["padding_mask"]
    assert mask.any() and torch.equal(
        mask, expected.get("padding_mask", expected.get("encoder_padding_mask"))
    )
    valid = ~mask.t()
    log_probs = stock.get_normalized_probs(expected, log_probs=True)
    assert torch.allclose(
        ours.get_normalized_probs(found, log_probs=True)[valid], log_probs[valid], atol=1e-6
    )
    if kind == "wav2vec2":  # fairseq's hubert_ctc does not mask its padding
        assert torch.equal(ours.get_normalized_probs(found, True), log_probs)

    # and the same gradients under fairseq's own criterion
    if kind == "wav2vec2":
        grads = []
        for model in (stock, ours):
            loss, size, _ = build_criterion(task, "ctc")(model.train(), sample)
            (loss / size).backward()
            grads.append(
                {n: p.grad for n, p in model.w2v_encoder.named_parameters() if p.grad is not None}
            )
        common = [name for name in grads[1] if grads[1][name].abs().max() > 0]
        assert len(common) > 30
        for name in common:
            assert torch.allclose(grads[0][name], grads[1][name], atol=1e-6), name


def by_hand(model, criterion, sample):
    """Loss of a batch in float64, an utterance and layer at a time, from fairseq's states."""
    encoder = model.double().w2v_encoder
    source = sample["net_input"]["source"].double()
    encoded = encoder(source, sample["net_input"]["padding_mask"])
    prior = layer_prior("chi2_reversed", 4, df=35.0).tolist()
    total = 0.0
    for b in range(len(source)):
        frames = int(encoded.lengths[b])
        states = [state[:frames, b] for state in encoded.states]
        pooled = torch.stack([state.sum(0) / frames for state in states]).unsqueeze(0)
        q = reference(model.aggregation.posterior, pooled, model.prior.probs)[0].exp()
        target = [int(t) for t in sample["target"][b] if t > 3]
        for layer, state in enumerate(states):
            head = model.aggregation.heads[layer][1]
            log_probs = (state @ head.weight.t() + head.bias).log_softmax(-1)
            nll = -forward_algorithm(log_probs, target) / frames
            total = total + q[layer] * nll
        total = total + criterion.objective.beta * divergence_by_hand(
            q.tolist(), prior, "prior_posterior"
        )
    return float(total)


def forward_algorithm(log_probs, target):
    """log p(target) by the textbook recursion, in Python floats."""
    rows = log_probs.tolist()
    states = [0]
    for label in target:
        states += [label, 0]
    alpha = {0: rows[0][0], 1: rows[0][states[1]]}
    for row in rows[1:]:
        new = {}
        for s, label in enumerate(states):
            before = [alpha.get(s), alpha.get(s - 1)]
            if label and s > 1 and states[s - 2] != label:
                before.append(alpha.get(s - 2))
            before = [value for value in before if value is not None]
            if before:
                top = max(before)
                new[s] = row[label] + top + math.log(sum(math.exp(v - top) for v in before))
        alpha = new
    ends = [alpha[s] for s in (len(states) - 1, len(states) - 2) if s in alpha]
    return max(ends) + math.log(sum(math.exp(v - max(ends)) for v in ends))


def test_loss_equals_a_float64_computation_by_hand(checkpoint, task):
    model = build_model(checkpoint, task).eval()
    criterion = build_criterion(task, beta=0.2, prior="chi2_reversed")
    sample = batch(task)
    loss, size, log = criterion(model, sample)
    assert size == len(sample["id"]) == 6
    assert loss.item() == pytest.approx(by_hand(model, criterion, sample), rel=1e-5)
    assert log["loss"] == pytest.approx(log["expected_nll"] + 0.2 * log["divergence"], rel=1e-5)
    layers = range(1, 5)
    assert sum(log[f"posterior_{layer:02d}"] for layer in layers) == pytest.approx(6, rel=1e-5)
    assert all(log[f"nll_{layer:02d}"] > 0 for layer in layers)
    assert 0 < log["posterior_entropy"] <= 6 * math.log(4) + 1e-4


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("pre_norm", [False, True])
def test_batch_and_padding_invariance(tmp_path, task, aggregation, pre_norm):
    """Alone or in a batch with longer ones, an utterance's loss and posterior are equal."""
    # GroupNorm over time, in the default feature encoder, sees padding; layer_norm does not
    path = save_pretrained(
        tmp_path / "c.pt", layer_norm_first=pre_norm, extractor_mode="layer_norm"
    )
    model = build_model(path, task, aggregation=aggregation).eval()
    criterion = build_criterion(task)
    together, _, _ = criterion(model, batch(task))
    alone = [criterion(model, batch(task, indices=[index]))[0] for index in range(6)]
    assert together.item() == pytest.approx(sum(loss.item() for loss in alone), rel=1e-4)
    log_q = model(**batch(task)["net_input"])["log_q"]
    for index in range(6):
        single = model(**batch(task, indices=[index])["net_input"])["log_q"]
        assert torch.allclose(log_q[index], single[0], atol=1e-4)


def test_every_parameter_trains(checkpoint, task):
    for aggregation in AGGREGATIONS:
        model = build_model(
            checkpoint, task, aggregation=aggregation, feature_grad_mult=1.0, layer_embedding=True
        ).train()
        build_criterion(task)(model, batch(task))[0].backward()
        idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        # the mask embedding has no use without masking; key biases cancel in a softmax
        idle = [n for n in idle if "mask_emb" not in n and "k_proj.bias" not in n]
        assert idle == [], aggregation


@pytest.mark.parametrize("combine", ["mixture", "log_linear", "best_layer", "consensus"])
def test_trains_under_fairseqs_own_criterion(checkpoint, task, combine):
    model = build_model(checkpoint, task, combine=combine).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    criterion, losses = build_criterion(task, "ctc"), []
    for _ in range(5):
        loss, size, _ = criterion(model, batch(task))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / size)
    assert losses[-1] < losses[0] and all(map(math.isfinite, losses))


def test_emissions(checkpoint, task):
    model = build_model(checkpoint, task).eval()
    net_output = model(**batch(task)["net_input"])
    emissions = model.get_logits(net_output)
    padding = net_output["padding_mask"].t()
    assert torch.allclose(emissions.exp().sum(-1), torch.ones(emissions.shape[:2]), atol=1e-5)
    assert (emissions[padding][:, 0] == 0).all() and torch.isinf(emissions[padding][:, 1:]).all()
    assert torch.equal(model.get_normalized_probs(net_output, False), emissions.exp())
    best = 3 - net_output["log_q"].flip(1).argmax(1)  # of equal ones the highest
    model.cfg.combine = "best_layer"
    by_rule = model.get_logits(net_output)
    for layer in range(1, 5):
        model.cfg.decode_layer = layer
        single = model.get_logits(net_output)
        expected = net_output["layer_logits"][layer - 1].log_softmax(-1)
        assert torch.allclose(single[~padding], expected[~padding], atol=1e-6)
        mine = best == layer - 1
        assert torch.allclose(by_rule[:, mine], single[:, mine])
    for mode, check in (("add", lambda a, b: a > b), ("set", lambda a, b: a != b)):
        model.cfg.blank_weight, model.cfg.blank_mode = 3.0, mode
        weighed = model.get_logits(net_output)
        assert check(weighed[~padding][:, 0], single[~padding][:, 0]).all()
        own = Wav2VecCtc.get_logits(  # what fairseq makes of one layer's logits
            SimpleNamespace(blank_weight=3.0, blank_mode=mode),
            {
                "encoder_out": net_output["layer_logits"][model.cfg.decode_layer - 1].clone(),
                "padding_mask": net_output["padding_mask"],
            },
        ).log_softmax(-1)
        assert torch.allclose(weighed, own, atol=1e-6)
        assert torch.allclose(weighed.exp().sum(-1), torch.ones(emissions.shape[:2]), atol=1e-5)


def test_infeasible_utterances_are_counted_and_contribute_nothing(checkpoint, task):
    model = build_model(checkpoint, task).eval()
    sample = batch(task)
    full, _, log = build_criterion(task)(model, sample)
    assert log["infeasible"] == 0
    long = copy.deepcopy(sample)
    long["target"] = torch.cat([sample["target"]] * 20, dim=1)  # more labels than frames
    long["target"][1:, sample["target"].shape[1] :] = task.target_dictionary.pad()
    repeats = (sample["target"][0] != task.target_dictionary.pad()).sum()
    long["target"][0] = sample["target"][0][:repeats].repeat(60)[: long["target"].shape[1]]
    long["target_lengths"] = (long["target"] != task.target_dictionary.pad()).sum(1)
    loss, size, log = build_criterion(task)(model, long)
    first, _, _ = build_criterion(task)(model, batch(task, indices=[0]))
    assert log["infeasible"] == 1 and size == 6 and math.isfinite(loss.item())
    assert loss.item() < full.item()
    infinite, _, log = build_criterion(task, zero_infinity=False)(model, long)
    assert infinite.item() == float("inf") and log["infeasible"] == 1


def test_validation_counts_are_fairseqs_own(checkpoint, task):
    model = build_model(checkpoint, task).eval()
    sample = batch(task, "valid")
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    ours = build_criterion(task)(model, sample)[2]
    assert len(calls) == 1, "a second forward pass"
    stock = build_criterion(task, "ctc")(model, sample)[2]
    for key in ("wv_errors", "w_errors", "w_total", "c_errors", "c_total"):
        assert ours[key] == stock[key]
    assert ours["w_total"] == 12


def test_logged_metrics(checkpoint, task):
    from fairseq.logging import metrics

    model, criterion = build_model(checkpoint, task).eval(), build_criterion(task)
    logs = [
        criterion(model, batch(task, "valid", indices=part))[2] for part in ([0, 1], [2, 3, 4, 5])
    ]
    with metrics.aggregate() as meters:
        type(criterion).reduce_metrics(logs)
    values = meters.get_smoothed_values()
    loss = sum(log["loss"] for log in logs) / 6 / math.log(2)
    assert values["loss"] == pytest.approx(loss, abs=1e-4)
    assert values["wer"] == pytest.approx(100 * sum(log["w_errors"] for log in logs) / 12, abs=1e-3)
    assert sum(values[f"posterior_{layer:02d}"] for layer in range(1, 5)) == pytest.approx(
        1, abs=1e-3
    )
    assert {
        "uer",
        "expected_nll",
        "divergence",
        "posterior_entropy",
        "nll_04",
        "infeasible",
    } <= set(values)


def test_gradients_accumulate_over_parts_of_a_batch(tmp_path, task):
    path = save_pretrained(tmp_path / "c.pt", extractor_mode="layer_norm")
    model, criterion = build_model(path, task).eval(), build_criterion(task)
    gradients = []
    for parts in ([range(6)], [[0, 1], [2, 3, 4], [5]]):
        model.zero_grad()
        for part in parts:
            criterion(model, batch(task, indices=list(part)))[0].backward()
        gradients.append([p.grad.clone() for p in model.aggregation.parameters()])
    for one, other in zip(*gradients):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_prior_is_in_the_checkpoint(checkpoint, task):
    model = build_model(checkpoint, task)
    criterion = build_criterion(task, prior="chi2_reversed", prior_df=35.0)
    expected, seen = layer_prior("chi2_reversed", 4, df=35.0), []
    model.register_forward_pre_hook(lambda *_: seen.append(model.prior.probs.clone()))
    criterion(model, batch(task))
    assert torch.equal(seen[0], expected)  # before the first pass: the posterior is centred on it
    assert torch.equal(model.half().state_dict()["prior.probs"], expected)
    criterion(build_model(checkpoint, task), batch(task))  # and each model that comes along
    assert torch.equal(criterion.objective.prior.probs, expected)


def test_the_prior_is_uniform_under_fairseqs_own_criterion(checkpoint, task):
    model = build_model(checkpoint, task, combine="mixture")
    build_criterion(task, "ctc")(model, batch(task))
    assert torch.equal(model.prior.probs, torch.full((4,), 0.25))


def test_half_precision(checkpoint, task):
    """As `common.fp16` does it: every weight and the waveform in 16 bits."""
    model = build_model(checkpoint, task).to(torch.bfloat16).train()
    criterion, sample = build_criterion(task), batch(task)
    sample["net_input"]["source"] = sample["net_input"]["source"].to(torch.bfloat16)
    net_output = model(**sample["net_input"])
    assert net_output["log_q"].dtype == torch.float32
    assert net_output["layer_logits"][0].dtype == torch.bfloat16
    loss, _, _ = criterion(model, sample)
    loss.backward()
    exact = build_criterion(task)(build_model(checkpoint, task).train(), batch(task))[0]
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
