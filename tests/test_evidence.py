"""The kit of examples/evidence: what it runs, that it continues after kill -9, and its tables."""

import json
import os
import re
import shutil
import signal
import sys
import time

import experiment
import numpy as np
import outcome
import page
import plan
import preloaded
import pretrain
import pytest
import run as kit
from conftest import REPO, shell, write_corpus
from omegaconf import OmegaConf

from varan_fairseq.runtime.training import as_overrides

FOLDER = os.path.join(REPO, "examples", "evidence")

TINY = """
kind: recognition
base: demo
overrides: [optimization.max_update=3, dataset.max_tokens=40000, model.mask_channel_prob=0]
splits: [test]
folds: 0
ways:
  lora: {recipe: examples/demo/finetune, overrides: [model.lora_rank=2], lr: [0.01], more_lr: []}
beta: [0.05]
seeds: [1]
readings: [best_layer]
published: {somebody: [12.3]}
"""


@pytest.fixture
def preset():
    return plan.load("digits")


def finish(preset, cell, score):
    """The jobs of a cell in the order in which they can be done, all that can begin at once."""
    scores, tested, rounds = {}, set(), []
    while True:
        waiting = plan.jobs(preset, cell, scores, tested)
        if not waiting:
            return rounds, scores, tested
        rounds.append(waiting)
        for job in waiting:
            if job.test:
                tested.add(job.run)
            else:
                scores[job.run] = score(job.run)


@pytest.mark.parametrize("way, count", [("lora", 3), ("probe", 4)])
@pytest.mark.parametrize("method", plan.METHODS)
def test_a_cell_tries_chooses_and_tests(preset, method, way, count):
    cell, way = (way, method, 0), preset["ways"][way]

    def score(run):  # the second learning rate, and of betas the second
        return -abs(run.lr - way["lr"][1]) - (run.beta or 0)

    rounds, scores, tested = finish(preset, cell, score)
    assert sum(map(len, rounds)) == plan.count(preset, cell)
    trials = [run for run in scores if run.seed == 1]
    assert len(trials) == count == len(set(trials))
    betas = {run.beta for run in trials}
    assert betas == ({0.05, 0.005} if method in plan.WITH_BETA else {None})
    assert {run.seed for run in tested} == {1, 2, 3} and len(tested) == 3
    assert {run.lr for run in tested} == {way["lr"][1]}
    assert {run.beta for run in tested} == {0.005 if method in plan.WITH_BETA else None}
    best = plan.chosen(preset, cell, scores)
    assert best == next(run for run in tested if run.seed == 1)
    beta = "-beta0.005" if method in plan.WITH_BETA else ""
    assert best.name == f"{cell[0]}-{method}-lr{way['lr'][1]:g}{beta}-seed1"


def test_nothing_is_chosen_before_every_trial_has_a_score(preset):
    rounds, scores, _ = finish(preset, ("lora", "varan", 0), lambda run: 0)
    missing = next(iter(scores))
    del scores[missing]
    assert plan.chosen(preset, ("lora", "varan", 0), scores) is None
    assert plan.jobs(preset, ("lora", "varan", 0), scores, set())[0] == plan.Job(missing, False)


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("more_lr: []", "more_lr: [0.1]", "1 lr and 1 more_lr, expected 1 or more and 0"),
        ("kind: recognition", "kind: asr", "kind is 'asr'"),
        ("folds: 0\n", "", "has ["),
        ("seeds: [1]", "seeds: []", "need one value or more"),
        ("lr: [0.01]", "lr: 0.01", "lr is 0.01"),
    ],
)
def test_a_wrong_preset(tmp_path, old, new, said):
    assert old in TINY
    (tmp_path / "mine.yaml").write_text(TINY.replace(old, new, 1))
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        plan.load(str(tmp_path / "mine.yaml"))
    assert "mine.yaml" in str(error.value)


