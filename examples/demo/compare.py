#!/usr/bin/env python3
"""Three ways of reading the layers, fine-tuned by stock fairseq with the same budget and
decoded by fairseq's decoder. `make demo`, `make human` and `make lora` call this.

    python examples/demo/compare.py digits        # synthetic digit strings, minutes
    python examples/demo/compare.py human --seeds 1 2 3
    python examples/demo/compare.py digits --base hubert --finetune full lora dora probe

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
    "digits": dict(
        script="manifests/digits.py",
        wav2vec2=dict(pretrain=[], finetune=[]),
        hubert=dict(pretrain=[], finetune=["optimization.max_update=300"]),
    ),
    "human": dict(
        script="manifests/asterisk.py",
        wav2vec2=dict(
            pretrain=["optimization.max_update=300"],
            finetune=["optimization.max_update=450", "dataset.max_tokens=500000"],
        ),
        hubert=dict(
            pretrain=["optimization.max_update=2000"],
            finetune=[
                "optimization.max_update=400",
                "dataset.max_tokens=500000",
                "dataset.batch_size=8",
            ],
        ),
    ),
}
FINETUNE = {
    "full": [],
    "lora": ["model.lora_rank=16", "optimization.lr=[0.01]"],
    "dora": ["model.lora_rank=16", "model.lora_magnitude=true", "optimization.lr=[0.01]"],
    "probe": ["model.finetune=probe", "optimization.lr=[0.03]"],
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


def pretrain(work, data, base, overrides, jobs):
    """The checkpoint to fine-tune. wav2vec2 takes a minute and learns little; hubert takes
    some, and its layers carry phones."""
    if base == "wav2vec2":
        return train(f"{work}/pretrain", "pretrain", [f"task.data={data}", *overrides], jobs)
    if not os.path.exists(f"{data}/dict.km.txt"):
        call(["python", "examples/demo/kmeans.py", data], f"{work}/kmeans.log", jobs)
    where = [f"task.data={data}", f"task.label_dir={data}"]
    return train(f"{work}/pretrain_hubert", "pretrain_hubert", [*where, *overrides], jobs)


def finetune_and_decode(name, data, pretrained, finetune, aggregation, seed, overrides):
    """One run of the table."""
    where = [f"task.data={data}", f"model.w2v_path={pretrained}"]
    options = [f"model.aggregation={aggregation}", f"common.seed={seed}"]
    options += [*FINETUNE[finetune], *overrides]
    last = dict(option.split("=", 1) for option in options)
    checkpoint = train(name, "finetune", where + [f"{key}={last[key]}" for key in last])
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
        "finetune": finetune,
        "aggregation": aggregation,
        "seed": seed,
        "uer": scores["uer"],
        "wer": scores["wer"],
        "updates": int(re.findall(r"num_updates[ =](\d+)", log)[-1]),
        "seconds_per_update": 1 / statistics.median(speeds),
        "trained_parameters": int(re.search(r"num\. trained: ([\d,]+)", log)[1].replace(",", "")),
    }


def spread(rows, key):
    """Mean over seeds, and the range if there are some."""
    values = [row[key] for row in rows]
    between = f" ({min(values):.2f} - {max(values):.2f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{between}"


def table(rows):
    """Markdown: a line an aggregation."""
    yield "| aggregation | UER % | WER % | updates | s/update | trained parameters |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for aggregation in AGGREGATIONS:
        mine = [row for row in rows if row["aggregation"] == aggregation]
        speed = statistics.mean(row["seconds_per_update"] for row in mine)
        yield (
            f"| {aggregation} | {spread(mine, 'uer')} | {spread(mine, 'wer')} | "
            f"{mine[0]['updates']} | {speed:.2f} | {mine[0]['trained_parameters']:,} |"
        )


def grid(rows):
    """Markdown: a line a way of fine-tuning, a column an aggregation, UER and then WER. No
    speed: `benchmarks/lora.py` measures that."""
    for key in ("uer", "wer"):
        yield f"| {key.upper()} % | " + " | ".join(AGGREGATIONS) + " | trained (varan) |"
        yield "| --- | --- | --- | --- | --- |"
        for finetune in dict.fromkeys(row["finetune"] for row in rows):
            mine = [row for row in rows if row["finetune"] == finetune]
            cells = [
                spread([row for row in mine if row["aggregation"] == name], key)
                for name in AGGREGATIONS
            ]
            trained = max(row["trained_parameters"] for row in mine)
            yield f"| {finetune} | " + " | ".join(cells) + f" | {trained:,} |"
        yield ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("corpus", choices=sorted(CORPORA))
    parser.add_argument("--base", choices=["wav2vec2", "hubert"], default="wav2vec2")
    parser.add_argument("--finetune", choices=FINETUNE, nargs="+", default=["full"])
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="more overrides of the fine-tuning; these runs get a folder of their own",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    args = parser.parse_args()
    if not os.path.isdir("examples/demo"):
        sys.exit("compare.py: run it from the root of the repository")

    start, corpus, work = time.time(), CORPORA[args.corpus], f"work/{args.corpus}"
    options, data = corpus[args.base], f"{work}/data"
    os.makedirs(work, exist_ok=True)
    if not os.path.exists(f"{data}/dict.ltr.txt"):
        call(["python", corpus["script"], data], f"{work}/data.log")
    pretrained = pretrain(work, data, args.base, options["pretrain"], args.jobs)
    # Results and runs of the second base beside those of the first.
    runs, overrides = work, options["finetune"]
    if args.base == "hubert":
        runs, overrides = f"{work}/hubert", [*overrides, "model.feature_grad_mult=0"]
    if args.set:
        runs = f"{runs}/{re.sub(r'[^a-z0-9._-]+', '-', ' '.join(args.set)).strip('-')}"
        overrides = [*overrides, *args.set]

    def folder(finetune, aggregation, seed):
        prefix = "" if finetune == "full" else f"{finetune}-"
        return f"{runs}/{prefix}{aggregation}-{seed}"

    # As many at a time as there are cores; where s/update is shown, the aggregations side by
    # side, so that it compares.
    one_way = args.finetune == ["full"]
    jobs = max(args.jobs, len(AGGREGATIONS)) if one_way else args.jobs
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = [
            pool.submit(
                finetune_and_decode,
                folder(finetune, aggregation, seed),
                data,
                pretrained,
                finetune,
                aggregation,
                seed,
                overrides,
            )
            for seed in args.seeds
            for finetune in args.finetune
            for aggregation in AGGREGATIONS
        ]
        try:
            rows = [run.result() for run in waiting]
        except BaseException:  # a failed run says so and exits: leave out those to come
            for run in waiting:
                run.cancel()
            raise

    picture = folder(args.finetune[0], "varan", args.seeds[0])
    call(
        ["varan-layers", f"{picture}/checkpoint_last.pt", data, "test", "--out", f"{runs}/layers"],
        f"{runs}/layers.log",
    )
    lines = list((table if one_way else grid)(rows))
    write_lines(f"{runs}/results.md", lines)
    write_lines(f"{runs}/results.json", [json.dumps(rows, indent=2)])
    print("\n" + "\n".join(lines))
    print(f"\nWER from fairseq's decoder on {data}/test.tsv, seeds {args.seeds}")
    print(f"which layers each utterance used: {runs}/layers.png")
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
