"""Python programs in processes that begin with the large libraries loaded: importing those takes
longer than most of what a test lets a command do. Every program has a process of its own, and
this plugin is not loaded ahead.

`run`, `start` and `in_two` are for the tests. This file run as a program is a server: a line of
JSON asks it to fork a process or for the status of one."""

import contextlib
import functools
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import warnings

LIBRARIES = [
    "torch._dynamo",  # optimizers import it
    "fairseq.tasks",
    "hydra",
    "scipy.signal",
    "sklearn.utils",  # fairseq main imports it
    "soundfile",
]


def run(command, cwd, separate=False, env=None):
    """As subprocess.run of [sys.executable,] a Python program and its arguments, with texts: stderr
    is in stdout unless they are to be separate."""
    process = start(command, cwd, separate, env)
    status = process.wait()
    return subprocess.CompletedProcess(command, status, *process.said())


def start(command, cwd, separate=False, env=None):
    """The same as it begins: much of a subprocess.Popen."""
    return _Process([str(part) for part in command], cwd, separate, env)


def in_two(worker, *arguments):
    """worker(rank, *arguments) in two processes at once, whose failures are this one's."""
    import torch

    multiprocessing.set_forkserver_preload(LIBRARIES)
    torch.multiprocessing.start_processes(worker, arguments, 2, start_method="forkserver")


class _Process:
    def __init__(self, program, cwd, separate, env):
        self.files = [tempfile.TemporaryFile("w+") for _ in range(1 + separate)]
        self.returncode = None
        request = {
            "program": program[1:] if program[0] == sys.executable else program,
            "cwd": str(cwd),
            "env": dict(os.environ if env is None else env),
            "files": [f"/proc/{os.getpid()}/fd/{file.fileno()}" for file in self.files],
        }
        self.pid = _ask(request)

    def poll(self, options=os.WNOHANG):
        if self.returncode is None:
            self.returncode = _ask({"pid": self.pid, "options": options})
        return self.returncode

    def wait(self):
        return self.poll(0)

    def send_signal(self, number):
        os.kill(self.pid, number)

    def said(self):
        """(stdout, stderr) so far; no stderr if it is not separate."""
        for file in self.files:
            file.seek(0)
        texts = [file.read() for file in self.files]
        return texts[0], (texts[1] if len(texts) == 2 else None)


def _ask(request):
    server = _server()
    server.stdin.write(json.dumps(request) + "\n")
    return json.loads(server.stdout.readline())


@functools.lru_cache(None)
def _server():
    """This process's; it ends when this process does, for then its input does."""
    return subprocess.Popen(
        [sys.executable, os.path.abspath(__file__)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        universal_newlines=True,
        bufsize=1,
    )


def _load():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in LIBRARIES:
            with contextlib.suppress(ImportError):  # of another lane
                importlib.import_module(name)
    gc.freeze()  # a child would copy each page that its collector looks at


def _serve():
    """Returns in the children alone: what each is to do."""
    for line in sys.stdin:
        request = json.loads(line)
        if "pid" in request:
            answer = _status(**request)
        else:
            answer = os.fork()
            if not answer:
                return request
        print(json.dumps(answer), flush=True)
    sys.exit()


def _status(pid, options):
    """As Popen.returncode has it; None while it runs."""
    ended, status = os.waitpid(pid, options)
    if not ended:
        return None
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _become(program, cwd, env, files):
    """Turns this process into the program."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    opened = [os.open(file, os.O_WRONLY | os.O_APPEND) for file in files]
    os.dup2(opened[0], 1)
    os.dup2(opened[-1], 2)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # of a background job, it is ignored
    sys.argv = program
    sys.path[0] = os.path.dirname(os.path.abspath(program[0]))
    runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    _load()
    _become(**_serve())