def composed(command):
    """The configuration that fairseq would make of a training's command."""
    from fairseq.dataclass.initialize import add_defaults
    from hydra.core.global_hydra import GlobalHydra

    try:
        from hydra import compose, initialize_config_dir
    except ImportError:
        from hydra.experimental import compose, initialize_config_dir
    folder = os.path.join(REPO, command[command.index("--config-dir") + 1])
    name = command.index("--config-name") + 1
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=folder):
        cfg = compose(command[name], overrides=command[name + 1 :])
    add_defaults(cfg)
    return cfg


@pytest.mark.parametrize("name", plan.presets())
def test_presets(name, monkeypatch):
    import varan_fairseq.models  # noqa: F401  (registers all)

    monkeypatch.chdir(REPO)
    preset = plan.load(name)
    with open(f"{FOLDER}/presets/{name}.yaml") as file:
        assert file.read().startswith(f"# python examples/evidence/run.py {name} ")
    assert all(len(values) == len(preset["splits"]) for values in preset["published"].values())
    assert len(preset["seeds"]) >= 3 and len(preset["beta"]) == 2
    setting = experiment.Setting(preset, "data", "encoder.pt", "out", [], [])
    pairs = [(way, "varan") for way in preset["ways"]]
    if name in ("digits", "styles"):  # what a method sets depends on the task alone
        pairs += [("full", method) for method in plan.METHODS]
    for way, method in pairs:
        beta = 0.005 if method in plan.WITH_BETA else None
        run = plan.Run(way, method, 1 if preset["folds"] else 0, 0.02, beta, 7)
        cfg = composed(experiment.training(setting, run))
        rank = 16 if way in ("lora", "dora") else 0
        assert cfg.model.lora_rank == rank and cfg.common.seed == 7
        assert list(cfg.optimization.lr) == [0.02]
        assert cfg.checkpoint.save_dir.endswith(run.name)
        assert f"model.aggregation={cfg.model.aggregation}" == plan.METHODS[method][0]
        assert cfg.task.data == ("data/fold1" if preset["folds"] else "data")
        assert beta in (None, cfg.criterion.beta)
        assert cfg.checkpoint.best_checkpoint_metric == plan.rate(preset).lower()
        events = getattr(cfg.common, "tensorboard_logdir", None) or run.name
        assert run.name in events and "{" not in events


@pytest.mark.parametrize("wide", [False, True])
def test_pretraining(monkeypatch, wide):
    monkeypatch.chdir(REPO)
    folder = "examples/evidence"
    recipe = OmegaConf.load(f"{folder}/pretrain.yaml")
    settings = pretrain.overrides_of("out", "round2", "clusters", 50, wide)
    command = ["--config-dir", folder, "--config-name", "pretrain"]
    cfg = composed([*command, *as_overrides(recipe, settings)])
    assert cfg.model.encoder_embed_dim == (384 if wide else 192)
    assert cfg.optimization.max_update == (5000 if wide else 2500)
    assert cfg.task.label_dir == "clusters" and bool(cfg.common.get("fp16")) == wide


def test_a_cluster_is_told(monkeypatch):
    monkeypatch.chdir(REPO)
    launch = ["+cluster=one_node", "hydra/launcher=submitit_slurm"]
    setting = experiment.Setting(plan.load("libri_100h"), "d", "e.pt", "o", launch, ["srun", "-n1"])
    run = plan.Run("lora", "hconv", 0, 0.001, None, 1)
    assert experiment.training(setting, run)[:7] == [
        "fairseq-hydra-train",
        "--multirun",
        "--config-dir",
        "examples",
        "--config-name",
        "hubert_base_libri_100h_lora",
        "+cluster=one_node",
    ]
    assert experiment.decoding(setting, run, "test_clean", "as-trained")[:3] == [
        "srun",
        "-n1",
        "varan-infer",
    ]


