"""All layers of a run as a folder that transformers loads with the code in it."""

import importlib
import os
import re
import sys
import types
from typing import Any, Dict, List, Tuple

import torch

from .. import method
from ..lora import merge_lora
from ..models.options import layer_norm
from ..runtime.fairseq_compat import option_or
from ..upstream.hf_names import PREFIXES
from ..upstream.hf_write import kind_of, their_config, their_weights
from .hf_files import (
    class_labels,
    quiet,
    write_json,
    write_labels,
    write_preprocessor,
    write_weights,
)
from .load import LABELLERS, model_from_state, read_state, training_post_process
from .one_layer import TOLERANCE, encoder_options, output_symbols, weigh_blank

_METHOD = os.path.dirname(method.__file__)
_IMPORT = re.compile(r"^from (\.+)([\w.]*) import (.*)$", re.MULTILINE)


def write_all(folder: str, checkpoint: str) -> List[str]:
    """Writes configuration, weights, labels and code. Returns what it made, in lines. Raises
    ValueError for an encoder that transformers has no class for, or if transformers computes
    something else."""
    state = read_state(checkpoint, models=LABELLERS)
    model, cfg, task = model_from_state(state, checkpoint)
    ctc = model.cfg._name == "varan_ctc"
    name = "VaranForCTC" if ctc else "VaranForAudioClassification"
    merge_lora(model)
    if ctc:
        for head in model.aggregation.heads.heads:
            weigh_blank(head[-1], model.cfg, model.blank)
        model.cfg.blank_weight = 0.0
    symbols = output_symbols(task.target_dictionary, ctc)
    options = encoder_options(model)
    encoder = their_config(model.w2v_encoder, options)
    config = {
        "model_type": "varan",
        "architectures": [name],
        "auto_map": {
            "AutoConfig": "modeling_varan.VaranConfig",
            "AutoModelForCTC"
            if ctc
            else "AutoModelForAudioClassification": f"modeling_varan.{name}",
        },
        "encoder": encoder,
        "reading": _reading(model, len(symbols), pooled=not ctc),
        "rule": model.cfg.combine,
        "decode_layer": model.cfg.decode_layer,
        "layers": model.num_predictions,
    }
    config.update(write_labels(folder, symbols) if ctc else class_labels(symbols))
    write_json(folder, "config.json", config)
    rate = int(cfg.task.get("sample_rate", 16000))
    write_preprocessor(folder, ctc, rate, bool(cfg.task.normalize))
    write_weights(folder, _weights(model, options))
    files = _write_code(folder)
    lines = [f"{name} of all layers, {model.cfg.combine}, with its code in {files} files"]
    lines.append(_compare(folder, model, name, rate))
    spelling = training_post_process(cfg)
    if ctc and spelling != "letter":
        lines.append(f"its labels become words by post_process={spelling}: join them yourself")
    return lines


def _reading(model: Any, num_classes: int, pooled: bool) -> Dict[str, Any]:
    """Arguments of `build_aggregation`."""
    cfg, encoder = model.cfg, model.w2v_encoder
    same = ("shared_head", "head_dim", "head_activation", "posterior", "posterior_heads")
    return {
        "name": cfg.aggregation,
        "num_layers": encoder.num_layers,
        "dim": encoder.dim,
        "num_classes": num_classes,
        "layer_norm": layer_norm(cfg.layer_norm, encoder),
        "layer_embedding": cfg.layer_embedding,
        "head_context": option_or(cfg, "head_context", 0),
        "pooled": pooled,
        **{key: cfg[key] for key in same},
    }


def _weights(model: Any, options: Any) -> Dict[str, torch.Tensor]:
    prefix = PREFIXES[kind_of(options)]
    encoder = their_weights(model.w2v_encoder, options)
    weights = {f"encoder.{name[len(prefix) :]}": value for name, value in encoder.items()}
    for name, value in model.aggregation.state_dict().items():
        weights[f"aggregation.{name}"] = value.detach().clone().contiguous()
    weights["prior"] = model.prior.probs.detach().clone()
    return weights


