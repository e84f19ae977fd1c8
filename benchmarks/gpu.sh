#!/usr/bin/env bash
# All that a machine with a GPU is asked for: what must be the same there, then how fast it is.
#
#     benchmarks/gpu.sh [OUT [PEERS]]
#
# OUT is a folder for the tables (default outputs/gpu), PEERS one of adapters for other systems' own
# code (`setar.bench.peers`): LPD-L at 20 steps, RandAR-L at 88, ARPG-L at 64, LlamaGen-L at 256.
# Adapters may read SETAR_BENCH_DEVICE and SETAR_BENCH_PRECISION. To prove the lines on a CPU:
#
#     SETAR_BENCH_DEVICE=cpu SETAR_BENCH_MODEL=fmt:tiny benchmarks/gpu.sh
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-outputs/gpu} peers=${2:-}
export SETAR_BENCH_DEVICE=${SETAR_BENCH_DEVICE:-cuda}
export SETAR_BENCH_PRECISION=${SETAR_BENCH_PRECISION:-bfloat16}
model=${SETAR_BENCH_MODEL:-fmt:L}
if [[ $model == fmt:tiny ]]; then steps="2 4" batches="1 2" theirs="4"
else steps="20 32 64" batches="1 64" theirs="20 88 64 256"; fi
compiled=--compile
if [[ $SETAR_BENCH_DEVICE == cpu ]]; then compiled=; fi
mkdir -p "$out"

if [[ $SETAR_BENCH_DEVICE == cuda ]]; then
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv | tee "$out/gpu.csv"
    # Skipped tests would look like passed ones.
    python -c 'import torch; assert torch.cuda.is_available(), "torch sees no CUDA device"'
fi
pytest tests/test_cuda.py -rs | tee "$out/parity.txt"

# measure NAME RECIPE BATCH [MORE...]
measure() {
    local name=$1 recipe=$2 batch=$3
    shift 3
    python -m setar bench "$model" --recipe "$recipe" --batch "$batch" --guidance 2 --json \
        --device "$SETAR_BENCH_DEVICE" --precision "$SETAR_BENCH_PRECISION" "$@" >"$out/$name.json"
    echo "$name: $(python -c '
import json, sys
found = json.load(open(sys.argv[1]))
print(*(f"{found[key]:.4g} {key}" for key in ("seconds", "images_per_second", "ratio")), found["peers"])
' "$out/$name.json")"
}

for batch in $batches; do
    for count in $steps; do
        measure "eager-$count-$batch" "random-$count-cosine" "$batch"
        if [[ -n $compiled ]]; then
            measure "compiled-$count-$batch" "random-$count-cosine" "$batch" $compiled
        fi
    done
    if [[ -n $peers ]]; then
        for count in $theirs; do
            measure "peers-$count-$batch" "random-$count-cosine" "$batch" $compiled --peers "$peers"
        done
    fi
done

measure_training() {
    python -m setar bench "$model" --train --batch "$1" --json --device "$SETAR_BENCH_DEVICE" \
        --precision "$SETAR_BENCH_PRECISION" >"$out/training-$1.json"
    echo "training, $1 images: $out/training-$1.json"
}
measure_training "$(set -- $batches && echo "$2")"
