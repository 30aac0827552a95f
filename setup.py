from setuptools import find_packages, setup

setup(
    name="varan-fairseq",
    version="0.1.0",
    description="VARAN for fairseq: layers of a speech encoder weighed per utterance",
    license="MIT",
    python_requires=">=3.8,<3.13",
    packages=find_packages(include=["varan_fairseq", "varan_fairseq.*"]),
    package_data={"varan_fairseq.report": ["page.html"]},
    install_requires=[
        "torch",
        "omegaconf",
        "numpy",
        "scipy",
        "editdistance",
        "soundfile",
        "soxr",
        "safetensors",
        "kaldialign",
        "jinja2",
        "tqdm",
    ],
    extras_require={
        # Two distributions of fairseq; what teams have already is left alone without it.
        "fairseq": [
            "ve-fairseq==0.12.3; python_version >= '3.11'",
            "hydra-core<1.4; python_version >= '3.11'",
            "fairseq==0.12.2; python_version < '3.11'",
            "numpy<2; python_version < '3.11'",
        ],
        "plots": ["matplotlib"],
        "lm": ["flashlight-text"],
        "corpora": ["lhotse", "sentencepiece"],
        "cluster": ["hydra-submitit-launcher"],
        "demo": [
            "matplotlib",
            "flashlight-text",
            "tensorboard",
            "espeakng-loader",
            "num2words",
            "scikit-learn",
            "kaldi-native-fbank",
        ],
        "test": [
            "pytest",
            "pytest-xdist",
            "matplotlib",
            "flashlight-text",
            "tensorboard",
            "espeakng-loader",
            "num2words",
            "scikit-learn",
            "kaldi-native-fbank",
            "hydra-submitit-launcher",
            "jiwer",
            "lhotse",
            "sentencepiece",
            # a reference for one test; newer ones import torchaudio, which a CPU build of
            # torch may not load
            "peft<0.14",
            "transformers<4.47",
        ],
    },
    entry_points={
        "console_scripts": [
            "varan-inspect=varan_fairseq.cli.inspect_checkpoint:main",
            "varan-infer=varan_fairseq.cli.infer:main",
            "varan-layers=varan_fairseq.cli.layers:main",
            "varan-export=varan_fairseq.cli.export:main",
            "varan-classify=varan_fairseq.cli.classify:main",
            "varan-crossval=varan_fairseq.cli.crossval:main",
            "varan-check=varan_fairseq.cli.check:main",
            "varan-report=varan_fairseq.cli.report:main",
            "varan-transcribe=varan_fairseq.cli.transcribe:main",
        ]
    },
)
