"""A folder of Hugging Face's transformers -> weights of an encoder and the configuration that
fairseq's pre-training would have had. transformers itself is not needed.

config.json is JSON and model.safetensors holds numbers alone: nothing of such a folder is
unpickled, but for a pytorch_model.bin, which torch reads as weights only (2.6 or newer).
"""

import hashlib
import logging
import os
from collections import Counter
from typing import Any, Dict, List, Optional, Tuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..runtime.files import sha256
from ..runtime.pickles import weights_alone
from .foreign import complete_config, draw_mask_embedding
from .hf_config import CONFIG, Config, model_config, read_json
from .hf_names import NOT_OF_ENCODER, PREFIXES, names
from .names import without_prefix

logger = logging.getLogger(__name__)

_INDEX = ".index.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there
_FAIRSEQ_NAME = {"hubert": "hubert", "wavlm": "wavlm", "data2vec-audio": "data2vec_audio"}


def is_folder(path: str) -> bool:
    """Whether transformers may have written this folder."""
    return os.path.isfile(os.path.join(path, CONFIG))


def read_folder(path: str) -> Tuple[Dict[str, Tensor], Any, Optional[str], Dict[str, int]]:
    """(weights by fairseq's names, configuration in fairseq's layout, class of the model that the
    encoder was in or None, number of weights that are left out by part).

    Weights keep their precision: float16 and bfloat16 become float32 where they are loaded.
    Raises ValueError, saying what is missing, unknown or not supported.
    """
    if not is_folder(path):
        raise ValueError(
            f"the folder has no {CONFIG}: expected one that transformers wrote "
            f"({CONFIG} and {_WEIGHTS[0]}), or fairseq's .pt"
        )
    config = Config(os.path.join(path, CONFIG))
    model = model_config(config)
    weights = read_tensors(path)
    kept, dropped = _renamed(weights, config)
    _fit(kept, config)
    rate = _sample_rate(path, config)
    heads = [name for name in config.get("architectures", list, None) or () if dropped]
    # what was pre-trained on normalised audio has LayerNorms in its feature encoder, whatever
    # preprocessor_config.json says of a fine-tuned model
    name = _FAIRSEQ_NAME.get(config.kind, "wav2vec2")
    complete = complete_config(name, model, config.layer_normed, rate)
    return kept, complete, str(heads[0]) if heads else None, dropped


def digest(path: str) -> str:
    """SHA-256, in hexadecimal, of what decides the encoder of such a folder: of the sums of
    config.json and the files of weights."""
    whole = hashlib.sha256()
    for name in sorted([CONFIG, *_files(path)]):
        whole.update(f"{name} {sha256(os.path.join(path, name))}\n".encode())
    return whole.hexdigest()


def read_tensors(path: str) -> Dict[str, Tensor]:
    """All weights of a folder, of one file or of shards. Raises ValueError for what is missing, cut
    off or a pickle that torch cannot read safely."""
    tensors: Dict[str, Tensor] = {}
    for name in _files(path):
        file = os.path.join(path, name)
        if not os.path.isfile(file):
            raise ValueError(f"{name} is missing, which its index names: download it again")
        if name.endswith(".bin"):
            tensors.update(weights_alone(file))
            continue
        try:
            tensors.update(load_file(file))
        except SafetensorError as error:
            raise ValueError(f"{name} is not a file of safetensors, or cut off ({error})") from None
    return tensors


def _files(path: str) -> List[str]:
    for name in _WEIGHTS:
        if os.path.isfile(os.path.join(path, name)):
            return [name]
        if os.path.isfile(os.path.join(path, name + _INDEX)):
            shards = read_json(os.path.join(path, name + _INDEX)).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise ValueError(f"{name}{_INDEX} has no weight_map")
            return sorted({os.path.basename(str(shard)) for shard in shards.values()})
    raise ValueError(f"the folder has no {' and no '.join(_WEIGHTS)}")


def _renamed(
    weights: Dict[str, Tensor], config: Config
) -> Tuple[Dict[str, Tensor], Dict[str, int]]:
    """By fairseq's names, and how many numbers of each other part there are."""
    table = names(config.kind, config.layer_normed, config.batch_normed)
    kept: Dict[str, Tensor] = {}
    dropped: Dict[str, int] = Counter()
    unknown = []
    for name, short in without_prefix(weights, PREFIXES[config.kind]).items():
        ours = table.ours(short)
        if ours is not None:
            kept[ours] = weights[name]
        elif short.split(".")[0] in NOT_OF_ENCODER:
            dropped[short.split(".")[0]] += weights[name].numel()
        elif short == "encoder.embed_positions.inv_freq":
            _add_frequencies(kept, weights[name], config)
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(
            f"{len(unknown)} of its {len(weights)} weights are not of a {config.kind} that is known "
            f"here, the first is {unknown[0]}"
        )
    return kept, dropped


def _add_frequencies(kept: Dict[str, Tensor], values: Tensor, config: Config) -> None:
    """Of rotary positions, which every block of fairseq's has for itself."""
    for layer in range(config.size("num_hidden_layers")):
        kept[f"encoder.layers.{layer}.self_attn.rotary_emb.inv_freq"] = values


def _fit(kept: Dict[str, Tensor], config: Config) -> None:
    """Sees to what one library has and the other does not, in place."""
    width = config.size("hidden_size")
    draw_mask_embedding(kept, width)
    if config.convolutions()[-1][0] == width:  # then fairseq has no projection
        weight = kept.pop("post_extract_proj.weight", None)
        bias = kept.pop("post_extract_proj.bias", None)
        if weight is not None and bias is not None:
            identity = torch.eye(width, dtype=weight.dtype)
            if not torch.equal(weight, identity) or bias.count_nonzero():
                raise ValueError(
                    f"feature_projection maps {width} to {width} channels, where fairseq's encoders "
                    "have no map"
                )


def _sample_rate(path: str, config: Config) -> int:
    """Of preprocessor_config.json, whose normalisation is compared with the encoder's."""
    file = os.path.join(path, "preprocessor_config.json")
    if not os.path.isfile(file):
        return 16000
    preprocessor = read_json(file)
    normalizes = preprocessor.get("do_normalize")
    if isinstance(normalizes, bool) and normalizes != config.layer_normed:
        given, wanted = (str(value).lower() for value in (normalizes, config.layer_normed))
        logger.warning(
            "preprocessor_config.json has do_normalize=%s, but encoders with this feature encoder "
            "were pre-trained with task.normalize=%s: that is what is used",
            given,
            wanted,
        )
    rate = preprocessor.get("sampling_rate", 16000)
    if type(rate) is not int or not 1000 <= rate <= 192000:
        raise ValueError(f"preprocessor_config.json has sampling_rate={rate!r}, expected hertz")
    return rate