def rows(rate="WER"):
    """Two seeds of two folds; varan is never wrong in the first utterance of each."""
    lengths = {"1": {"test": "2 3"}, "2": {"test": "5"}}
    errors = {("weighted_sum", 1): "1 1", ("weighted_sum", 2): "2"}
    errors.update({("varan", 1): "0 1", ("varan", 2): "0", ("hconv", 1): "1 1"})
    runs = [
        {
            **plan.Run("lora", method, fold, 0.01, None, seed)._asdict(),
            "errors": {"test": {"as-trained": text}},
            "chosen": True,
            "score": 50.0,
            "trained_parameters": 1234,
            "seconds_per_update": 0.5,
        }
        for (method, fold), text in errors.items()
        for seed in (1, 2)
    ]
    return {
        "rate": rate,
        "splits": ["test"],
        "seeds": [1, 2],
        "ways": ["full", "lora"],
        "methods": list(plan.METHODS),
        "published": {"somebody": [6.1]},
        "lengths": lengths,
        "conditions": {"1": {"test": "clean\nin noise"}, "2": {"test": "clean"}},
        "runs": runs,
    }


def test_the_page():
    found = rows()
    tried = {**found["runs"][-1], **plan.Run("lora", "varan", 1, 0.02, 0.5, 1)._asdict()}
    found["runs"].insert(0, {**tried, "chosen": False, "score": 60.0})
    text = "\n".join(page.lines(found))
    assert "hconv" not in text, "a fold of it is missing"
    lines = text.split("\n")
    assert lines[0].startswith(
        "| lora | test WER % | gain over weighted_sum | valid | seeds | lr |"
    )
    weighted, varan = lines[2].split(" | "), lines[3].split(" | ")
    assert weighted[0] == "| weighted_sum" and weighted[1].startswith("40.00 (") and not weighted[2]
    assert varan[0] == "| varan" and varan[1].startswith("10.00 (")
    assert varan[2].startswith("+30.00 (+0.00 - +") and varan[3:6] == ["50.00", "2", "0.01"]
    assert lines[5] == "| lora: test WER % | clean | in noise |"
    assert lines[7] == "| weighted_sum | 42.86 | 33.33 |" and lines[8] == "| varan | 0.00 | 33.33 |"
    assert lines[10] == "| lora: tried with the first seed | valid |"
    assert lines[12] == "| weighted_sum | **lr 0.01: 50.00** |"
    assert lines[13] == "| varan | lr 0.02, beta 0.5: 60.00; **lr 0.01: 50.00** |"
    assert lines[15] == "| test: points that varan gains over | lora |"
    assert lines[17].startswith("| weighted_sum | +30.00 (")
    assert lines[-1] == "| somebody | 6.1 |"


def test_seeds_that_a_cell_needs():
    assert plan.least_seeds([1, 2, 3], [1, 2, 3, 4, 5]) == [1, 2, 3]
    assert plan.least_seeds([1, 2, 3], [7, 2, 8]) == [7, 2]


def test_more_seeds_than_asked_for():
    found = rows()
    extra = [{**run, "seed": 3} for run in found["runs"] if run["seed"] == 1]
    found["runs"] += [run for run in extra if (run["method"], run["fold"]) != ("varan", 2)]
    lines = list(page.lines(found))
    assert " | 50.00 | 3 | " in lines[2] and " | 50.00 | 2 | " in lines[3]


def test_the_summary():
    found = rows()
    text = list(page.summary({"strings": found, "nothing": {**found, "runs": []}}))
    assert text[0].startswith("| data, way | varan | over last_layer | over weighted_sum |")
    cells = [cell.strip() for cell in text[2].split("|")[1:-1]]
    assert cells[0] == "strings, lora" and cells[1].startswith("WER % 10.00 (")
    assert cells[2] == "" and cells[3].startswith("+30.00 (") and len(text) == 3


def test_what_is_counted(preset):
    assert plan.rate(preset) == "WER" and plan.rate(plan.load("styles")) == "accuracy"
    preset["overrides"].append("checkpoint.best_checkpoint_metric=uer")
    assert plan.rate(preset) == "UER"
    assert "| lora | test UER % |" in next(page.lines(rows("UER")))


