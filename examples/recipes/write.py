#!/usr/bin/env python3
"""Writes the recipes of examples/ from template.yaml and the table of differences below.

    python examples/recipes/write.py

A key whose value is - in the template is left out unless a recipe gives one. A new option is one
line of the template. A test compares the recipes with what this would write.
"""

import os
import re
import textwrap
from typing import Dict, Iterator, Tuple

FOLDER = os.path.dirname(os.path.abspath(__file__))
ABSENT = "-"

# What recipes share. Keys are of fairseq's configuration, values as YAML has them.
LARGE = {
    "task.normalize": "true",
    "dataset.max_tokens": "1280000",
    "optimization.update_freq": "[5]",
    "model.mask_prob": "0.5",
    "model.freeze_finetune_updates": "10000",
}
FEW_HOURS = {
    "checkpoint.keep_interval_updates": "1",
    "dataset.validate_after_updates": "10000",
    "model.freeze_finetune_updates": "10000",
}
TEN_HOURS = {
    **FEW_HOURS,
    "checkpoint.save_interval": "50",
    "checkpoint.save_interval_updates": "10000",
    "dataset.validate_interval": "50",
    "optimization.max_update": "20000",
}
ONE_HOUR = {
    **FEW_HOURS,
    "checkpoint.save_interval": "50",
    "checkpoint.save_interval_updates": "1000",
    "dataset.validate_interval": "1000",
    "optimization.max_update": "13000",
    "model.mask_channel_prob": "0.25",
}
TEN_MINUTES = {
    **ONE_HOUR,
    "checkpoint.save_interval": "1000",
    "checkpoint.save_interval_updates": "50",
}
BASE_RATE, LARGE_RATE, HOUR_RATE = (
    {"optimization.lr": f"[{rate}]"} for rate in ("5.0e-05", "1.0e-04", "3.0e-04")
)
LONGER_MASKS = {"model.mask_prob": "0.75", "model.mask_channel_prob": "0.25"}
COSINE = {
    "lr_scheduler._name": "cosine",
    "lr_scheduler.phase_ratio": ABSENT,
    "lr_scheduler.final_lr_scale": ABSENT,
}
LORA = {"optimization.lr": "[1.0e-03]", "model.lora_rank": "16"}
LORA_100H = {
    **LORA,
    **COSINE,
    "optimization.max_update": "18000",
    "lr_scheduler.warmup_updates": "900",
    "model.freeze_finetune_updates": "0",
}
GROUP = """
    {name}:
      lr_float: 1.0e-03         # learning rate of this part
      optimizer:
        _name: adam
        adam_betas: (0.9,0.98)  # default (0.9, 0.999)
        adam_eps: 1.0e-08       # default 1e-8
      lr_scheduler:
        _name: cosine
        warmup_updates: 900     # updates until it is reached; default 0"""
