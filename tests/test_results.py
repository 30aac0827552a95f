"""The tables of README and docs are what the committed results say."""

import json
import os

import beams
import compare
import depth
import emotion
import first_hour
import posterior
import pytest
import rules
from conftest import REPO
from measure import markdown

SHOWN = [
    ("demo", compare.table, "README.md"),
    ("demo-emotion", emotion.table, "README.md"),
    ("lora-digits", compare.table, "docs/lora.md"),
    ("lora-human", compare.table, "docs/lora.md"),
    ("posterior", posterior.table, "docs/posterior.md"),
    ("combine", rules.table, "docs/combine.md"),
    ("beams", beams.table, "docs/combine.md"),
    ("decoding", markdown, "docs/decoding.md"),
    ("word-times", markdown, "docs/long-audio.md"),
    ("long-audio", markdown, "docs/long-audio.md"),
    ("confidence-exit", markdown, "docs/scale.md"),
    ("depth", depth.table, "README.md"),
    ("corpora", markdown, "docs/language.md"),
    ("first-hour", first_hour.table, "docs/first-hour.md"),
]


@pytest.mark.parametrize("name, table, page", SHOWN, ids=[name for name, _, _ in SHOWN])
def test_tables(name, table, page):
    with open(os.path.join(REPO, "docs", "results", f"{name}.json"), encoding="utf-8") as file:
        results = json.load(file)
    with open(os.path.join(REPO, page), encoding="utf-8") as file:
        text = file.read()
    lines = [line for line in table(results["rows"]) if line]
    assert len(lines) > 2
    for line in lines:
        assert line in text
    assert results["command"] in " ".join(text.split())


def test_every_result_is_shown():
    files = os.listdir(os.path.join(REPO, "docs", "results"))
    assert sorted(files) == sorted(f"{name}.json" for name, _, _ in SHOWN)
