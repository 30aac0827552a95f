"""Numbers of an utterance: the losses by hand, metrics, a run from training to predictions."""

import json
import math
import os

import numpy as np
import pytest
import torch
from build import batch, build_criterion, build_model, setup_regression
from conftest import REPO, command, save_pretrained, shell, write_rated_corpus
from fairseq.logging import metrics
from test_bad_input import tool
from test_manifests import run as run_script
from test_objective import divergence_by_hand

import varan_fairseq
from varan_fairseq.cli import check, export, infer, layers, predict
from varan_fairseq.data.manifest import read_lines
from varan_fairseq.method.prior import layer_prior
from varan_fairseq.scoring.regression import concordance, concordance_interval, moments

NAME = "varan_regression"


@pytest.fixture
def folder(tmp_path):
    return write_rated_corpus(tmp_path / "data")


def ccc_by_hand(y, p):
    """Lin (1989), in Python floats."""
    n, my, mp = len(y), sum(y) / len(y), sum(p) / len(p)
    covariance = sum((a - my) * (b - mp) for a, b in zip(y, p)) / n
    var_y, var_p = (sum((a - m) ** 2 for a in v) / n for v, m in ((y, my), (p, mp)))
    return 2 * covariance / (var_y + var_p + (my - mp) ** 2)


@pytest.mark.parametrize("aggregation", ["varan", "last_layer"])
@pytest.mark.parametrize("loss", ["mse", "ccc"])
def test_loss_equals_a_float64_computation_by_hand(wav2vec2, folder, loss, aggregation):
    task = setup_regression(folder)
    model = build_model(wav2vec2, task, NAME, aggregation=aggregation).double().eval()
    for parameter in model.aggregation.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    criterion = build_criterion(task, NAME, prior_df=6.0, beta=0.2, regression_loss=loss)
    sample = batch(task)
    sample["net_input"]["source"] = sample["net_input"]["source"].double()
    found, size, log = criterion(model, sample)
    assert size == 6 and sample["target"].shape == (6, 2)
    assert sample["target"].dtype == torch.float64  # fairseq makes half of float32

    targets = np.array(
        [[float(x) for x in line.split()] for line in read_lines(f"{folder}/train.val")]
    )
    z = (targets - targets.mean(0)) / targets.std(0)
    rows = [int(row) for row in sample["id"]]
    output = model(**sample["net_input"])
    layers = [layer.tolist() for layer in output["layer_logits"]]
    prior = layer_prior("chi2_reversed", len(layers), df=6.0).tolist()
    expected, means = 0.0, []
    for b, row in enumerate(rows):
        q = output["log_q"][b].exp().tolist()
        for weight, layer in zip(q, layers):
            if loss == "mse":
                nll = sum((layer[b][d] - z[row, d]) ** 2 / 2 for d in (0, 1))
            else:
                columns = [([z[r, d] for r in rows], [x[d] for x in layer]) for d in (0, 1)]
                nll = sum(1 - ccc_by_hand(*pair) for pair in columns)
            expected += weight * nll
        expected += 0.2 * divergence_by_hand(q, prior, "prior_posterior")
        mean = [sum(w * layer[b][d] for w, layer in zip(q, layers)) for d in (0, 1)]
        means.append([m * targets.std(0)[d] + targets.mean(0)[d] for d, m in enumerate(mean)])
    assert float(found) == pytest.approx(expected, rel=1e-6)  # the scale is float32
    assert model.combined(output).tolist() == pytest.approx(np.array(means), rel=1e-5)
    found.backward()
    assert all(p.grad is not None for p in model.aggregation.parameters() if p.requires_grad)


def test_one_utterance_in_a_batch_has_a_loss(wav2vec2, folder):
    task = setup_regression(folder)
    model, criterion = (
        build_model(wav2vec2, task, NAME),
        build_criterion(task, NAME, regression_loss="ccc"),
    )
    loss, _, _ = criterion(model, batch(task, indices=[0]))
    loss.backward()
    assert math.isfinite(loss)


def test_metrics_by_hand_and_over_batches():
    rng = np.random.default_rng(0)
    y = 200 + 30 * rng.normal(size=(40, 2))
    p = 0.7 * y + 50 + 10 * rng.normal(size=(40, 2))
    p[:, 1] = 3.0  # never changes
    sums = sum(
        moments(torch.tensor(y[part]), torch.tensor(p[part])).numpy()
        for part in (slice(0, 7), slice(7, 40))
    )
    found = concordance(sums)
    assert found["ccc"][0] == pytest.approx(ccc_by_hand(y[:, 0].tolist(), p[:, 0].tolist()))
    assert found["pearson"][0] == pytest.approx(np.corrcoef(y[:, 0], p[:, 0])[0, 1])
    assert found["mse"] == pytest.approx(((y - p) ** 2).mean(0))
    assert found["ccc"][1] == pytest.approx(0, abs=1e-9) and found["pearson"][1] == 0
    (low, high), _ = concordance_interval(y, p)
    assert low < found["ccc"][0] < high and high - low < 0.3
    assert concordance_interval(y[:10], p[:10]) == [None, None]
    assert np.isnan(concordance(np.zeros((1, 6)))["ccc"]).all()


