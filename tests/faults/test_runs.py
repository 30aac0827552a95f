"""The campaign, training runs: resumed, finished, impossible, or spoilt by one option."""

import os

import numpy as np
import pytest
import soundfile
import torch
from build import batch, build_criterion, build_model, setup_task
from conftest import write_corpus
from faulty import (
    Run,
    broken_weights,
    copy,
    decode,
    edit,
    read,
    tool,
    write,
)
from preloaded import in_two

import varan_fairseq
from varan_fairseq.cli import layers
from varan_fairseq.runtime.fairseq_compat import whole_config


def turned(text):
    """A dictionary's lines in the other order."""
    return "\n".join(text.split("\n")[-2::-1]) + "\n"


@pytest.fixture
def data(ctc, tmp_path):
    return copy(ctc.data, tmp_path / "data")


@pytest.fixture
def out(ctc, tmp_path):
    return copy(ctc.out, tmp_path / "out")


def updates(path):
    return torch.load(path)["optimizer_history"][-1]["num_updates"]


def states(folder):
    return {
        name: os.stat(os.path.join(folder, name)).st_mtime_ns
        for name in os.listdir(folder)
        if name.endswith(".pt")
    }


def test_a_finished_run_says_so_and_stops(ctc, out, caplog):
    before = states(out)
    for _ in range(2):
        caplog.clear()
        path = ctc.train(out=out)
        assert "has 3 updates, optimization.max_update=3: this run is finished" in caplog.text
        assert states(out) == before and updates(path) == 3
    assert updates(ctc.train(out=out, updates=4)) == 4  # and continues when it is asked to


def test_a_run_that_is_not_finished_goes_on(ctc, tmp_path):
    path = ctc.train(out=str(tmp_path / "o"), checkpoint={"save_interval_updates": 1})
    os.replace(path.replace("last", "1_2"), path)  # as if it had been killed then
    assert updates(path) == 2 and updates(ctc.train(out=str(tmp_path / "o"))) == 3


def test_resuming_with_an_order_that_changed(ctc, data, out):
    edit(os.path.join(data, "dict.ltr.txt"), turned)
    before = states(out)
    with pytest.raises(ValueError, match="label 4 is '.' there, '.' here. Use the dictionary file"):
        ctc.train(data, out, updates=5)
    assert states(out) == before


def test_finetuning_from_a_model_with_another_order(ctc, data, tmp_path):
    edit(os.path.join(data, "dict.ltr.txt"), turned)
    new = str(tmp_path / "new")
    options = {"checkpoint": {"finetune_from_model": ctc.checkpoint}}
    with pytest.raises(ValueError, match="checkpoint_last.pt was trained with another dictionary"):
        ctc.train(data, new, **options)
    assert updates(ctc.train(out=new, updates=4, **options)) == 4


def test_resuming_a_classifier_with_classes_permuted(emotion, tmp_path):
    data = copy(emotion.data, tmp_path / "data")
    edit(os.path.join(data, "dict.emo.txt"), turned)
    with pytest.raises(ValueError, match="label 0 is 'ang' there, 'sad' here"):
        emotion.train(data, copy(emotion.out, tmp_path / "out"), updates=5)


def test_resuming_weights_that_are_no_numbers(ctc, out):
    path = os.path.join(out, "checkpoint_last.pt")
    broken_weights(path, path)
    with pytest.raises(ValueError, match="checkpoint_last.pt: 1 of .* hold NaN or infinite"):
        ctc.train(out=out, updates=5)


def test_resuming_what_is_no_checkpoint(ctc, out):
    write(os.path.join(out, "checkpoint_last.pt"), "x" * 1000)
    with pytest.raises(ValueError, match="_last.pt cannot be resumed from: it is not a file"):
        ctc.train(out=out, updates=5)


def test_another_prior_on_resuming_is_said(ctc, out, caplog):
    ctc.train(out=out, updates=4)
    assert "another prior" not in caplog.text
    ctc.train(out=out, updates=5, criterion={"prior": "geometric"})
    assert "was trained with another prior over layers" in caplog.text


