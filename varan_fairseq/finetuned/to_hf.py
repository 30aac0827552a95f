"""One layer of a run as a folder that transformers loads with its own classes."""

import os
from typing import Any, Dict, List, Optional

import torch

from .. import __version__
from ..runtime.files import new_folder, read_json
from ..upstream.hf_write import class_stem, their_config, their_weights
from .hf_files import (
    class_labels,
    quiet,
    write_json,
    write_labels,
    write_preprocessor,
    write_weights,
)
from .one_layer import OneLayer, one_layer
from .to_hf_all import write_all


def hf(
    checkpoint: str,
    folder: str,
    layer: Optional[int] = None,
    scores: Optional[str] = None,
    all_layers: bool = False,
) -> List[str]:
    """A folder for transformers' own class of one layer: config.json, model.safetensors, labels,
    preprocessor and a model card.

    layer: see `one_layer`. all_layers: the whole run instead, with the code that reads it. scores: an
    asr.json of varan-infer, whose table the card gets. The folder appears only once what was written
    has been loaded and compared, where transformers is installed.
    Raises ValueError for a run that no class of transformers fits, or a folder that is there.
    """
    table = None if scores is None else _scores(scores)
    title = os.path.basename(os.path.abspath(folder))
    if all_layers:
        if layer is not None:
            raise ValueError(f"--layer {layer} and --all-layers: give one of them")
        with new_folder(folder) as partial:
            lines = write_all(partial, checkpoint)
            _write_card(partial, _card_of_all(title, table))
        return [f"{lines[0]} -> {folder}", *lines[1:]]
    with new_folder(folder) as partial:
        cut = one_layer(checkpoint, layer)
        name = class_stem(cut.options) + ("ForCTC" if cut.ctc else "ForSequenceClassification")
        _check_depth(cut)
        _write(partial, cut, name)
        compared = _compare(partial, cut, name)
        _write_card(partial, _card(cut, name, table, title))
    lines = [f"{name} of layer {cut.layer} ({cut.chosen}) -> {folder}", compared]
    if cut.ctc and cut.spelling != "letter":
        lines.append(
            f"its labels become words by post_process={cut.spelling}, which transformers' tokenizer "
            "does not know: join them yourself"
        )
    return lines


def _check_depth(cut: OneLayer) -> None:
    final = cut.encoder.spec.final_norm(cut.encoder.w2v_model)
    if cut.options.get("layer_type") == "conformer" and final is None:
        raise ValueError(
            "transformers' Conformer ends in a LayerNorm, this one does not (layer_norm_first=false)"
        )


def _write(folder: str, cut: OneLayer, name: str) -> None:
    config = {
        **their_config(cut.encoder, cut.options),
        "architectures": [name],
        "final_dropout": 0.0,
        "varan_fairseq": {"version": __version__, "layer": cut.layer},
    }
    weights = their_weights(cut.encoder, cut.options)
    if cut.ctc:
        weights["lm_head.weight"], weights["lm_head.bias"] = cut.single_map()
        config.update(ctc_loss_reduction="mean", ctc_zero_infinity=True)
        config.update(write_labels(folder, cut.symbols))
    else:
        config.update(_classifier(cut, weights))
    write_json(folder, "config.json", config)
    write_preprocessor(folder, cut.ctc, cut.sample_rate, cut.normalize)
    write_weights(folder, weights)


def _classifier(cut: OneLayer, weights: Dict[str, torch.Tensor]) -> Dict[str, Any]:
    """Adds projector and classifier, whose mean over frames lies between them: a linear map may
    stand on either side of it. Returns keys of config.json."""
    first, last = cut.maps[0], cut.maps[-1]
    width = len(first.bias)
    weights["projector.weight"], weights["projector.bias"] = first.weight.data, first.bias.data
    if len(cut.maps) == 1:
        weights["classifier.weight"] = torch.eye(width)
        weights["classifier.bias"] = torch.zeros(width)
    else:
        weights["classifier.weight"], weights["classifier.bias"] = last.weight.data, last.bias.data
    return {
        "classifier_proj_size": width,
        "use_weighted_layer_sum": False,
        **class_labels(cut.symbols),
    }


