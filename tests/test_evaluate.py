"""What varan-infer says of each utterance."""

import csv
import json

from fairseq.data import Dictionary

from varan_fairseq.data.manifest import Manifest
from varan_fairseq.decoding.results import score, write_results
from varan_fairseq.decoding.search import Hypothesis
from varan_fairseq.finetuned.labelled import References


def test_errors_of_each_utterance(tmp_path):
    """They count what an untrained model may say and no file of text shows: </s>."""
    labels = Dictionary()
    a, b, space = (labels.add_symbol(symbol) for symbol in ("A", "B", "|"))
    references = References([[a, space, b, space], [b, space]], ["A B", "B"], None)
    best = [
        Hypothesis([a, space, a, space], "A A", 0.0),
        Hypothesis([labels.eos(), b, space], "B", 0.0),
    ]
    manifest = Manifest(str(tmp_path), [("1.wav", 400), ("2.wav", 400)])
    scored = score(references, best)
    write_results(str(tmp_path), manifest, references, [best[:1], best[1:]], scored, labels, {})
    with open(str(tmp_path / "errors.tsv"), newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [list(row.values()) for row in rows] == [
        ["1.wav", "1", "2", "1", "4"],
        ["2.wav", "0", "1", "1", "2"],
    ]
    assert list(rows[0]) == ["id", "word_errors", "words", "unit_errors", "units"]
    found = json.loads((tmp_path / "asr.json").read_text())
    assert found["uer"] == 100 * 2 / 6 and found["wer"] == 100 / 3
