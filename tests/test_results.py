"""The tables of README and docs are what the committed results say."""

import os
import subprocess

import pytest
import tables
from conftest import REPO


@pytest.mark.parametrize("path", tables.pages(), ids=os.path.basename)
def test_a_pages_tables_are_those_of_the_results(path):
    text = tables.read(path)
    assert tables.filled(text) == text, "run: python docs/tables.py"
    for name, _ in tables.MARKED.findall(text):
        assert tables.results(name)["command"] in " ".join(text.split())


def test_every_result_is_shown():
    files = os.listdir(os.path.join(REPO, "docs", "results"))
    shown = {
        name for path in tables.pages() for name, _ in tables.MARKED.findall(tables.read(path))
    }
    assert shown == set(tables.TABLES)
    assert sorted(files) == sorted(f"{name}.json" for name in shown - set(tables.TOGETHER))
    evidence = {
        f"evidence-{name}" for name in [*tables.EXPERIMENTS, *tables.BY_VOTE, *tables.LAYERS]
    }
    assert evidence == {name for name in shown if name.startswith("evidence-")}


def test_make_evidence_gives_every_command_of_the_results(tmp_path):
    script = os.path.join(REPO, "examples", "evidence", "all.sh")
    environment = {**os.environ, "PYTHON": "echo", "JOBS": "2"}
    said = subprocess.check_output(["bash", script], cwd=tmp_path, env=environment, text=True)
    given = {tuple(sorted(line.split())) for line in said.splitlines()}
    pages = [path for path in tables.pages() if "results" in os.path.basename(path)]
    shown = "\n".join(map(tables.read, pages)).splitlines()
    wanted = [x for x in shown if x.startswith("python ") and "layers.py" not in x]
    assert len(wanted) > len(tables.EXPERIMENTS)
    for line in wanted:
        assert tuple(sorted(["-W", "ignore", *line.split()[1:]])) in given, line


def test_a_stale_table_is_found():
    text = tables.read(os.path.join(REPO, "docs", "results.md"))
    stale = text.replace("| varan_prior | ", "| varan_prior | 1", 1)
    assert stale != text and tables.filled(stale) == text
