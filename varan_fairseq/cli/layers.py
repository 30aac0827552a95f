"""varan-layers: which layers did each utterance use?

Writes q(l|x) of every utterance of a split as TSV (id, q_1 .. q_L, entropy in nats) and a
picture: the mean posterior with its spread against the prior, and a heat map.
"""

import argparse
import os
import sys
from typing import List, Optional, Tuple

import numpy as np
import torch
from fairseq import utils
from fairseq.tasks.audio_pretraining import AudioPretrainingTask

import varan_fairseq  # noqa: F401  (registers the models)

from ..checkpoint import load_model
from ..manifest import read_manifest, write_lines
from . import run


@torch.no_grad()
def split_posterior(model, cfg, task, subset: str, max_tokens: int) -> np.ndarray:
    """q(l|x) of every utterance of a split, in the manifest's order: [N, L]."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    # Of the task, the audio alone: a split without labels will do.
    AudioPretrainingTask.load_dataset(task, subset, task_cfg=cfg.task)
    dataset = task.dataset(subset)
    batches = task.get_batch_iterator(
        dataset, max_tokens=max_tokens, required_batch_size_multiple=1
    ).next_epoch_itr(shuffle=False)
    posterior = np.full((len(dataset), model.num_predictions), np.nan)
    for sample in batches:
        if device.type == "cuda":
            sample = utils.move_to_cuda(sample)
        log_q = model(**sample["net_input"])["log_q"]
        posterior[sample["id"].cpu().numpy()] = log_q.exp().cpu().numpy()
    return posterior


def entropy(posterior: np.ndarray) -> np.ndarray:
    """[N, L] -> [N], in nats."""
    return -(posterior * np.log(np.maximum(posterior, 1e-30))).sum(1)


def draw(posterior: np.ndarray, prior: np.ndarray, title: str, path: str) -> None:
    """posterior [N, L] and prior [L] as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    layers = np.arange(1, posterior.shape[1] + 1)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    low, high = np.percentile(posterior, [10, 90], axis=0)
    left.bar(layers, posterior.mean(0), color="#4878a8", label="mean posterior q(l|x)")
    left.vlines(layers, low, high, color="#1f3550", linewidth=3, label="10% to 90% of utterances")
    left.plot(layers, prior, "o--", color="#d1703c", label="prior p(l)")
    left.set(xlabel="layer (1 = lowest)", ylabel="probability", ylim=(0, None))
    left.legend(frameon=False)

    order = np.argsort(posterior @ layers)
    image = right.imshow(
        posterior[order],
        aspect="auto",
        interpolation="nearest",
        cmap="viridis",
        extent=(0.5, len(layers) + 0.5, len(posterior) + 0.5, 0.5),
    )
    right.set(xlabel="layer (1 = lowest)", ylabel="utterance, sorted by mean layer")
    figure.colorbar(image, ax=right, label="q(l|x)")
    for axis in (left, right):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title)
    temporary = f"{path}.{os.getpid()}.tmp"
    figure.savefig(temporary, dpi=120, format="png")
    pyplot.close(figure)
    os.replace(temporary, path)


def report(argv: Optional[List[str]]) -> Tuple[str, str]:
    parser = argparse.ArgumentParser(prog="varan-layers", description=__doc__.split("\n\n")[0])
    parser.add_argument("checkpoint", help="a checkpoint of model varan_ctc, or an adapter")
    parser.add_argument("data", help="folder with the manifests")
    parser.add_argument("subset", help="name of the manifest, as test")
    parser.add_argument("--base", help="the pre-trained checkpoint that an adapter is for")
    parser.add_argument("--out", help="prefix of the files; default: beside the checkpoint")
    parser.add_argument("--max-tokens", type=int, default=4000000, help="samples a batch")
    args = parser.parse_args(argv)

    manifest = read_manifest(os.path.join(args.data, f"{args.subset}.tsv"))
    model, cfg, task = load_model(args.checkpoint, data=args.data, base=args.base)
    if model.cfg.aggregation != "varan":
        raise ValueError(
            f"{args.checkpoint} reads its layers by {model.cfg.aggregation}, which has no "
            "posterior: wanted a model trained with model.aggregation=varan"
        )
    posterior = split_posterior(model, cfg, task, args.subset, args.max_tokens)
    if len(posterior) != len(manifest.entries) or np.isnan(posterior).any():
        raise ValueError(
            f"{args.subset}.tsv names {len(manifest.entries)} utterances, the task's sizes left "
            f"{int((~np.isnan(posterior).any(1)).sum())} of them"
        )
    prefix = args.out or os.path.join(os.path.dirname(args.checkpoint), f"layers-{args.subset}")
    header = ["id", *(f"q_{layer + 1}" for layer in range(posterior.shape[1])), "entropy"]
    rows = (
        "\t".join([name, *(f"{value:.6f}" for value in row), f"{nats:.6f}"])
        for (name, _), row, nats in zip(manifest.entries, posterior, entropy(posterior))
    )
    write_lines(f"{prefix}.tsv", ["\t".join(header), *rows])
    title = f"{args.subset}: {len(posterior)} utterances, {posterior.shape[1]} layers"
    draw(posterior, model.prior.probs.cpu().numpy(), title, f"{prefix}.png")

    means = " ".join(f"{value:.3f}" for value in posterior.mean(0))
    print(f"mean q(l|x), layer 1 to {posterior.shape[1]}: {means}")
    print(
        f"mean entropy {entropy(posterior).mean():.3f} nats (uniform: {np.log(posterior.shape[1]):.3f})"
    )
    print(f"{prefix}.tsv {prefix}.png")
    return f"{prefix}.tsv", f"{prefix}.png"


def main(argv: Optional[List[str]] = None) -> int:
    return run("varan-layers", report, argv)


if __name__ == "__main__":
    sys.exit(main())