def test_the_page_of_a_classifier():
    found = rows("accuracy")
    found["lengths"] = {"1": {"test": "1 1"}, "2": {"test": "1"}}
    for run in found["runs"]:
        run["errors"]["test"]["as-trained"] = "0 1" if run["fold"] == 1 else "0"
    found["runs"][0]["errors"]["test"]["as-trained"] = "1 1"  # one seed of the weighted sum
    lines = list(page.lines(found))
    assert "| lora | test accuracy % |" in lines[0] and "| 50.00 (" in lines[2]
    assert "| 66.67 (" in lines[3] and "+16.67" in lines[3]


def kit_command(tmp_path, *options):
    return [
        sys.executable,
        os.path.join(FOLDER, "run.py"),
        str(tmp_path / "tiny.yaml"),
        "--out",
        str(tmp_path / "out"),
        *options,
    ]


def records(tmp_path):
    runs = tmp_path / "out" / "runs"
    if not runs.exists():
        return {}
    paths = [path / "record.json" for path in runs.iterdir()]
    return {path.parent.name: path.stat().st_mtime_ns for path in paths if path.exists()}


def alive(folder, but):
    """Processes that write into it, but for one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if folder.encode() in file.read():
                    found.append(int(pid))
        except OSError:  # it has ended
            continue
    return set(found) - {but}


def test_after_kill_9_it_goes_on(tmp_path, corpus, wav2vec2):
    """Killed when one run is done and another under way: that is waited for, the first stays."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    options = ["--data", corpus, "--encoder", wav2vec2, "--methods", "weighted_sum", "varan"]
    command = kit_command(tmp_path, *options, "--jobs", "2")
    # one at a time: what is under way beside a record has just begun
    killed = kit_command(tmp_path, *options, "--jobs", "1")
    process = preloaded.start(killed, REPO)
    while process.poll() is None:
        if records(tmp_path) and alive(str(tmp_path / "out"), process.pid):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = records(tmp_path)
    assert before and process.returncode == -signal.SIGKILL, process.said()[0]
    assert alive(str(tmp_path / "out"), process.pid), "nothing was under way"

    shell(*command)
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    after = records(tmp_path)
    assert len(after) == 2
    runs = found["rows"]["runs"]
    assert len(runs) == 2 and all(run["chosen"] and run["updates"] == 3 for run in runs)
    readings = {run["method"]: sorted(run["errors"]["test"]) for run in runs}
    assert readings == {"varan": ["as-trained", "best_layer"], "weighted_sum": ["as-trained"]}
    assert all(run["trained_parameters"] > 0 and run["metric"] == "wer" for run in runs)
    said = (tmp_path / "out" / "page.md").read_text()
    assert "| weighted_sum | " in said and "| varan, best_layer | " in said and "12.3" in said
    with open(os.path.join(corpus, "test.wrd")) as file:
        words = [len(line.split()) for line in file]
    assert list(map(int, found["rows"]["lengths"]["0"]["test"].split())) == words
    # the WER is that of varan-infer
    scored = next((tmp_path / "out" / "runs").glob("lora-weighted_sum*seed1"))
    asr = json.loads((scored / "test-as-trained" / "asr.json").read_text())
    run = next(run for run in runs if run["method"] == "weighted_sum" and run["seed"] == 1)
    errors = list(map(int, run["errors"]["test"]["as-trained"].split()))
    assert 100 * sum(errors) / sum(words) == pytest.approx(asr["wer"])
    labels = outcome.lengths(corpus, "test", "UER")
    wrong = outcome.errors(str(scored / "test-as-trained"), "UER", labels)
    assert 100 * sum(wrong) / sum(labels) == pytest.approx(asr["uer"])
    for log in (tmp_path / "out" / "runs").glob("*/train.log"):
        assert "Traceback" not in log.read_text()

    shell(*command)  # nothing is left to do
    assert records(tmp_path) == after
    other = kit_command(tmp_path, "--data", corpus, "--encoder", str(tmp_path / "none.pt"))
    assert f"no {tmp_path}/none.pt" in shell(*other, check=False)


