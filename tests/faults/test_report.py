"""varan-report: the page says what the other tools say, and a real browser opens it."""

import html
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from faulty import copy, decode, edit, read, tool, write

import varan_fairseq
from varan_fairseq.cli import classify, infer, report
from varan_fairseq.report import write as write_module
from varan_fairseq.report.log import read_log
from varan_fairseq.report.summary import groups_of_length, groups_of_names

LOG = """\
[2026-01-01 10:00:00][fairseq.trainer][INFO] - begin training epoch 1
[2026-01-01 10:00:01][train_inner][INFO] - {"epoch": 1, "update": 0.5, "loss": "2.5", "expected_nll": "2.4", "posterior_01": "0.2", "posterior_02": "0.8", "num_updates": "10"}
[2026-01-01 10:00:02][train_inner][INFO] - {"epoch": 1, "update": 0.9, "loss": "1.5", "expected_nll": "1.4", "posterior_01": "0.3", "posterior_02": "0.7", "num_updates": "20"}
[2026-01-01 10:00:03][valid][INFO] - {"epoch": 1, "valid_loss": "1.2", "valid_wer": "50.5", "valid_num_updates": "20"}
"""
SIMPLE = """\
2026-01-01 10:00:01 | INFO | train_inner | epoch 001:     10 / 99 loss=2.5, expected_nll=2.4, posterior_01=0.2, posterior_02=0.8, num_updates=10, lr=0.002
2026-01-01 10:00:02 | INFO | train_inner | epoch 001:     20 / 99 loss=1.5, expected_nll=1.4, posterior_01=0.3, posterior_02=0.7, num_updates=20, lr=0.002
2026-01-01 10:00:03 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 1.2 | wer 50.5 | num_updates 20
"""


@pytest.fixture(scope="module")
def page(ctc, tmp_path_factory):
    """(data, HTML, its path) of a split with speakers and with a hostile name."""
    folder = tmp_path_factory.mktemp("report")
    data = copy(ctc.data, folder / "data")
    name = "test<b>&\"'0.wav"
    shutil.copy(os.path.join(ctc.data, "wav", "test0.wav"), os.path.join(ctc.data, "wav", name))
    edit(f"{data}/test.tsv", lambda text: text.replace("test0.wav", name))
    write(f"{data}/test.spk", "<i>a\n<i>a\nb\nb\nc\nc\n")
    write(folder / "log", LOG)
    out = str(folder / "page.html")
    code, text, error = tool(
        report.main, ctc.checkpoint, data, "test", "--out", out, "--log", folder / "log"
    )
    assert code == 0, error
    return data, read(out), out


def test_the_page_says_what_varan_infer_says(ctc, page, tmp_path):
    data, text, _ = page
    assert decode(ctc, f"task.data={data}", f"decoding.results_path={tmp_path}/out")[0] == 0
    scores = json.loads(read(tmp_path / "out" / "asr.json"))
    assert f"WER {scores['wer']:.2f}%" in text
    low, high = scores["wer_interval"]
    assert f"{low:.2f} - {high:.2f}" in text and "over the 3 speakers" in text
    for row in read(tmp_path / "out" / "alignment.txt").split("\n\n"):
        found = re.match(r"(.*): (\d+ errors in \d+ words)", row)
        if found and not found[2].startswith("0 "):
            assert f"<strong>{html.escape(found[1], quote=False)}</strong>" in text.replace(
                "&#34;", '"'
            ).replace("&#39;", "'")
            assert found[2] in text


def test_each_layer_alone(ctc, page, tmp_path, monkeypatch):
    """The curve is that of `varan-infer --layer`."""
    data = page[0]
    seen = {}
    monkeypatch.setattr(
        write_module, "sections", lambda plt, summary, *rest: seen.update(summary=summary) or []
    )
    arguments = [ctc.checkpoint, data, "test", "--out", str(tmp_path / "page.html")]
    assert tool(report.main, *arguments)[0] == 0
    for layer, rate in enumerate(seen["summary"].rates, start=1):
        out = f"decoding.results_path={tmp_path}/{layer}"
        assert decode(ctc, f"task.data={data}", out, "--layer", layer)[0] == 0
        assert json.loads(read(tmp_path / str(layer) / "asr.json"))["wer"] == rate
    model = varan_fairseq.load(ctc.checkpoint)
    path = os.path.join(ctc.data, "wav", "test3.wav")
    np.testing.assert_allclose(seen["summary"].posterior[3], model.layer_posterior(path), atol=1e-4)


