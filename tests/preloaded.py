"""Python programs in processes that begin with the large libraries loaded: importing those takes
longer than most of what a test lets a command do. Every program has a process of its own, and
this plugin is not loaded ahead.

`run` is for the tests. This file run as a program is a server: it forks a process for each line
of JSON that it reads, waits for it and answers with its exit status."""

import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
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
    program = [str(part) for part in command]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        request = {
            "program": program[1:] if program[0] == sys.executable else program,
            "cwd": str(cwd),
            "env": dict(os.environ if env is None else env),
            "files": [
                f"/proc/{os.getpid()}/fd/{f.fileno()}" for f in (out, errors)[: 1 + separate]
            ],
        }
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        status = int(server.stdout.readline())
        for file in (out, errors):
            file.seek(0)
        said = errors.read() if separate else None
        return subprocess.CompletedProcess(command, status, out.read(), said)


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
        child = os.fork()
        if not child:
            return json.loads(line)
        _, status = os.waitpid(child, 0)
        print(
            -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True
        )
    sys.exit()


def _become(program, cwd, env, files):
    """Turns this process into the program."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    opened = [os.open(file, os.O_WRONLY | os.O_APPEND) for file in files]
    os.dup2(opened[0], 1)
    os.dup2(opened[-1], 2)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = program
    sys.path[0] = os.path.dirname(os.path.abspath(program[0]))
    runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    _load()
    _become(**_serve())
