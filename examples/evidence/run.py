#!/usr/bin/env python3
"""An experiment from nothing to its tables: every way of fine-tuning with every aggregation,
learning rate and beta chosen on validation data, several seeds, decoded and compared with intervals.

    python examples/evidence/run.py digits --data DATA --encoder HUBERT.pt --out results/digits

PRESET: a name of examples/evidence/presets, or a YAML like them. Writes OUT/results.json and
OUT/page.md after every run, so both can be looked at meanwhile. The same command again goes on
where it was, also after kill -9. Checkpoints are pickles: your own, or of somebody you trust.
"""

import argparse
import concurrent.futures as futures
import json
import os
import shlex
import sys
import time

import experiment
import outcome
import page
import plan
import torch
from tqdm import tqdm

from varan_fairseq.files import write_lines


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("preset", help=f"{', '.join(plan.presets())}, or a YAML")
    parser.add_argument("--data", required=True, help="folder with the manifests, or fold1, ..")
    parser.add_argument("--encoder", required=True, help="pre-trained checkpoint")
    parser.add_argument("--out", required=True, help="folder for everything")
    parser.add_argument("--base", help="what its recipes begin with, as wavlm_base_plus")
    parser.add_argument("--ways", nargs="+", metavar="WAY", help="of the preset's; default: all")
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", choices=plan.METHODS, default=list(plan.METHODS)
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="default: the preset's")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument(
        "--launch",
        type=shlex.split,
        default=[],
        metavar="ARGUMENTS",
        help="of each training, for a cluster: '+cluster=one_node hydra/launcher=..'",
    )
    parser.add_argument(
        "--prefix", type=shlex.split, default=[], help="before what decodes: 'srun --gres=gpu:1'"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the first commands and stop")
    return parser.parse_args()


def setting_of(args):
    """Checked. Raises ValueError or FileNotFoundError."""
    preset = plan.load(args.preset)
    preset["base"] = args.base or preset["base"]
    if args.seeds:
        preset["least_seeds"] = plan.least_seeds(preset["seeds"], args.seeds)
        preset["seeds"] = args.seeds
    unknown = set(args.ways or []) - set(preset["ways"])
    if unknown:
        raise ValueError(f"--ways {' '.join(unknown)}: wanted some of {' '.join(preset['ways'])}")
    recipes = [experiment.recipe_of(preset, way) for way in preset["ways"]]
    for path in [*(f"{recipe}.yaml" for recipe in recipes), args.encoder]:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"no {path} (run this from the root of the repository)")
    paths = (os.path.abspath(path) for path in (args.data, args.encoder, args.out))
    return experiment.Setting(preset, *paths, args.launch, args.prefix)


