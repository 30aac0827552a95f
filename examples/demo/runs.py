"""What the demos share: running fairseq once, and what a run left in its log."""

import concurrent.futures
import json
import os
import re
import shlex
import statistics
import subprocess
import sys

from varan_fairseq.manifest import write_lines

AGGREGATIONS = ["last_layer", "weighted_sum", "varan"]
BIN = os.path.dirname(sys.executable)
# One thread a run, as many runs as cores: on a CPU models this small gain nothing from a
# second thread. glibc would otherwise return the large buffers after every update.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
}


def call(command, log, threads=None):
    """Runs a command, its output in a log; on failure shows the log's end and stops."""
    print("$ " + " ".join(shlex.quote(part) for part in command), flush=True)
    environment = {**os.environ, **ENVIRONMENT}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    program = [os.path.join(BIN, command[0])] + command[1:]
    with open(log, "w", encoding="utf-8") as file:
        done = subprocess.run(program, stdout=file, stderr=subprocess.STDOUT, env=environment)
    if done.returncode:
        with open(log, encoding="utf-8") as file:
            sys.exit(f"{file.read()[-3000:]}\nfailed, see {log}")


def train(name, config, overrides, threads=None):
    """fairseq-hydra-train unless its checkpoint is there; returns the checkpoint."""
    checkpoint = os.path.join(name, "checkpoint_last.pt")
    if not os.path.exists(os.path.join(name, "done")):
        os.makedirs(name, exist_ok=True)
        command = ["fairseq-hydra-train", "--config-dir", "examples/demo", "--config-name", config]
        call(
            command + [f"checkpoint.save_dir={name}", *overrides],
            os.path.join(name, "train.log"),
            threads,
        )
        write_lines(os.path.join(name, "done"), [])
    return checkpoint


def pretrain(name, data, base, overrides, jobs):
    """The checkpoint to fine-tune, in a folder that begins with `name`. wav2vec2 takes a
    minute and learns little; hubert takes some, and its layers carry phones."""
    if base == "wav2vec2":
        return train(name, "pretrain", [f"task.data={data}", *overrides], jobs)
    if not os.path.exists(f"{data}/dict.km.txt"):
        call(
            ["python", "examples/demo/kmeans.py", data], f"{os.path.dirname(data)}/kmeans.log", jobs
        )
    where = [f"task.data={data}", f"task.label_dir={data}"]
    return train(f"{name}_hubert", "pretrain_hubert", [*where, *overrides], jobs)


def decode(checkpoint, data, split):
    """What `varan-infer` wrote to scores.json for a split: uer, wer, .."""
    folder = os.path.dirname(checkpoint)
    where = [f"common_eval.path={checkpoint}", f"task.data={data}", f"dataset.gen_subset={split}"]
    call(["varan-infer", *where], os.path.join(folder, "decode.log"))
    path = os.path.join(folder, f"decode-{split}-viterbi", "scores.json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


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


def write_results(folder, rows, lines):
    """The rows as JSON, the table as Markdown, and on the screen."""
    write_lines(f"{folder}/results.md", lines)
    write_lines(f"{folder}/results.json", [json.dumps(rows, indent=2)])
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
