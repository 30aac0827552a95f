#!/usr/bin/env python3
"""How exact the doors are, kind by kind, and what two of them cost: transformers' encoders in, one
layer out to transformers and to ONNX Runtime.

    python benchmarks/doors.py [--json doors.json]

Differences: the largest over all layers and frames, tiny models with random weights, three
utterances alone and in a padded batch; of exports, of log-probabilities. Costs: base size, on a CPU,
one core, medians interleaved in one process; memory in fresh ones. Needs transformers and onnxruntime.
"""

import argparse
import logging
import os
import re
import sys
import tempfile
import warnings

import numpy as np
import torch
from fairseq.dataclass.configs import FairseqConfig
from measure import fresh_megabytes, interleaved_seconds, peak_megabytes, report, short
from models import build
from omegaconf import OmegaConf
from tqdm import tqdm

from varan_fairseq.finetuned.load import save_state
from varan_fairseq.finetuned.to_hf import hf
from varan_fairseq.finetuned.to_onnx import onnx
from varan_fairseq.upstream import build_encoder, load_weights, read_checkpoint

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
CONFORMER = {**LARGE, "hidden_act": "swish", "conv_depthwise_kernel_size": 7, "conv_bias": True}
# kind -> (transformers' class, what differs from its defaults)
KINDS = {
    "wav2vec 2.0 base": ("Wav2Vec2Model", {}),
    "wav2vec 2.0 large, XLS-R, MMS": ("Wav2Vec2Model", {**LARGE, "conv_bias": True}),
    "HuBERT base": ("HubertModel", {}),
    "HuBERT large": ("HubertModel", LARGE),
    "WavLM base": ("WavLMModel", {}),
    "WavLM large": ("WavLMModel", LARGE),
    "data2vec": ("Data2VecAudioModel", {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 5}),
    "Conformer, relative": ("Wav2Vec2ConformerModel", CONFORMER),
    "Conformer, rotary": (
        "Wav2Vec2ConformerModel",
        {**CONFORMER, "position_embeddings_type": "rotary"},
    ),
    "UniSpeech": ("UniSpeechModel", {}),
    "UniSpeech-SAT": ("UniSpeechSatModel", LARGE),
}
LENGTHS = (16399, 6480, 12001)
FAIRSEQ2 = os.path.join(os.path.dirname(__file__), "..", "tests", "fixtures", "fairseq2")


def saved(title, folder, **options):
    """A model of transformers with random weights, norms and biases too, and its folder."""
    import transformers

    made = getattr(transformers, title)
    torch.manual_seed(0)
    model = made(made.config_class(**options)).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def read(path, heads=0):
    found = read_checkpoint(path, heads)
    encoder = build_encoder(found.config)
    load_weights(encoder, found.weights, path)
    return encoder.eval()


def differences(theirs, encoder):
    """(alone, in a padded batch): from transformers' states of each utterance alone."""
    torch.manual_seed(1)
    source = torch.randn(len(LENGTHS), max(LENGTHS))
    padding = torch.arange(max(LENGTHS)) >= torch.tensor(LENGTHS)[:, None]
    largest = [0.0, 0.0]
    with torch.no_grad():
        batch = encoder(source, padding)
        for row, samples in enumerate(LENGTHS):
            alone = source[row : row + 1, :samples]
            states = theirs(alone, output_hidden_states=True).hidden_states[1:]
            ours = encoder(alone, None)
            for place, (found, at) in enumerate(((ours, 0), (batch, row))):
                for own, state in zip([*found.states[:-1], found.output], states):
                    difference = (own[: state.shape[1], at] - state[0]).abs().max()
                    largest[place] = max(largest[place], float(difference))
    return largest


def save_run(folder, path, heads=0, **options):
    """A checkpoint of `varan_ctc` on an encoder, which nothing trained. Returns its path."""
    read_ = read_checkpoint(folder, heads)
    task, model = build("varan_ctc", w2v_args=read_.config, posterior_heads=4, **options)
    load_weights(model.w2v_encoder, read_.weights, folder)
    whole = OmegaConf.structured(FairseqConfig)
    OmegaConf.set_struct(whole, False)
    whole.model, whole.task, whole.criterion = model.cfg, task.cfg, {"_name": "varan_ctc"}
    whole.task.normalize = bool(read_.config.task.normalize)
    state = {"args": None, "cfg": whole, "model": model.state_dict(), "criterion": None}
    state.update(optimizer_history=[{"num_updates": 1, "lr_scheduler_state": {}}])
    state.update(task_state={"target_dictionary": task.target_dictionary}, extra_state={})
    save_state({**state, "last_optimizer_state": None}, path)
    return path


