"""docs/commands.md is what the tools say, and every tool is in it and installed."""

import os
import re
import runpy
import sys

import pytest
from conftest import REPO


def test_the_command_reference_is_the_tools_own():
    commands = runpy.run_path(os.path.join(REPO, "docs", "commands.py"))
    with open(os.path.join(REPO, "setup.py")) as file:
        installed = re.findall(r'"(varan-\w+)=varan_fairseq\.cli\.(\w+):main"', file.read())
    assert dict(installed) == commands["TOOLS"]
    if sys.version_info[:2] != (3, 11):
        pytest.skip("argparse breaks lines in another way in other versions of Python")
    with open(os.path.join(REPO, "docs", "commands.md"), encoding="utf-8") as file:
        assert file.read() == commands["page"]() + "\n", "run python docs/commands.py"
