"""docs/doors.md, command by command."""

import os
import re
import sys

from conftest import REPO, command, shell

PAGE = os.path.join(REPO, "docs", "doors.md")


def test_every_command_of_the_page(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    with open(PAGE, encoding="utf-8") as file:
        text = file.read()
    blocks = re.findall(r"^```(bash|python)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert [kind for kind, _ in blocks].count("bash") == 5
    said = []
    for number, (kind, block) in enumerate(blocks):
        block = block.replace("$PWD/work/doors", "work/doors").replace("work/doors", str(tmp_path))
        if kind == "python":
            program = tmp_path / f"block{number}.py"
            program.write_text(block)
            said.append(shell(sys.executable, program))
            continue
        for line in block.replace("\\\n", " ").strip().split("\n"):
            name, *arguments = line.split()
            first = [sys.executable] if name == "python" else [command(name)]
            said.append(shell(*first, *arguments))
    said = "\n".join(said)
    assert "loaded by transformers" in said and "ONNX Runtime's log-probabilities differ" in said
    assert "{'text': " in said
