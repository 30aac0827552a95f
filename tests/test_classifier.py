"""Model, criterion and task of utterance classification: values by hand, processes, data."""

import collections
import math
import os

import numpy as np
import pytest
import soundfile
import torch
from build import batch, build_criterion, build_model, setup_classification, setup_task
from conftest import CLASSES, save_pretrained, write_labelled_corpus
from fairseq.logging import meters, metrics
from omegaconf import OmegaConf
from preloaded import in_two
from test_data_parallel import join, leave
from test_objective import divergence_by_hand

from varan_fairseq.data.labels import (
    LabelledUtterance,
    write_class_dictionary,
    write_labelled_split,
)
from varan_fairseq.data.manifest import read_manifest
from varan_fairseq.method.choices import AGGREGATIONS
from varan_fairseq.method.prior import layer_prior
from varan_fairseq.scoring.classification import METRICS, summary
from varan_fairseq.tasks.utterance_classification import UtteranceClassificationConfig
from varan_fairseq.upstream.padding import during

NAME = "varan_classification"


@pytest.fixture(scope="module")
def task(labelled_corpus):
    return setup_classification(labelled_corpus)


@pytest.fixture
def folder(tmp_path):
    return write_labelled_corpus(tmp_path / "data")


def ready(path, task, **options):
    """A model whose task knows its training labels, as fairseq builds it."""
    return build_model(path, task, NAME, **options)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_loss_equals_a_float64_computation_by_hand(tmp_path, labelled_corpus, kind, aggregation):
    task = setup_classification(labelled_corpus)
    path = save_pretrained(tmp_path / "c.pt", kind)
    model = ready(path, task, aggregation=aggregation).double().eval()
    for parameter in model.aggregation.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    criterion = build_criterion(
        task, NAME, prior_df=6.0, beta=0.2, label_smoothing=0.1, class_weights="1,2,0.5"
    )
    sample = batch(task)
    sample["net_input"]["source"] = sample["net_input"]["source"].double()
    loss, size, log = criterion(model, sample)
    assert size == 6 and log["nsentences"] == 6

    output = model(**sample["net_input"])
    layers = len(output["layer_logits"])
    prior = layer_prior("chi2_reversed", layers, df=6.0).tolist()
    weights, expected, confusion = [1.0, 2.0, 0.5], 0.0, collections.Counter()
    for b, y in enumerate(sample["target"].tolist()):
        q = output["log_q"][b].exp().tolist()
        mixture = [0.0] * 3
        for layer in range(layers):
            row = output["layer_logits"][layer][b].tolist()
            log_p = [x - math.log(sum(math.exp(other) for other in row)) for x in row]
            nll = -0.9 * weights[y] * log_p[y]
            nll -= 0.1 / 3 * sum(w * value for w, value in zip(weights, log_p))
            expected += q[layer] * nll
            mixture = [m + q[layer] * math.exp(value) for m, value in zip(mixture, log_p)]
        expected += 0.2 * divergence_by_hand(q, prior, "prior_posterior")
        confusion[y, mixture.index(max(mixture))] += 1
        found = model.get_normalized_probs(output, log_probs=False)[b].tolist()
        assert found == pytest.approx(mixture, rel=5e-6)  # float32 at log p = -13
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    for (row, column), count in confusion.items():
        assert log["_confusion"][row, column] == count
    assert log["_confusion"].sum() == 6


def test_last_layer_is_the_head_on_the_mean_of_fairseqs_own_output(wav2vec2, labelled_corpus):
    task = setup_classification(labelled_corpus)
    model = ready(wav2vec2, task, aggregation="last_layer").eval()
    sample = batch(task)
    output = model(**sample["net_input"])
    w2v = model.w2v_encoder.w2v_model
    with during(model.w2v_encoder.valid(**sample["net_input"])):
        own = w2v.extract_features(mask=False, **sample["net_input"])
    for b in range(6):
        valid = own["x"][b][~own["padding_mask"][b]]
        logits = model.aggregation.heads[0](valid.mean(0))
        assert torch.allclose(output["layer_logits"][0][b], logits, atol=1e-5)