GROUPS = {
    "common.fp16_no_flatten_grads": "true",
    "optimizer._name": "composite",
    "optimizer.groups": "".join(
        GROUP.format(name=name) for name in ("factors", "heads", "posterior")
    ),
    "optimizer.adam_betas": ABSENT,
    "optimizer.adam_eps": ABSENT,
    "lr_scheduler._name": "pass_through",
    "lr_scheduler.warmup_updates": ABSENT,
}
EMOTION = {
    **COSINE,
    "common.fp16_init_scale": ABSENT,
    "common.log_interval": "20",
    "checkpoint.best_checkpoint_metric": "unweighted_accuracy",
    "checkpoint.maximize_best_checkpoint_metric": "true",
    "task._name": "utterance_classification",
    "task.labels": "emo",
    "task.target_dictionary": "null",
    "task.check_audio": "true",
    "task.max_unreadable": "0.01",
    "task.allow_shared_speakers": "false",
    "dataset.num_workers": "4",
    "dataset.batch_size": "32",
    "dataset.max_tokens": ABSENT,
    "dataset.valid_subset": "valid",
    "criterion._name": "varan_classification",
    "criterion.zero_infinity": ABSENT,
    "criterion.label_smoothing": "0.0",
    "criterion.class_weights": "none",
    "optimization.clip_norm": "10.0",
    "optimization.sentence_avg": ABSENT,
    "optimization.update_freq": ABSENT,
    "model._name": "varan_classification",
    "criterion.prior": "chi2_reversed",
    "model.combine": "mixture",
    "model.head_dim": "256",
    "model.dropout": "0.1",
    "model.attention_dropout": "0.1",
    "model.activation_dropout": ABSENT,
    "model.layerdrop": "0.0",
    "model.apply_mask": "false",
    "model.mask_prob": ABSENT,
    "model.mask_channel_prob": ABSENT,
    "model.mask_channel_length": ABSENT,
    "model.freeze_finetune_updates": ABSENT,
    "model.head_context": ABSENT,
    "model.check_audio": ABSENT,
    "model.max_unknown_labels": ABSENT,
}
# Numbers instead of classes.
REGRESSION = {
    "checkpoint.best_checkpoint_metric": "ccc",
    "task._name": "utterance_regression",
    "task.labels": "val",
    "task.max_sample_size": "240000",
    "criterion._name": "varan_regression",
    "criterion.regression_loss": "ccc",
    "criterion.label_smoothing": ABSENT,
    "criterion.class_weights": ABSENT,
    "model._name": "varan_regression",
    "optimization.max_update": "20000",
    "lr_scheduler.warmup_updates": "1000",
}
EMOTION_FULL = {"optimization.lr": "[1.0e-04]", "optimizer.weight_decay": "0.05"}

# name: (encoder, its checkpoint, what its recipes share)
ENCODERS = {
    "wav2vec2_base": ("wav2vec 2.0 Base (LibriSpeech 960 h)", "wav2vec_small.pt", {}),
    "hubert_base": ("HuBERT Base (LibriSpeech 960 h)", "hubert_base_ls960.pt", {}),
    "wavlm_base_plus": ("WavLM Base+ (94 kh)", "WavLM-Base+.pt", {}),
    "data2vec_base": (
        "data2vec Base (LibriSpeech 960 h)",
        "audio_base_ls.pt",
        {"task.normalize": "true"},
    ),
    "data2vec2_base": (
        "data2vec 2.0 Base (LibriSpeech 960 h)",
        "base_libri.pt",
        {"task.normalize": "true"},
    ),
    "wav2vec2_large_lv60": ("wav2vec 2.0 Large (Libri-Light 60 kh)", "wav2vec_vox_new.pt", LARGE),
    "hubert_large_ll60k": ("HuBERT Large (Libri-Light 60 kh)", "hubert_large_ll60k.pt", LARGE),
    "wavlm_large": ("WavLM Large (94 kh)", "WavLM-Large.pt", LARGE),
    "xls_r_300m": ("XLS-R 300M (436 kh, 128 languages)", "xlsr2_300m.pt", LARGE),
}
_OWN = "fairseq's published recipe for this encoder and amount of data"
_BASE = "fairseq's wav2vec 2.0 Base recipe for this amount of data"
_LARGE = "fairseq's wav2vec 2.0 Large recipe for this amount of data"
# Where learning rate, masking and schedule of full fine-tuning come from.
SOURCES = {
    "wav2vec2_base": _OWN,
    "wav2vec2_large_lv60": _OWN,
    "hubert_base": f"{_BASE} (it publishes HuBERT Base with 10 hours only)",
    "hubert_large_ll60k": f"{_LARGE} (it publishes none for HuBERT Large)",
    "wavlm_base_plus": f"{_BASE} (WavLM's authors published none)",
    "wavlm_large": f"{_LARGE} (WavLM's authors published none)",
    "data2vec_base": f"{_BASE}, which it gives for data2vec too",
    "data2vec2_base": f"{_BASE} (for data2vec 2.0 it points to those recipes)",
    "xls_r_300m": (
        "fairseq's recipe for XLS-R (learning rate from 2e-5 .. 3e-4, masking and batches) and its "
        "wav2vec 2.0 Large recipe for this amount of data (schedule)"
    ),
}
AMOUNTS = {"100h": "100 hours", "10h": "10 hours", "1h": "1 hour", "10m": "10 minutes"}
_HUBERT_10H = {
    "optimization.max_update": "25000",
    "optimization.lr": "[2.0e-05]",
    "optimization.update_freq": "[1]",
    "lr_scheduler.warmup_steps": "8000",
    "lr_scheduler.hold_steps": "0",
    "lr_scheduler.decay_steps": "72000",
    "lr_scheduler.phase_ratio": ABSENT,
    "model.mask_prob": "0.75",
}
_WAV2VEC2_10H = {**BASE_RATE, "model.layerdrop": "0.05"}
# (encoder, amount): differences from the template and the encoder's
FULL: Dict[Tuple[str, str], Dict[str, str]] = {
    **{(encoder, "100h"): {} for encoder in ENCODERS},
    ("xls_r_300m", "100h"): LONGER_MASKS,
    ("wav2vec2_base", "10h"): {**TEN_HOURS, **_WAV2VEC2_10H},
    ("hubert_base", "10h"): {**TEN_HOURS, **_HUBERT_10H},
}
for _encoder in ("wav2vec2_base", "hubert_base"):
    FULL[_encoder, "1h"] = {**ONE_HOUR, **BASE_RATE}
    FULL[_encoder, "10m"] = {**TEN_MINUTES, **BASE_RATE}
