#!/usr/bin/env python3
"""Labels, dictionary and lexicon of your own language, from the .wrd files of a corpus.

    python manifests/dictionary.py DATA --units letters
    python manifests/dictionary.py DATA --units sentencepiece --size 500 --words words.txt

letters: ltr, a mark | after each word (criterion.post_process=letter, fairseq's default).
characters: chr, for languages without blanks between words; scored by character
(criterion.post_process=none). mixed: mix, the same with words of letters among them, which stay
words (criterion.post_process=subword_nmt). sentencepiece: spm, pieces learned from train.wrd
(criterion.post_process=sentencepiece). Train with task.labels=ltr, chr, mix or spm. The lexicon has the
words of train.wrd, and those of --words, such as a language model's.
"""

import argparse
import collections
import glob
import io
import os

from varan_fairseq.corpora.options import at_least_1, refuse, run
from varan_fairseq.data.manifest import letters, read_lines
from varan_fairseq.data.unspaced import is_unspaced, word_parts
from varan_fairseq.runtime.files import refuse_same, write_lines, written_whole

ENDINGS = {"letters": "ltr", "characters": "chr", "mixed": "mix", "sentencepiece": "spm"}
MODEL = "spm.model"


def sentencepiece_model(texts, size: int) -> bytes:
    """A unigram model of so many pieces."""
    try:
        import sentencepiece
    except ModuleNotFoundError:
        refuse("--units sentencepiece needs it: pip install sentencepiece")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=size,
            character_coverage=1.0,
            normalization_rule_name="identity",
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        refuse(f"--size {size}: {str(error).strip().splitlines()[-1]}")
    return model.getvalue()


def mixed(text: str) -> str:
    """A label a wide character; of a word of other letters all but the last are marked by @@."""
    return " ".join("@@ ".join(part) for part in word_parts(text))


def speller(units: str, model: bytes):
    """text -> labels between blanks."""
    if units == "letters":
        return letters
    if units == "characters":
        return lambda text: " ".join("".join(text.split()))
    if units == "mixed":
        return mixed
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return lambda text: " ".join(processor.encode(text, out_type=str))


def advise(units: str, texts) -> None:
    """Says when other units would be scored better."""
    wide = any(map(is_unspaced, "".join(texts)))
    words = [part for text in texts for part in word_parts(text)]
    spelled = [word for word in words if len(word) > 1]
    if units == "letters" and wide and not any(" " in text for text in texts):
        print(
            "  no line has a blank: as words they would be right or wrong as a whole. Use --units "
            "characters"
        )
    elif units == "characters" and wide and spelled:
        print(
            f"  {len(spelled)} words of letters, as {spelled[0]!r}, are scored letter by letter: "
            "--units mixed keeps them whole"
        )


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("data", help="folder with train.wrd and other .wrd files")
    options.add_argument("--units", choices=list(ENDINGS), default="letters")
    options.add_argument("--size", type=at_least_1, default=500, help="of sentencepiece's set")
    options.add_argument("--words", help="file with one word per line, for the lexicon")
    args = options.parse_args()
    paths = sorted(glob.glob(os.path.join(glob.escape(args.data), "*.wrd")))
    texts = {os.path.splitext(os.path.basename(path))[0]: read_lines(path) for path in paths}
    if "train" not in texts:
        refuse(f"no {os.path.join(args.data, 'train.wrd')}")
    ending = ENDINGS[args.units]
    model = b""
    if args.units == "sentencepiece":
        model = sentencepiece_model(texts["train"], args.size)
    spell = speller(args.units, model)
    split = word_parts if args.units == "mixed" else str.split
    words = {word for text in texts["train"] for word in split(text)}
    if args.words:
        words |= {word for line in read_lines(args.words) for word in line.split()[:1]}
    counts = collections.Counter(label for text in texts["train"] for label in spell(text).split())
    unknown = {
        label
        for split in set(texts) - {"train"}
        for text in texts[split]
        for label in spell(text).split()
        if label not in counts
    }
    strange = {word for word in words if set(spell(word).split()) - set(counts)}

    if args.words:
        for name in ("lexicon.txt", f"dict.{ending}.txt"):
            refuse_same(os.path.join(args.data, name), args.words)
    names = [*(f"{split}.{ending}" for split in texts), "lexicon.txt", MODEL, f"dict.{ending}.txt"]
    with written_whole(args.data, names) as data:
        for split, rows in texts.items():
            write_lines(os.path.join(data, f"{split}.{ending}"), map(spell, rows))
        if model:
            with open(os.path.join(data, MODEL), "wb") as file:
                file.write(model)
        rows = (f"{word}\t{spell(word)}" for word in sorted(words - strange))
        write_lines(os.path.join(data, "lexicon.txt"), rows)
        order = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
        rows = (f"{label} {count}" for label, count in order)
        write_lines(os.path.join(data, f"dict.{ending}.txt"), rows)
    print(f"{args.data}: {len(counts)} labels, {len(words - strange)} words in the lexicon")
    advise(args.units, texts["train"])
    if unknown:
        print(
            f"  {len(unknown)} labels of other splits are not in train: "
            f"{' '.join(sorted(unknown)[:20])}"
        )
    if strange:
        print(f"  left out {len(strange)} words with other labels, as {min(strange)!r}")


if __name__ == "__main__":
    run(main)
