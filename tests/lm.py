"""A small language model for tests."""


def write_lm(folder, words):
    """An ARPA file, bigrams with all words alike, and a lexicon of letters: (lm, lexicon)."""
    unigrams = ["-1\t<unk>\t0", "-99\t<s>\t0", "-1\t</s>", *(f"-1\t{word}\t0" for word in words)]
    bigrams = [f"-0.5\t<s> {word}" for word in words]
    arpa = ["\\data\\", f"ngram 1={len(unigrams)}", f"ngram 2={len(bigrams)}", ""]
    arpa += ["\\1-grams:", *unigrams, "", "\\2-grams:", *bigrams, "", "\\end\\", ""]
    (folder / "lm.arpa").write_text("\n".join(arpa))
    (folder / "lexicon.txt").write_text("".join(f"{w}\t{' '.join(w)} |\n" for w in words))
    return str(folder / "lm.arpa"), str(folder / "lexicon.txt")
