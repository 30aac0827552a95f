"""What is known of an experiment's runs, in OUT/results.json and beside their checkpoints."""

import contextlib
import json
import os
import shlex
import sys
import time
from importlib.metadata import version

import experiment
import outcome
import page
import plan

from varan_fairseq.runtime.files import write_lines


@contextlib.contextmanager
def readable(path):
    """Errors of a file that is not as this kit writes it, in one line."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not as this kit wrote it ({type(error).__name__}: {error}): remove it, or "
            "give another --out"
        ) from None


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
            "audio": outcome.audio_digest(map(setting.data_of, folds)),
        }
        self.training = experiment.digests(preset)
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
            with readable(path):
                with open(path, encoding="utf-8") as file:
                    earlier = json.load(file)
                rows, seconds = earlier["rows"]["runs"], float(earlier["seconds"])
                known = {key: earlier[key] for key in self.about if key != "audio"}
                known["audio"] = earlier.get("audio", self.about["audio"])  # younger than some
                training = earlier["training"]
            for key, value in self.about.items():
                if known[key] != value:
                    raise ValueError(
                        f"{path} holds results of another {key} (SHA-256 {known[key]}, this one "
                        f"has {value}): give another --out"
                    )
            self._check_training(path, training)
            with readable(path):
                for row in rows:
                    self.add(row)
        for name in os.listdir(f"{self.setting.out}/runs"):
            file = f"{self.setting.out}/runs/{name}/record.json"
            if os.path.exists(file):
                with readable(file), open(file, encoding="utf-8") as content:
                    self.add(json.load(content))
        return seconds

    def _check_training(self, path, earlier):
        """Recipes and overrides may have come since, none may have changed."""
        if not isinstance(earlier, dict):
            raise ValueError(f"{path} is of an earlier version of this kit: give another --out")
        changed = [key for key, value in self.training.items() if earlier.get(key, value) != value]
        if changed:
            raise ValueError(
                f"{path} holds results of other recipes or overrides ({changed[0]} and "
                f"{len(changed) - 1} more): give another --out"
            )
        self.training = {**earlier, **self.training}

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
            "torch": version("torch"),
            "seconds": round(self.seconds + time.time() - self.start),
            **self.about,
            "training": self.training,
        }
        write_lines(f"{out}/results.json", [json.dumps({**about, "rows": self.rows}, indent=1)])
        write_lines(f"{out}/page.md", page.lines(self.rows))
