#!/bin/bash
# The encoder, the corpora and the grids of docs/results.md. `make evidence` calls this; it goes on where
# it was.
set -euo pipefail
run() { echo "\$ $*"; "$@"; }
python="${PYTHON:-python} -W ignore"
work=work/evidence
encoder=$work/round2/checkpoint_last.pt
jobs=$(nproc)

run $python examples/evidence/pretrain.py
[ -e $work/digits-1000/train.tsv ] ||
    run $python manifests/digits.py $work/digits-1000 --train 1000 --valid 200 --test 600 --seed 2
[ -e $work/digits-again/train.tsv ] ||
    run $python manifests/digits.py $work/digits-again --train 1000 --valid 200 --test 600 --seed 3
[ -e $work/conditions/train.tsv ] ||
    run $python manifests/conditions.py $work/digits-again $work/conditions
grid() { # preset, data, options
    run $python examples/evidence/run.py "$1" --data "$work/$2" --encoder $encoder \
        --out "$work/results/$1" --jobs "$jobs" "${@:3}"
}
# the rivals in every way of fine-tuning; then, with LoRA, ablations and five seeds
rivals="last_layer weighted_sum attentive hconv varan"
grid prompts prompts --methods $rivals
grid styles styles
grid digits digits-1000 --methods $rivals
grid digits digits-1000 --ways lora --seeds 1 2 3 4 5
grid digits_longer digits-1000 --methods last_layer weighted_sum varan
grid digits_heads digits-1000 --methods $rivals
grid conditions conditions --methods $rivals
grid conditions conditions --ways lora --seeds 1 2 3 4 5
