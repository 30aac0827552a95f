#!/usr/bin/env python3
"""One more voter: the layers of VARAN vote together with the one head of another run on the same
frozen encoder.

    python examples/evidence/joined.py DATA SPLIT --runs VARAN.pt .. --voters CONCAT.pt .. [--json FILE]

RUN and VOTER at the same place are of the same seed. The voter counts as much as one layer. Checkpoints
are pickles: your own, or of somebody you trust.
"""

import argparse
import json
import logging
import math
import os
import statistics
import sys

from tqdm import tqdm

from varan_fairseq.runtime.files import write_lines


def log_probs(recognizer, wav):
    """(what each layer or head says, log q, valid frames), of one utterance."""
    output = recognizer.run(wav)
    return recognizer.model.layer_log_probs(output), output["log_q"], output["lengths"]


def words(emission, labels):
    ids = emission[:, 0].argmax(-1).unique_consecutive().tolist()
    return "".join(labels.symbols[i] for i in ids if i).replace("|", " ").split()


def rates(run, voter, wavs, references):
    """WER % of the voter alone, of the vote without it, and with it."""
    import torch

    import varan_fairseq
    from varan_fairseq.method.vote import vote
    from varan_fairseq.scoring.transcripts import distance

    ours, other = varan_fairseq.load(run), varan_fairseq.load(voter)
    errors = dict.fromkeys(("voter", "vote", "vote with voter"), 0)
    for wav, reference in zip(tqdm(wavs, desc=os.path.dirname(run)), references):
        layers, log_q, lengths = log_probs(ours, wav)
        (head,), _, _ = log_probs(other, wav)
        share = 1 / (len(layers) + 1)
        joined = torch.cat(
            [log_q + math.log(1 - share), log_q.new_full((1, 1), math.log(share))], 1
        )
        with torch.no_grad():
            emissions = {
                "voter": head,
                "vote": vote(layers, log_q, lengths, 0)[0],
                "vote with voter": vote([*layers, head], joined, lengths, 0)[0],
            }
        for name, emission in emissions.items():
            errors[name] += distance(reference, words(emission, ours.labels))
    total = sum(map(len, references))
    return {name: 100 * count / total for name, count in errors.items()}


def table(rows):
    yield "| read by | WER % |"
    yield "| --- | --- |"
    for name in rows[0]:
        found = [row[name] for row in rows]
        spread = f"{min(found):.2f} - {max(found):.2f}"
        yield f"| {name} | {statistics.mean(found):.2f} ({spread}) |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", help="folder with the manifests")
    parser.add_argument("split", help="name of a manifest: validation data")
    parser.add_argument("--runs", nargs="+", required=True, help="of aggregation varan")
    parser.add_argument("--voters", nargs="+", required=True, help="with one head, as concat")
    parser.add_argument("--json", help="file for the figures")
    args = parser.parse_args()
    if len(args.runs) != len(args.voters):
        parser.error(f"{len(args.runs)} runs and {len(args.voters)} voters: expected as many")
    from varan_fairseq.data.manifest import read_lines, read_manifest

    logging.disable(logging.WARNING)
    manifest = read_manifest(os.path.join(args.data, f"{args.split}.tsv"))
    wavs = [os.path.join(manifest.root, path) for path, _ in manifest.entries]
    references = [x.split() for x in read_lines(os.path.join(args.data, f"{args.split}.wrd"))]
    rows = [rates(*pair, wavs, references) for pair in zip(args.runs, args.voters)]
    print(*table(rows), sep="\n")
    if args.json:
        command = " ".join(["python", *sys.argv])
        write_lines(args.json, [json.dumps({"command": command, "rows": rows}, indent=1)])


if __name__ == "__main__":
    main()
