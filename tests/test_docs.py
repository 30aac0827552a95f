"""What README and docs refer to is there."""

import glob
import os
import re

import pytest
from conftest import REPO
from tables import pages, read

PAGES = pages()


def anchors(text):
    """Of the headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=os.path.basename)
def test_links(path):
    links = re.findall(r"\]\(([^)\s]+)\)", read(path))
    for link in links:
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        target = os.path.join(os.path.dirname(path), target) if target else path
        assert os.path.exists(target), link
        assert not anchor or anchor in anchors(read(target)), link


OVERLAYS = sorted(glob.glob(os.path.join(REPO, "examples", "cluster", "*.yaml")))


@pytest.mark.parametrize("path", PAGES + OVERLAYS, ids=os.path.basename)
def test_recipes(path):
    recipes = glob.glob(os.path.join(REPO, "examples", "**", "*.yaml"), recursive=True)
    names = {os.path.basename(recipe)[: -len(".yaml")] for recipe in recipes}
    assert set(re.findall(r"--config-name ([a-z]\w+)", read(path))) <= names


def test_the_readme_is_short():
    text = read(PAGES[0])
    assert text.count("\n") <= 150
    first = "\n".join(text.split("\n")[:30])
    for command in ("pip install", "fairseq-hydra-train", "varan-infer"):
        assert command in first
