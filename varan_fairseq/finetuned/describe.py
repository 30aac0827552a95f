"""What a checkpoint or an adapter is, as pairs of a name and a value: what `varan-inspect`
prints."""

import os
from types import SimpleNamespace
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

from ..adapters.file import METADATA, read_adapter
from ..adapters.metadata import TASKS
from ..models.finetune import finetune_mode
from ..models.layerwise import LayerwiseModel
from ..runtime.pickles import peek
from ..upstream import Encoder, build_encoder, load_weights, normalizes, read_checkpoint
from ..upstream.hf import is_folder
from ..upstream.hf_config import CONFIG
from .load import model_from_state, read_state

Lines = Iterator[Tuple[str, str]]


def describe(path: str) -> Lines:
    """(name, value) pairs. Raises FileNotFoundError or ValueError, naming the file."""
    if os.path.isfile(os.path.join(path, METADATA)):
        yield from _adapter(path)
    elif is_folder(path):
        yield from _pretrained(path)
    elif os.path.isdir(path):
        raise FileNotFoundError(
            f"{path} is a folder with neither {METADATA} (of an adapter) nor {CONFIG} (of an encoder "
            "that transformers wrote)"
        )
    elif not os.path.isfile(path):
        raise FileNotFoundError(f"no checkpoint {path} (working directory {os.getcwd()})")
    elif _model_name(path) in TASKS:
        yield from _ours(path)
    else:
        yield from _pretrained(path)


def _model_name(path: str) -> Optional[str]:
    """Name of the fairseq model in a file; None for what `read_checkpoint` has to judge."""
    try:
        return peek(path)["cfg"]["model"]["_name"]
    except Exception:
        return None


def _pretrained(path: str) -> Lines:
    read = read_checkpoint(path)
    encoder = build_encoder(read.config)
    load_weights(encoder, read.weights, path)
    yield from _encoder(encoder, read.config)
    if read.finetuned is not None:
        without = f"as a start for training, without {read.left_out}"
        yield "fine-tuned", f"model {read.finetuned}; {without}"
    normalize = str(normalizes(read.config)).lower()
    yield "train with", f"model.w2v_path={path} task.normalize={normalize}"


def _ours(path: str) -> Lines:
    state = read_state(path)
    model, cfg, task = model_from_state(state, path)
    yield from _encoder(model.w2v_encoder, model.cfg.w2v_args)
    yield from _source(model.cfg.w2v_args.get("source"))
    yield "fine-tuned", f"{state['optimizer_history'][-1]['num_updates']:,} updates"
    outside = sum(
        value.numel() for name, value in model.named_parameters() if "w2v_encoder" not in name
    )
    yield "parameters", f"{outside / 1e6:.2f} M outside the encoder"
    yield from _reading(model.cfg, cfg.criterion, model.prior.probs.tolist())
    labels = task.target_dictionary
    yield from _labels(cfg.task.labels, labels.symbols[labels.nspecial :])


def of_run(state: Any, model: LayerwiseModel, cfg: Any) -> Lines:
    """What trained a loaded run and how: what `varan-report` shows. state: of `read_state`."""
    encoder, source = model.w2v_encoder, model.cfg.w2v_args.get("source")
    size = f"{encoder.num_layers} layers, width {encoder.dim}"
    made_of = f", of {source['file']}" if source else ""
    yield "encoder", f"{encoder.spec.title}, {size}{made_of}"
    yield "what trained", _what_trained(model.cfg)
    if model.cfg.aggregation == "varan":
        yield "objective", _objective(cfg.get("criterion"))
    rates = (cfg.get("optimization") or {}).get("lr")
    if rates:
        yield "learning rate", ", ".join(f"{rate:g}" for rate in rates)
    yield "updates", f"{state['optimizer_history'][-1]['num_updates']:,}"


def _adapter(folder: str) -> Lines:
    adapter = read_adapter(folder)
    config = adapter.metadata["config"]
    numbers = sum(tensor.numel() for tensor in adapter.tensors.values())
    yield "adapter", f"{numbers:,} numbers, {adapter.metadata['num_updates']:,} updates"
    yield "kind", adapter.metadata["base"]["kind"]
    yield from _source(adapter.metadata["base"])
    yield from _reading(
        config["model"], config["criterion"], adapter.tensors["prior.probs"].tolist()
    )
    yield from _labels(
        config["task"]["labels"], [symbol for symbol, _ in adapter.metadata["labels"]]
    )


def _encoder(encoder: Encoder, config: Any) -> Lines:
    spec = encoder.spec
    parameters = sum(value.numel() for value in encoder.parameters())
    yield "kind", f"{spec.title} ({config.model._name})"
    yield "layers", f"{encoder.num_layers}, width {encoder.dim}"
    order = "pre-norm" if spec.final_norm(encoder.w2v_model) is not None else "post-norm"
    auto = "with" if encoder.raw_states else "without"
    yield "normalisation", f"{order}; model.layer_norm=auto reads layers {auto} a LayerNorm each"
    rate = config.task.get("sample_rate", 16000)
    yield "audio", f"{rate} Hz, task.normalize={str(normalizes(config)).lower()}"
    yield "parameters", f"{parameters / 1e6:.2f} M in the encoder"


def _source(source: Optional[Dict[str, Any]]) -> Lines:
    if source is not None:
        yield "base", f"{source['file']}, SHA-256 {source['sha256']}"


def _reading(model: Any, criterion: Any, prior: Sequence[float]) -> Lines:
    """From the configurations of model and criterion."""
    options = (f"{key} {model[key]}" for key in ("aggregation", "combine", "layer_norm"))
    yield "model", ", ".join([model["_name"], *options])
    yield "what trained", _what_trained(model)
    if model["aggregation"] == "varan":
        yield "posterior", model.get("posterior", "input")  # files from before it had a name
        yield "objective", _objective(criterion)
        yield "prior", " ".join(f"{value:.3f}" for value in prior)


def _what_trained(model: Any) -> str:
    mode = finetune_mode(SimpleNamespace(**model))
    if mode != "lora":
        return mode
    kind = "DoRA" if model["lora_magnitude"] else "LoRA"
    return f"{kind}, rank {model['lora_rank']}, on {model['lora_targets']}"


def _objective(criterion: Any) -> str:
    keys = ("prior", "prior_df", "prior_nc", "prior_p", "beta")
    known = [f"{key} {criterion[key]}" for key in keys if key in (criterion or {})]
    return ", ".join(known) or "another criterion's"


def _labels(extension: str, symbols: Sequence[str]) -> Lines:
    shown = " ".join(symbols[:40]) + (" .." if len(symbols) > 40 else "")
    yield "labels", f"{len(symbols)} ({extension}): {shown}"
