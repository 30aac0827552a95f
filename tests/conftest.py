"""Small things that tests share. Nothing here computes what a test checks."""

import os
import subprocess
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of parallel jobs fight each other

import numpy as np
import pytest
import soundfile
import torch

torch.set_num_threads(1)

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONV = "[(16,20,10)] + [(16,3,2)] * 3 + [(16,2,2)] * 2"  # 320 samples a frame


def tiny_model(**changes):
    """Pre-training configuration of a 4-block, 32-wide wav2vec 2.0."""
    return {
        "_name": "wav2vec2",
        "quantize_targets": True,
        "final_dim": 16,
        "latent_vars": 8,
        "conv_feature_layers": CONV,
        "conv_pos": 16,
        "conv_pos_groups": 4,
        "encoder_layers": 4,
        "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 64,
        "encoder_attention_heads": 4,
        **changes,
    }


def save_pretrained(path, kind="wav2vec2", normalize=False, **changes):
    """A random-weight pre-training checkpoint as fairseq would save it. Returns its path."""
    from fairseq import tasks
    from fairseq.data.dictionary import Dictionary
    from fairseq.dataclass.configs import CommonConfig, DatasetConfig, DistributedTrainingConfig
    from fairseq.models import MODEL_DATACLASS_REGISTRY
    from fairseq.tasks import TASK_DATACLASS_REGISTRY
    from omegaconf import OmegaConf

    import varan_fairseq  # noqa: F401

    torch.manual_seed(0)
    model = tiny_model(**changes)
    task = {"_name": "audio_pretraining", "data": "gone", "normalize": normalize}
    task_state = {}
    if kind == "hubert":
        for key in ("quantize_targets", "latent_vars"):
            del model[key]
        model.update(_name="hubert", label_rate=50)
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
    built = setup.build_model(OmegaConf.create(cfg["model"]))
    state = {"cfg": cfg, "args": None, "model": built.state_dict(), "task_state": task_state}
    state["optimizer_history"] = [{"num_updates": 0, "lr_scheduler_state": {}}]
    state["extra_state"] = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}}
    torch.save(state, path)
    return str(path)


def write_corpus(folder, splits=("train", "valid", "test"), count=6, seed=0, rate=16000):
    """Noise bursts with letter transcripts: enough to run, nothing to learn."""
    from varan_fairseq.manifest import write_dictionary, write_split

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


def command(name):
    """A console script of the environment that runs the tests."""
    return os.path.join(os.path.dirname(sys.executable), name)


def shell(*arguments, cwd=REPO, check=True):
    """Runs a command; returns stdout and stderr together. Fails the test with them."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=str(cwd),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        env={**os.environ, "HYDRA_FULL_ERROR": "1"},
    )
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
