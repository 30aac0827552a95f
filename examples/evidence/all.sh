#!/bin/bash
# The encoder, the corpora and the grids of docs/results.md. `make evidence` calls this; it continues where
# it was. JOBS: trainings at a time, one a core without it.
set -euo pipefail
run() { echo "\$ $*"; "$@"; }
python="${PYTHON:-python} -W ignore"
work=work/evidence
jobs=${JOBS:-$(nproc)}

run $python examples/evidence/pretrain.py
[ -e $work/digits-1000/train.tsv ] ||
    run $python manifests/digits.py $work/digits-1000 --train 1000 --valid 200 --test 600 --seed 2
[ -e $work/digits-again/train.tsv ] ||
    run $python manifests/digits.py $work/digits-again --train 1000 --valid 200 --test 600 --seed 3
[ -e $work/conditions/train.tsv ] ||
    run $python manifests/conditions.py $work/digits-again $work/conditions
grid() { # name of the results, preset, data, options
    run $python examples/evidence/run.py "$2" --data "$work/$3" \
        --encoder $work/round2/checkpoint_last.pt --jobs "$jobs" --out "$work/results/$1" "${@:4}"
}
# the rivals in every way of fine-tuning; then, of some, ablations and five seeds
rivals="last_layer weighted_sum attentive hconv varan"
grid digits digits digits-1000 --ways full lora probe --methods $rivals
grid digits digits digits-1000 --ways lora --seeds 1 2 3 4 5
grid digits_longer digits_longer digits-1000 --methods last_layer weighted_sum varan
grid digits_second digits digits-1000 --ways probe --methods $rivals varan_uniform
grid digits_heads digits_heads digits-1000 --methods $rivals varan_uniform
grid digits_dora digits digits-1000 --ways dora --methods $rivals
grid conditions conditions conditions --ways lora --seeds 1 2 3 4 5
grid conditions_second conditions conditions --ways full dora probe --methods $rivals
grid conditions_second conditions conditions --ways probe --methods varan_uniform
grid prompts prompts prompts --ways lora dora probe --methods $rivals
grid prompts prompts prompts --ways probe --methods varan_uniform
grid prompts_full prompts prompts --ways full --methods $rivals
grid styles styles styles --methods $rivals
[ -e $work/prose/train.tsv ] || run $python manifests/prose.py $work/prose
grid prose prose prose --ways lora --methods $rivals
