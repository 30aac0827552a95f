"""Every line of docs/how-to.md composes with a recipe, by fairseq's own command."""

import os
import re

import pytest
from conftest import REPO, command, shell
from omegaconf import OmegaConf

with open(os.path.join(REPO, "docs", "how-to.md"), encoding="utf-8") as file:
    ROWS = re.findall(r"^\| [^|`]+ \| `(.*)` \|$", file.read(), flags=re.MULTILINE)


def test_there_are_rows():
    assert len(ROWS) >= 15


@pytest.fixture(scope="module")
def composed():
    """The recipe with all rows, each of which asks for keys of its own but for those named twice."""
    keys = {}
    for override in " ".join(ROWS).split():
        keys.setdefault(override.split("=")[0], override)
    printed = shell(
        command("fairseq-hydra-train"),
        *("--config-dir", "examples", "--config-name", "hubert_base_libri_100h"),
        *("--cfg", "job", "task.data=.", "model.w2v_path=x.pt", *keys.values()),
    )
    start = printed.index("_name:") if printed.startswith("_name") else printed.index("common:")
    return OmegaConf.create(printed[start:]), keys


@pytest.mark.parametrize("row", ROWS)
def test_a_row_says_existing_keys(row, composed):
    cfg, keys = composed
    for override in row.split():
        key, _, value = keys[override.split("=")[0]].lstrip("+").partition("=")
        found = OmegaConf.select(cfg, key)
        assert str(found).lower() == str(OmegaConf.create({"x": value}).x).lower() or (
            value.startswith("[") and OmegaConf.to_container(found) == [int(value[1:-1])]
        ), override
