import glob
import os
import re

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = os.path.dirname(os.path.abspath(__file__))


def read(*path):
    with open(os.path.join(HERE, *path), encoding="utf-8") as file:
        return file.read()


class WithRecipes(build_py):
    """Also copies recipes and corpus scripts, which lie beside the package, into it
    (`python -m varan_fairseq recipes`)."""

    def run(self):
        super().run()
        if getattr(self, "editable_mode", False):
            return
        for pattern in ("examples/*.yaml", "examples/cluster/*", "manifests/*.py"):
            for path in glob.glob(os.path.join(HERE, pattern)):
                target = os.path.join(self.build_lib, "varan_fairseq", os.path.relpath(path, HERE))
                if os.path.isfile(path):
                    self.mkpath(os.path.dirname(target))
                    self.copy_file(path, target)


setup(
    cmdclass={"build_py": WithRecipes},
    name="varan-fairseq",
    version=re.search(r'__version__ = "(.*)"', read("varan_fairseq", "__init__.py"))[1],
    description="VARAN for fairseq: layers of a speech encoder weighed per utterance",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    license="MIT",
    project_urls={"Paper": "https://arxiv.org/abs/2508.12061"},
    keywords="speech recognition, emotion recognition, fairseq, wav2vec 2.0, HuBERT, LoRA, CTC",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: MIT License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(8, 13)),
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.8,<3.13",
    packages=find_packages(include=["varan_fairseq", "varan_fairseq.*"]),
    package_data={"varan_fairseq": ["py.typed"], "varan_fairseq.report": ["*.html"]},
    install_requires=[
        "torch<2.14",  # the newest that was tested
        "omegaconf",
        "numpy",
        "scipy",
        "editdistance",
        "soundfile",
        "soxr",
        "safetensors",
        "kaldialign",
        "jinja2",
        "markupsafe",
        "tqdm",
        "matplotlib",
        "tensorboard",
    ],
    extras_require={
        # Two distributions of fairseq; what teams have already is left alone without it.
        "fairseq": [
            "ve-fairseq==0.12.3; python_version >= '3.11'",
            "hydra-core<1.4; python_version >= '3.11'",
            "fairseq==0.12.2; python_version < '3.11'",
            "numpy<2; python_version < '3.11'",
        ],
        "plots": [],  # matplotlib is always installed; commands of before name it
        "lm": ["flashlight-text"],
        "onnx": ["onnx", "onnxruntime"],
        "corpora": ["lhotse", "sentencepiece"],
        "cluster": ["hydra-submitit-launcher"],
        "demo": [
            "flashlight-text",
            "espeakng-loader",
            "num2words",
            "scikit-learn",
            "kaldi-native-fbank",
        ],
        "test": [
            "pytest",
            "pytest-xdist",
            "flashlight-text",
            "espeakng-loader",
            "num2words",
            "scikit-learn",
            "kaldi-native-fbank",
            "hydra-submitit-launcher",
            "jiwer",
            "onnx",
            "onnxruntime",
            "sherpa-onnx",
            "lhotse",
            "sentencepiece",
            # a reference for one test; newer ones import torchaudio, which a CPU build of
            # torch may not load
            "peft<0.14",
            "transformers<4.47",
            # the linters: one lane is enough
            "ruff; python_version >= '3.11'",
            "mypy; python_version >= '3.11'",
        ],
    },
    entry_points={
        "console_scripts": [
            "varan-inspect=varan_fairseq.cli.inspect_checkpoint:main",
            "varan-infer=varan_fairseq.cli.infer:main",
            "varan-layers=varan_fairseq.cli.layers:main",
            "varan-export=varan_fairseq.cli.export:main",
            "varan-classify=varan_fairseq.cli.classify:main",
            "varan-predict=varan_fairseq.cli.predict:main",
            "varan-crossval=varan_fairseq.cli.crossval:main",
            "varan-check=varan_fairseq.cli.check:main",
            "varan-report=varan_fairseq.cli.report:main",
            "varan-transcribe=varan_fairseq.cli.transcribe:main",
        ]
    },
)
