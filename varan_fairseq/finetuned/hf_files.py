"""The files that transformers wants beside an encoder's weights, and loading them with it."""

import contextlib
import json
import os
import shutil
from typing import Any, Dict, Iterator, List

from safetensors.torch import save_file
from torch import Tensor

_ORDER = ("<pad>", "<s>", "</s>", "<unk>")


@contextlib.contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """While active, transformers prints neither bars nor advice."""
    log = transformers.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def write_json(folder: str, name: str, content: Dict[str, Any]) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False)
        file.write("\n")


def class_labels(symbols: List[str]) -> Dict[str, Any]:
    """Keys of config.json for a classifier."""
    return {
        "id2label": {str(index): label for index, label in enumerate(symbols)},
        "label2id": {label: index for index, label in enumerate(symbols)},
    }


def write_labels(folder: str, symbols: List[str]) -> Dict[str, Any]:
    """Writes what a CTC tokenizer needs; returns keys of config.json. transformers takes the padding
    symbol for CTC's blank, which fairseq calls <s>."""
    if symbols[:4] != ["<s>", "<pad>", "</s>", "<unk>"]:
        raise ValueError(f"the labels begin with {symbols[:4]}, expected fairseq's own four")
    named = [*_ORDER, *symbols[4:]]
    write_json(folder, "vocab.json", {label: index for index, label in enumerate(named)})
    special = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), _ORDER))
    write_json(folder, "special_tokens_map.json", special)
    write_json(
        folder,
        "tokenizer_config.json",
        {
            "tokenizer_class": "Wav2Vec2CTCTokenizer",
            "processor_class": "Wav2Vec2Processor",
            **special,
            "word_delimiter_token": "|",
            "replace_word_delimiter_char": " ",
            "do_lower_case": False,
            "clean_up_tokenization_spaces": False,
        },
    )
    return {
        "vocab_size": len(symbols),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def write_preprocessor(folder: str, ctc: bool, sample_rate: int, normalize: bool) -> None:
    write_json(
        folder,
        "preprocessor_config.json",
        {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            **({"processor_class": "Wav2Vec2Processor"} if ctc else {}),
            "feature_size": 1,
            "sampling_rate": sample_rate,
            "padding_value": 0.0,
            "padding_side": "right",
            "do_normalize": normalize,
            "return_attention_mask": True,  # else it reads padding
        },
    )


def write_weights(folder: str, weights: Dict[str, Tensor]) -> None:
    """After config.json."""
    path = os.path.join(folder, "model.safetensors")
    save_file(weights, path, metadata={"format": "pt"})
    shutil.copymode(os.path.join(folder, "config.json"), path)  # safetensors makes it private