def test_degrees_of_freedom_by_default_fit_what_trains(ctc, wav2vec2):
    from varan_fairseq.method.prior import layer_prior

    task = setup_task(ctc.data)
    for options, df in (
        ({}, 35.0),
        ({"lora_rank": 2}, 6.0),
        ({"finetune": "probe", "feature_grad_mult": 0.0}, 6.0),
    ):
        model = build_model(wav2vec2, task, **options)
        build_criterion(task, prior="chi2_reversed")(model, batch(task))
        assert torch.allclose(model.prior.probs, layer_prior("chi2_reversed", 4, df=df))
    build_criterion(task)(model, batch(task))
    assert torch.allclose(model.prior.probs, torch.full((4,), 0.25)), "the default"
    for value in ("many", "-1", "0"):
        with pytest.raises(ValueError, match="prior.df"):
            build_criterion(task, prior_df=value)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"common": {"fp16": True}}, "common.fp16=true needs a GPU"),
        (
            {"checkpoint": {"best_checkpoint_metric": "wrr"}},
            "best_checkpoint_metric=wrr is nothing that criterion varan_ctc logs",
        ),
        ({"task": {"labels": None}}, "task.labels=None: expected the ending of the label files"),
        ({"task": {"data": 5}}, "no dictionary 5/dict.ltr.txt|no manifest 5/"),
        ({"dataset": {"train_subset": "gone"}}, "no manifest .*gone.tsv"),
        ({"dataset": {"valid_subset": "valid,gone"}}, "no manifest .*gone.tsv"),
        ({"criterion": {"prior_df": "many"}}, "criterion.prior_df=many: expected a number > 0"),
        ({"model": {"max_unknown_labels": -1.0}}, "max_unknown_labels=-1.0: expected a share"),
    ],
)
def test_options(ctc, tmp_path, changes, expected):
    data = changes.get("task", {}).get("data", ctc.data)
    with pytest.raises((ValueError, FileNotFoundError), match=expected):
        ctc.train(data, str(tmp_path / "out"), **changes)
    assert not os.path.exists(str(tmp_path / "out" / "checkpoint_last.pt"))


def test_a_metric_of_the_classifier(emotion, tmp_path):
    for metric, right in (("wer", False), ("recall_sad", True), ("macro_f1", True)):
        options = {"checkpoint": {"best_checkpoint_metric": metric}}
        if right:
            emotion.train(out=str(tmp_path / metric), updates=1, **options)
        else:
            with pytest.raises(ValueError, match="best_checkpoint_metric=wer is nothing that"):
                emotion.train(out=str(tmp_path / metric), updates=1, **options)


# What trains under fairseq's own model


def test_no_validation(ctc, data, tmp_path):
    if "target_dictionary" not in setup_task(ctc.data).cfg:
        pytest.skip("fairseq 0.12.2 loads the validation split all the same")
    for ending in ("tsv", "ltr", "wrd"):
        os.remove(os.path.join(data, f"valid.{ending}"))
    options = {"dataset": {"disable_validation": True}}
    assert updates(ctc.train(data, str(tmp_path / "o"), **options)) == 3


def test_a_dictionary_elsewhere(ctc, data, tmp_path):
    if "target_dictionary" not in setup_task(ctc.data).cfg:
        pytest.skip("an option of fairseq main")
    os.makedirs(str(tmp_path / "dict"))
    os.rename(os.path.join(data, "dict.ltr.txt"), str(tmp_path / "dict" / "dict.ltr.txt"))
    options = {"task": {"target_dictionary": str(tmp_path / "dict")}}
    assert updates(ctc.train(data, str(tmp_path / "o"), **options)) == 3


def test_sentencepieces(ctc, tmp_path):
    """`criterion.post_process` is how words are made everywhere."""

    def pieces(folder):
        data = write_corpus(folder)
        for split in ("train", "valid", "test"):
            text = read(os.path.join(data, f"{split}.wrd"))
            lines = (" ".join(f"▁{word}" for word in line.split()) for line in text.splitlines())
            write(os.path.join(data, f"{split}.ltr"), "\n".join(lines) + "\n")
        write(os.path.join(data, "dict.ltr.txt"), "▁ONE 9\n▁TWO 9\n▁SIX 9\n")
        return data

    (tmp_path / "run").mkdir()
    run = Run.__new__(Run)
    run.__dict__.update(ctc.__dict__, data=pieces(tmp_path / "data"))
    run.checkpoint = run.train(
        out=str(tmp_path / "run"), criterion={"post_process": "sentencepiece"}
    )
    code, printed, error = decode(run, f"decoding.results_path={tmp_path}/out")
    assert code == 0 and "12 words, 12 units" in printed, error
    model = varan_fairseq.load(run.checkpoint)
    text = model.transcribe(os.path.join(run.data, "wav", "test0.wav"))
    rows = dict(row.split("\t") for row in read(tmp_path / "out" / "hypotheses.tsv").splitlines())
    assert "▁" not in text and text == rows["test0.wav"]