def test_the_log(wav2vec2, folder):
    task = setup_regression(folder)
    model, criterion = build_model(wav2vec2, task, NAME).eval(), build_criterion(task, NAME)
    parts = [batch(task, indices=indices) for indices in ([0, 1], [2, 3, 4, 5])]
    with metrics.aggregate() as log, torch.no_grad():
        logs = [criterion(model, part)[2] for part in parts]
        task.reduce_metrics(logs, criterion)
    whole = batch(task)
    values = model.combined(model(**whole["net_input"])).detach()
    wanted = concordance(moments(whole["target"], values).numpy())
    shown = log.get_smoothed_values()
    assert shown["ccc"] == pytest.approx(wanted["ccc"].mean(), abs=2e-4)
    assert shown["ccc_mood"] == pytest.approx(wanted["ccc"][1], abs=2e-4)
    assert shown["mse"] == pytest.approx(wanted["mse"].mean(), rel=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("values")
    data = write_rated_corpus(folder / "data", count=30)
    base = save_pretrained(folder / "base.pt", "wav2vec2", extractor_mode="layer_norm")
    log = shell(
        command("fairseq-hydra-train"),
        "--config-dir",
        os.path.join(REPO, "examples"),
        "--config-name",
        "wavlm_base_plus_podcast_values",
        "common.user_dir=varan_fairseq",
        f"task.data={data}",
        f"model.w2v_path={base}",
        f"checkpoint.save_dir={folder}/out",
        *["common.fp16=false", "common.cpu=true", "common.log_interval=1", "dataset.num_workers=0"],
        *["dataset.batch_size=10", "model.posterior_heads=4", "lr_scheduler.warmup_updates=1"],
        *["optimization.max_update=12", "optimization.lr=[0.003]", "model.lora_rank=4"],
    )
    return data, base, str(folder / "out" / "checkpoint_best.pt"), log


def printed(capsys, main, *arguments):
    """(exit code, standard output)."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().out


def test_a_run(trained, tmp_path, capsys):
    data, base, checkpoint, log = trained
    assert "train: 30 utterances (pitch 150 +- 40.8, mood" in log
    for key in ("valid_ccc", "valid_ccc_pitch", "valid_pearson", "valid_mse", "valid_nll_01"):
        assert f'"{key}"' in log, key
    code, text = printed(capsys, predict.main, checkpoint, data, "test")
    assert code == 0, text
    out = os.path.join(os.path.dirname(checkpoint), "predict-test")
    with open(f"{out}/scores.json") as file:
        scores = json.load(file)
    assert scores["ccc"]["pitch"] > 0.5  # tones are told apart
    assert f"pitch: CCC {scores['ccc']['pitch']:.3f} (95% interval 0." in text
    assert open(f"{out}/predictions.png", "rb").read(4) == b"\x89PNG"
    rows = [line.split("\t") for line in read_lines(f"{out}/utterances.tsv")]
    assert rows[0][:5] == ["id", "label_pitch", "label_mood", "pitch", "mood"]
    said, found = (np.array([float(row[column]) for row in rows[1:]]) for column in (1, 3))
    assert scores["ccc"]["pitch"] == pytest.approx(
        ccc_by_hand(said.tolist(), found.tolist()), abs=1e-4
    )

    # Python, single files and an adapter say the same
    model = varan_fairseq.load(checkpoint)
    wave = os.path.join(data, "wav", rows[1][0])
    values = model.predict(wave)
    assert list(values) == ["pitch", "mood"] and "Regressor(" in repr(model)
    assert values["pitch"] == pytest.approx(found[0], rel=1e-3)
    layers = model.layers(wave)
    combined = (layers.posterior[:, None] * layers.log_probs).sum(0)
    assert combined.tolist() == pytest.approx(list(values.values()), rel=1e-4)
    code, text = printed(capsys, predict.main, checkpoint, wave)
    assert code == 0 and text.splitlines()[0].startswith("id\tpitch\tmood\tq_1")
    assert float(text.splitlines()[1].split("\t")[1]) == pytest.approx(values["pitch"], rel=1e-4)
    assert export.main(["adapter", checkpoint, str(tmp_path / "adapter")]) == 0
    code, text = printed(capsys, predict.main, tmp_path / "adapter", wave, "--base", base)
    assert code == 0, text
    assert float(text.splitlines()[1].split("\t")[1]) == pytest.approx(values["pitch"], rel=1e-4)


def test_layers_and_fewer_blocks(trained, tmp_path, capsys):
    data, _, checkpoint, _ = trained
    out = str(tmp_path / "layers")
    assert printed(capsys, layers.main, checkpoint, data, "test", "--out", out)[0] == 0
    assert len(read_lines(f"{out}.tsv")) == 31
    code, error = tool(layers.main, checkpoint, data, "test", "--by-class")
    assert code == 2 and "--by-class is for classifiers" in error
    pruned, folder = str(tmp_path / "pruned.pt"), str(tmp_path / "pruned")
    assert printed(capsys, export.main, "prune", checkpoint, pruned, "--layers", "2")[0] == 0
    assert printed(capsys, predict.main, pruned, data, "test", "--out", folder)[0] == 0
    assert read_lines(f"{folder}/utterances.tsv")[0].endswith("\tq_1\tq_2")
    code, error = tool(layers.main, checkpoint, data, "test", "--curve")
    assert code == 2 and "made by model 'varan_regression', expected a checkpoint of" in error


def test_check(folder, capsys):
    code, text = printed(capsys, check.main, folder, "--no-audio")
    assert code == 0 and "0 errors, 0 warnings" in text, text
    rows = read_lines(f"{folder}/valid.val")
    with open(f"{folder}/valid.val", "w") as file:
        file.writelines(row + "\n" for row in [*rows[:3], "1", *rows[4:]])
    code, text = printed(capsys, check.main, folder, "--no-audio")
    assert code == 1 and "valid.val, line 4: '1', expected 2 numbers" in text


def test_other_tools_refuse_it_in_one_line(trained, tmp_path):
    data, _, checkpoint, _ = trained
    wanted = "was made by model 'varan_regression', expected a checkpoint of"
    for main, arguments in (
        (export.main, ["onnx", checkpoint, str(tmp_path / "onnx")]),
        (export.main, ["hf", checkpoint, str(tmp_path / "hf"), "--all-layers"]),
        (
            infer.main,
            [f"common_eval.path={checkpoint}", f"task.data={data}", "dataset.gen_subset=test"],
        ),
    ):
        code, text = tool(main, *arguments)
        assert code != 0 and wanted in text and text.count("\n") == 1, text


@pytest.mark.parametrize(
    "line, message",
    [
        ("1", "'1', expected 2 numbers up to 60000: one for pitch, mood"),
        ("1 nan", "'1 nan', expected 2 numbers"),
        ("1 high", "'1 high', expected 2 numbers"),
        ("1 1e9", "'1 1e9', expected 2 numbers"),
    ],
)
def test_a_bad_line(folder, wav2vec2, line, message):
    rows = read_lines(f"{folder}/train.val")
    with open(f"{folder}/train.val", "w") as file:
        file.writelines(row + "\n" for row in [*rows[:2], line, *rows[3:]])
    with pytest.raises(ValueError, match="train.val, line 3: ") as error:
        build_model(wav2vec2, setup_regression(folder), NAME)
    assert message in str(error.value)


def test_what_there_is_to_learn(folder, wav2vec2):
    with open(f"{folder}/train.val", "w") as file:
        file.writelines("1 2\n" if row else "1 3\n" for row in range(6))
    with pytest.raises(ValueError, match="pitch is the same for all 6 utterances of train"):
        build_model(wav2vec2, setup_regression(folder), NAME)


def test_a_table_becomes_manifests(folder, tmp_path):
    table = tmp_path / "labels.csv"
    names = [line.split("\t")[0] for line in read_lines(f"{folder}/train.tsv")[1:]]
    rows = [f"{folder}/wav/{name},{row % 3},{row}.5,{row},hello" for row, name in enumerate(names)]
    table.write_text("\n".join(["path,speaker,arousal,valence,text", *rows]))
    out = tmp_path / "out"
    arguments = ["--values", "valence", "arousal", "--valid", "0.3", "--test", "0.3"]
    done = run_script("rated", table, out, *arguments)
    assert done.returncode == 0, done.stderr
    assert read_lines(f"{out}/dict.val.txt") == ["valence 6", "arousal 6"]
    lines = [
        line for split in ("train", "valid", "test") for line in read_lines(f"{out}/{split}.val")
    ]
    assert sorted(lines) == sorted(f"{row} {row}.5" for row in range(6))
    table.write_text("\n".join(["path,valence", f"{folder}/wav/{names[0]},much"]))
    done = run_script("rated", table, tmp_path / "other", "--values", "valence")
    assert done.returncode != 0 and "line 2: valence is 'much', expected a number" in done.stderr
    assert not os.path.exists(tmp_path / "other" / "train.tsv")
