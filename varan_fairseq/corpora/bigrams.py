"""A bigram language model with Witten-Bell smoothing, as an ARPA file."""

import collections
import math

START, END, UNKNOWN = "<s>", "</s>", "<unk>"


def probabilities(lines):
    """(p(w), p(w | v) of pairs that occur, what v leaves to those that do not)."""
    words, pairs, firsts, kinds = (collections.Counter() for _ in range(4))
    for line in lines:
        sentence = [START, *line.split(), END]
        words.update(sentence[1:])
        pairs.update(zip(sentence, sentence[1:]))
    for (first, _), count in pairs.items():
        firsts[first] += count
        kinds[first] += 1
    total = sum(words.values()) + len(words)
    single = {word: count / total for word, count in words.items()}
    single[UNKNOWN] = len(words) / total  # as many as there are words: each could be a new one
    left = {first: kinds[first] / (firsts[first] + kinds[first]) for first in firsts}
    double = {
        (first, word): (1 - left[first]) * count / firsts[first] + left[first] * single[word]
        for (first, word), count in pairs.items()
    }
    return single, double, left


def arpa(single, double, left):
    """Lines of the file."""
    ones = [f"-99\t{START}\t{math.log10(left[START]):.6f}"]
    for word, p in sorted(single.items()):
        more = f"\t{math.log10(left[word]):.6f}" if word in left else ""
        ones.append(f"{math.log10(p):.6f}\t{word}{more}")
    twos = [f"{math.log10(p):.6f}\t{first} {word}" for (first, word), p in sorted(double.items())]
    head = ["\\data\\", f"ngram 1={len(ones)}", f"ngram 2={len(twos)}", ""]
    return [*head, "\\1-grams:", *ones, "", "\\2-grams:", *twos, "", "\\end\\"]