def test_empty_transcripts(ctc, data, tmp_path):
    """Alone in a batch, and throughout validation."""
    write(os.path.join(data, "train.ltr"), "O N E |\n" + "\n" * 5)
    write(os.path.join(data, "valid.ltr"), "|\n" * 6)
    options = {"dataset": {"max_tokens": 16000}}  # one utterance a batch
    assert updates(ctc.train(data, str(tmp_path / "o"), updates=6, **options)) == 6


def test_sentence_avg_is_what_gradients_are_divided_by(ctc, wav2vec2):
    task = setup_task(ctc.data)
    model, sample = build_model(wav2vec2, task).eval(), batch(task)
    for name in ("varan_ctc", "ctc"):
        sizes = [
            build_criterion(task, name, sentence_avg=value)(
                model if name == "varan_ctc" else build_model(wav2vec2, task, "wav2vec_ctc"), sample
            )[1]
            for value in (True, False)
        ]
        assert sizes == [6, int(sample["ntokens"])]


def test_loss_that_is_no_number_names_the_batch(ctc, wav2vec2, caplog):
    task = setup_task(ctc.data)
    model, sample = build_model(wav2vec2, task).train(), batch(task)
    criterion = build_criterion(task)
    with torch.no_grad():
        model.aggregation.heads.heads[0][1].bias.fill_(float("nan"))
    expected = r"loss of a batch is nan: .*train0.wav .train., .* and 2 more"
    with pytest.raises(ValueError, match=expected):
        criterion(model, sample)
    half = torch.nn.Parameter(torch.zeros(1, dtype=torch.float16))
    from varan_fairseq.criterions import layerwise

    class Half(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = half

    for _ in range(3):  # fairseq lowers its loss scale and continues
        layerwise.refuse_no_number(float("nan"), task, sample, Half())
    assert caplog.text.count("half precision: said once") == 1


# fairseq's task for HuBERT


HUBERT = {
    "_name": "hubert_pretraining",
    "fine_tuning": True,
    "labels": ["ltr"],
    "single_target": True,
    "pad_audio": True,
    "random_crop": False,
}


def hubert(ctc, out, data=None, **task):
    return ctc.train(data, str(out), task={**HUBERT, **task})


def test_a_task_that_would_cut_labels_off(ctc, tmp_path):
    with pytest.raises(ValueError, match="keep all labels: set task.fine_tuning=true"):
        hubert(ctc, tmp_path, fine_tuning=False, pad_audio=False)


@pytest.mark.parametrize("task", [{"pad_audio": False}, {"random_crop": True}])
def test_whole_files_where_fairseqs_recipe_leaves_them_out(ctc, tmp_path, task, caplog):
    path = hubert(ctc, tmp_path, **task)
    assert "using task.pad_audio=true task.random_crop=false" in caplog.text
    assert torch.load(path)["optimizer_history"][-1]["num_updates"] > 0


def test_huberts_task(ctc, data, tmp_path):
    """Checked as any other, self-contained, and read by every tool."""
    edit(os.path.join(data, "train.ltr"), str.lower)
    with pytest.raises(ValueError, match="train.ltr: .* are not in the dictionary"):
        hubert(ctc, tmp_path / "o", data)
    path = hubert(ctc, tmp_path / "o")
    assert torch.load(path)["cfg"]["model"]["w2v_args"] is not None
    base = ctc.base
    os.rename(base, base + ".away")
    try:
        run = Run.__new__(Run)
        run.__dict__.update(ctc.__dict__, checkpoint=path)
        code, printed, error = decode(run, f"decoding.results_path={tmp_path}/out")
        assert code == 0 and "6 utterances" in printed, error
        prefix = str(tmp_path / "layers")
        code, printed, error = tool(layers.main, path, ctc.data, "test", "--out", prefix)
        assert code == 0 and "mean q(l|x)" in printed, error
        wave = os.path.join(ctc.data, "wav", "test0.wav")
        row = read(f"{prefix}.tsv").split("\n")[1].split("\t")
        found = varan_fairseq.load(path).layer_posterior(wave)
        np.testing.assert_allclose(found, [float(value) for value in row[1:-1]], atol=1e-4)
    finally:
        os.rename(base + ".away", base)


def test_the_whole_configuration():
    from omegaconf import OmegaConf

    whole = OmegaConf.create({"checkpoint": {}, "optimization": {}, "model": {"a": 1}})
    assert whole_config(whole.model) is whole
    assert whole_config(OmegaConf.create({"a": 1})) is None
    assert whole_config(OmegaConf.create({"model": {"a": 1}}).model) is None


# Several processes


def two(rank, path, data, results):
    from test_data_parallel import join, leave

    join(rank, path)
    from varan_fairseq.data import audio_files

    calls = []
    real = audio_files.check_header
    audio_files.check_header = lambda *arguments: calls.append(1) or real(*arguments)
    try:
        build_model(path, setup_task(data), check_audio=True)
        verdict = "fine"
    except ValueError as error:
        verdict = str(error)
    torch.save({"verdict": verdict, "headers": len(calls)}, f"{results}{rank}")
    leave(rank, path)


@pytest.mark.parametrize("wrong", [False, True])
def test_one_process_checks_for_all(ctc, tmp_path, wrong):
    data = copy(ctc.data, tmp_path / "data")
    if wrong:
        edit(os.path.join(data, "train.ltr"), str.lower)
    else:  # so that the stamps of an earlier check do not spare it
        for split in ("train", "valid"):
            rows = read(os.path.join(data, f"{split}.tsv")).split("\n")
            rows[0] = os.path.join(data, "wav")
            write(os.path.join(data, f"{split}.tsv"), "\n".join(rows))
    base = copy_file(ctc.base, tmp_path / "base.pt")
    results = str(tmp_path / "result")
    in_two(two, base, data, results)
    first, second = (torch.load(f"{results}{rank}") for rank in range(2))
    assert first["verdict"] == second["verdict"] and second["headers"] == 0
    if wrong:
        assert "are not in the dictionary" in second["verdict"]
    else:
        assert second["verdict"] == "fine" and first["headers"] == 12


def copy_file(source, target):
    os.link(source, str(target))
    return str(target)


def test_audio_written_over_is_checked_on_resuming(ctc, data, out):
    rows = read(os.path.join(data, "train.tsv")).split("\n")
    rows[0] = os.path.join(data, "wav")
    write(os.path.join(data, "train.tsv"), "\n".join(rows))
    ctc.train(data, out, updates=4)
    soundfile.write(os.path.join(data, "wav", "train1.wav"), np.zeros(500), 16000)
    with pytest.raises(ValueError, match="train1.wav has 500 samples, the manifest says"):
        ctc.train(data, out, updates=5)


# Options that would spoil a run, or that fairseq stops at by a bare assert

SPOILT = {
    "adapters that never train": (
        {"model": {"freeze_finetune_updates": 3}},
        "model.freeze_finetune_updates=3 is not below optimization.max_update=3: nothing of the "
        "encoder would ever train, and no adapter",
    ),
    "epochs, and shares of updates": (
        {"optimization": {"max_epoch": 1}, "updates": 0},
        "optimization.max_update=0: lr_scheduler.phase_ratio are shares of it",
    ),
    "shares of more": (
        {"lr_scheduler": {"phase_ratio": [0.1, 0.4, 0.6]}},
        r"phase_ratio=.0.1, 0.4, 0.6. adds up to 1.1, expected 1 exactly",
    ),
    "no update for a phase": (
        {"updates": 1, "model": {"freeze_finetune_updates": 0}},
        "optimization.max_update=1: lr_scheduler.phase_ratio=.* leaves no update for the last phase",
    ),
    "no steps": (
        {"lr_scheduler": {"phase_ratio": None}},
        "lr_scheduler.phase_ratio and lr_scheduler.warmup_steps, .* are not set",
    ),
    "a batch that nothing fits into": (
        {"dataset": {"max_tokens": 8000}},
        r"train.tsv, line \d+: train\d.wav has \d+ samples, dataset.max_tokens is 8000 .*: fairseq "
        r"stops there: remove them, or set dataset.max_tokens=\d+",
    ),
    "a validation that nothing fits into": (
        {"dataset": {"max_tokens_valid": 8000}},
        "valid.tsv, line .* dataset.max_tokens_valid is 8000",
    ),
    "a decoder that pip does not install": (
        {"criterion": {"wer_args": "('lm.bin', 'lexicon.txt', 2.0, -1.0)"}},
        "criterion.wer_args and wer_kenlm_model need fairseq's examples/speech_recognition",
    ),
    "the same, by its other name": (
        {"criterion": {"wer_kenlm_model": "lm.bin"}},
        "criterion.wer_args and wer_kenlm_model need fairseq's examples/speech_recognition",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_options_that_spoil_a_run(ctc, tmp_path, name):
    changes, expected = SPOILT[name]
    with pytest.raises(ValueError, match=expected):
        ctc.train(out=str(tmp_path / "o"), **{"updates": 3, **changes})
    assert not os.path.exists(str(tmp_path / "o" / "checkpoint_last.pt"))


def test_an_encoder_that_never_trains_is_said(ctc, tmp_path, caplog):
    full = {"lora_rank": 0, "freeze_finetune_updates": 3}
    ctc.train(out=str(tmp_path / "o"), model=full)
    assert "nothing of the encoder would ever train. Lower it, or say so by" in caplog.text