def _write_code(folder: str) -> int:
    """modeling_varan.py and the modules of the method that it needs, side by side as transformers
    wants it: method/kernels/stretches.py becomes varan_kernels_stretches.py. Returns their number."""
    todo, done = ["modeling"], set()
    while todo:
        module = todo.pop()
        if module in done:
            continue
        done.add(module)
        with open(_path(module), encoding="utf-8") as file:
            text, needed = _flattened(file.read(), module)
        todo += needed
        with open(os.path.join(folder, f"{_flat(module)}.py"), "w", encoding="utf-8") as file:
            file.write(text)
    # transformers copies the modules that the first file names, and no others
    named = [
        f"from .{_flat(module)} import __doc__ as _\n" for module in sorted(done - {"modeling"})
    ]
    with open(os.path.join(folder, "modeling_varan.py"), "a", encoding="utf-8") as file:
        file.writelines(["\n# what transformers has to copy\n", *named])
    return len(done)


def _path(module: str) -> str:
    """Of a module below method/, of that package for "kernels", or of what is written as "modeling"."""
    if module == "modeling":
        return os.path.join(os.path.dirname(__file__), "hf_model.py")
    path = os.path.join(_METHOD, *module.split("."))
    return os.path.join(path, "__init__.py") if os.path.isdir(path) else f"{path}.py"


def _flat(module: str) -> str:
    return "modeling_varan" if module == "modeling" else f"varan_{module.replace('.', '_')}"


def _flattened(text: str, module: str) -> Tuple[str, List[str]]:
    """(source whose relative imports are of neighbours, modules that it imports)."""
    needed: List[str] = []
    inside = "kernels." if module.startswith("kernels.") else ""

    def neighbour(match: Any) -> str:
        dots, name, what = match.groups()
        if module == "modeling":
            full = name[len("method.") :]
        else:
            full = (inside if len(dots) == 1 else "") + name
        if not name:  # of the package itself
            full = inside.rstrip(".") or what
        needed.append(full)
        if not name and full == what:
            return f"from . import {_flat(full)} as {what}"
        return f"from .{_flat(full)} import {what}"

    return _IMPORT.sub(neighbour, text), needed


def _compare(folder: str, model: Any, name: str, rate: int) -> str:
    """As `to_hf`: layers, weights of layers and the prediction."""
    try:
        import transformers
    except ImportError:
        return "transformers is not installed: what was written was not loaded and compared"
    package = types.ModuleType("varan_exported")
    package.__path__ = [folder]
    sys.modules[package.__name__] = package
    try:
        made = getattr(importlib.import_module("varan_exported.modeling_varan"), name)
        with quiet(transformers):
            theirs = made.from_pretrained(folder).eval()
        source = torch.randn(1, 2 * rate, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found, ours = theirs(source), model(source)
            layers = torch.stack([each.float().log_softmax(-1) for each in ours["layer_logits"]])
            layers = layers[:, 0] if layers.dim() == 3 else layers[:, :, 0]
            whole = model.get_normalized_probs(ours, log_probs=True)
            whole = whole if whole.dim() == 2 else whole[:, 0]
            pairs = (
                (found.layer_logits[0], layers),
                (found.log_q, ours["log_q"]),
                (found.logits if found.logits.dim() == 2 else found.logits[0], whole),
            )
            largest = max(float((a - b).abs().max()) for a, b in pairs)
    finally:
        for loaded in [key for key in sys.modules if key.split(".")[0] == package.__name__]:
            del sys.modules[loaded]
    if not largest <= TOLERANCE:
        raise ValueError(
            f"transformers {transformers.__version__} computes something that differs by "
            f"{largest:.1e} (expected at most {TOLERANCE:.0e}): please report it"
        )
    return (
        f"loaded by transformers {transformers.__version__}: layers, their weights and the prediction "
        f"differ by at most {largest:.1e}"
    )