def _compare(folder: str, cut: OneLayer, name: str) -> str:
    """Loads what was written with transformers and compares log-probabilities. Returns what was found
    in words. Raises ValueError if they differ."""
    try:
        import transformers
    except ImportError:
        return "transformers is not installed: what was written was not loaded and compared"
    made = getattr(transformers, name, None)
    if made is None:
        raise ValueError(
            f"transformers {transformers.__version__} has no {name}: install a newer one"
        )
    with quiet(transformers):
        model, report = made.from_pretrained(folder, output_loading_info=True)
    wrong = {key: sorted(report[key]) for key in ("missing_keys", "unexpected_keys") if report[key]}
    if wrong:
        raise ValueError(
            f"transformers {transformers.__version__} does not take these weights ({wrong}): please "
            "report it"
        )
    source = torch.randn(1, 2 * cut.sample_rate, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = model.eval()(source).logits.log_softmax(-1)
        difference = float((theirs - cut.log_probs(source)).abs().max())
    who = f"transformers {transformers.__version__}"
    cut.check(difference, source, f"{who} computes log-probabilities that differ by")
    return (
        f"loaded by transformers {transformers.__version__}: log-probabilities differ by at most "
        f"{difference:.1e}"
    )


def _scores(path: str) -> List[str]:
    """Rows of a table. Raises ValueError for a file that varan-infer did not write."""
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("wer"), (int, float)):
        raise ValueError(f"{path} is not an asr.json of varan-infer")
    low, high = found.get("wer_interval") or (None, None)
    interval = "" if low is None else f" ({low:.2f} - {high:.2f})"
    return [
        "| split | decoder | WER % |",
        "| --- | --- | --- |",
        f"| {found.get('subset')} | {found.get('decoder')} | {found['wer']:.2f}{interval} |",
    ]


def _write_card(folder: str, lines: List[str]) -> None:
    with open(os.path.join(folder, "README.md"), "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def _head_of_card(title: str, task: Optional[str]) -> List[str]:
    return [
        "---",
        "# license: that of your data and of the encoder you started from",
        "library_name: transformers",
        *([f"pipeline_tag: {task}"] if task else []),
        "---",
        "",
        f"# {title}",
        "",
    ]


def _card(cut: OneLayer, name: str, table: Optional[List[str]], title: str) -> List[str]:
    task = "automatic-speech-recognition" if cut.ctc else "audio-classification"
    what = "transcribes speech" if cut.ctc else "names the class of an utterance"
    lines = [
        *_head_of_card(title, task),
        f"This model {what}. It is layer {cut.layer} ({cut.chosen}) of a {cut.encoder.spec.title} "
        "that varan_fairseq fine-tuned (VARAN, arXiv 2508.12061), with its head, as "
        f"transformers' `{name}`. The run's own prediction combines all layers; one layer makes "
        "more errors.",
        "",
        "```python",
        "from transformers import pipeline",
        "",
        f'print(pipeline("{task}", "{title}")("speech.wav"))',
        "```",
        "",
    ]
    if table:
        lines += ["The whole run, all layers:", "", *table, ""]
    if not cut.normalize:
        lines += ["The audio is not normalised (`do_normalize` is false).", ""]
    return lines


def _card_of_all(title: str, table: Optional[List[str]]) -> List[str]:
    return [
        *_head_of_card(title, None),
        "All layers of an encoder that varan_fairseq fine-tuned (VARAN, arXiv 2508.12061), and the "
        "prediction that they make together. The code in this folder computes it:",
        "",
        "```python",
        "from transformers import AutoModelForCTC, Wav2Vec2FeatureExtractor",
        "",
        f'model = AutoModelForCTC.from_pretrained("{title}", trust_remote_code=True).eval()',
        f'listen = Wav2Vec2FeatureExtractor.from_pretrained("{title}")',
        'heard = listen(audio, sampling_rate=16000, return_tensors="pt")',
        "output = model(**heard)",
        "output.logits  # log-probabilities of the prediction [B, T, V]",
        "output.layer_logits  # of each layer [B, L, T, V]",
        "output.log_q  # how much each layer counts [B, L]",
        "```",
        "",
        *(table or []),
    ]