def test_nothing_is_loaded_and_nothing_runs_that_is_not_ours(page):
    text = page[1]
    sources = re.findall(r'(?:src|href|xlink:href|url)\s*=\s*["\']([^"\']*)', text)
    assert sources and all(each.startswith(("data:", "#")) for each in sources)
    assert not re.search(r"@import|url\((?!#)", text)
    assert text.count("<script") == 1 and "<i>a" not in text and "test<b>" not in text
    for title in (
        "Each layer alone",
        "WER by length",
        "WER by speaker",
        "What was heard for what",
        "All utterances",
        "Training",
        "The worst utterances",
    ):
        assert title in text


FRAME = """<body><iframe id="frame" src="{page}" style="width:{width}px;height:800px"></iframe>
<script>
frame.onload = () => {{
  const page = frame.contentDocument, data = document.body.dataset, shown = page.documentElement;
  data.fits = shown.scrollWidth <= shown.clientWidth;
  const rows = page.querySelector("#utterances tbody").rows;
  const column = name => [...page.querySelectorAll("th button")].findIndex(b => b.textContent === name);
  const values = name => [...rows].map(row => row.cells[column(name)].textContent).join(" ");
  page.querySelectorAll("th button")[column("seconds")].click();
  data.longest = values("seconds");
  const search = page.querySelector("input");
  search.value = "TEST1.wav";
  search.dispatchEvent(new Event("input"));
  data.found = page.getElementById("found").textContent;
}};
</script></body>"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A page's document as Chromium has it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((shutil.which(name) for name in names if shutil.which(name)), None)
    if program is None:
        assert not os.environ.get("CI"), "CI has a browser: see .ci/run"
        pytest.skip("no Chromium here")
    profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"

    def browse(path, *options):
        headless = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
        return subprocess.run(
            [program, *headless, profile, *options, f"file://{path}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=120,
        ).stdout

    return browse


def test_a_real_browser_opens_it(page, browser, tmp_path):
    document = browser(page[2], "--virtual-time-budget=20000", "--dump-dom")
    count = page[1].count("<audio ")
    assert count and f'data-playable="{count} of {count}"' in document
    assert document.count('<svg role="img" aria-label=') == document.count("<svg") >= 7
    picture = str(tmp_path / "page.png")
    browser(page[2], "--window-size=1400,2000", f"--screenshot={picture}")
    from matplotlib import pyplot as plt

    pixels = plt.imread(picture)
    assert pixels.shape[:2] == (2000, 1400) and pixels.std() > 0.05


@pytest.mark.parametrize("width", [390, 1400])
def test_at_the_width_of_a_telephone_and_of_a_desk(page, browser, tmp_path, width):
    """Nothing hangs out; the table is sorted and searched."""
    write(tmp_path / "frame.html", FRAME.format(page=page[2], width=width))
    document = browser(tmp_path / "frame.html", "--virtual-time-budget=20000", "--dump-dom")
    assert 'data-fits="true"' in document
    seconds = re.search('data-longest="(.*?)"', document)[1].split()
    assert len(seconds) == 6 and seconds == sorted(seconds, key=float, reverse=True)
    assert 'data-found="1 of 6"' in document


def test_facts_and_the_table_of_all_utterances(ctc, page):
    text = page[1]
    for fact in ("encoder", "what trained", "objective", "learning rate", "updates", "made"):
        assert f"<tr><th>{fact}</th><td>" in text, fact
    assert f"by varan_fairseq {varan_fairseq.__version__}, fairseq " in text
    body = text[text.index("<tbody>") : text.index("</tbody>")]
    rows = [re.findall("<td>(.*?)</td>", row) for row in body.split("<tr>")[1:]]
    assert [row[0] for row in rows[1:]] == [f"test{index}.wav" for index in range(1, 6)]
    summed = sum(int(row[2]) for row in rows) / sum(int(row[3]) for row in rows)
    assert f"WER {100 * summed:.2f}%" in text
    model = varan_fairseq.load(ctc.checkpoint)
    for row in rows[1:]:
        heard = model.transcribe(os.path.join(ctc.data, "wav", row[0]))
        assert html.unescape(row[-1]) == heard and 0 < float(row[5]) <= 1
    assert {row[-3] for row in rows} == {"&lt;i&gt;a", "b", "c"}


def test_two_runs(ctc, page, tmp_path):
    other = ctc.train(out=str(tmp_path / "run"), model={"aggregation": "weighted_sum"})
    out = tmp_path / "page.html"
    code, text, error = tool(report.main, ctc.checkpoint, other, page[0], "test", "--out", out)
    assert code == 0 and "B - A is" in text, error
    found = read(out)
    values = []
    for path in (ctc.checkpoint, other):
        folder = tmp_path / f"alone{len(values)}"
        alone = (f"common_eval.path={path}", f"task.data={page[0]}", "dataset.gen_subset=test")
        alone += ("dataset.num_workers=0",)
        assert tool(infer.main, *alone, f"decoding.results_path={folder}")[0] == 0
        values.append(json.loads(read(folder / "asr.json"))["wer"])
        assert f"<td>{values[-1]:.2f}% (" in found
    assert f"B - A is {values[1] - values[0]:+.2f} points" in text
    assert "Where they differ most" in found and '<button type="button">B - A</button>' in found


def test_two_runs_that_cannot_be_compared(ctc, emotion, tmp_path):
    two = [ctc.checkpoint, ctc.checkpoint]
    for arguments, expected in (
        ([*two, ctc.checkpoint], "3 checkpoints: expected one, or two to compare"),
        ([*two], None),
    ):
        code, _, error = tool(report.main, *arguments, ctc.data, "test", "--log", "x")
        assert code == 2 and (expected or "--log x: expected with one checkpoint") in error


def test_a_baseline_has_no_layers_to_show(ctc, tmp_path, page):
    out = ctc.train(out=str(tmp_path / "run"), model={"aggregation": "weighted_sum"})
    code, text, error = tool(
        report.main, out, page[0], "test", "--out", tmp_path / "page.html", "--worst", "0"
    )
    assert code == 0, error
    text = read(tmp_path / "page.html")
    assert "Each layer alone" not in text and "Layers that" not in text
    assert "<audio" not in text and "WER by length" in text


def test_a_classifiers_page_says_what_varan_classify_says(emotion, tmp_path):
    data = copy(emotion.data, tmp_path / "data")
    names = [line.split("\t")[0] for line in read(f"{data}/test.tsv").splitlines()[1:]]
    write(f"{data}/test.spk", "".join(f"{index % 2}\n" for index in range(len(names))))
    out = tmp_path / "page.html"
    code, text, error = tool(
        report.main, emotion.checkpoint, data, "test", "--out", out, "--worst", "99"
    )
    assert code == 0, error
    page = read(out)

    def classified(*options):
        folder = str(tmp_path / "-".join(["out", *options]))
        arguments = [emotion.checkpoint, data, "test", "--out", folder, *options]
        assert tool(classify.main, *arguments)[0] == 0
        return json.loads(read(f"{folder}/scores.json")), read(f"{folder}/utterances.tsv")

    scores, table = classified()
    low, high = scores["accuracy_interval"]
    assert low <= scores["accuracy"] <= high
    assert f"accuracy {scores['accuracy']:.2f}%" in text and text.split()[1] in page
    assert f"{low:.2f} - {high:.2f}" in page and "over the 2 speakers" in page
    for title in ("What was taken for what", "accuracy by class", "accuracy by length"):
        assert f"<h2>{title}</h2>" in page
    rows = [line.split("\t") for line in table.splitlines()[1:]]
    wrong = {row[0] for row in rows if row[1] != row[2]}
    assert wrong and set(re.findall(r"<strong>(.*?)</strong>", page)) == wrong
    alone = [classified("--layer", str(layer))[0]["accuracy"] for layer in (1, 2, 3)]
    best = max(alone)
    assert f"Best alone: layer {alone.index(best) + 1} with {best:.2f}%" in page


def test_a_classifier_needs_labels(emotion, tmp_path):
    data = copy(emotion.data, tmp_path / "data")
    os.remove(f"{data}/test.emo")
    code, _, error = tool(report.main, emotion.checkpoint, data, "test")
    assert code == 2 and "test.emo" in error and error.count("\n") == 1, error


def test_logs_in_both_formats(tmp_path):
    write(tmp_path / "json", LOG)
    write(tmp_path / "simple", SIMPLE)
    expected = read_log(str(tmp_path / "json"))
    titles = [title for title, _ in expected]
    assert titles == ["loss of training (bits)", "mean weight of each layer", "validation (%)"]
    assert expected[0][1]["loss"] == [(10, 2.5), (20, 1.5)]
    assert expected[1][1] == {
        "posterior_01": [(10, 0.2), (20, 0.3)],
        "posterior_02": [(10, 0.8), (20, 0.7)],
    }
    assert expected[2][1] == {"wer": [(20, 50.5)]}
    assert read_log(str(tmp_path / "simple")) == expected
    for each in ("json", "simple"):  # a validation has its subset's name
        text = read(tmp_path / each).replace("valid_", "dev_other_").replace("valid", "dev_other")
        write(tmp_path / "other", text)
        assert read_log(str(tmp_path / "other"))[:-1] == expected[:-1]
        assert read_log(str(tmp_path / "other"))[2][1] == {"wer (dev_other)": [(20, 50.5)]}
    # another run in the same file: the last one counts
    write(tmp_path / "twice", LOG + LOG.replace("2.5", "9.5"))
    assert read_log(str(tmp_path / "twice"))[0][1]["loss"] == [(10, 9.5), (20, 1.5)]


def test_a_log_of_fairseqs(ctc, tmp_path, caplog):
    """What a training writes today is what is read."""
    import logging

    handler = logging.FileHandler(str(tmp_path / "log"))
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        with caplog.at_level(logging.INFO):
            ctc.train(out=str(tmp_path / "run"), common={"log_format": "json", "log_interval": 1})
    finally:
        logging.getLogger().removeHandler(handler)
    titles = [title for title, _ in read_log(str(tmp_path / "log"))]
    assert titles[:3] == [
        "loss of training (bits)",
        "posterior (bits)",
        "mean weight of each layer",
    ]


ARGUMENTS = {
    "log": (["--log", "{file}"], "file has no lines of a fairseq training"),
    "no log": (["--log", "gone"], "gone"),
    "worst": (["--worst", "-1"], "--worst -1: expected 0 or more"),
    "folder": (["--out", "gone/page.html"], "no folder gone to write"),
    "layer": (["--layer", "9"], "aggregation varan over 3"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(ctc, tmp_path, name):
    arguments, expected = ARGUMENTS[name]
    write(tmp_path / "file", "x")
    filled = [each.format(file=tmp_path / "file") for each in arguments]
    code, out, error = tool(report.main, ctc.checkpoint, ctc.data, "test", *filled)
    assert code == 2 and expected in error and error.count("\n") == 1, error


def test_groups():
    grouped = groups_of_length(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]))
    assert grouped["labels"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert grouped["classes"][0] == "1.0 - 2.8 s"
    same = groups_of_length(np.ones(3))
    assert set(same["labels"]) <= {0, 1, 2, 3}
    grouped = groups_of_names(["b", "a", "b", "c", "a", "b"], 2)
    assert grouped["classes"] == ["a", "b", "others"]
    assert grouped["labels"].tolist() == [1, 0, 1, 2, 0, 1]
