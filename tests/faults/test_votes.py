"""How the layers voted on an utterance: varan-layers --vote, and its table in varan-report."""

import csv
import html

import pytest
from fairseq.data.data_utils import post_process as fairseq_post_process
from faulty import decode, read, tool

from varan_fairseq.cli import layers, report
from varan_fairseq.finetuned.labelled import load_transcribed
from varan_fairseq.finetuned.load import load_model
from varan_fairseq.method import vote
from varan_fairseq.report.votes import layer_votes


@pytest.fixture(scope="module", autouse=True)
def heads_that_agree():
    """After three updates heads share few labels; here they vote all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vote, "_AGREE", 0.0)
        yield


@pytest.fixture(scope="module")
def shown(ctc, tmp_path_factory):
    """(printed, rows of the table) of the utterance that the vote corrected most."""
    out = tmp_path_factory.mktemp("vote") / "vote"
    code, text, error = tool(layers.main, ctc.checkpoint, ctc.data, "test", "--vote", "--out", out)
    assert code == 0, error
    with open(f"{out}.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    with open(f"{out}.png", "rb") as picture:
        assert picture.read(4) == b"\x89PNG"
    return text, rows


def test_votes_add_up_and_the_result_is_what_is_decoded(ctc, shown, tmp_path):
    text, (heading, *of_layers, result) = shown
    assert heading[:3] == ["layer", "q", "reads"] and result[0] == "vote"
    assert [row[0] for row in of_layers] == ["1", "2", "3"]
    assert sum(float(row[1]) for row in of_layers) == pytest.approx(1, abs=1e-5)
    assert len(heading) > 3, "these heads agree on everything: another seed"
    for column in range(3, len(heading)):
        gain, fate = result[column].split()
        total = sum(float(row[column]) for row in of_layers)
        assert total == pytest.approx(float(gain), abs=2e-3)
        assert fate == "out" or float(gain) > 0
    name = text.split("\n")[0]
    out = f"decoding.results_path={tmp_path}/out"
    assert decode(ctc, f"task.data={ctc.data}", out, "--combine", "vote")[0] == 0
    with open(tmp_path / "out" / "hypotheses.tsv", encoding="utf-8", newline="") as file:
        table = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        heard = {row[0]: row[-1] for row in table}
    assert heard[name].split() == result[2].split()


def test_an_utterance_by_name(ctc, tmp_path):
    command = [layers.main, ctc.checkpoint, ctc.data, "test", "--vote", "--out", tmp_path / "one"]
    first = read(f"{ctc.data}/test.tsv").split("\n")[1].split("\t")[0]
    code, text, error = tool(*command, "--utterance", first)
    assert code == 0, error
    assert text.startswith(f"{first}\n") and "said:" in text
    code, _, error = tool(*command, "--utterance", "gone.wav")
    assert code == 2 and "--utterance gone.wav: test.tsv has no such path" in error


def test_heads_that_have_learned_nothing_do_not_vote(ctc, tmp_path, monkeypatch):
    monkeypatch.setattr(vote, "_AGREE", 1.1)
    command = [layers.main, ctc.checkpoint, ctc.data, "test", "--vote", "--out", tmp_path / "one"]
    code, _, error = tool(*command)
    assert code == 2 and "the layers have too few labels in common to vote on" in error


@pytest.mark.parametrize(
    "options, words",
    [
        (["--vote", "--curve"], "--curve and --vote: give one of them"),
        (["--by-class", "--vote"], "--by-class and --vote: give one of them"),
        (["--utterance", "x"], "--utterance is for --vote"),
    ],
)
def test_options_that_contradict_each_other(options, words):
    code, _, error = tool(layers.main, "none.pt", "none", "test", *options)
    assert code == 2 and words in error


def test_the_report_shows_the_votes_of_the_worst(ctc, shown, tmp_path):
    page = tmp_path / "page.html"
    command = [report.main, ctc.checkpoint, ctc.data, "test", "--out", page]
    assert tool(*command)[0] == 0
    text = read(page)
    assert text.count("<details>") == text.count('<div class="utterance">') > 0
    name = shown[0].split("\n")[0]
    block = text[text.index(f"<strong>{name}</strong>") :].split("</details>")[0]
    assert block.count("<tr><td>") == 3, "one row per layer"
    assert f"<td>{html.escape(shown[1][-1][2])}</td>" in block
    assert tool(*command, "--combine", "consensus")[0] == 0
    assert "<details>" not in read(page), "no vote, nothing to show"


@pytest.mark.parametrize("weight", [0.0, -3.0])
def test_the_weight_of_the_blank_counts(ctc, weight):
    """What is shown is what the model predicts, whatever its options."""
    overrides = {"combine": "vote", "blank_weight": weight}
    model, cfg, task = load_model(ctc.checkpoint, overrides, ctc.data)
    split = load_transcribed(model, cfg, task, "test")
    dataset = task.dataset("test")
    for row in range(len(dataset)):
        inputs = dataset.collater([dataset[row]])["net_input"]
        path = model.get_logits(model(**inputs)).argmax(-1)[:, 0].unique_consecutive()
        text = task.target_dictionary.string(path[path != model.blank].tolist())
        shown = layer_votes(model, task, "test", row, split.post_process)
        assert shown.result == fairseq_post_process(text, split.post_process)
