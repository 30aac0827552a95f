"""Small things that tests share. Nothing here computes what a test checks."""

import glob
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of parallel jobs fight each other

import numpy as np
import preloaded
import pytest
import soundfile
import torch

from varan_fairseq.runtime.fairseq_compat import find_example

torch.set_num_threads(1)
pytest_plugins = ["faulty"]  # fixtures of the campaign

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONV = "[(16,20,10)] + [(16,3,2)] * 3 + [(16,2,2)] * 2"  # 320 samples a frame
# Overrides of a pre-training, for an encoder of no size.
SMALL = [
    f"model.conv_feature_layers='{CONV}'",
    "model.conv_pos=16",
    "model.conv_pos_groups=4",
    "model.encoder_layers=3",
    "model.encoder_embed_dim=32",
    "model.encoder_ffn_embed_dim=64",
]


# The files that take longest, first: no process is then left alone with one at the end.
LONGEST = [
    "test_pages", "test_export", "test_every_encoder", "test_evidence", "test_recipes", "test_classify",
    "test_finetune", "test_upstream", "test_decoding", "test_digits", "test_cluster", "test_runs",
    "test_groups", "test_labelled_manifests", "test_prune", "test_tools", "test_model",
    "test_end_to_end", "test_data_parallel",
]  # fmt: skip