def exported(write, run, folder):
    """The largest difference that an export reports, or that there is none."""
    try:
        lines = write(run, folder)
    except ValueError:
        return "refused"
    return re.search(r"at most (\S+)", " ".join(lines))[1]


def kinds(folder):
    for number, (kind, (title, options)) in enumerate(tqdm(KINDS.items())):
        place = os.path.join(folder, str(number))
        theirs = saved(title, place, **{**TINY, **options})
        alone, padded = differences(theirs, read(place))
        run = save_run(place, place + ".pt")
        yield {
            "kind": kind,
            "in": f"{alone:.1e}",
            "in, padded batch": f"{padded:.1e}",
            "out: transformers": exported(hf, run, place + "-hf"),
            "out: ONNX": exported(onnx, run, place + "-onnx"),
        }


def of_fairseq2(folder):
    """Against what its own modules computed, which is recorded beside the weights."""
    for size in ("base", "large"):
        path = os.path.join(FAIRSEQ2, f"{size}.pt")
        recorded = np.load(os.path.join(FAIRSEQ2, f"{size}.npz"))
        encoder = read(path, heads=4)
        with torch.no_grad():
            found = encoder(torch.from_numpy(recorded["source"]), None)
        pairs = zip(
            [*found.states[:-1], found.output], [*recorded["states"][:-1], recorded["output"]]
        )
        largest = max(float((own[:, 0] - torch.from_numpy(r)).abs().max()) for own, r in pairs)
        run = save_run(path, os.path.join(folder, f"{size}.pt"), heads=4)
        yield {
            "kind": f"fairseq2, omniASR: {size}",
            "in": f"{largest:.1e}",
            "in, padded batch": "-",
            "out: transformers": exported(hf, run, os.path.join(folder, f"{size}-hf")),
            "out: ONNX": exported(onnx, run, os.path.join(folder, f"{size}-onnx")),
        }


def base(folder):
    """A folder of base size and the same weights as fairseq's .pt."""
    place, path = os.path.join(folder, "base"), os.path.join(folder, "base.pt")
    saved("Wav2Vec2Model", place)
    found = read_checkpoint(place)
    cfg = OmegaConf.to_container(found.config)
    weights = {name: tensor.clone() for name, tensor in found.weights.items()}
    history = [{"num_updates": 1, "lr_scheduler_state": {}}]
    extra = {"train_iterator": {"epoch": 1}}
    state = {"cfg": cfg, "args": None, "model": weights, "extra_state": extra}
    torch.save({**state, "optimizer_history": history}, path)
    return place, path


def costs(folder, rounds):
    place, path = base(folder)
    seconds = interleaved_seconds({"in": lambda: read(place), "pt": lambda: read(path)}, rounds)
    memory = fresh_megabytes(__file__, [(place,), (path,)], 3)
    yield {
        "base size": "read a folder / the same as .pt",
        "seconds": short(seconds["in"]),
        "against seconds": short(seconds["pt"]),
        "time": round(seconds["in"] / seconds["pt"], 3),
        "time wanted": 1.0,
        "memory": round(memory[0] / memory[1], 3),
        "memory wanted": 1.1,
    }
    run = save_run(place, os.path.join(folder, "run.pt"))
    onnx(run, os.path.join(folder, "graph"))
    yield {
        "base size": "ONNX Runtime / `model()`, 10 s",
        **_runtime(run, os.path.join(folder, "graph", "model.onnx"), rounds),
        "memory": "",
        "memory wanted": "",
    }


def _runtime(run, graph, rounds):
    import onnxruntime

    from varan_fairseq.finetuned.load import load_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    model, _, _ = load_model(run)
    source = torch.randn(1, 160000)

    def ours():
        with torch.no_grad():
            model(source)

    works = {"onnx": lambda: session.run(None, {"x": source.numpy()}), "torch": ours}
    seconds = interleaved_seconds(works, rounds)
    return {
        "seconds": short(seconds["onnx"]),
        "against seconds": short(seconds["torch"]),
        "time": round(seconds["onnx"] / seconds["torch"], 3),
        "time wanted": 1.0,
    }


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--memory", help=argparse.SUPPRESS)  # in a fresh process
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory:
        print(peak_megabytes(lambda: read(args.memory)))
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        rows = [[*kinds(folder), *of_fairseq2(folder)], list(costs(folder, args.rounds))]
    report(rows, args.json)


if __name__ == "__main__":
    main()
