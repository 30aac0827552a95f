"""docs/commands.md is what the tools say, and every tool is in it and installed."""

import glob
import importlib
import logging
import os
import re
import runpy
import subprocess
import sys

import pytest
from conftest import REPO

import varan_fairseq
from varan_fairseq.cli import inspect_checkpoint, layers


def test_the_command_reference_is_the_tools_own():
    commands = runpy.run_path(os.path.join(REPO, "docs", "commands.py"))
    with open(os.path.join(REPO, "setup.py")) as file:
        installed = re.findall(r'"(varan-\w+)=varan_fairseq\.cli\.(\w+):main"', file.read())
    assert dict(installed) == commands["TOOLS"]
    if sys.version_info[:2] != (3, 11):
        pytest.skip("argparse breaks lines in another way in other versions of Python")
    with open(os.path.join(REPO, "docs", "commands.md"), encoding="utf-8") as file:
        assert file.read() == commands["page"]() + "\n", "run python docs/commands.py"


def test_every_tool_tells_its_version(capsys):
    commands = runpy.run_path(os.path.join(REPO, "docs", "commands.py"))
    for tool, module in commands["TOOLS"].items():
        parser = importlib.import_module(f"varan_fairseq.cli.{module}").parser()
        with pytest.raises(SystemExit) as stop:
            parser.parse_args(["--version"])
        assert stop.value.code == 0
        assert capsys.readouterr().out == f"{tool} {varan_fairseq.__version__}\n"


def test_quiet(caplog, capsys, wav2vec2):
    """No lines of ours below a warning; levels are put back."""
    logger = logging.getLogger("varan_fairseq")
    before = logger.level
    assert inspect_checkpoint.main(["-q", wav2vec2]) == 0
    assert capsys.readouterr().out.startswith(wav2vec2) and not caplog.records
    assert logger.level == before


def test_helps_name_defaults():
    text = layers.parser().format_help()
    assert "samples a batch (default: 4000000)" in " ".join(text.split())
    assert "default: None" not in text and "default: False" not in text


def test_what_is_installed(tmp_path):
    """A wheel has all that the tools read, and recipes and corpus scripts beside it."""
    pytest.importorskip("setuptools")
    build = ["build", "--build-base", tmp_path / "base", "--build-lib", tmp_path / "lib"]
    subprocess.run(
        [sys.executable, "setup.py", "-q", *build], cwd=REPO, check=True, capture_output=True
    )
    package = tmp_path / "lib" / "varan_fairseq"
    for folder, pattern in (
        ("varan_fairseq", "**/*.*"),
        ("examples", "*.yaml"),
        ("manifests", "*.py"),
    ):
        source = os.path.join(REPO, folder)
        files = glob.glob(os.path.join(source, pattern), recursive=True)
        files = [os.path.relpath(path, source) for path in files if "__pycache__" not in path]
        inside = package if folder == "varan_fairseq" else package / folder
        assert files and [path for path in files if not (inside / path).is_file()] == []
    for what, folder in (("recipes", "examples"), ("manifests", "manifests")):
        for place in (str(package), os.path.join(REPO, "varan_fairseq")):
            program = [sys.executable, os.path.join(place, "__main__.py"), what]
            printed = subprocess.check_output(program, text=True).strip()
            beside = place if place == str(package) else REPO
            assert os.path.realpath(printed) == os.path.realpath(os.path.join(beside, folder))


def test_another_folder_than_there_is():
    program = [sys.executable, os.path.join(REPO, "varan_fairseq", "__main__.py"), "x"]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "python -m varan_fairseq x: expected nothing, or recipes or manifests\n"