def test_one_forward_pass_a_batch(wav2vec2, labelled_corpus):
    task = setup_classification(labelled_corpus)
    model, calls = ready(wav2vec2, task), []
    model.w2v_encoder.register_forward_hook(lambda *_: calls.append(1))
    criterion, sample = build_criterion(task, NAME), batch(task)
    for mode in (True, False):
        model.train(mode)
        criterion(model, sample)
    assert len(calls) == 2


def test_ties_go_to_the_first_class(wav2vec2, labelled_corpus):
    """Equal probabilities everywhere, as of heads that are all zero, in a batch of one class."""
    task = setup_classification(labelled_corpus)
    model = ready(wav2vec2, task).eval()
    for parameter in model.aggregation.heads.parameters():
        torch.nn.init.zeros_(parameter)
    sample = batch(task, indices=[1, 4])
    loss, _, log = build_criterion(task, NAME, beta=0.0)(model, sample)
    assert log["_confusion"].tolist() == [[0, 0, 0], [2, 0, 0], [0, 0, 0]]
    assert float(loss) == pytest.approx(2 * math.log(3), rel=1e-5)


def test_fairseqs_own_criterion(wav2vec2, labelled_corpus):
    """`cross_entropy` sees every class, also that whose index is its usual padding's."""
    task = setup_classification(labelled_corpus)
    model, sample = ready(wav2vec2, task).eval(), batch(task)
    criterion = build_criterion(task, "cross_entropy", sentence_avg=True)
    loss, size, _ = criterion(model, sample)
    log_probs = model.get_normalized_probs(model(**sample["net_input"]), log_probs=True)
    expected = -sum(log_probs[b, y] for b, y in enumerate(sample["target"].tolist()))
    assert size == 6 and torch.allclose(loss, expected, rtol=1e-5)
    loss.backward()
    assert model.aggregation.posterior.score.weight.grad.abs().max() > 0


def aggregated(task, criterion, logs):
    """What fairseq would log: logging outputs reduced batch by batch."""
    with metrics.aggregate(new_root=True) as root:
        for outputs in logs:
            task.reduce_metrics(outputs, criterion)
        values = root.get_smoothed_values()
    return values, root


def test_metrics_add_up_over_batches_and_survive_a_checkpoint(wav2vec2, labelled_corpus, tmp_path):
    task = setup_classification(labelled_corpus)
    model = ready(wav2vec2, task).eval()
    criterion = build_criterion(task, NAME)
    parts = [[0], [1, 2], [3, 4, 5]]
    logs = [[criterion(model, batch(task, indices=part))[2]] for part in parts]
    values, root = aggregated(task, criterion, logs)
    confusion = sum(log["_confusion"] for (log,) in logs).numpy()
    for name in METRICS:
        assert values[name] == pytest.approx(summary(confusion)[name], abs=1e-3)
    assert {f"recall_{name}" for name in CLASSES} <= set(values)
    assert not any(name.startswith("_") for name in values)

    torch.save(root.state_dict(), str(tmp_path / "meters.pt"))
    restored = meters.MetersDict()
    restored.load_state_dict(torch.load(str(tmp_path / "meters.pt")))
    assert torch.equal(restored["_confusion"].sum, root["_confusion"].sum)
    root.reset()
    assert math.isnan(root.get_smoothed_values()["accuracy"])


def worker(rank, path, data, results):
    join(rank, path)
    task = setup_classification(data)
    model = ready(path, task).eval()
    criterion = build_criterion(task, NAME)
    wrapped = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    loss, _, log = criterion(wrapped, batch(task, indices=[0, 1, 2, 3] if rank == 0 else [4, 5]))
    loss.backward()
    from fairseq.distributed import utils

    total = utils.all_reduce_dict(log, torch.device("cpu"), torch.distributed.group.WORLD)
    values, _ = aggregated(task, criterion, [[dict(total)]])
    if rank == 0:
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        torch.save({"values": dict(values), "gradients": gradients}, results)
    leave(rank, path)


