"""docs/commands.md is what the tools say, and every tool is in it and installed."""

import importlib
import logging
import os
import re
import runpy
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
