#!/usr/bin/env bash
# Training steps of the CPU shape against its PyTorch peer: four ranks on two cores, float32, in turns; then ours in bfloat16.
# usage: benchmarks/step/run.sh [ROUNDS]    PYTHON names a python3 with torch (Debian: python3-torch, /usr/bin/python3)
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3}
python=${PYTHON:-/usr/bin/python3}
launch="dotnet launch/bin/Release/net10.0/launch.dll"
"$python" -c 'import torch' 2> /dev/null || { echo "benchmarks: $python has no torch (Debian: apt-get install python3-torch)" >&2; exit 2; }
[ -f launch/bin/Release/net10.0/launch.dll ] || { echo "benchmarks: build first: make setup" >&2; exit 2; }
# OpenBLAS takes its slowest kernels where it doesn't know the processor, and the peer would run at half its speed.
if grep -q avx512vl /proc/cpuinfo; then export OPENBLAS_CORETYPE=${OPENBLAS_CORETYPE:-SkylakeX}; fi
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
ours() {
  $launch bench step --config configs/bench/cpu-4r.yaml --nodes 4 --warmup 40 --repeats 40 --ui json "$@" 2> "$errors" | grep -o '"tokens_per_s":[0-9.]*' | cut -d: -f2 ||
    { cat "$errors" >&2; return 1; }
}
echo "$(date -u +%F), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, torch $("$python" -c 'import torch; print(torch.__version__)'), OpenBLAS kernels ${OPENBLAS_CORETYPE:-of its choice}"
for round in $(seq "$rounds"); do
  peer=$(OMP_NUM_THREADS=1 "$python" benchmarks/step/peers/cpu_ep.py 4 60 | grep -o ': [0-9]* tokens/s' | grep -o '[0-9]*')
  mine=$(ours)
  half=$(ours --set train.precision=bfloat16)
  awk -v r="$round" -v p="$peer" -v m="$mine" -v h="$half" 'BEGIN { printf "round %d: peer %d, ours %d tokens/s: %.2f x; bfloat16 %d: %.2f x\n", r, p, m, m / p, h, h / p }'
done