def pytest_collection_modifyitems(items):
    place = {f"{name}.py": index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


# Every kind of encoder that the fairseq of this environment has the code of.
ENCODERS = ["wav2vec2", "hubert", "wavlm", "data2vec_audio", "conformer", "conformer_relative"]
if find_example("data2vec.models.data2vec2"):
    ENCODERS.append("data2vec_multi")


def tiny_model(kind="wav2vec2", **changes):
    """Configuration of a 4-block, 32-wide encoder."""
    shape = {
        "conv_feature_layers": CONV,
        "conv_pos": 16,
        "conv_pos_groups": 4,
        "encoder_layers": 4,
        "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 64,
        "encoder_attention_heads": 4,
    }
    quantizer = {"quantize_targets": True, "final_dim": 16, "latent_vars": 8}
    conformer = {"layer_type": "conformer", "depthwise_conv_kernel_size": 7}
    relative = {"attn_type": "espnet", "pos_enc_type": "rel_pos", "max_positions": 500}
    rotary = {"attn_type": "espnet", "pos_enc_type": "rope"}
    if kind == "data2vec_multi":
        return tiny_data2vec2(**changes)
    model = {
        "wav2vec2": {"_name": "wav2vec2", **shape, **quantizer},
        "conformer": {"_name": "wav2vec2", **shape, **quantizer, **conformer},
        "conformer_relative": {"_name": "wav2vec2", **shape, **quantizer, **conformer, **relative},
        "conformer_rotary": {"_name": "wav2vec2", **shape, **quantizer, **conformer, **rotary},
        "hubert": {"_name": "hubert", **shape, "final_dim": 16, "label_rate": 50},
        "data2vec_audio": {
            "_name": "data2vec_audio",
            **shape,
            "extractor_mode": "layer_norm",
            "pos_conv_depth": 3,
            "average_top_k_layers": 2,
        },
    }[kind]
    return {**model, **changes}


def tiny_data2vec2(encoder_embed_dim=32, encoder_attention_heads=4, encoder_layers=4, **changes):
    """The same for data2vec 2.0, under the names it has for things. One block is the context
    encoder's."""
    audio = {
        "feature_encoder_spec": CONV,
        "conv_pos_width": 15,
        "conv_pos_groups": 4,
        "conv_pos_depth": 3,
        "prenet_depth": 1,
        "use_alibi_encoder": True,
        "learned_alibi_scale": True,
        "learned_alibi_scale_per_head": True,
        "mask_prob": 0.5,
        "mask_prob_adjust": 0.05,
        "mask_length": 5,
        "mask_dropout": 0.0,
        "inverse_mask": False,
        "decoder": {"decoder_dim": 16, "decoder_groups": 4, "decoder_layers": 2},
    }
    for key in ("extractor_mode", "num_extra_tokens"):
        if key in changes:
            audio[key] = changes.pop(key)
    return {
        "_name": "data2vec_multi",
        "depth": encoder_layers - 1,
        "embed_dim": encoder_embed_dim,
        "num_heads": encoder_attention_heads,
        "mlp_ratio": 2,
        "average_top_k_layers": 2,
        "clone_batch": 2,
        "supported_modality": "AUDIO",
        "modalities": {"audio": audio},
        **changes,
    }


def save_wavlm(path, normalize=False, leave_out=(), **changes):
    """A random-weight WavLM as Microsoft released them: two plain dictionaries. leave_out:
    keys of the configuration. Returns its path."""
    from varan_fairseq.upstream.wavlm import WavLM, WavLMConfig

    torch.manual_seed(0)
    cfg = {
        "extractor_mode": "default",
        "conv_bias": False,
        "activation_fn": "gelu",
        "layer_norm_first": False,
        "normalize": normalize,
        "relative_position_embedding": True,
        "gru_rel_pos": True,
        "num_buckets": 32,
        "max_distance": 40,
        "label_rate": 50,
        **tiny_model("hubert"),
        **changes,
    }
    del cfg["_name"]
    known = WavLMConfig.__dataclass_fields__
    model = WavLM({key: value for key, value in cfg.items() if key in known})
    weights = model.state_dict()
    for name, weight in weights.items():  # as after training
        if "grep" in name or "relative" in name:
            weight.add_(torch.randn(weight.shape))
    torch.save(
        {"cfg": {k: v for k, v in cfg.items() if k not in leave_out}, "model": weights}, path
    )
    return str(path)


def save_pretrained(path, kind="wav2vec2", normalize=False, old_format=False, **changes):
    """A random-weight pre-training checkpoint as fairseq would save it, or, for "wavlm", as
    released. old_format: with argparse's `args`, as fairseq did until 2020. Returns its path."""
    from argparse import Namespace

    from fairseq import tasks
    from fairseq.data.dictionary import Dictionary
    from fairseq.dataclass.configs import (
        CommonConfig,
        DatasetConfig,
        DistributedTrainingConfig,
        OptimizationConfig,
    )
    from fairseq.models import MODEL_DATACLASS_REGISTRY
    from fairseq.tasks import TASK_DATACLASS_REGISTRY
    from omegaconf import OmegaConf

    import varan_fairseq.models  # noqa: F401  (registers all)
    from varan_fairseq.runtime.fairseq_compat import conformer_buildable
    from varan_fairseq.upstream import data2vec

    if kind == "wavlm":
        return save_wavlm(path, normalize, **changes)
    torch.manual_seed(0)
    model = tiny_model(kind, **changes)
    if kind.startswith("data2vec"):
        data2vec.register(kind)
    task = {"_name": "audio_pretraining", "data": "gone", "normalize": normalize}
    task_state = {}
    if kind == "hubert":
        task.update(_name="hubert_pretraining", labels=["km"], label_rate=50)
        labels = Dictionary()
        for label in "abcde":
            labels.add_symbol(label)
        task_state = {"dictionaries": [labels]}

    # With every default filled in and every interpolation resolved, as fairseq saves it.
    cfg = OmegaConf.create(
        {
            "common": OmegaConf.structured(CommonConfig),
            "distributed_training": OmegaConf.structured(DistributedTrainingConfig),
            "dataset": OmegaConf.structured(DatasetConfig),
            "optimization": OmegaConf.structured(OptimizationConfig),
            "criterion": None,
            "lr_scheduler": None,
            "task": OmegaConf.merge(
                OmegaConf.structured(TASK_DATACLASS_REGISTRY[task["_name"]]), task
            ),
            "model": OmegaConf.merge(
                OmegaConf.structured(MODEL_DATACLASS_REGISTRY[model["_name"]]), model
            ),
        }
    )
    cfg = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    setup = tasks.setup_task(OmegaConf.create(cfg["task"]))
    setup.load_state_dict(dict(task_state))
    with conformer_buildable(), data2vec.without_timm():
        built = setup.build_model(OmegaConf.create(cfg["model"]))
        built.set_num_updates(0)  # data2vec makes its teacher here
    state = {"cfg": cfg, "args": None, "model": built.state_dict(), "task_state": task_state}
    if old_format:
        flat = {**cfg["task"], **cfg["model"], "arch": model["_name"], "task": task["_name"]}
        state.update(cfg=None, args=Namespace(**flat, criterion="wav2vec"))
    state["optimizer_history"] = [{"num_updates": 0, "lr_scheduler_state": {}}]
    state["extra_state"] = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}}
    torch.save(state, path)
    return str(path)