def test_ctrl_c(tmp_path, monkeypatch, capsys, corpus, wav2vec2):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(REPO)
    monkeypatch.setattr(experiment, "train", interrupted)
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = kit_command(tmp_path, "--data", corpus, "--encoder", wav2vec2)
    monkeypatch.setattr(sys, "argv", command[1:])
    with pytest.raises(SystemExit) as stopped:
        kit.main()
    assert stopped.value.code == 130
    assert "the same command continues where it was" in capsys.readouterr().err


class Known:
    """Stands for the runs: what they record, without training."""

    def __init__(self, monkeypatch, fails=()):
        self.fails, self.trained, self.tested = fails, [], []
        monkeypatch.setattr(experiment, "train", self.train)
        monkeypatch.setattr(experiment, "test", self.test)
        monkeypatch.setattr(outcome, "encoder_digest", lambda path: path)
        monkeypatch.setattr(outcome, "data_digest", lambda setting: "d")
        monkeypatch.setattr(outcome, "audio_digest", lambda setting: "a")
        monkeypatch.setattr(outcome, "lengths", lambda *_: [3, 4])

    def train(self, setting, run):
        if run.method in self.fails:
            raise experiment.Failed("no memory")
        if run not in self.trained:
            self.trained.append(run)
        figures = {"updates": 3, "seconds_per_update": 1.0, "trained_parameters": 10}
        return {**run._asdict(), "maximize": False, "score": 100 * run.lr, **figures}

    def test(self, setting, run):
        self.tested.append(run)
        readings = ["as-trained", "best_layer"] if run.method == "varan" else ["as-trained"]
        errors = {"test": dict.fromkeys(readings, "1 0")}
        return {**self.train(setting, run), "errors": errors}


def start(tmp_path, monkeypatch, *methods, **settings):
    monkeypatch.chdir(REPO)
    preset = {**plan.load("digits"), **settings}
    os.makedirs(tmp_path / "runs", exist_ok=True)
    monkeypatch.setattr(sys, "argv", ["run.py"])
    setting = experiment.Setting(preset, "data", "encoder.pt", str(tmp_path), [], [])
    return kit.Experiment(setting, list(plan.cells(preset, ["lora"], list(methods))))


def test_a_run_that_fails_leaves_the_others_alone(tmp_path, monkeypatch):
    known = Known(monkeypatch, fails=("hconv",))
    found = start(tmp_path, monkeypatch, "hconv", "varan")
    failed = kit.work(found, 2)
    assert {run.method for run in failed} == {"hconv"} and len(failed) == 3
    assert len(known.tested) == 3 and {run.method for run in known.tested} == {"varan"}
    assert {run.lr for run in known.tested} == {0.005}, "the lowest WER on validation"
    text = (tmp_path / "page.md").read_text()
    assert "| varan | " in text and "hconv" not in text


@pytest.mark.parametrize(
    "line, said",
    [
        ("", "0/500, loss ?"),
        (
            "[x] epoch 006:  80 / 102 loss=0.6961, ups=3.7, num_updates=590, lr=0.1\n",
            "590/500, loss 0.6961",
        ),
        ('{"epoch": 6, "loss": "0.71", "num_updates": "40"}\n', "40/500, loss 0.71"),
    ],
)
def test_how_far_a_run_is(tmp_path, monkeypatch, preset, line, said):
    monkeypatch.chdir(REPO)
    setting = experiment.Setting(preset, "data", "encoder.pt", str(tmp_path), [], [])
    run = plan.Run("lora", "varan", 0, 0.01, 0.05, 1)
    assert experiment.state(setting, run, False) == f"{run.name}: 0/500, loss ?", "not begun"
    os.makedirs(setting.folder(run))
    with open(f"{setting.folder(run)}/train.log", "w") as log:
        log.write("num_updates=1, loss=9\n" + "x" * 5000 + line)
    assert experiment.state(setting, run, False) == f"{run.name}: {said}"
    assert experiment.state(setting, run, True) == f"{run.name}: decoding"


