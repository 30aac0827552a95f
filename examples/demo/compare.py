#!/usr/bin/env python3
"""Three ways of reading the layers, fine-tuned by stock fairseq with the same budget and
decoded by fairseq's decoder. `make demo` and `make human` call this.

    python examples/demo/compare.py digits        # synthetic digit strings, minutes
    python examples/demo/compare.py human --seeds 1 2 3

Run from the root of the repository. Everything goes to work/<corpus>; what is there
already is not made again.
"""

import argparse
import concurrent.futures
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import time

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
CORPORA = {
    "digits": dict(script="manifests/digits.py", pretrain=[], finetune=[]),
    "human": dict(
        script="manifests/asterisk.py",
        pretrain=["optimization.max_update=300"],
        finetune=["optimization.max_update=450", "dataset.max_tokens=500000"],
    ),
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


def finetune_and_decode(work, data, pretrained, aggregation, seed, overrides):
    """One row of the table."""
    name = f"{work}/{aggregation}-{seed}"
    checkpoint = train(
        name,
        "finetune",
        [
            f"task.data={data}",
            f"model.w2v_path={pretrained}",
            f"model.aggregation={aggregation}",
            f"common.seed={seed}",
            *overrides,
        ],
    )
    call(
        [
            "varan-infer",
            f"common_eval.path={checkpoint}",
            f"task.data={data}",
            "dataset.gen_subset=test",
        ],
        os.path.join(name, "decode.log"),
    )
    with open(os.path.join(name, "decode-test-viterbi", "scores.json"), encoding="utf-8") as file:
        scores = json.load(file)
    with open(os.path.join(name, "train.log"), encoding="utf-8") as file:
        log = file.read()
    speeds = [float(speed) for speed in re.findall(r"\bups=([\d.]+)", log)[1:]]
    return {
        "aggregation": aggregation,
        "seed": seed,
        "uer": scores["uer"],
        "wer": scores["wer"],
        "updates": int(re.findall(r"num_updates[ =](\d+)", log)[-1]),
        "seconds_per_update": 1 / statistics.median(speeds),
        "trained_parameters": int(re.search(r"num\. trained: ([\d,]+)", log)[1].replace(",", "")),
    }


def table(rows):
    """Markdown: a line an aggregation, mean over seeds (and the range if there are some)."""
    yield "| aggregation | UER % | WER % | updates | s/update | trained parameters |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for aggregation in AGGREGATIONS:
        mine = [row for row in rows if row["aggregation"] == aggregation]

        def cell(key, mine=mine):
            values = [row[key] for row in mine]
            spread = f" ({min(values):.2f} - {max(values):.2f})" if len(values) > 1 else ""
            return f"{statistics.mean(values):.2f}{spread}"

        speed = statistics.mean(row["seconds_per_update"] for row in mine)
        yield (
            f"| {aggregation} | {cell('uer')} | {cell('wer')} | {mine[0]['updates']} | "
            f"{speed:.2f} | {mine[0]['trained_parameters']:,} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("corpus", choices=sorted(CORPORA))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    args = parser.parse_args()
    if not os.path.isdir("examples/demo"):
        sys.exit("compare.py: run it from the root of the repository")

    start, corpus, work = time.time(), CORPORA[args.corpus], f"work/{args.corpus}"
    data = f"{work}/data"
    os.makedirs(work, exist_ok=True)
    if not os.path.exists(f"{data}/dict.ltr.txt"):
        call(["python", corpus["script"], data], f"{work}/data.log")
    pretrained = train(
        f"{work}/pretrain", "pretrain", [f"task.data={data}", *corpus["pretrain"]], args.jobs
    )
    # As many at a time as there are cores, but all seeds' aggregations side by side, so
    # that s/update compares.
    with concurrent.futures.ThreadPoolExecutor(max(args.jobs, len(AGGREGATIONS))) as pool:
        runs = [
            pool.submit(
                finetune_and_decode, work, data, pretrained, aggregation, seed, corpus["finetune"]
            )
            for seed in args.seeds
            for aggregation in AGGREGATIONS
        ]
        rows = [run.result() for run in runs]

    picture = f"{work}/varan-{args.seeds[0]}"
    call(
        ["varan-layers", f"{picture}/checkpoint_last.pt", data, "test", "--out", f"{work}/layers"],
        f"{work}/layers.log",
    )
    lines = list(table(rows))
    write_lines(f"{work}/results.md", lines)
    write_lines(f"{work}/results.json", [json.dumps(rows, indent=2)])
    print("\n" + "\n".join(lines))
    print(f"\nWER from fairseq's decoder on {data}/test.tsv, seeds {args.seeds}")
    print(f"which layers each utterance used: {work}/layers.png")
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