def test_two_processes_give_the_metrics_of_one(tmp_path, labelled_corpus):
    path = save_pretrained(tmp_path / "c.pt", extractor_mode="layer_norm")
    results = str(tmp_path / "found.pt")
    in_two(worker, path, labelled_corpus, results)
    found = torch.load(results)
    task = setup_classification(labelled_corpus)
    model = ready(path, task).eval()
    criterion = build_criterion(task, NAME)
    loss, _, log = criterion(model, batch(task))
    loss.backward()
    values, _ = aggregated(task, criterion, [[log]])
    for name in [*METRICS, "loss", "divergence", *(f"recall_{label}" for label in CLASSES)]:
        assert float(found["values"][name]) == pytest.approx(values[name], abs=2e-4), name
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:  # DDP averages over the two processes
            close = torch.allclose(
                found["gradients"][name] * 2, parameter.grad, rtol=1e-3, atol=1e-4
            )
            assert close, name


def test_half_precision(wav2vec2, labelled_corpus):
    task = setup_classification(labelled_corpus)
    model = ready(wav2vec2, task).to(torch.bfloat16).train()
    criterion, sample = build_criterion(task, NAME), batch(task)
    sample["net_input"]["source"] = sample["net_input"]["source"].to(torch.bfloat16)
    loss, _, log = criterion(model, sample)
    loss.backward()
    assert loss.dtype == torch.float32 and math.isfinite(log["loss"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_fp16_on_a_gpu(wav2vec2, labelled_corpus):
    from fairseq import utils

    task = setup_classification(labelled_corpus)
    model = ready(wav2vec2, task).cuda().half().train()
    sample = utils.move_to_cuda(batch(task))
    sample["net_input"]["source"] = sample["net_input"]["source"].half()
    loss, _, log = build_criterion(task, NAME)(model, sample)
    loss.backward()
    assert torch.isfinite(loss) and log["_confusion"].sum() == 6


def test_balanced_weights_come_from_the_training_labels(wav2vec2, folder):
    with open(os.path.join(folder, "train.emo"), "w") as file:
        file.write("ang\nang\nang\nhap\nhap\nsad\n")
    task = setup_classification(folder)
    ready(wav2vec2, task)
    criterion = build_criterion(task, NAME, class_weights="balanced")
    assert criterion.class_weights.tolist() == pytest.approx([6 / 9, 1.0, 2.0])


# Data


def test_cropping_is_counted_random_in_training_and_central_elsewhere(folder, wav2vec2, caplog):
    task = setup_classification(folder, max_sample_size=10000)
    ready(wav2vec2, task)
    with caplog.at_level("INFO"):
        task.load_dataset("train")
        task.load_dataset("valid")
    train, valid = task.dataset("train"), task.dataset("valid")
    long = [row for row in range(6) if train.dataset.sizes[row] > 10000]
    assert long and f"train: {len(long)} of 6 utterances are cropped to 10000" in caplog.text
    torch.manual_seed(0)
    assert not torch.equal(train[long[0]]["source"], train[long[0]]["source"])
    row = next(row for row in range(6) if valid.dataset.sizes[row] > 10000)
    start = (int(valid.dataset.sizes[row]) - 10000) // 2
    whole = valid.dataset[row]["source"]
    assert torch.equal(valid[row]["source"], whole[start : start + 10000])
    assert max(train.sizes) == 10000 == train.num_tokens(long[0])
    batches = train.batch_by_size(train.ordered_indices(), max_tokens=20000)
    assert sorted(row for rows in batches for row in rows) == list(range(6))
    collated = batch(task, "train")
    assert collated["net_input"]["source"].shape == (6, 10000)
    assert collated["target"].tolist() == [0, 1, 2, 0, 1, 2]


def test_short_utterances_leave_labels_in_step(folder):
    sizes = [size for _, size in read_manifest(os.path.join(folder, "train.tsv")).entries]
    task = setup_classification(folder, min_sample_size=sorted(sizes)[2])
    task.load_dataset("train")
    data = task.dataset("train")
    kept = [row for row in range(6) if sizes[row] >= sorted(sizes)[2]]
    assert len(kept) == 4
    assert [int(data[i]["label"]) for i in range(len(data))] == [row % 3 for row in kept]


def test_unreadable_files_are_named_counted_and_left_out(folder, wav2vec2, caplog):
    os.remove(os.path.join(folder, "wav", "train1.wav"))
    task = setup_classification(folder, max_unreadable=0.2)
    with caplog.at_level("INFO"):
        ready(wav2vec2, task)
    assert "left out of train: no audio file" in caplog.text and "train1.wav" in caplog.text
    assert "1 of 6 audio files left out" in caplog.text
    task.load_dataset("train")
    assert sorted(task.dataset("train").ordered_indices().tolist()) == [0, 2, 3, 4, 5]
    assert task.train_counts().tolist() == [2, 1, 2]
    with pytest.raises(ValueError, match="1 of 6 audio files cannot be read .*max_unreadable=0.01"):
        ready(wav2vec2, setup_classification(folder))


def test_a_label_file_of_another_length(folder, wav2vec2):
    with open(os.path.join(folder, "valid.emo"), "a") as file:
        file.write("sad\n")
    with pytest.raises(ValueError, match="valid.emo has 7 lines, its manifest names 6"):
        ready(wav2vec2, setup_classification(folder))


def test_an_unknown_label(folder, wav2vec2):
    with open(os.path.join(folder, "valid.emo"), "w") as file:
        file.write("sad\nsad\nbored\nsad\nsad\nsad\n")
    with pytest.raises(
        ValueError, match="valid.emo, line 3: unknown label 'bored', expected one of"
    ):
        ready(wav2vec2, setup_classification(folder))


def test_a_class_without_examples_is_a_warning(folder, wav2vec2, caplog):
    with open(os.path.join(folder, "train.emo"), "w") as file:
        file.write("sad\nsad\nang\nsad\nsad\nsad\n")
    ready(wav2vec2, setup_classification(folder))
    assert "1 of 3 classes have no examples in train: hap" in caplog.text


def test_a_speaker_in_two_splits(folder, wav2vec2):
    for split, names in (("train", "abcabc"), ("valid", "ddceff")):
        with open(os.path.join(folder, f"{split}.spk"), "w") as file:
            file.writelines(f"{name}\n" for name in names)
    with pytest.raises(ValueError, match="valid.spk: speaker c is in train and in valid"):
        ready(wav2vec2, setup_classification(folder))
    ready(wav2vec2, setup_classification(folder, allow_shared_speakers=True))
    with open(os.path.join(folder, "valid.spk"), "w") as file:
        file.write("d\n")
    with pytest.raises(ValueError, match="valid.spk has 1 lines, its manifest names 6"):
        ready(wav2vec2, setup_classification(folder))


@pytest.mark.parametrize(
    "content, words",
    [
        ("ang 3\nhap\n", "line 2: 'hap', expected label count"),
        ("ang 3\nang 2\n", "line 2: label 'ang' is there already"),
        ("ang 3\n", "has 1 labels, expected 2"),
    ],
)
def test_dictionaries(folder, content, words):
    with open(os.path.join(folder, "dict.emo.txt"), "w") as file:
        file.write(content)
    with pytest.raises(ValueError, match=words):
        assert setup_classification(folder).target_dictionary


@pytest.mark.parametrize(
    "options, words",
    [
        ({"labels": None}, "task.labels is not set"),
        ({"binarized_dataset": True}, "task.binarized_dataset=True is not supported"),
        ({"multi_corpus_keys": "a,b"}, "task.multi_corpus_keys=a,b is not supported"),
    ],
)
def test_task_options(folder, options, words):
    if next(iter(options)) not in UtteranceClassificationConfig.__dataclass_fields__:
        pytest.skip("an option of fairseq main")
    with pytest.raises(ValueError, match=words):
        setup_task(folder, **{"_name": "utterance_classification", "labels": "emo", **options})


@pytest.mark.parametrize(
    "options, words",
    [
        ({"label_smoothing": 1.0}, "criterion.label_smoothing=1.0: expected 0 or more, below 1"),
        ({"class_weights": "1,2"}, "expected none, balanced, or 3 numbers, for ang, hap, sad"),
        ({"class_weights": "even"}, "class_weights=even: expected none"),
        ({"class_weights": "1,-2,3"}, "expected none"),
        ({"beta": -1.0}, "beta must be"),
    ],
)
def test_criterion_options(task, options, words):
    with pytest.raises(ValueError, match=words):
        build_criterion(task, NAME, **options)


def test_the_wrong_task_or_criterion(wav2vec2, corpus, task, labelled_corpus):
    with pytest.raises(ValueError, match="needs task._name=utterance_classification"):
        build_model(wav2vec2, setup_task(corpus), NAME)
    stock = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="needs a model with a posterior over layers"):
        build_criterion(task, NAME)(stock, batch(task))


def test_nan_in_audio_names_the_file(folder, wav2vec2):
    task = setup_classification(folder, check_audio=False)
    path = os.path.join(folder, "wav", "train2.wav")
    wave, rate = soundfile.read(path)
    wave[100] = np.nan
    soundfile.write(path, wave, rate, subtype="FLOAT")
    model = ready(wav2vec2, task)
    with pytest.raises(ValueError, match="NaN or infinite samples in audio: .*train2.wav"):
        build_criterion(task, NAME)(model, batch(task))


# Files of fairseq main's `audio_classification`


def test_our_files_are_fairseqs(tmp_path, folder):
    """What our writer writes is what `write_labelled_corpus` writes by hand."""
    rows = [line.rstrip("\n").split("\t") for line in open(os.path.join(folder, "train.tsv"))]
    labels = open(os.path.join(folder, "train.emo")).read().split()
    utterances = [
        LabelledUtterance(name, int(size), label, None)
        for (name, size), label in zip(rows[1:], labels)
    ]
    write_labelled_split(str(tmp_path), "train", "emo", rows[0][0], utterances)
    write_class_dictionary(str(tmp_path), "emo", dict.fromkeys(CLASSES, 2))
    for name in ("train.tsv", "train.emo", "dict.emo.txt"):
        assert (tmp_path / name).read_text() == open(os.path.join(folder, name)).read(), name
    assert not (tmp_path / "train.spk").exists()


def stock_classification(folder, path, out):
    """fairseq main's own task, model and criterion, three updates."""
    from fairseq.dataclass.configs import FairseqConfig
    from fairseq_cli.hydra_train import _hydra_main

    cfg = {
        "common": {"cpu": True},
        "checkpoint": {"save_dir": out},
        "task": {"_name": "audio_classification", "data": folder, "labels": "emo"},
        "dataset": {"num_workers": 0, "batch_size": 2, "required_batch_size_multiple": 1},
        "criterion": {"_name": "cross_entropy"},
        "optimization": {"max_update": 3, "lr": [0.001], "sentence_avg": True},
        "optimizer": {"_name": "adam"},
        "lr_scheduler": {"_name": "fixed"},
        "model": {"_name": "wav2vec_classification", "w2v_path": path, "pooling": "mean"},
    }
    _hydra_main(OmegaConf.merge(OmegaConf.structured(FairseqConfig), cfg))


def test_our_manifests_train_fairseqs_own_task(folder, wav2vec2, monkeypatch, tmp_path):
    """`audio_classification` of ve-fairseq 0.12.3 asks its dictionary, which it loads without
    special symbols, for the index of the padding, and fails on any data: the test gives the
    dictionary those indices, the rest is fairseq's own."""
    pytest.importorskip("fairseq.tasks.audio_classification")
    from fairseq import tasks
    from fairseq.data import Dictionary

    out = str(tmp_path / "stock")
    with pytest.raises(AttributeError, match="pad_index"):
        stock_classification(folder, wav2vec2, out)
    for name in ("pad_index", "eos_index", "bos_index"):
        monkeypatch.setattr(Dictionary, name, -100, raising=False)
    stock_classification(folder, wav2vec2, out)
    state = torch.load(os.path.join(out, "checkpoint_last.pt"))
    assert state["optimizer_history"][-1]["num_updates"] == 3
    theirs = tasks.setup_task(OmegaConf.create(state["cfg"]["task"]))
    theirs.load_dataset("train")
    ours = setup_classification(folder)
    ours.load_dataset("train")
    assert theirs.target_dictionary.symbols == ours.target_dictionary.symbols
    for row in range(6):
        mine, other = ours.dataset("train")[row], theirs.dataset("train")[row]
        assert int(mine["label"]) == int(other["label"]) and torch.equal(
            mine["source"], other["source"]
        )
