"""The campaign, files: whole or not at all, one writer at a time, nothing left behind."""

import concurrent.futures
import os
import signal
import time

import preloaded
import pytest
from faulty import read, write

from varan_fairseq.adapters.file import read_adapter, write_adapter
from varan_fairseq.cli import run
from varan_fairseq.runtime import files
from varan_fairseq.runtime.files import locked, write_lines, written, written_whole


def test_a_failure_leaves_the_old_file(tmp_path):
    path = str(tmp_path / "a")
    write(path, "old")
    with pytest.raises(ZeroDivisionError):
        write_lines(path, (str(1 / count) for count in (1, 0)))
    assert read(path) == "old" and os.listdir(str(tmp_path)) == ["a"]
    write_lines(path, ["new"])
    assert read(path) == "new\n" and os.listdir(str(tmp_path)) == ["a"]


def test_a_folder_in_the_way(tmp_path):
    os.makedirs(str(tmp_path / "a"))
    with pytest.raises(ValueError, match="a is a folder, expected the name of a file"):
        write_lines(str(tmp_path / "a"), [])
    write(tmp_path / "b", "x")
    with pytest.raises(ValueError, match="b is a file, expected a folder"):
        with written_whole(str(tmp_path / "b"), ()):
            pass
    assert sorted(os.listdir(str(tmp_path))) == ["a", "b"]


def left_behind(folder, name, age):
    path = os.path.join(str(folder), f"{name}.0123456789abcdef.tmp")
    write(path, "half")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_killed_writers_left_is_removed(tmp_path):
    import fcntl

    old = left_behind(tmp_path, "a", 120)
    young = left_behind(tmp_path, "b", 5)
    busy = left_behind(tmp_path, "c", 120)
    other = str(tmp_path / "mine.tmp")
    write(other, "x")
    os.utime(other, (0, 0))
    with open(busy) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        files._CLEANED.clear()
        write_lines(str(tmp_path / "new"), ["x"])
    assert not os.path.exists(old)
    assert os.path.exists(young) and os.path.exists(busy) and os.path.exists(other)


def test_names_of_the_same_process_number_do_not_meet(tmp_path, monkeypatch):
    """In a container every run is process 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    os.makedirs(str(tmp_path / "results.1.partial"))
    write(tmp_path / "a.1.tmp", "half")
    write_lines(str(tmp_path / "a"), ["x"])
    with written_whole(str(tmp_path / "results"), ("s",)) as partial:
        write(os.path.join(partial, "s"), "1")
    assert read(tmp_path / "a") == "x\n" and read(tmp_path / "results" / "s") == "1"


def results(folder, number, fail=False):
    with written_whole(str(folder), ("hypotheses", "score")) as partial:
        for name in ("units", "hypotheses", "score"):
            write(os.path.join(partial, name), str(number))
        if fail:
            raise ZeroDivisionError


def test_a_folder_is_replaced_as_one(tmp_path):
    folder = tmp_path / "out"
    results(folder, 1)
    write(folder / "users own", "kept")
    with pytest.raises(ZeroDivisionError):
        results(folder, 2, fail=True)
    assert read(folder / "score") == read(folder / "hypotheses") == "1"
    results(folder, 3)
    assert read(folder / "score") == read(folder / "hypotheses") == read(folder / "units") == "3"
    assert read(folder / "users own") == "kept" and os.listdir(str(tmp_path)) == ["out"]


def test_a_reader_never_sees_a_score_of_other_hypotheses(tmp_path, monkeypatch):
    """Looked at between any two steps of a replacement."""
    folder, seen = tmp_path / "out", []
    results(folder, 1)

    def look(real):
        def step(*arguments):
            real(*arguments)
            names = [n for n in os.listdir(str(folder)) if os.path.isfile(str(folder / n))]
            there = {n: read(folder / n) for n in names}
            seen.append(there)
            if "score" in there:
                assert set(there.values()) == {there["score"]} and len(there) == 3

        return step

    monkeypatch.setattr(os, "replace", look(os.replace))
    monkeypatch.setattr(files, "_remove", look(files._remove))
    results(folder, 2)
    assert len(seen) >= 4 and seen[-1]["score"] == "2"


WRITER = """
import sys
from varan_fairseq.runtime.files import written_whole
folder, number = sys.argv[1:]
for _ in range(40):
    with written_whole(folder, ("hypotheses", "score")) as partial:
        for name in ("units", "hypotheses", "score"):
            with open(f"{partial}/{name}", "w") as file:
                file.write(number)
"""


def test_two_processes_on_one_folder(tmp_path):
    folder = tmp_path / "out"
    program = tmp_path / "writer.py"
    program.write_text(WRITER)
    processes = [preloaded.start([program, folder, number], tmp_path) for number in "12"]
    assert [process.wait() for process in processes] == [0, 0]
    contents = {read(folder / name) for name in ("units", "hypotheses", "score")}
    assert len(contents) == 1 and sorted(os.listdir(str(tmp_path))) == ["out", "writer.py"]


def test_two_exports_into_one_folder(adapter, tmp_path):
    found, folder = read_adapter(adapter), str(tmp_path / "a")
    metadata = {key: value for key, value in found.metadata.items() if key != "weights"}
    others = {name: tensor * 0.5 for name, tensor in found.tensors.items() if "lora" in name}

    def export(index):
        write_adapter(folder, metadata, {**found.tensors, **(others if index % 2 else {})})

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(export, range(40)))
    read_adapter(folder)
    assert len(os.listdir(folder)) == 2


def test_a_lock_is_waited_for(tmp_path):
    order = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with locked(str(tmp_path)):

            def other():
                with locked(str(tmp_path)):
                    order.append("second")

            waiting = pool.submit(other)
            time.sleep(0.2)
            order.append("first")
        waiting.result(10)
    assert order == ["first", "second"]


STOPPED = """
import sys, time
from varan_fairseq.cli import run
from varan_fairseq.runtime.files import written, written_whole
def work(argv):
    with written_whole(argv[0], ()) as partial, written(argv[0] + ".txt") as name:
        print("ready", flush=True)
        time.sleep(60)
sys.exit(run("tool", work, sys.argv[1:]))
"""


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_tool_cleans_up(tmp_path, number, code):
    program = tmp_path / "stopped.py"
    program.write_text(STOPPED)
    process = preloaded.start([program, tmp_path / "out"], tmp_path, separate=True)
    while process.said()[0] != "ready\n":
        assert process.poll() is None, process.said()
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait() == code and process.said()[1].endswith("tool: stopped\n")
    assert os.listdir(str(tmp_path)) == ["stopped.py"]


def test_errors_cannot_steer_a_terminal(capsys):
    def work(argv):
        raise ValueError("a file \x1b[2J of somebody's")

    assert run("tool", work, []) == 2
    assert capsys.readouterr().err == "tool: error: a file \\x1b[2J of somebody's\n"


def test_files_are_on_the_disk_before_they_have_their_name(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(files, "_to_disk", lambda path: order.append("disk"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("name"), replace(a, b)))
    for durable in (True, False):
        with written(str(tmp_path / "a"), durable) as temporary:
            write(temporary, "x")
    assert order == ["disk", "name", "name"]