for _encoder in ("wav2vec2_large_lv60", "hubert_large_ll60k"):
    FULL[_encoder, "10h"] = {**TEN_HOURS, **LARGE_RATE, **LONGER_MASKS}
    FULL[_encoder, "1h"] = {**ONE_HOUR, **HOUR_RATE, **LONGER_MASKS}
    FULL[_encoder, "10m"] = {**TEN_MINUTES, **LARGE_RATE, "model.mask_prob": "0.65"}
LORA_ENCODERS = {  # with batches an update
    "wav2vec2_base": "[2]",
    "hubert_base": "[2]",
    "wav2vec2_large_lv60": "[5]",
    "hubert_large_ll60k": "[5]",
}
EMOTION_ENCODERS = ("wavlm_base_plus", "hubert_base", "data2vec_base")
CORPORA = {
    "iemocap": (
        "one fold of IEMOCAP (manifests/iemocap.py), four classes",
        "data/iemocap/fold1",
        {
            "hydra.sweep": "{dir: ., subdir: .}",
            "task.max_sample_size": "240000",
            "optimization.max_update": "2400",
            "lr_scheduler.warmup_updates": "120",
        },
    ),
    "ravdess": (
        "RAVDESS (manifests/ravdess.py --classes 7), seven classes",
        "data/ravdess",
        {"optimization.max_update": "680", "lr_scheduler.warmup_updates": "34"},
    ),
}

# The demos: on a CPU, small, and as fast as they can be.
DEMO = {
    "common.fp16": ABSENT,
    "common.fp16_init_scale": ABSENT,
    "common.log_format": "simple",
    "common.log_interval": "10",
    "common.tensorboard_logdir": ABSENT,
    "common.seed": "1",
    "checkpoint.save_interval": "1000000",
    "dataset.num_workers": "0",
    "dataset.validate_interval": "1000000",
    "dataset.train_subset": ABSENT,
    "dataset.valid_subset": "valid",
    "distributed_training.ddp_backend": ABSENT,
    "criterion.prior_df": "2.0",
    "optimization.clip_norm": ABSENT,
    "optimization.update_freq": ABSENT,
    "model.posterior_heads": "4",
    "model.dropout": "0.0",
    "model.layerdrop": "0.0",
    "model.activation_dropout": ABSENT,
    "model.feature_grad_mult": "1.0",
    "model.freeze_finetune_updates": ABSENT,
}
# name: corpus under work/, about it, differences
DEMOS: Dict[str, Tuple[str, str, Dict[str, str]]] = {
    "finetune": (
        "digits",
        "The demo's fine-tuning; `make demo` adds model.lora_rank=16 and prints its whole command. "
        "The baselines are the same file with model.aggregation=last_layer or "
        "model.aggregation=weighted_sum.",
        {
            **DEMO,
            "dataset.max_tokens": "480000",
            "optimization.max_update": "500",
            "optimization.lr": "[0.002]",
            "lr_scheduler.phase_ratio": "[0.1, 0.5, 0.4]",
            "model.mask_prob": "0.1",
            "model.mask_length": "5",
            "model.mask_channel_prob": "0.1",
            "model.mask_channel_length": "8",
        },
    ),
    "emotion": (
        "styles",
        "The fine-tuning of `make demo-emotion`: four speaking styles, about two minutes on two "
        "cores. The baselines are the same file with model.aggregation=last_layer or weighted_sum.",
        {
            **EMOTION,
            **DEMO,
            "model.attention_dropout": ABSENT,
            "task.max_sample_size": "24000",
            "dataset.batch_size": "16",
            "optimization.max_update": "400",
            "optimization.lr": "[0.001]",
            "lr_scheduler.warmup_updates": "40",
        },
    ),
}


