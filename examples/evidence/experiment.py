"""One run of an experiment: trained by stock fairseq, its splits decoded, and a record of both
beside its checkpoints. What is recorded is not done again."""

import fcntl
import hashlib
import json
import os
import shlex
import subprocess
from typing import Any, Dict, List, NamedTuple

from omegaconf import OmegaConf
from outcome import errors, lengths, trained
from plan import METHODS, Run, rate

from varan_fairseq.runtime.files import write_lines
from varan_fairseq.runtime.training import BIN, ENVIRONMENT, as_overrides, latest, max_update


class Failed(Exception):
    """A command that ended with an error; its text names the log."""


class Setting(NamedTuple):
    """preset: see plan.py. data: folder, with fold1, .. if the preset has folds. encoder: the
    pre-trained checkpoint. out: folder of the runs. launch: more arguments of fairseq-hydra-train,
    for a cluster. prefix: before the commands that decode, as srun."""

    preset: Dict[str, Any]
    data: str
    encoder: str
    out: str
    launch: List[str]
    prefix: List[str]

    def folder(self, run: Run) -> str:
        return os.path.join(self.out, "runs", run.name)

    def data_of(self, fold: int) -> str:
        return os.path.join(self.data, f"fold{fold}") if fold else self.data


def training(setting: Setting, run: Run) -> List[str]:
    """The command that trains a run."""
    preset, folder = setting.preset, setting.folder(run)
    way = preset["ways"][run.way]
    path = recipe_of(preset, run.way)
    config_dir, config_name = os.path.split(path)
    overrides = {
        "task.data": setting.data_of(run.fold),
        "model.w2v_path": setting.encoder,
        "checkpoint.save_dir": folder,
        "common.seed": run.seed,
    }
    for item in [*preset["overrides"], *way["overrides"], *METHODS[run.method]]:
        key, value = item.split("=", 1)
        overrides[key] = value
    overrides["optimization.lr"] = f"[{run.lr!r}]"
    if run.beta is not None:
        overrides["criterion.beta"] = run.beta
    recipe = OmegaConf.load(f"{path}.yaml")
    if "tensorboard_logdir" in recipe.common:
        overrides["common.tensorboard_logdir"] = f"{folder}/tensorboard"
    command = ["fairseq-hydra-train", *(["--multirun"] if setting.launch else [])]
    command += ["--config-dir", config_dir, "--config-name", config_name, *setting.launch]
    return command + list(as_overrides(recipe, [f"{key}={overrides[key]}" for key in overrides]))


def recipe_of(preset: Dict[str, Any], way: str) -> str:
    """Its path, without .yaml."""
    return preset["ways"][way]["recipe"].replace("BASE", preset["base"])


def digests(preset: Dict[str, Any]) -> Dict[str, str]:
    """SHA-256, by way and method, of all that a run's results depend on beside its own settings,
    data and encoder."""
    parts, found = [preset[key] for key in ("kind", "overrides", "splits", "readings")], {}
    for way, options in preset["ways"].items():
        recipe = OmegaConf.to_container(OmegaConf.load(f"{recipe_of(preset, way)}.yaml"))
        for method, own in METHODS.items():
            text = json.dumps([recipe, options["overrides"], own, *parts], sort_keys=True)
            found[f"{way} {method}"] = hashlib.sha256(text.encode()).hexdigest()
    return found


def decoding(setting: Setting, run: Run, split: str, reading: str) -> List[str]:
    """The command that decodes a split; reading: a rule, or as-trained."""
    folder, data = setting.folder(run), setting.data_of(run.fold)
    checkpoint, out = f"{folder}/checkpoint_best.pt", results(setting, run, split, reading)
    rule = [] if reading == "as-trained" else ["--combine", reading]
    if setting.preset["kind"] == "classification":
        return [*setting.prefix, "varan-classify", checkpoint, data, split, "--out", out, *rule]
    command = ["varan-infer", f"common_eval.path={checkpoint}", f"task.data={data}"]
    command += [f"dataset.gen_subset={split}", f"decoding.results_path={out}", *rule]
    return [*setting.prefix, *command]


def results(setting: Setting, run: Run, split: str, reading: str) -> str:
    return os.path.join(setting.folder(run), f"{split}-{reading}")


def state(setting: Setting, run: Run, test: bool) -> str:
    """A run that is being trained or tested, in words: how many updates of how many, the loss."""
    if test:
        return f"{run.name}: decoding"
    preset, log = setting.preset, os.path.join(setting.folder(run), "train.log")
    recipe = OmegaConf.load(f"{recipe_of(preset, run.way)}.yaml")
    settings = [*preset["overrides"], *preset["ways"][run.way]["overrides"]]
    text = ""
    if os.path.exists(log):
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - 4000))
            text = file.read().decode(errors="replace")
    step, loss = latest(text)
    return f"{run.name}: {step or 0}/{max_update(recipe, settings)}, loss {loss or '?'}"


def record(setting: Setting, run: Run) -> Dict[str, Any]:
    """What is known of a run: `score` when it is trained, `errors` when it is tested."""
    path = os.path.join(setting.folder(run), "record.json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def train(setting: Setting, run: Run) -> Dict[str, Any]:
    """Trains a run, from its last checkpoint if there is one; returns its record."""
    folder = setting.folder(run)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "lock"), "w") as lock:
        # The command inherits it: what a killed experiment left training is waited for.
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = record(setting, run)
        if known:
            return known
        _call(training(setting, run), os.path.join(folder, "train.log"), lock)
        known = {**run._asdict(), **trained(folder)}
        _keep(folder, known)
    return known


def test(setting: Setting, run: Run) -> Dict[str, Any]:
    """Decodes the splits; returns the run's record, errors of each utterance in it."""
    folder = setting.folder(run)
    with open(os.path.join(folder, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = record(setting, run)
        if "errors" in known:
            return known
        known["errors"] = {}
        for split in setting.preset["splits"]:
            known["errors"][split] = {}
            for reading in _readings(setting.preset, run):
                out = results(setting, run, split, reading)
                _call(decoding(setting, run, split, reading), f"{out}.log", lock)
                measure = rate(setting.preset)
                wanted = lengths(setting.data_of(run.fold), split, measure)
                found = errors(out, measure, wanted)
                known["errors"][split][reading] = " ".join(map(str, found))
        _keep(folder, known)
    return known


def _readings(preset: Dict[str, Any], run: Run) -> List[str]:
    return ["as-trained", *(preset["readings"] if run.method == "varan" else [])]


def _keep(folder: str, known: Dict[str, Any]) -> None:
    write_lines(os.path.join(folder, "record.json"), [json.dumps(known, indent=1)])


def _call(command: List[str], log: str, lock: Any) -> None:
    program = os.path.join(BIN, command[0])
    environment = {**ENVIRONMENT, **os.environ}  # what is set, as for a GPU, stays
    with open(log, "a", encoding="utf-8") as file:
        file.write("$ " + " ".join(shlex.quote(part) for part in command) + "\n")
        file.flush()
        done = subprocess.run(
            [program if os.path.exists(program) else command[0], *command[1:]],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[lock.fileno()],
        )
    if done.returncode:
        with open(log, encoding="utf-8", errors="replace") as file:
            raise Failed(f"{file.read()[-1500:]}\nfailed, see {log}")
