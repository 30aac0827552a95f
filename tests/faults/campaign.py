#!/usr/bin/env python3
"""The slow part of the campaign (`make faults`): commands are killed at random moments, two at
once write to one target, and what is there afterwards is looked at.

    PYTHONPATH=tests:tests/faults python tests/faults/campaign.py [--kills 10] [--seed 1]

Prints a line a finding and a summary; exit code 1 if something was lost, wrong, or a
traceback.
"""

import argparse
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import soundfile
import torch
from conftest import command, save_pretrained, write_corpus, write_labelled_corpus
from faulty import CTC, EMOTION, LORA, SMALL

from varan_fairseq.adapters.file import read_adapter
from varan_fairseq.data.manifest import read_manifest
from varan_fairseq.finetuned.load import load_model
from varan_fairseq.runtime.pickles import peek

HERE = os.path.dirname(os.path.abspath(__file__))
REPO = os.path.dirname(os.path.dirname(HERE))
SPLITS = ("train", "valid", "test")
TRAIN = """
import json, sys
from build import train
arguments, changes = json.loads(sys.argv[1])
train(*arguments, **changes)
"""


class Campaign:
    """folder: of everything. findings: what was lost, wrong or a traceback."""

    def __init__(self, folder, kills, seed):
        self.folder, self.kills = folder, kills
        self.random = random.Random(seed)
        self.findings, self.killed, self.finished = [], 0, 0
        self.env = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.path.dirname(HERE),  # they run elsewhere
            "PYTHONWARNINGS": "ignore",
        }

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def start(self, arguments):
        return subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            start_new_session=True,
        )

    def run(self, name, arguments, wanted=0):
        """To its end; its output. wanted: exit code."""
        process = self.start(arguments)
        text, _ = process.communicate()
        if process.returncode != wanted or ("Traceback" in text and wanted != 1):
            self.find(name, f"exit code {process.returncode}: {text.strip()[-600:]}")
        return text

    def find(self, name, what):
        self.findings.append(f"{name}: {what}")
        print(f"FOUND {name}: {what}", flush=True)

    def kill_at_random(self, name, arguments, check, number=signal.SIGKILL, children=True):
        """Runs a command again and again, killed (with its children or alone) at a moment of
        its usual length; `check` looks at what is left. Then it has to finish."""
        begun = time.time()
        self.run(name, arguments)
        length = time.time() - begun
        check()
        for _ in range(self.kills):
            process = self.start(arguments)
            time.sleep(self.random.uniform(0.6, 1) * length)  # before, it imports
            if process.poll() is None:
                (os.killpg if children else os.kill)(process.pid, number)
                self.killed += 1
            else:
                self.finished += 1
            text, _ = process.communicate()
            if "Traceback" in text and number == signal.SIGKILL:
                self.find(name, f"a traceback: {text[-600:]}")
            check()
        self.run(name, arguments)
        check()
        print(f"{name}: {self.kills} kills, {length:.1f} s a run", flush=True)

    # What is killed

    def train(self, recipe, data, out, updates, model):
        """What fairseq-hydra-train does with a recipe, small and on the CPU."""
        changes = {"model": {"posterior_heads": 4, **model}}
        changes["checkpoint"] = {"save_dir": out, "save_interval_updates": 1}
        arguments = [recipe, data, out, self.path("base.pt"), updates]
        return [sys.executable, "-c", TRAIN, json.dumps([arguments, changes])]

    def prepare(self):
        write_corpus(self.path("ctc"))
        write_labelled_corpus(self.path("emotion"))
        save_pretrained(self.path("base.pt"), **SMALL)
        for name, recipe, model in (("ctc", CTC, LORA), ("emotion", EMOTION, {})):
            arguments = self.train(recipe, self.path(name), self.path(name, "out"), 3, model)
            self.run(f"training {name}", arguments)
        self.model = self.path("ctc", "out", "checkpoint_last.pt")
        self.classifier = self.path("emotion", "out", "checkpoint_last.pt")

    def training(self):
        """Every kill leaves a checkpoint that the next run resumes from."""
        out, seen = self.path("resumed"), [0]

        def check():
            path = os.path.join(out, "checkpoint_last.pt")
            if not os.path.isfile(path):
                return
            updates = peek(path)["optimizer_history"][-1]["num_updates"]
            if updates < seen[0]:
                self.find("training", f"went back from update {seen[0]} to {updates}")
            seen[0] = updates

        arguments = self.train(CTC, self.path("ctc"), out, 100000, LORA)
        for _ in range(self.kills):
            process = self.start(arguments)
            time.sleep(self.random.uniform(2, 12))
            os.killpg(process.pid, signal.SIGKILL)
            self.killed += 1
            text, _ = process.communicate()
            if "Traceback" in text:
                self.find("training", f"a traceback: {text[-600:]}")
            check()
        print(f"training: {self.kills} kills, {seen[0]} updates", flush=True)
        if not seen[0]:
            self.find("training", "never saved anything")

    def exports(self):
        folder, merged = self.path("adapter"), self.path("merged.pt")

        def whole_adapter():
            if os.path.isdir(folder) and os.path.isfile(os.path.join(folder, "adapter.json")):
                read_adapter(folder)

        def whole_model():
            if os.path.isfile(merged):
                load_model(merged)

        export = command("varan-export")
        self.kill_at_random("adapter", [export, "adapter", self.model, folder], whole_adapter)
        self.kill_at_random("merge", [export, "merge", self.model, merged], whole_model)

    def decodings(self):
        for name, arguments, names in (
            (
                "varan-infer",
                [f"common_eval.path={self.model}", f"task.data={self.path('ctc')}"]
                + [f"decoding.results_path={self.path('decoded')}"],
                ("decoded", "hypotheses.tsv", "asr.json"),
            ),
            (
                "varan-classify",
                [self.classifier, self.path("emotion"), "test", "--out", self.path("classified")],
                ("classified", "utterances.tsv", "scores.json"),
            ),
        ):
            folder, rows, about = self.path(names[0]), *names[1:]

            def check(name=name, folder=folder, rows=rows, about=about):
                scores = os.path.join(folder, about)
                if not os.path.isfile(scores):
                    return
                with open(scores) as file:
                    wanted = json.load(file)["utterances"]
                with open(os.path.join(folder, rows)) as file:
                    found = len(file.readlines()) - 1
                if found != wanted:
                    self.find(name, f"{about} of {wanted} utterances beside {found} lines")

            self.kill_at_random(name, [command(name), *arguments], check)
            self.kill_at_random(name, [command(name), *arguments], check, signal.SIGTERM)

    def corpora(self):
        """Killed while it splits again, no speaker is on both sides; no worker lives on."""
        rng = np.random.default_rng(0)
        for label in "ab":
            os.makedirs(self.path("source", label))
            for speaker in range(30):
                for take in range(4):
                    path = self.path("source", label, f"{speaker:02d}_{take}.wav")
                    soundfile.write(path, rng.normal(0, 0.1, 16000), 44100)
        out = self.path("corpus")

        def check():
            seen = {}
            for split in SPLITS:
                path = os.path.join(out, f"{split}.tsv")
                for name, _ in read_manifest(path).entries if os.path.isfile(path) else []:
                    speaker = os.path.basename(name)[:2]
                    if seen.setdefault(speaker, split) != split:
                        self.find("folder.py", f"speaker {speaker} in {seen[speaker]} and {split}")
            if self.alive("folder.py"):
                self.find("folder.py", "a process of it lives on")

        script = os.path.join(REPO, "manifests", "folder.py")
        arguments = [sys.executable, script, self.path("source"), out, "--speaker", r"(\d+)_"]
        for seed in (1, 2):
            self.kill_at_random("folder.py", [*arguments, "--seed", seed], check, children=False)

    def alive(self, name):
        """Whether a process with this word in its command line is there."""
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as file:
                    words = file.read().decode(errors="replace").split("\0")
            except OSError:
                continue
            if any(word.endswith(name) for word in words) and self.folder in " ".join(words):
                return True
        return False

    def pairs(self):
        """Two processes on one target: one of them, whole."""
        folder, merged = self.path("two"), self.path("two.pt")
        other = self.path("other.pt")
        state = torch.load(self.model)
        for name, value in state["model"].items():
            if name.startswith("aggregation.heads") and name.endswith(".bias"):
                value[6] += 20  # a label that it now says all the time
        torch.save(state, other)
        decoded = self.path("two-decoded")
        infer = [command("varan-infer"), f"task.data={self.path('ctc')}"]
        infer += [f"decoding.results_path={decoded}"]
        export = command("varan-export")
        for _ in range(max(self.kills // 10, 2)):
            for name, commands, check in (
                ("two exports", [[export, "adapter", m, folder] for m in (self.model, other)],
                 lambda: read_adapter(folder)),
                ("two merges", [[export, "merge", m, merged] for m in (self.model, other)],
                 lambda: load_model(merged)),
                ("two decodings", [[*infer, f"common_eval.path={m}"] for m in (self.model, other)],
                 lambda: self.one_decoding(decoded)),
            ):  # fmt: skip
                processes = [self.start(each) for each in commands]
                texts = [process.communicate()[0] for process in processes]
                for process, text in zip(processes, texts):
                    if process.returncode:
                        self.find(name, f"exit code {process.returncode}: {text[-400:]}")
                check()
        print("two processes on one target: done", flush=True)

    def infer(self, model, results, *more):
        """A command: varan-infer of the ctc corpus."""
        return [
            *(command("varan-infer"), f"common_eval.path={model}"),
            *(f"task.data={self.path('ctc')}", f"decoding.results_path={results}", *more),
        ]

    def said(self, folder):
        with open(os.path.join(folder, "hypo.units")) as file:
            return file.read()

    def emissions(self):
        """Two models whose emissions lie in one folder: each decoding is of its own, at the same
        time, and after kills."""
        models = [self.path(name, "m.pt") for name in ("first", "second")]
        for path, source in zip(models, (self.model, self.path("other.pt"))):
            os.makedirs(os.path.dirname(path))
            shutil.copy(source, path)
        alone = []
        for path in models:
            self.run("emissions", self.infer(path, self.path("alone")))
            alone.append(self.said(self.path("alone")))
        if alone[0] == alone[1]:
            self.find("emissions", "the two models say the same, so nothing is tested")
        kept = ["--emissions", self.path("kept")]
        outs = [self.path("out-first"), self.path("out-second")]
        for _ in range(max(self.kills // 2, 2)):
            pairs = zip(models, outs)
            processes = [self.start(self.infer(model, out, *kept)) for model, out in pairs]
            for process, out, wanted in zip(processes, outs, alone):
                text, _ = process.communicate()
                if process.returncode:
                    self.find("two decodings of one folder", text[-400:])
                elif self.said(out) != wanted:
                    self.find("two decodings of one folder", f"{out} is of the other model")

        def check():
            self.run("emissions after a kill", self.infer(models[1], outs[1], *kept))
            if self.said(outs[1]) != alone[1]:
                self.find("emissions after a kill", "are of the other model, or not whole")

        self.kill_at_random("emissions", self.infer(models[0], outs[0], *kept), check)

    def transcripts(self):
        """Two processes into one folder, and kills: in the end every text is that of its recording.
        The recordings have pauses longer than a window."""
        rng, audio = np.random.default_rng(0), self.path("recordings")
        os.makedirs(audio)
        words = [
            soundfile.read(self.path("ctc", "wav", f"{split}{index}.wav"))[0]
            for split in SPLITS
            for index in range(6)
        ]
        for number in range(24):
            parts = []
            for index in rng.permutation(len(words))[:5]:
                pause = np.zeros(int(rng.uniform(0, 30 if number % 3 == 0 else 3) * 16000))
                parts += [words[index], pause + rng.normal(0, 1e-3, len(pause))]
            soundfile.write(os.path.join(audio, f"{number:02d}.wav"), np.concatenate(parts), 16000)

        def texts(out):
            names = sorted(name for name in os.listdir(out) if name.endswith(".jsonl"))
            found = {}
            for name in names:
                if name[0] != ".":
                    with open(os.path.join(out, name)) as file:
                        found[name] = file.read()
            return found

        def call(out):
            options = ["--out", out, "--format", "jsonl", "--batch-size", "1"]
            return [command("varan-transcribe"), self.model, audio, *options]

        self.run("transcripts", call(self.path("texts")))
        wanted = texts(self.path("texts"))
        if len(wanted) != 24:
            self.find("transcripts", f"{len(wanted)} of 24")
        out = self.path("texts-2")
        for _ in range(2):
            for process in [self.start(call(out)) for _ in range(2)]:
                text, _ = process.communicate()
                if process.returncode or "Traceback" in text:
                    self.find("two transcriptions of one folder", text[-400:])
        if texts(out) != wanted:
            self.find("two transcriptions of one folder", "other texts than alone")

        def check():
            broken = {name for name, text in texts(out).items() if wanted.get(name) != text}
            if broken:
                self.find("transcripts after a kill", f"{broken} are not whole")
            for name in list(texts(out))[::2]:
                os.remove(os.path.join(out, name))  # so that the next one has something to do

        self.kill_at_random("transcripts", call(out), check)
        if self.run("transcripts", call(out)) and texts(out) != wanted:
            self.find("transcripts", "other texts after kills")

    def mounted(self):
        """Results on a disk of their own, where this user may mount one."""
        disk = self.path("disk")
        os.makedirs(disk)
        mount = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", disk]
        may = shutil.which("mount") and os.geteuid() == 0
        if not may or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
            print("a mounted folder: left out, no file system can be made here", flush=True)
            return
        try:
            script = os.path.join(REPO, "manifests", "folder.py")
            for name, arguments in (
                ("infer", self.infer(self.model, disk)),
                ("classify", [command("varan-classify"), self.classifier]
                 + [self.path("emotion"), "test", "--out", disk]),
                ("folder.py", [sys.executable, script, self.path("source"), disk]),
            ):  # fmt: skip
                arguments = list(arguments)
                self.run(f"{name} on a mounted folder", arguments)
                self.kill_at_random(f"{name} on a mounted folder", arguments, lambda: None)
            left = [name for name in os.listdir(disk) if name.endswith((".tmp", ".partial"))]
            if len(left) > 3 * self.kills:
                self.find("a mounted folder", f"left {left}")
        finally:
            subprocess.run(["umount", disk])

    def one_decoding(self, folder):
        """The scores and the hypotheses in a folder are of one model."""
        with open(os.path.join(folder, "asr.json")) as file:
            scores = json.load(file)
        again = self.path("again")
        self.run(
            "decoding again",
            [command("varan-infer"), f"task.data={self.path('ctc')}"]
            + [f"common_eval.path={scores['checkpoint']}", f"decoding.results_path={again}"],
        )
        with open(os.path.join(folder, "hypotheses.tsv")) as found:
            with open(os.path.join(again, "hypotheses.tsv")) as expected:
                if found.read() != expected.read():
                    self.find("two decodings", "hypotheses of one beside the score of the other")

    def full_disk(self):
        """A file system of 100 kB, where this user may make one."""
        small = self.path("small")
        os.makedirs(small)
        mounted = shutil.which("mount") and os.geteuid() == 0
        mounted = (
            mounted
            and not subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", small],
                stderr=subprocess.DEVNULL,
            ).returncode
        )
        if not mounted:
            print("a full disk: left out, no file system can be made here", flush=True)
            return
        try:
            export = command("varan-export")
            for name, arguments in (
                ("merge", [export, "merge", self.model, os.path.join(small, "m.pt")]),
                ("adapter", [export, "adapter", self.model, os.path.join(small, "a", "b")]),
            ):
                with open(os.path.join(small, "filler"), "wb") as file:
                    file.write(b"x" * 90000)
                text = self.run(f"{name} on a full disk", arguments, wanted=2)
                if "error:" not in text.splitlines()[-1]:
                    self.find(f"{name} on a full disk", text[-400:])
                left = [n for _, _, names in os.walk(small) for n in names if n != "filler"]
                if left:
                    self.find(f"{name} on a full disk", f"left {left}")
            print("a full disk: done", flush=True)
        finally:
            subprocess.run(["umount", small])

    def process_one(self):
        """As in a container, where every run has the number of the one that was killed."""
        alone = ["unshare", "--fork", "--pid", "--kill-child"]
        if not shutil.which("unshare") or subprocess.run([*alone, "true"]).returncode:
            print("process 1: left out, no process space can be made here", flush=True)
            return
        arguments = [*alone, command("varan-infer"), f"task.data={self.path('ctc')}"]
        arguments += [f"common_eval.path={self.model}", f"decoding.results_path={self.path('one')}"]
        self.kill_at_random("process 1", arguments, lambda: None)

    def stale(self):
        """Kills leave temporary names; the next writer of a minute later removes them."""

        def temporary():
            return [
                os.path.join(folder, name)
                for folder in (self.folder, self.path("decoded"), self.path("classified"))
                for name in os.listdir(folder)
                if name.endswith((".tmp", ".partial"))
            ]

        names = temporary()
        for name in names:
            os.utime(name, (time.time() - 3600,) * 2)
        self.run("clean-up", [command("varan-export"), "merge", self.model, self.path("last.pt")])
        self.run("clean-up", self.infer(self.model, self.path("decoded")))
        classify = [command("varan-classify"), self.classifier, self.path("emotion"), "test"]
        self.run("clean-up", [*classify, "--out", self.path("classified")])
        left = temporary()
        print(f"stale names: {len(names)} before, {len(left)} after", flush=True)
        if left:
            self.find("clean-up", f"left {left}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="varan-faults-")
    campaign = Campaign(folder, args.kills, args.seed)
    try:
        campaign.prepare()
        campaign.training()
        campaign.exports()
        campaign.decodings()
        campaign.corpora()
        campaign.pairs()
        campaign.emissions()
        campaign.transcripts()
        campaign.mounted()
        campaign.process_one()
        campaign.full_disk()
        campaign.stale()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{campaign.killed} processes killed, {campaign.finished} were faster, "
        f"{len(campaign.findings)} findings"
    )
    for finding in campaign.findings:
        print(f"  {finding}")
    return 1 if campaign.findings else 0


if __name__ == "__main__":
    sys.exit(main())
