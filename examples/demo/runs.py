"""What the demos share: running fairseq once, and what a run left in its log."""

import concurrent.futures
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time

import torch
from omegaconf import OmegaConf
from tqdm import tqdm

from varan_fairseq.runtime.files import write_lines

AGGREGATIONS = ["last_layer", "weighted_sum", "varan"]
# Of VARAN, what is shown as a line of its own.
RULES = ["best_layer", "consensus"]
BIN = os.path.dirname(sys.executable)
# One thread a run, as many runs as cores: on a CPU models this small gain nothing from a
# second thread. glibc would otherwise return the large buffers after every update.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
}


def call(command, log, threads=None, updates=None, bars=False):
    """Runs a command, its output in a log; on failure shows the log's end and stops.

    updates: of a training, which then has a bar. bars: the command shows its own, on stderr.
    """
    tqdm.write("$ " + " ".join(shlex.quote(part) for part in command))
    environment = {**os.environ, **ENVIRONMENT}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    program = [os.path.join(BIN, command[0])] + command[1:]
    with open(log, "w", encoding="utf-8") as file:
        stderr = None if bars else subprocess.STDOUT
        process = subprocess.Popen(program, stdout=file, stderr=stderr, env=environment)
        try:
            if updates:
                _follow(process, log, updates)
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code:
        with open(log, encoding="utf-8") as file:
            sys.exit(f"{file.read()[-3000:]}\nfailed, see {log}")


def _follow(process, log, updates):
    """A bar from what a training logs: updates of how many, time left, loss."""
    name = "/".join(os.path.dirname(log).split("/")[-2:])
    with tqdm(total=updates, desc=name, unit="update") as bar, open(log, encoding="utf-8") as file:
        while process.poll() is None:
            time.sleep(0.5)
            step, loss = latest(file.read())
            if loss:
                bar.set_postfix(loss=loss, refresh=False)
            if step:
                bar.update(int(step) - bar.n)


def latest(text):
    """(number of updates, loss) as a training's log says them last; "" where it says none."""
    steps = re.findall(r'num_updates(?:=|": ")(\d+)', text)
    losses = re.findall(r'\bloss(?:=|": ")([\d.]+)', text)
    return (steps or [""])[-1], (losses or [""])[-1]


def as_overrides(recipe, settings):
    """KEY=VALUE of each setting as hydra wants it: with a plus where the recipe lacks the key."""
    for setting in settings:
        key, value = setting.lstrip("+").split("=", 1)
        section, name = key.split(".", 1)
        # `name in recipe[section]` is False for a value of ???
        known = section in recipe and name in list(recipe[section])
        yield f"{'' if known else '+'}{key}={value}"


def max_update(recipe, settings):
    """How many updates a recipe trains, with these settings."""
    given = OmegaConf.from_dotlist([setting.lstrip("+") for setting in settings])
    return OmegaConf.merge(recipe, given).optimization.max_update


def train(name, config, overrides, threads=None, folder="examples/demo"):
    """fairseq-hydra-train of a config in `folder` unless its checkpoint is there; returns the
    checkpoint."""
    checkpoint = os.path.join(name, "checkpoint_last.pt")
    if not os.path.exists(os.path.join(name, "done")):
        os.makedirs(name, exist_ok=True)
        command = ["fairseq-hydra-train", "--config-dir", folder, "--config-name", config]
        recipe = OmegaConf.load(f"{folder}/{config}.yaml")
        call(
            command + list(as_overrides(recipe, [f"checkpoint.save_dir={name}", *overrides])),
            os.path.join(name, "train.log"),
            threads,
            updates=max_update(recipe, overrides),
        )
        write_lines(os.path.join(name, "done"), [])
    return checkpoint


def pretrain(name, data, base, overrides, jobs):
    """The checkpoint to fine-tune, in a folder that begins with `name`. wav2vec2 takes a
    minute and learns little; hubert takes some, and its layers carry phones."""
    if base == "wav2vec2":
        return train(name, "pretrain", [f"task.data={data}", *overrides], jobs)
    if not os.path.exists(f"{data}/dict.km.txt"):
        log = f"{os.path.dirname(data)}/kmeans.log"
        call(["python", "examples/demo/kmeans.py", data], log, jobs, bars=True)
    where = [f"task.data={data}", f"task.label_dir={data}"]
    return train(f"{name}_hubert", "pretrain_hubert", [*where, *overrides], jobs)


def decode(checkpoint, data, split, readings):
    """What `varan-infer` wrote to asr.json for a split (uer, wer, ..) by each of `readings`:
    a rule, the number of a layer, or `as-trained`."""
    folder = os.path.dirname(checkpoint)
    names = [str(reading) for reading in readings]
    call(
        ["python", "examples/demo/readings.py", checkpoint, data, split, *names],
        os.path.join(folder, "decode.log"),
    )
    scores = {}
    for reading, name in zip(readings, names):
        with open(f"{folder}/decode-{split}/{name}/asr.json", encoding="utf-8") as file:
            scores[reading] = json.load(file)
    return scores


def log_figures(log):
    """updates, seconds an update, trained parameters: from the log of fairseq-hydra-train."""
    with open(log, encoding="utf-8") as file:
        text = file.read()
    speeds = [float(speed) for speed in re.findall(r"\bups=([\d.]+)", text)[1:]]
    return {
        "updates": int(re.findall(r"num_updates[ =](\d+)", text)[-1]),
        "seconds_per_update": 1 / statistics.median(speeds),
        "trained_parameters": int(re.search(r"num\. trained: ([\d,]+)", text)[1].replace(",", "")),
    }


def spread(rows, key):
    """Mean over seeds, and the range if there are some."""
    values = [row[key] for row in rows]
    between = f" ({min(values):.2f} - {max(values):.2f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{between}"


def run_all(jobs, function, arguments):
    """function(*each) of all arguments, `jobs` at a time; their results, in order."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(function, *each) for each in arguments]
        try:
            return [run.result() for run in waiting]
        except BaseException:  # a failed run says so and exits: leave out those to come
            for run in waiting:
                run.cancel()
            raise


def write_results(folder, rows, lines, seconds):
    """The rows, what made them and how long it took as JSON, the table as Markdown, and on the
    screen."""
    about = {
        "command": " ".join(["python", *sys.argv]),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "seconds": round(seconds),
    }
    write_lines(f"{folder}/results.md", lines)
    write_lines(f"{folder}/results.json", [json.dumps({**about, "rows": rows}, indent=1)])
    print("\n" + "\n".join(lines))


def add_run_options(parser):
    """--seeds, --jobs and --set, which both demos have."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="more overrides of the fine-tuning; these runs get a folder of their own",
    )


def folder_of(runs, settings):
    """Where the runs with these `--set` go: a folder that hydra can read."""
    if not settings:
        return runs
    return f"{runs}/{re.sub(r'[^a-z0-9._-]+', '-', ' '.join(settings)).strip('-')}"