def recipes() -> Iterator[Tuple[str, str]]:
    """(name, text) of every recipe."""
    for (encoder, amount), differences in FULL.items():
        title, file, shared = ENCODERS[encoder]
        values = {**shared, **differences}
        freq = int(values.get("optimization.update_freq", "[4]")[1:-1])
        gpus = {1: 8, 4: 2, 5: 4}[freq]
        head = (
            f"{title} on {AMOUNTS[amount]} of LibriSpeech, read by VARAN. Baselines: "
            "model.aggregation=last_layer or model.aggregation=weighted_sum. Learning rate, masking "
            f"and schedule: {_source(encoder, amount)}; prior: docs/results.md; beta: the "
            f"method's. Meant for {gpus} GPUs times update_freq {freq}: with N GPUs use "
            f"optimization.update_freq=[{gpus * freq}/N]."
        )
        if encoder == "data2vec2_base":
            head += (
                "\nfairseq's main branch only (Python 3.11, 3.12: ve-fairseq): 0.12.2 has no "
                "data2vec 2.0."
            )
        yield _recipe(f"{encoder}_libri_{amount}", "DATA", file, head, values)
    for encoder, freq in LORA_ENCODERS.items():
        title, file, shared = ENCODERS[encoder]
        values = {**shared, **LORA_100H, "optimization.update_freq": freq}
        head = (
            f"{title} on 100 hours of LibriSpeech, read by VARAN, with LoRA of rank 16 on its "
            "feed-forward layers. Baselines: model.aggregation=last_layer or weighted_sum; DoRA: "
            "model.lora_magnitude=true. Learning rate, schedule, batch (about 32 utterances, 20 "
            "epochs) and beta: the method's for LoRA; prior: docs/results.md; masking: fairseq's recipe for this "
            f"encoder. Meant for 1 GPU times update_freq {freq[1:-1]}."
        )
        yield _recipe(f"{encoder}_libri_100h_lora", "DATA", file, head, values)
    values = {**LORA_100H, "optimization.update_freq": "[2]", **GROUPS}
    head = (
        "hubert_base_libri_100h_lora with learning rates apart: fairseq's optimizer `composite` has "
        "one for each group of parameters that trains, here low-rank factors, heads and posterior "
        "(with finetune=full: encoder, heads, posterior; with probe: heads, posterior). All rates "
        "are those of that recipe (the posterior's is multiplied by posterior_lr_multiplier, too): "
        "change them by optimizer.groups.heads.lr_float=0.002. Where only the posterior should go "
        "at another pace, model.posterior_lr_multiplier in any recipe is enough."
    )
    file = ENCODERS["hubert_base"][1]
    yield _recipe("hubert_base_libri_100h_lora_groups", "DATA", file, head, values)
    for encoder in EMOTION_ENCODERS:
        for corpus in CORPORA:
            yield _emotion(encoder, corpus, lora=False)
            yield _emotion(encoder, corpus, lora=True)
    title, file, shared = ENCODERS["wavlm_base_plus"]
    head = (
        f"{title}, read by VARAN, all of its transformer trained, for valence, arousal and dominance of "
        "MSP-Podcast, or for any other numbers of an utterance, such as a mean opinion score. "
        "Manifests: manifests/rated.py labels.csv data/podcast --values valence arousal dominance. "
        "Baselines: model.aggregation=last_layer or weighted_sum. Schedule, prior and beta are those "
        "of the recipes for emotion; the length, 20,000 batches of 32, is a guess. Never run on that "
        "corpus. Meant for 1 GPU."
    )
    values = {**shared, **EMOTION, **REGRESSION, **EMOTION_FULL}
    yield _recipe("wavlm_base_plus_podcast_values", "data/podcast", file, head, values)
    for name, (corpus, head, differences) in DEMOS.items():
        command = (
            f"# fairseq-hydra-train --config-dir examples/demo --config-name {name} \\\n"
            f"#   common.user_dir=varan_fairseq task.data=work/{corpus}/data \\\n"
            f"#   model.w2v_path=work/{corpus}/pretrain/checkpoint_last.pt "
            f"checkpoint.save_dir=work/{corpus}/varan"
        )
        values = {**differences, "checkpoint.save_dir": f"work/{corpus}/varan"}
        yield f"demo/{name}", _text(name, command, head, values)