def test_results_alone_are_enough_to_go_on(tmp_path, monkeypatch):
    """Those of another machine, whose folders are not here."""
    known = Known(monkeypatch)
    kit.work(start(tmp_path, monkeypatch, "hconv"), 1)
    found = start(tmp_path, monkeypatch, "hconv", "varan", seeds=[1, 2, 3, 4])
    before = len(known.trained)
    assert found.done() == 5 + 3, "trainings and tests"
    assert kit.work(found, 1) == {}
    new = [run for run in known.trained[before:] if run.method == "hconv"]
    assert [run.seed for run in new] == [4]
    kit.work(start(tmp_path, monkeypatch, "hconv"), 1)
    with open(tmp_path / "results.json") as file:
        runs = json.load(file)["rows"]["runs"]
    assert sum(run["chosen"] for run in runs) == 8, "what was not asked for now stays"


def test_results_of_another_encoder_are_refused(tmp_path, monkeypatch):
    Known(monkeypatch)
    start(tmp_path, monkeypatch, "hconv").write()
    monkeypatch.setattr(outcome, "encoder_digest", lambda path: "other")
    with pytest.raises(ValueError, match="results of another encoder .*encoder.pt.* other"):
        start(tmp_path, monkeypatch, "hconv")


def test_results_of_another_training_are_refused(tmp_path, monkeypatch):
    """But more learning rates, betas or seeds are more of the same, and so are other ways and methods."""
    Known(monkeypatch)
    start(tmp_path, monkeypatch, "hconv").write()
    start(tmp_path, monkeypatch, "hconv", seeds=[1, 2, 3, 4], beta=[0.05])
    with pytest.raises(ValueError, match=r"overrides \(full last_layer and 39 more\): give"):
        start(tmp_path, monkeypatch, "hconv", overrides=["optimization.max_update=7"])
    ways = plan.load("digits")["ways"]
    other = {**ways, "probe": {**ways["probe"], "overrides": []}}
    with pytest.raises(ValueError, match=r"overrides \(probe last_layer and "):
        start(tmp_path, monkeypatch, "hconv", ways=other)
    monkeypatch.setitem(plan.METHODS, "sum_of_squares", ["model.aggregation=squares"])
    start(tmp_path, monkeypatch, "hconv", ways={"lora": ways["lora"]}).write()
    with pytest.raises(ValueError, match=r"overrides \(probe last_layer and "):
        start(tmp_path, monkeypatch, "hconv", ways=other)


def test_results_of_an_earlier_kit_are_refused(tmp_path, monkeypatch):
    Known(monkeypatch)
    start(tmp_path, monkeypatch, "hconv").write()
    earlier = json.loads((tmp_path / "results.json").read_text())
    (tmp_path / "results.json").write_text(json.dumps({**earlier, "training": "0" * 64}))
    with pytest.raises(ValueError, match="results.json is of an earlier version of this kit"):
        start(tmp_path, monkeypatch, "hconv")


def test_results_of_other_audio_are_refused(tmp_path, monkeypatch):
    """The same manifests, other files; results of before this was looked at continue."""
    Known(monkeypatch)
    start(tmp_path, monkeypatch, "hconv").write()
    monkeypatch.setattr(outcome, "audio_digest", lambda setting: "b")
    with pytest.raises(ValueError, match="results of another audio .SHA-256 a, this one has b"):
        start(tmp_path, monkeypatch, "hconv")
    earlier = json.loads((tmp_path / "results.json").read_text())
    del earlier["audio"]
    (tmp_path / "results.json").write_text(json.dumps(earlier))
    start(tmp_path, monkeypatch, "hconv")


