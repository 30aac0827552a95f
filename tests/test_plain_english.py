"""The worst patterns of clumsy English stay out of docs, docstrings, comments and messages."""

import glob
import os
import re

import pytest
from conftest import REPO

THINGS = "utterance|word|layer|line|file|recording|frame|fold|column|class|subset|speaker|seed"
# pattern -> what to write instead
PATTERNS = {
    rf"\ba (line|row|file|folder|head|label|prediction|speaker|run) an? ({THINGS})\b": "one .. per ..",
    r"(?<!there )\bis no (?!longer)": "is not a ..",
    r"\banew\b": "again",
    r"\b(goes|going|gone) on\b": "continues",
    r"\bsees to it\b": "makes sure",
    r", wanted (?!in\b|if\b|=)[a-z0-9{]": "expected",
}


FOLDERS = ["varan_fairseq", "manifests", "examples", "benchmarks", "tests", "docs"]


def files():
    found = glob.glob(os.path.join(REPO, "*.md"))
    for folder in FOLDERS:
        for ending in ("py", "md", "yaml", "sh"):
            found += glob.glob(os.path.join(REPO, folder, "**", f"*.{ending}"), recursive=True)
    assert len(found) > 200
    return [path for path in found if os.path.basename(path) != os.path.basename(__file__)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern):
    found = []
    for path in files():
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if re.search(pattern, line, flags=re.IGNORECASE):
                    found.append(f"{os.path.relpath(path, REPO)}:{number}: {line.strip()}")
    assert not found, f"write {PATTERNS[pattern]}:\n" + "\n".join(found)