def _source(encoder: str, amount: str) -> str:
    return _OWN if (encoder, amount) == ("hubert_base", "10h") else SOURCES[encoder]


def _emotion(encoder: str, corpus: str, lora: bool) -> Tuple[str, str]:
    title, file, shared = ENCODERS[encoder]
    about, data, differences = CORPORA[corpus]
    name = f"{encoder}_{corpus}" + ("_lora" if lora else "")
    values = {**shared, **EMOTION, **differences, **(LORA if lora else EMOTION_FULL)}
    trained = (
        "LoRA of rank 16 on its feed-forward layers" if lora else "all of its transformer trained"
    )
    head = (
        f"{title} on {about}, read by VARAN, with {trained}. Baselines: "
        "model.aggregation=last_layer or weighted_sum. Learning rate, schedule, batch (32 "
        "utterances, about 20 epochs), prior and beta: the method's. Meant for 1 GPU."
    )
    if corpus == "iemocap":  # one folder per fold
        values["checkpoint.save_dir"] = f"checkpoints/{name}/${{task.data}}"
        head += "\nAll five folds, with mean and standard deviation:"
        head += f"\n  varan-crossval data/iemocap --config-dir examples/ --config-name {name} \\"
        head += f"\n    common.user_dir=varan_fairseq model.w2v_path={file}"
    return _recipe(name, data, file, head, values)


def _recipe(
    name: str, data: str, file: str, head: str, differences: Dict[str, str]
) -> Tuple[str, str]:
    command = (
        f"# fairseq-hydra-train --config-dir examples/ --config-name {name} \\\n"
        f"#   common.user_dir=varan_fairseq task.data={data} model.w2v_path={file}"
    )
    return name, _text(name, command, head, differences)


def _text(name: str, command: str, head: str, differences: Dict[str, str]) -> str:
    lines = [command, "#"]
    for paragraph in head.split("\n"):
        wrapped = [paragraph] if paragraph.startswith(" ") else textwrap.wrap(paragraph, 96)
        lines += [f"# {line}" for line in wrapped]
    return "\n".join([*lines, "", *_filled(name, differences)]) + "\n"


def _filled(name: str, differences: Dict[str, str]) -> Iterator[str]:
    """Lines of the template with a recipe's values."""
    left, section, above = dict(differences), "", []
    with open(os.path.join(FOLDER, "template.yaml"), encoding="utf-8") as file:
        for line in file.read().splitlines():
            found = re.fullmatch(r"  (\w+): (.*?) +# (.*)", line)
            if not found:
                section = line.rstrip(":") or section
                above.append(line)
                continue
            key, value, comment = found.groups()
            value = left.pop(f"{section}.{key}", value.replace("NAME", name))
            if value == ABSENT:
                continue
            value, newline, more = value.partition("\n")
            text = f"  {key}: {value}".rstrip()
            yield from above[-2:]  # a section of which nothing is given is left out
            above.clear()
            yield f"{text:<30}  # {comment}" + newline + more
    if left:
        raise ValueError(f"{name}: the template has no {', '.join(left)}")


def main() -> None:
    for name, text in recipes():
        with open(os.path.join(FOLDER, "..", f"{name}.yaml"), "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