class Experiment:
    """What is known of the runs so far, and what of it goes into results.json."""

    def __init__(self, setting, cells):
        self.setting, self.cells = setting, cells
        self.records, self.start = {}, time.time()
        preset = setting.preset
        folds, rate = plan.folds(preset), plan.rate(preset)

        def of_each(read):
            """Of each fold and split, what read(folder, split) says as text."""
            return {
                str(fold): {split: read(setting.data_of(fold), split) for split in preset["splits"]}
                for fold in folds
            }

        self.about = {
            "encoder": outcome.encoder_digest(setting.encoder),
            "data": outcome.data_digest(map(setting.data_of, folds)),
            "training": experiment.digest(preset),
        }
        self.rows = {
            "rate": rate,
            "splits": preset["splits"],
            "seeds": preset["least_seeds"],
            "ways": list(preset["ways"]),
            "methods": list(plan.METHODS),
            "published": preset["published"],
            "lengths": of_each(
                lambda data, split: " ".join(map(str, outcome.lengths(data, split, rate)))
            ),
            "conditions": of_each(lambda data, split: "\n".join(outcome.conditions(data, split))),
        }
        self.seconds = self._earlier()

    def _earlier(self):
        """Takes what results.json and the runs' folders hold; returns seconds spent before."""
        path, seconds = f"{self.setting.out}/results.json", 0
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                earlier = json.load(file)
            for key, value in self.about.items():
                if earlier[key] != value:
                    raise ValueError(
                        f"{path} holds results of another {key} (SHA-256 {earlier[key]}, this one "
                        f"has {value}): give another --out"
                    )
            seconds = earlier["seconds"]
            for row in earlier["rows"]["runs"]:
                self.add(row)
        for name in os.listdir(f"{self.setting.out}/runs"):
            file = f"{self.setting.out}/runs/{name}/record.json"
            if os.path.exists(file):
                with open(file, encoding="utf-8") as content:
                    self.add(json.load(content))
        return seconds

    def add(self, known):
        run = plan.Run(*(known[key] for key in plan.Run._fields))
        self.records[run] = {**self.records.get(run, {}), **known}

    def scores(self):
        """Of validation, the higher the better."""
        sign = {run: 1 if known["maximize"] else -1 for run, known in self.records.items()}
        return {run: sign[run] * known["score"] for run, known in self.records.items()}

    def jobs(self):
        """Those that can begin, in the order of the cells."""
        scores = self.scores()
        tested = {run for run, known in self.records.items() if "errors" in known}
        for cell in self.cells:
            yield from plan.jobs(self.setting.preset, cell, scores, tested)

    def chosen(self):
        """Runs that count, of all cells: with what their cell chose, any seed that is tested."""
        preset, scores = self.setting.preset, self.scores()
        every = list(plan.cells(preset, list(preset["ways"]), list(plan.METHODS)))
        best = {plan.chosen(preset, cell, scores) for cell in every}
        for run, known in self.records.items():
            if "errors" in known and run._replace(seed=preset["seeds"][0]) in best:
                yield run

    def done(self):
        """Jobs that need not be done any more."""
        cells = set(self.cells)
        runs = {run for run in self.records if (run.way, run.method, run.fold) in cells}
        return len(runs) + sum("errors" in self.records[run] for run in runs)

    def do(self, job):
        # also before a test: of a run of another machine, results.json alone may be here
        known = experiment.train(self.setting, job.run)
        return experiment.test(self.setting, job.run) if job.test else known

    def write(self):
        out = self.setting.out
        order = sorted(self.records, key=lambda run: run.name)
        chosen = set(self.chosen())
        self.rows["runs"] = [{**self.records[run], "chosen": run in chosen} for run in order]
        about = {
            "command": " ".join(["python", *map(shlex.quote, sys.argv)]),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "seconds": round(self.seconds + time.time() - self.start),
            **self.about,
        }
        write_lines(f"{out}/results.json", [json.dumps({**about, "rows": self.rows}, indent=1)])
        write_lines(f"{out}/page.md", page.lines(self.rows))


def work(found, jobs):
    """Does all jobs, `jobs` at a time; returns what failed: (run, why)."""
    total = sum(plan.count(found.setting.preset, cell) for cell in found.cells)
    running, failed = {}, {}
    with futures.ThreadPoolExecutor(jobs) as pool, tqdm(
        total=total, initial=found.done(), unit="job", smoothing=0.05
    ) as bar:
        while True:
            for job in found.jobs():
                if len(running) == jobs:
                    break
                if job not in running.values() and job.run not in failed:
                    running[pool.submit(found.do, job)] = job
                    tqdm.write(f"{'test' if job.test else 'train'} {job.run.name}")
            if not running:
                break
            states = (experiment.state(found.setting, *job) for job in running.values())
            bar.set_postfix_str("; ".join(states))
            for ready in futures.wait(running, 10, futures.FIRST_COMPLETED).done:
                job = running.pop(ready)
                try:
                    found.add(ready.result())
                except experiment.Failed as error:
                    failed[job.run] = str(error)
                    tqdm.write(f"{job.run.name}: {error}")
                else:
                    bar.update()
                    found.write()
    return failed


def main():
    args = arguments()
    try:
        setting = setting_of(args)
        cells = list(plan.cells(setting.preset, args.ways or setting.preset["ways"], args.methods))
        if args.dry_run:
            for cell in cells:
                for job in plan.jobs(setting.preset, cell, {}, set()):
                    print(shlex.join(experiment.training(setting, job.run)))
            return
        os.makedirs(f"{setting.out}/runs", exist_ok=True)
        found = Experiment(setting, cells)
    except (ValueError, OSError) as error:
        sys.exit(f"run.py: {error}")
    found.write()
    try:
        failed = work(found, args.jobs)
    except KeyboardInterrupt:
        print("run.py: stopped; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
    found.write()
    print("\n".join(page.lines(found.rows)))
    print(f"\n{setting.out}/page.md, {setting.out}/results.json")
    if failed:
        sys.exit(
            f"run.py: {len(failed)} runs failed, see above: " + ", ".join(r.name for r in failed)
        )


if __name__ == "__main__":
    main()