def write_corpus(folder, splits=("train", "valid", "test"), count=6, seed=0, rate=16000):
    """Noise bursts with letter transcripts: enough to run, nothing to learn."""
    from varan_fairseq.data.manifest import write_dictionary, write_split

    rng = np.random.default_rng(seed)
    folder = str(folder)
    words = ["ONE", "TWO", "SIX"]
    everything = []
    for split in splits:
        entries, texts = [], []
        os.makedirs(os.path.join(folder, "wav"), exist_ok=True)
        for index in range(count):
            samples = int(rng.integers(9000, 16000))
            name = f"{split}{index}.wav"
            wave = rng.normal(0, 0.1, samples)
            soundfile.write(os.path.join(folder, "wav", name), wave, rate, subtype="PCM_16")
            entries.append((name, samples))
            texts.append(" ".join(rng.choice(words, 2)))
        write_split(folder, split, os.path.join(folder, "wav"), entries, texts)
        everything += texts
    write_dictionary(folder, everything)
    return folder


CLASSES = ("ang", "hap", "sad")


def write_labelled_corpus(folder, splits=("train", "valid", "test"), count=6, seed=0):
    """Tones with a class each, by hand: the files of fairseq main's `audio_classification`."""
    rng = np.random.default_rng(seed)
    folder = str(folder)
    os.makedirs(os.path.join(folder, "wav"), exist_ok=True)
    for split in splits:
        rows, labels = [], []
        for index in range(count):
            samples = int(rng.integers(9000, 16000))
            label = index % len(CLASSES)
            tone = np.sin(np.arange(samples) * 0.05 * (1 + 2 * label))
            wave = 0.3 * tone + rng.normal(0, 0.05, samples)
            name = f"{split}{index}.wav"
            soundfile.write(os.path.join(folder, "wav", name), wave, 16000, subtype="PCM_16")
            rows.append(f"{name}\t{samples}\n")
            labels.append(f"{CLASSES[label]}\n")
        with open(os.path.join(folder, f"{split}.tsv"), "w") as file:
            file.writelines([os.path.join(folder, "wav") + "\n", *rows])
        with open(os.path.join(folder, f"{split}.emo"), "w") as file:
            file.writelines(labels)
    with open(os.path.join(folder, "dict.emo.txt"), "w") as file:
        file.writelines(f"{name} {count // 3}\n" for name in CLASSES)
    return folder


def write_rated_corpus(folder, **options):
    """The same tones with two numbers each: how high, and a random one."""
    folder, rng = write_labelled_corpus(folder, **options), np.random.default_rng(1)
    for path in glob.glob(os.path.join(folder, "*.emo")):
        with open(path) as file:
            labels = [CLASSES.index(line.strip()) for line in file]
        with open(path[:-3] + "val", "w") as file:
            file.writelines(f"{100 + 50 * label} {rng.normal():.4f}\n" for label in labels)
        os.remove(path)
    os.rename(os.path.join(folder, "dict.emo.txt"), os.path.join(folder, "dict.val.txt"))
    with open(os.path.join(folder, "dict.val.txt"), "w") as file:
        file.write("pitch 6\nmood 6\n")
    return folder


def command(name):
    """A console script of the environment that runs the tests."""
    return os.path.join(os.path.dirname(sys.executable), name)


def shell(*arguments, cwd=REPO, check=True):
    """Runs a command; returns stdout and stderr together. Fails the test with them."""
    done = preloaded.run(arguments, cwd, env={**os.environ, "HYDRA_FULL_ERROR": "1"})
    if check:
        assert done.returncode == 0, done.stdout[-6000:]
    else:
        assert done.returncode != 0, "should have failed:\n" + done.stdout[-3000:]
    return done.stdout


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def labelled_corpus(tmp_path_factory):
    return write_labelled_corpus(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="session")
def wav2vec2(tmp_path_factory):
    return save_pretrained(tmp_path_factory.mktemp("w2v") / "wav2vec2.pt")


@pytest.fixture(scope="session")
def hubert(tmp_path_factory):
    return save_pretrained(tmp_path_factory.mktemp("hubert") / "hubert.pt", "hubert")
