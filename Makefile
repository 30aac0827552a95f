# make demo   fine-tunes three ways and shows the WER and the layers (about 11 minutes, 2 cores)
# make demo-emotion   the same for four speaking styles: accuracy and confusion matrix (10 minutes)
# make test   runs the tests
#
# Each does all the set-up alone, in .venv-<Python version>. PYTHON=/path/to/python chooses
# the interpreter; TORCH="..." what pip installs as torch (a CPU or CUDA build, say).

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: setup-demo demo demo-emotion first-hour depth prior evidence lint test test-stock faults bench bench-gpu gpu setup clean

FOUND := $(shell bash .ci/find_python.sh "$(PYTHON)" 3.11 3.12 3.10 3.9 3.8)
STOCK := $(shell bash .ci/find_python.sh "$(PYTHON)" 3.10 3.9 3.8)
VENV = .venv-$(if $(FOUND),$(shell "$(FOUND)" -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
export OMP_NUM_THREADS ?= 1

setup setup-demo:
	@test -n "$(FOUND)" || { echo "varan_fairseq needs Python 3.8 - 3.12 (fairseq has no release for newer ones): install one, or name it with PYTHON=/path/to/python3.11" >&2; exit 1; }
	@TORCH="$(TORCH)" bash .ci/install.sh "$(FOUND)" "$(VENV)" $(if $(filter %-demo,$@),demo,test)

demo: setup-demo
	$(VENV)/bin/python -W ignore examples/demo/compare.py demo --base hubert --finetune lora --seeds 1 2 3

demo-emotion: setup-demo
	$(VENV)/bin/python -W ignore examples/demo/emotion.py --seeds 1 2 3

# docs/first-hour.md in English and Spanish (about 20 minutes, 2 cores)
first-hour: setup-demo
	$(VENV)/bin/python -W ignore examples/demo/first_hour.py

# what the demo's models do with fewer blocks (15 minutes, 2 cores, after make demo)
depth: setup-demo
	$(VENV)/bin/python -W ignore examples/demo/depth.py --seeds 1 2 3

# a flat prior beside the paper's, on the demo's encoder (12 minutes, 2 cores, after make demo)
prior: setup-demo
	$(VENV)/bin/python -W ignore examples/demo/prior.py --seeds 1 2 3

# the grids of docs/results.md from nothing: an encoder, its corpora, every cell
# (about 20 hours on 2 cores)
evidence: setup-demo
	PYTHON=$(VENV)/bin/python bash examples/evidence/all.sh

# ruff and mypy (Python 3.11, 3.12)
lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: setup
	$(VENV)/bin/python -m pytest -q -n auto --dist loadscope --no-loadscope-reorder tests

test-stock:
	@test -n "$(STOCK)" || { echo "the stock lane (fairseq 0.12.2) needs Python 3.8, 3.9 or 3.10: name one with PYTHON=/path/to/python3.10" >&2; exit 1; }
	@$(MAKE) --no-print-directory test PYTHON="$(STOCK)"

# what kill -9, full disks and two processes on one target leave (about 15 minutes)
faults: setup
	PYTHONPATH=tests:tests/faults $(VENV)/bin/python -W ignore tests/faults/campaign.py

bench: setup
	$(VENV)/bin/python benchmarks/heads.py
	$(VENV)/bin/python benchmarks/step.py
	$(VENV)/bin/python benchmarks/lora.py
	$(VENV)/bin/python benchmarks/encoders.py
	$(VENV)/bin/python benchmarks/encoders.py --sizes
	$(VENV)/bin/python benchmarks/group_norm.py
	$(VENV)/bin/python benchmarks/consensus.py
	$(VENV)/bin/python benchmarks/decoding.py
	$(VENV)/bin/python benchmarks/vocabulary.py
	$(VENV)/bin/python benchmarks/doors.py
	$(VENV)/bin/python benchmarks/prune.py

gpu: setup
	@$(VENV)/bin/python -c "import torch, sys; sys.exit(None if torch.cuda.is_available() else 'no GPU here')"

# the same in half precision where there is a GPU, and what waits for it
bench-gpu: gpu bench
	$(VENV)/bin/python -m pytest -q tests/test_synchronisation.py tests/test_on_a_gpu.py

clean:
	rm -rf .venv-* work
