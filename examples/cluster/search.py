#!/usr/bin/env python3
"""fairseq-hydra-train for hydra's sweepers that choose, as Optuna's: it returns the run's validation
metric, which fairseq's own command drops.

    pip install hydra-optuna-sweeper
    python examples/cluster/search.py --multirun --config-dir examples/ \
        --config-name hubert_base_libri_100h_lora task.data=$PWD/data/libri \
        model.w2v_path=$PWD/hubert_base_ls960.pt hydra/sweeper=optuna hydra.sweeper.n_trials=20 \
        'optimization.lr=choice([0.002],[0.001],[0.0005])' 'criterion.beta=interval(0.005,0.05)' \
        hydra.sweep.dir=search

The metric is checkpoint.best_checkpoint_metric at the last validation, and a sweeper minimises it
unless hydra.sweeper.direction=maximize. Needs hydra 1.1, so fairseq's main branch (Python 3.11, 3.12).
"""

import argparse
import os
import sys

import fairseq
import hydra
from fairseq.dataclass.initialize import hydra_init
from fairseq_cli.hydra_train import _hydra_main

if not hasattr(hydra, "compose"):
    sys.exit(f"search.py: hydra {hydra.__version__} has no such sweepers, expected 1.1 or newer")
CONFIG = os.path.join(os.path.dirname(fairseq.__file__), "config")


@hydra.main(config_path=CONFIG, config_name="config", version_base="1.1")
def main(cfg) -> float:
    return _hydra_main(cfg)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)  # hydra has its own
    parser.add_argument("--config-name", default="config")
    hydra_init(parser.parse_known_args()[0].config_name)
    main()
