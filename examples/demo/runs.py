"""What the demos share: running fairseq once, and what a run left in its log."""

import argparse
import concurrent.futures
import json
import os
import re
import statistics
import sys
from importlib.metadata import version

from varan_fairseq.runtime.files import write_lines
from varan_fairseq.runtime.training import as_overrides, call, train  # noqa: F401

AGGREGATIONS = ["last_layer", "weighted_sum", "varan"]
# Of VARAN, what is shown as a line of its own.
RULES = ["best_layer", "consensus", "vote"]


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


def demo_run(seed):
    """The checkpoint of VARAN that `make demo` trained with a seed; exits without one."""
    checkpoint = f"work/demo/hubert/lora-varan-{seed}/checkpoint_last.pt"
    if not os.path.exists(checkpoint):
        sys.exit(f"no {checkpoint}: run make demo first")
    return checkpoint


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
        "torch": version("torch"),
        "seconds": round(seconds),
    }
    write_lines(f"{folder}/results.md", lines)
    write_lines(f"{folder}/results.json", [json.dumps({**about, "rows": rows}, indent=1)])
    print("\n" + "\n".join(lines))


def parse_seeds(about):
    """Options --seeds and --jobs, of the command line. about: what the script does."""
    parser = argparse.ArgumentParser(description=about.split("\n\n")[0])
    _add_seeds(parser)
    return parser.parse_args()


def _add_seeds(parser):
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")


def add_run_options(parser):
    """--seeds, --jobs and --set, which both demos have."""
    _add_seeds(parser)
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
