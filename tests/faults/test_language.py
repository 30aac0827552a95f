"""The campaign, languages: case, marks and blanks of other scripts, from a corpus to subtitles."""

import unicodedata

import pytest
from fairseq.data.data_utils import post_process
from faulty import read, write

from varan_fairseq.corpora import text as rules
from varan_fairseq.data.unspaced import columns, joined, word_parts
from varan_fairseq.decoding.words import Word
from varan_fairseq.inference.subtitles import cues
from varan_fairseq.inference.transcript import Transcript, Utterance, lines

DEFAULT = list(rules.DEFAULT)

# text, rules, language, result
TEXTS = {
    "Turkish capitals": ("İzmir ISPARTA", ["lower"], "tr", "izmir ısparta"),
    "Turkish with a region": ("IĞDIR", ["lower"], "tr_TR", "ığdır"),
    "Azerbaijani": ("İSMAYIL", ["lower"], "az", "ismayıl"),
    "Turkish, decomposed": (unicodedata.normalize("NFD", "İzmir"), ["lower"], "tr", "izmir"),
    "Turkish upper": ("izmir ısparta", ["upper"], "tr", "İZMİR ISPARTA"),
    "a dotted I elsewhere": ("İzmir", ["lower"], "", "izmir"),
    "English": ("Is It", ["lower"], "en", "is it"),
    "a final sigma": ("ΟΔΌΣ", ["lower"], "el", "οδός"),
    "a hyphen after a vowel sign": ("धीरे-धीरे", DEFAULT, "", "धीरे-धीरे"),
    "an apostrophe after an accent": ("ẹ́'lẹ́", DEFAULT, "", "ẹ́'lẹ́"),
    "a hyphen before a joiner": ("क्\u200d-ष", DEFAULT, "", "क्\u200d-ष"),
    "a hyphen at an end": ("धीरे- धीरे", DEFAULT, "", "धीरे धीरे"),
    "a ligature": ("ﬁne", ["nfkc", "lower"], "", "fine"),
    "full width": ("ＡＢＣ", ["nfkc", "lower"], "", "abc"),
    "Arabic presentation forms": ("\ufefb", ["nfkc"], "", "\u0644\u0627"),
    "a ligature without the rule": ("ﬁne", ["lower"], "", "ﬁne"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_rules(name):
    text, named, language, expected = TEXTS[name]
    assert rules.apply(text, named, None, language) == unicodedata.normalize("NFC", expected)


# text, words and letters of scripts without blanks, text again
PARTS = {
    "Chinese": ("我们 去北京", list("我们去北京"), "我们去北京"),
    "Chinese and English": ("我 love 北京 city", ["我", "love", "北", "京", "city"], "我 love 北京 city"),
    "English in a word": ("用app吧", ["用", "app", "吧"], "用 app 吧"),
    "Japanese": ("カタカナ々", list("カタカナ々"), "カタカナ々"),
    "Thai": ("กา", list("กา"), "กา"),
    "Korean has blanks": ("한국 사람", ["한국", "사람"], "한국 사람"),
    "Spanish": ("el año", ["el", "año"], "el año"),
    "nothing": ("", [], ""),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_words_of_scripts_without_blanks(name):
    text, parts, again = PARTS[name]
    assert word_parts(text) == parts and joined(parts) == again


@pytest.mark.parametrize(
    "text, width", [("abc", 3), ("我们", 4), ("한국", 4), ("e\u0301", 1), ("ＡＢ", 4), ("ｱ", 1)]
)
def test_columns(text, width):
    assert columns(text) == width


CODE_SWITCHED = ["我们 love 北京", "ok 好", "我"]


def test_units_of_two_languages(script, tmp_path):
    """Each letter of Mandarin and each word of English is a word of the score."""
    write(tmp_path / "train.wrd", "\n".join(CODE_SWITCHED) + "\n")
    _, text = script("dictionary.py", tmp_path, "--units", "characters")
    assert "2 words of letters, as 'love', are scored letter by letter: --units mixed" in text
    refusal, _ = script("dictionary.py", tmp_path, "--units", "mixed")
    labels = read(tmp_path / "train.mix").splitlines()
    assert refusal is None and labels[0] == "我 们 l@@ o@@ v@@ e 北 京"
    said = [post_process(line, "subword_nmt").split() for line in labels]
    assert said == [word_parts(line) for line in CODE_SWITCHED]
    lexicon = dict(line.split("\t") for line in read(tmp_path / "lexicon.txt").splitlines())
    assert lexicon["love"] == "l@@ o@@ v@@ e" and lexicon["北"] == "北"


def test_letters_of_a_script_without_blanks(script, tmp_path):
    write(tmp_path / "train.wrd", "我们去\n北京\n")
    _, text = script("dictionary.py", tmp_path, "--units", "letters")
    assert "no line has a blank" in text and "Use --units characters" in text
    write(tmp_path / "train.wrd", "we go\nthere\n")
    _, text = script("dictionary.py", tmp_path, "--units", "letters")
    assert "no line has a blank" not in text


def spoken(*texts, step=0.3, pauses=()):
    """Words one after the other; pauses: {index: seconds before it}."""
    words, at = [], 0.0
    for index, text in enumerate(texts):
        at += dict(pauses).get(index, 0.0)
        words.append(Word(text, at, at + step, 1.0))
        at += step
    return words


def shown(words, kind="srt"):
    transcript = Transcript("a.wav", [Utterance("", 0, 1, words, [1.0], 1)])
    return lines(transcript, kind)


def test_subtitles_without_blanks():
    assert shown(spoken(*"我们去北京"))[2] == "我们去北京"
    assert shown(spoken("한국", "사람"))[2] == "한국 사람"
    assert shown(spoken(*"我们", "love", *"北京"))[2] == "我们 love 北京"


def test_subtitles_are_as_wide_as_they_look():
    for cue in cues(spoken(*("北" * 100), step=0.05)):
        assert columns(joined(cue.words)) <= 84
    wide = shown(spoken(*("北" * 30), step=0.05))
    assert wide[2:4] == ["北" * 15, "北" * 15]


def test_subtitles_can_be_read():
    """A word alone stays for a second, or until the next cue."""
    (cue,) = cues(spoken("yes"))
    assert (cue.start, cue.end) == (0.0, 1.0)
    first, second = cues(spoken("yes", "no", pauses={1: 2.5}))
    assert first.end == 1.0 and second.start == pytest.approx(2.8)
    first, _ = cues(spoken(*["long" * 5] * 4, "x" * 60, step=0.2, pauses={4: 0.1}))
    assert first.end <= 0.9


@pytest.mark.parametrize("count", range(13, 40))
def test_no_word_is_left_over(count):
    """A run that needs several cues is divided evenly."""
    found = cues(spoken(*["seven77"] * count, step=0.2))
    sizes = [len(cue.words) for cue in found]
    assert sum(sizes) == count and max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-count // 10)  # as few as fit in 84 columns


def test_a_short_run_joins_its_neighbour():
    found = cues(spoken("well", "that", "is", "all", "so", step=0.4, pauses={1: 0.9, 4: 3.0}))
    assert [cue.words for cue in found] == [["well", "that", "is", "all"], ["so"]]


def test_subtitles_in_order():
    found = cues(spoken(*["a"] * 200, step=0.1, pauses=dict.fromkeys(range(0, 200, 7), 0.7)))
    assert sum(len(cue.words) for cue in found) == 200
    assert all(one.end <= two.start + 1e-9 for one, two in zip(found, found[1:]))
    assert all(cue.end - cue.start <= 6.0 + 1e-9 for cue in found)
