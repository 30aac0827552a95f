"""fairseq's own commands from pre-training to the layer report, on real files."""

import csv
import json
import os
import re
import subprocess
import sys

import editdistance
import pytest
import torch
from build import build_model, setup_task
from conftest import REPO, SMALL, command, shell, write_corpus
from lm import write_lm
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

import varan_fairseq
from varan_fairseq.cli import infer, layers
from varan_fairseq.data.manifest import letters, read_manifest

TINY = [
    "dataset.max_tokens=80000",
    "optimization.max_update=4",
    "common.log_interval=1",
    *SMALL,
]


def finetune(folder, *overrides, cwd, user_dir="varan_fairseq", config_dir="examples/"):
    return shell(
        command("fairseq-hydra-train"),
        "--config-dir",
        config_dir,
        "--config-name",
        "wav2vec2_base_libri_10m",
        f"common.user_dir={user_dir}",
        f"task.data={folder}",
        "common.fp16=false",
        "common.cpu=true",
        "common.log_interval=1",
        "dataset.valid_subset=valid",
        "dataset.num_workers=0",
        "dataset.max_tokens=80000",
        "dataset.validate_after_updates=0",
        "dataset.validate_interval=1",
        "optimization.update_freq=[1]",
        "model.posterior_heads=4",
        "model.mask_channel_length=8",
        "model.freeze_finetune_updates=2",
        *overrides,
        cwd=cwd,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Pre-trains, fine-tunes and resumes with relative paths from the repository's root,
    then deletes the pre-trained file. Returns (corpus, checkpoint, log of the resumed run)."""
    base = tmp_path_factory.mktemp("run")
    data = write_corpus(base / "data")
    relative = os.path.relpath(str(base), REPO)
    shell(
        command("fairseq-hydra-train"),
        "--config-dir",
        "examples/demo",
        "--config-name",
        "pretrain",
        f"task.data={relative}/data",
        f"checkpoint.save_dir={relative}/pretrained",
        "task.min_sample_size=1000",
        *TINY,
    )
    pretrained = f"{relative}/pretrained/checkpoint_last.pt"
    where = [f"model.w2v_path={pretrained}", f"checkpoint.save_dir={relative}/finetuned"]
    where.append(f"common.tensorboard_logdir={relative}/tensorboard")
    finetune(f"{relative}/data", *where, "optimization.max_update=3", cwd=REPO)
    log = finetune(f"{relative}/data", *where, "optimization.max_update=6", cwd=REPO)
    os.remove(os.path.join(REPO, pretrained))
    return data, str(base / "finetuned" / "checkpoint_last.pt"), log


def test_training_resumes(run):
    _, checkpoint, log = run
    assert "Loaded checkpoint" in log and re.search(r"@ 3 updates", log)
    assert torch.load(checkpoint)["optimizer_history"][-1]["num_updates"] == 6


def test_what_training_logs(run):
    log = run[2]
    for key in (
        "expected_nll",
        "divergence",
        "posterior_entropy",
        "posterior_03",
        "nll_01",
        "infeasible",
    ):
        assert f'"{key}"' in log or f'"train_{key}"' in log, key
    for key in ("valid_wer", "valid_uer", "valid_best_wer", "valid_posterior_01"):
        assert f'"{key}"' in log, key


def test_what_tensorboard_shows(run):
    folder = os.path.join(os.path.dirname(os.path.dirname(run[1])), "tensorboard")
    valid = EventAccumulator(os.path.join(folder, "valid")).Reload()
    scalars = valid.Tags()["scalars"]
    shown = EventAccumulator(os.path.join(folder, "layers")).Reload()
    layout = shown.Tensors("custom_scalars__config__")[0]
    charts = layout_pb2.Layout.FromString(layout.tensor_proto.string_val[0]).category[0].chart
    for chart, prefix in zip(charts, ("posterior", "nll")):
        (pattern,) = chart.multiline.tag
        matched = [tag for tag in scalars if re.fullmatch(pattern, tag)]
        assert sorted(matched) == [f"{prefix}_{layer:02d}" for layer in (1, 2, 3)]
    texts = shown.Tensors("validation/text_summary")
    assert [text.step for text in texts] == [each.step for each in valid.Scalars("wer")]
    assert texts[0].tensor_proto.string_val[0].decode().count("\n| ") == 1 + 5


def test_the_tables_hubert(run, tmp_path):
    """The other base of the demo: labels by k-means, HuBERT, LoRA on it."""
    data = run[0]
    shell("examples/demo/kmeans.py", data, "--clusters", "5")
    with open(os.path.join(data, "train.km")) as lines:
        frames = [len(line.split()) for line in lines]
    samples = [size for _, size in read_manifest(os.path.join(data, "train.tsv")).entries]
    assert frames == [pytest.approx(size / 160, abs=3) for size in samples]
    shell(
        command("fairseq-hydra-train"),
        "--config-dir",
        "examples/demo",
        "--config-name",
        "pretrain_hubert",
        f"task.data={data}",
        f"task.label_dir={data}",
        f"checkpoint.save_dir={tmp_path}/pretrained",
        "task.min_sample_size=1000",
        *TINY,
    )
    model = build_model(f"{tmp_path}/pretrained/checkpoint_last.pt", setup_task(data), lora_rank=2)
    assert model.num_predictions == 3


def test_from_another_directory_with_absolute_paths(tmp_path):
    from conftest import save_pretrained

    data = write_corpus(tmp_path / "data")
    save_pretrained(tmp_path / "hubert.pt", "hubert")
    finetune(
        data,
        f"model.w2v_path={tmp_path}/hubert.pt",
        "optimization.max_update=2",
        f"checkpoint.save_dir={tmp_path}/out",
        f"common.tensorboard_logdir={tmp_path}/tb",
        "dataset.num_workers=2",
        "optimization.update_freq=[2]",
        cwd=tmp_path,
        user_dir=os.path.join(REPO, "varan_fairseq"),
        config_dir=os.path.join(REPO, "examples"),
    )
    os.remove(str(tmp_path / "hubert.pt"))
    model = varan_fairseq.load(str(tmp_path / "out" / "checkpoint_last.pt"))
    assert model.layer_posterior(os.path.join(data, "wav", "test0.wav")).shape == (4,)


def scores(folder):
    """But for the time that it took."""
    with open(os.path.join(folder, "asr.json")) as file:
        found = json.load(file)
    assert found.pop("time")["real_time_factor"] > 0
    return found


def decode(run, out, *arguments):
    data, checkpoint, _ = run
    code = infer.main(
        [
            f"common_eval.path={checkpoint}",
            f"task.data={data}",
            "dataset.gen_subset=test",
            f"decoding.results_path={out}",
            *arguments,
        ]
    )
    assert code == 0
    return scores(str(out))


def test_decoding_without_the_pretrained_file(run, tmp_path, capsys):
    found = decode(run, tmp_path / "viterbi")
    assert found["utterances"] == 6 and found["words"] == 12 and found["uer"] >= 0
    assert f"WER {found['wer']:.2f}%" in capsys.readouterr().out
    files = sorted(os.listdir(str(tmp_path / "viterbi")))
    assert {"hypo.word", "hypotheses.tsv", "ref.word", "asr.json"} <= set(files)
    with open(str(tmp_path / "viterbi" / "hypotheses.tsv")) as file:
        rows = list(csv.reader(file, delimiter="\t"))
    assert [row[0] for row in rows] == ["id"] + [f"test{index}.wav" for index in range(6)]
    assert not [name for name in os.listdir(str(tmp_path)) if "partial" in name]

    # the command as users type it, relative paths, default results folder
    data, checkpoint, _ = run
    base = os.path.dirname(os.path.dirname(checkpoint))
    text = shell(
        command("varan-infer"),
        "task=audio_finetuning",
        "task.labels=ltr",
        "common_eval.path=finetuned/checkpoint_last.pt",
        "task.data=data",
        "dataset.gen_subset=test",
        "common.user_dir=varan_fairseq",
        "--layer",
        "2",
        cwd=base,
    )
    assert "6 utterances, 12 words" in text
    assert scores(os.path.join(base, "finetuned", "decode-test-viterbi-checkpoint_last-layer2"))[
        "reading"
    ] == {"decode_layer": 2}


def test_a_part_of_a_split_is_not_scored(run, tmp_path, capsys):
    data, checkpoint, _ = run
    code = infer.main(
        [
            f"common_eval.path={checkpoint}",
            f"task.data={data}",
            "task.min_sample_size=12000",
            f"decoding.results_path={tmp_path}/out",
        ]
    )
    assert code == 2 and "task.min_sample_size is not for decoding" in capsys.readouterr().err
    assert os.listdir(str(tmp_path)) == []


def test_kenlm_with_lexicon(run, tmp_path):
    pytest.importorskip("flashlight.lib.text")
    words = ["ONE", "TWO", "SIX"]
    write_lm(tmp_path, words)
    found = decode(
        run,
        tmp_path / "kenlm",
        "decoding.type=kenlm",
        f"decoding.lmpath={tmp_path}/lm.arpa",
        f"decoding.lexicon={tmp_path}/lexicon.txt",
        "decoding.beam=10",
        "--combine",
        "log_linear",
    )
    assert found["utterances"] == 6 and found["decoder"] == "kenlm"
    assert found["decoding"]["beam"] == 10 and found["decoding"]["lmpath"].endswith("lm.arpa")
    assert found["decoding"]["unkweight"] == "-inf"  # which JSON cannot hold as a number
    with open(str(tmp_path / "kenlm" / "hypotheses.tsv")) as file:
        said = [line.rstrip("\n").split("\t")[1] for line in list(file)[1:]]
    assert {word for text in said for word in text.split()} <= set(words)
    # beam search adds word boundaries that no transcript has: they are no errors
    with open(os.path.join(run[0], "test.ltr")) as file:
        references = [line.split() for line in file]
    with open(str(tmp_path / "kenlm" / "hypo.units")) as file:  # a word may be cut off at the end
        rows = [line.rpartition("(")[0].split("|") for line in file]
    heard = [letters(" ".join("".join(word.split()) for word in row)) for row in rows]
    errors = sum(
        editdistance.eval(row.split(), reference) for row, reference in zip(heard, references)
    )
    assert found["uer"] == pytest.approx(100 * errors / sum(map(len, references)))


def test_kenlm_without_its_files(run, capsys):
    data, checkpoint, _ = run
    common = [f"common_eval.path={checkpoint}", f"task.data={data}", "decoding.type=kenlm"]
    assert infer.main(common) == 2
    assert "decoding.lmpath is not set" in capsys.readouterr().err
    assert infer.main(common + ["decoding.lmpath=gone.arpa"]) == 2
    assert "decoding.lmpath=gone.arpa: no such file" in capsys.readouterr().err
    assert infer.main(common + ["decoding.beem=3"]) == 2
    assert "bad override" in capsys.readouterr().err


def test_stock_infer_script(run, tmp_path):
    """fairseq's decoder as a script, unmodified: starts on Python 3.10 and lower."""
    if sys.version_info >= (3, 11):
        pytest.skip("fairseq's infer.py does not start as a script on Python 3.11+")
    import fairseq

    data, checkpoint, _ = run
    script = os.path.join(
        os.path.dirname(fairseq.__file__), "examples/speech_recognition/new/infer.py"
    )
    path = os.path.dirname(fairseq.__file__)
    (tmp_path / "results").mkdir()
    (tmp_path / "path").mkdir()
    os.symlink(os.path.join(path, "examples"), str(tmp_path / "path" / "examples"))
    arguments = [
        sys.executable,
        script,
        "task=audio_finetuning",
        f"task.data={data}",
        "task.labels=ltr",
        f"common_eval.path={checkpoint}",
        "common_eval.post_process=letter",
        "dataset.gen_subset=test",
        "decoding.type=viterbi",
        f"decoding.results_path={tmp_path}/results",
        f"common.user_dir={REPO}/varan_fairseq",
        "common.cpu=true",
        "dataset.required_batch_size_multiple=1",
        "hydra.run.dir=.",
        "common_eval.model_overrides=\"{'combine':'log_linear'}\"",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}/path"}
    subprocess.run(arguments, cwd=str(tmp_path), env=environment, check=True)
    found = (tmp_path / "results" / "wer").read_text().split()[1]
    ours = decode(run, tmp_path / "ours", "--combine", "log_linear")
    assert float(found) == pytest.approx(ours["wer"])


def test_layer_report(run, tmp_path, capsys):
    data, checkpoint, _ = run
    assert layers.main([checkpoint, data, "test", "--out", str(tmp_path / "report")]) == 0
    assert "mean entropy" in capsys.readouterr().out
    with open(str(tmp_path / "report.tsv")) as file:
        rows = list(csv.reader(file, delimiter="\t"))
    assert rows[0] == ["id", "q_1", "q_2", "q_3", "entropy_bits"] and len(rows) == 7
    model = varan_fairseq.load(checkpoint)
    for name, *values in rows[1:]:
        expected = model.layer_posterior(os.path.join(data, "wav", name))
        assert [float(value) for value in values[:3]] == pytest.approx(expected.tolist(), abs=2e-3)
    with open(str(tmp_path / "report.png"), "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_layer_report_of_a_baseline_is_refused(run, tmp_path, capsys, wav2vec2):
    data, _, _ = run
    state = torch.load(run[1])
    state["cfg"]["model"]["aggregation"] = "last_layer"
    for key in [key for key in state["model"] if key.startswith(("aggregation.", "prior."))]:
        del state["model"][key]
    from varan_fairseq.method.aggregation import build_aggregation

    size = len(open(os.path.join(data, "dict.ltr.txt")).readlines()) + 4
    head = build_aggregation("last_layer", num_layers=3, dim=32, num_classes=size)
    state["model"].update({f"aggregation.{k}": v for k, v in head.state_dict().items()})
    state["model"]["prior.probs"] = torch.ones(1)
    torch.save(state, str(tmp_path / "last.pt"))
    assert layers.main([str(tmp_path / "last.pt"), data, "test"]) == 2
    assert "by last_layer, which has no posterior" in capsys.readouterr().err


def test_python_users(run):
    data, checkpoint, _ = run
    model = varan_fairseq.load(checkpoint)
    path = os.path.join(data, "wav", "test0.wav")
    assert isinstance(model.transcribe(path), str)
    assert model.layer_posterior(path).sum() == pytest.approx(1, abs=1e-5)
    import numpy as np

    with pytest.raises(ValueError, match="expected mono"):
        model.transcribe(np.zeros((2, 16000)))
    with pytest.raises(ValueError, match="NaN"):
        model.transcribe(np.full(16000, np.nan))
