#!/bin/bash
# All of docs/results.md: the encoder, the corpora, the grids, which layer reads what. `make evidence`
# calls this; it goes on where it was.
set -euo pipefail
run() { echo "\$ $*"; "$@"; }
python="${PYTHON:-python} -W ignore"
work=work/evidence
encoder=$work/round2/checkpoint_last.pt
jobs=$(nproc)

run $python examples/evidence/pretrain.py
[ -e $work/digits-300/train.tsv ] ||
    run $python manifests/digits.py $work/digits-300 --train 300 --valid 200 --test 600 --seed 2
[ -e $work/digits-600/train.tsv ] ||
    run $python manifests/digits.py $work/digits-600 --train 600 --valid 200 --test 600 --seed 3
[ -e $work/conditions/train.tsv ] ||
    run $python manifests/conditions.py $work/digits-600 $work/conditions
grid() { # preset, data, options
    run $python examples/evidence/run.py "$1" --data "$work/$2" --encoder $encoder \
        --out "$work/results/$1" --jobs "$jobs" "${@:3}"
}
grid digits digits-300 --ways lora --seeds 1 2 3 4 5
grid digits digits-300
grid conditions conditions
grid prompts prompts
grid styles styles
