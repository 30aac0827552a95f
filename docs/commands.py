#!/usr/bin/env python3
"""Writes docs/commands.md: what every tool says of itself.

python docs/commands.py
"""

import contextlib
import importlib
import io
import os
import sys
from unittest import mock

from varan_fairseq.runtime.files import write_lines

TOOLS = {
    "varan-check": "check",
    "varan-infer": "infer",
    "varan-transcribe": "transcribe",
    "varan-report": "report",
    "varan-layers": "layers",
    "varan-classify": "classify",
    "varan-predict": "predict",
    "varan-crossval": "crossval",
    "varan-inspect": "inspect_checkpoint",
    "varan-export": "export",
}


def help_of(module: str) -> str:
    """What `--help` prints, in 88 columns."""
    main = importlib.import_module(f"varan_fairseq.cli.{module}").main
    out = io.StringIO()
    with mock.patch.dict(os.environ, {"COLUMNS": "88"}), contextlib.redirect_stdout(out):
        with contextlib.suppress(SystemExit):
            main(["--help"])
    return out.getvalue().replace("optional arguments:", "options:").strip()


def page() -> str:
    parts = ["# Commands", "", "Made by `python docs/commands.py` from the tools themselves."]
    for name, module in TOOLS.items():
        parts += ["", f"## {name}", "", "```text", help_of(module), "```"]
    return "\n".join(line.rstrip() for part in parts for line in part.split("\n"))


if __name__ == "__main__":
    target = os.path.join(os.path.dirname(os.path.abspath(__file__)), "commands.md")
    write_lines(target, [page()])
    print(target, file=sys.stderr)
