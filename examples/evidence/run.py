#!/usr/bin/env python3
"""An experiment from nothing to its tables: every way of fine-tuning with every aggregation,
learning rate and beta chosen on validation data, several seeds, decoded and compared with intervals.

    python examples/evidence/run.py digits --data DATA --encoder HUBERT.pt --out results/digits

PRESET: a name of examples/evidence/presets, or a YAML like them. Writes OUT/results.json and
OUT/page.md after every run, so both can be looked at meanwhile. The same command again continues
where it was, also after kill -9. Checkpoints are pickles: your own, or of somebody you trust.
"""

import argparse
import concurrent.futures as futures
import os
import shlex
import sys

import experiment
import page
import plan
from records import Experiment
from tqdm import tqdm

from varan_fairseq.corpora.options import at_least_1


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("preset", help=f"{', '.join(plan.presets())}, or a YAML")
    parser.add_argument("--data", required=True, help="folder with the manifests, or fold1, ..")
    parser.add_argument("--encoder", required=True, help="pre-trained checkpoint")
    parser.add_argument("--out", required=True, help="folder for everything")
    parser.add_argument("--base", help="what its recipes begin with, as wavlm_base_plus")
    parser.add_argument("--ways", nargs="+", metavar="WAY", help="of the preset's; default: all")
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", choices=plan.METHODS, default=plan.USUAL
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="default: the preset's")
    parser.add_argument("--jobs", type=at_least_1, default=1, help="runs at a time")
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
        raise ValueError(f"--ways {' '.join(unknown)}: expected some of {' '.join(preset['ways'])}")
    recipes = [experiment.recipe_of(preset, way) for way in preset["ways"]]
    for path in [*(f"{recipe}.yaml" for recipe in recipes), args.encoder]:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"no {path} (run this from the root of the repository)")
    paths = (os.path.abspath(path) for path in (args.data, args.encoder, args.out))
    return experiment.Setting(preset, *paths, args.launch, args.prefix)


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
        print("run.py: stopped; the same command continues where it was", file=sys.stderr)
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