def test_audio_digest(corpus, tmp_path):
    data = shutil.copytree(corpus, tmp_path / "data")
    for split in ("train", "valid", "test"):
        path = data / f"{split}.tsv"
        path.write_text(path.read_text().replace(str(corpus), str(data)))
    first = outcome.audio_digest([corpus])
    assert outcome.audio_digest([str(data)]) == first  # wherever it lies
    path = data / "wav" / "test0.wav"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert outcome.audio_digest([str(data)]) != first


@pytest.mark.parametrize(
    "line, words",
    [("O N E | T W O |", 2), ("O N E | T W O", 2), ("| O N E | | T W O |", 2), ("", 0)],
)
def test_words_of_labels(tmp_path, line, words):
    (tmp_path / "test.tsv").write_text("/x\na.wav\t9\n")
    (tmp_path / "test.ltr").write_text(f"{line}\n")
    assert outcome.lengths(str(tmp_path), "test", "WER") == [words]


COUNTS = {
    "of other transcripts": "a.wav\t1\t3\t2\t9\n",
    "below nothing": "a.wav\t-1\t2\t2\t9\n",
    "of more utterances": "a.wav\t1\t2\t2\t9\na.wav\t1\t2\t2\t9\n",
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_that_cannot_be(tmp_path, name):
    head = "id\tword_errors\twords\tunit_errors\tunits\n"
    (tmp_path / "errors.tsv").write_text(head + COUNTS[name])
    with pytest.raises(ValueError, match="errors.tsv is not of the transcripts of this corpus"):
        outcome.errors(str(tmp_path), "WER", [2])


@pytest.mark.parametrize("seeds", [[1], [1, 2]])
def test_one_seed_makes_nothing_bold(seeds):
    """However far apart two runs are: nobody knows how far seeds are."""
    found = rows()
    found["seeds"] = seeds
    found["runs"] = [run for run in found["runs"] if run["seed"] in seeds]
    for fold in "12":
        found["lengths"][fold]["test"] = " ".join(["5"] * 40)
        found["conditions"][fold]["test"] = ""
    for run in found["runs"]:
        wrong = "3" if run["method"] == "weighted_sum" else "0"
        run["errors"]["test"]["as-trained"] = " ".join([wrong] * 40)
    line = list(page.lines(found))[3]
    assert line.startswith("| varan | 0.00 (")
    assert ("**+60.00 (+60.00 - +60.00)**" in line) == (len(seeds) > 1)


MALFORMED = {
    "no JSON": "{",
    "a list": "[]",
    "no rows": "{}",
    "rows of another kind": '{"encoder": 1, "data": 1, "training": {}, "seconds": 0, "rows": {"runs": [1]}}',
    "deep": "[" * 100000,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_results_that_this_kit_did_not_write(tmp_path, monkeypatch, name):
    Known(monkeypatch)
    start(tmp_path, monkeypatch, "hconv")
    (tmp_path / "results.json").write_text(MALFORMED[name])
    with pytest.raises(
        ValueError, match="results.json (is not as this kit wrote it|holds results of)"
    ):
        start(tmp_path, monkeypatch, "hconv")


PRESETS = {
    "a bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "aliases"),
    "no YAML": ("a: [", "a.yaml: "),
    "too long": ("# " + "x" * 200000, "a long file"),
    "a tab": ("a:\n\t- b\n", "a.yaml: "),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_that_are_none(tmp_path, name):
    content, expected = PRESETS[name]
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(ValueError, match=expected) as raised:
        plan.load(str(tmp_path / "a.yaml"))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "key, value", [("seeds", ["x"]), ("beta", ["x"]), ("splits", [1]), ("seeds", [True])]
)
def test_lists_of_a_preset(tmp_path, key, value):

    preset = OmegaConf.load(os.path.join(plan.PRESETS, "digits.yaml"))
    preset[key] = value + list(preset[key])[1:]
    OmegaConf.save(preset, str(tmp_path / "a.yaml"))
    with pytest.raises(ValueError, match=f"a.yaml: {key} has {value[0]!r}, expected"):
        plan.load(str(tmp_path / "a.yaml"))


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_no_jobs(monkeypatch, capsys, jobs):
    monkeypatch.setattr(
        sys,
        "argv",
        ["run.py", "digits", "--data", "d", "--encoder", "e", "--out", "o", "--jobs", jobs],
    )
    with pytest.raises(SystemExit):
        kit.arguments()
    assert f"argument --jobs: '{jobs}', expected 1 or more" in capsys.readouterr().err


def test_digests(tmp_path, corpus, wav2vec2):
    import torch

    state = torch.load(wav2vec2)
    state["more"] = "a date"
    torch.save(state, tmp_path / "same.pt")
    name = next(iter(state["model"]))
    state["model"][name] = state["model"][name] + 1
    torch.save(state, tmp_path / "other.pt")
    digests = [
        outcome.encoder_digest(str(path))
        for path in (wav2vec2, tmp_path / "same.pt", tmp_path / "other.pt")
    ]
    assert digests[0] == digests[1] != digests[2]
    other = write_corpus(tmp_path / "corpus", seed=1)
    same = shutil.copytree(corpus, tmp_path / "copy")
    digests = [outcome.data_digest([str(folder)]) for folder in (corpus, same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_what_the_layers_say():
    """Layer 1 reads the first kind best, layer 2 the second; q follows half of the time."""
    import layers

    losses = np.array([[1.0, 2.0], [1.0, 2.0], [4.0, 2.0], [4.0, 2.0]])
    right = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
    kinds = ["clean", "clean", "noisy", "noisy"]
    found = layers.describe(losses, right, kinds)
    assert found["correlation"] == pytest.approx(-1)
    assert layers.describe(losses, right[::-1], kinds)["correlation"] == pytest.approx(1)
    assert layers.describe(losses, right[:1].repeat(4, 0), kinds)["correlation"] is None
    assert found["loss"]["clean"] == [1, 2] and found["loss"]["all"] == [2.5, 2]
    assert found["best_alone"] == 2 and found["best_of_each_condition"] == 1.5
    assert found["best_of_each_utterance"] == 1.5
    text = "\n".join(layers.lines([found, found]))
    assert "| all | 2.500 | **2.000** |" in text and "| noisy | 4.000 | **2.000** |" in text
    assert "-1.000 (-1.000 - -1.000)" in text


def test_layers_of_a_model(tmp_path, corpus, wav2vec2):
    """Its losses are torch's own, of each utterance alone and in float64."""
    import layers
    import torch
    from build import batch, setup_task, train

    from varan_fairseq.finetuned.load import load_model

    recipe = os.path.join(REPO, "examples", "demo", "finetune.yaml")
    out = train(recipe, corpus, tmp_path / "out", wav2vec2, model={"mask_channel_prob": 0.0})
    losses, posterior = layers.measure(str(out), corpus, "test", 40000)
    model, _, _ = load_model(str(out), {}, corpus)
    task = setup_task(corpus)
    for row in range(len(losses)):
        sample = batch(task, "test", [row])
        with torch.no_grad():
            found = model(**sample["net_input"])
        target = sample["target"][0][: sample["target_lengths"][0]]
        for layer, logits in enumerate(found["layer_logits"]):
            nll = torch.nn.functional.ctc_loss(
                logits.double().log_softmax(-1)[:, 0],
                target,
                torch.tensor(len(logits)),
                torch.tensor(len(target)),
                blank=model.blank,
                reduction="sum",
            )
            assert losses[row, layer] == pytest.approx(float(nll) / len(target), rel=1e-4)
        assert posterior[row] == pytest.approx(found["log_q"].exp()[0].numpy(), rel=1e-4)
