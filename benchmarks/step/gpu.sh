#!/usr/bin/env bash
# Training steps of the GPU shape against its PyTorch peer, compiled, which runs between two of ours: on one GPU, or with 2 on two, expert-parallel. Run it in a folder
# that make publish made, after ./build-native.sh.
# usage: gpu.sh [GPUS]    PYTHON names a python3 with torch
set -euo pipefail
gpus=${1:-1}
python=${PYTHON:-python3}
peers=$(cd "$(dirname "$0")/peers" && pwd)
[ -x bin/launch ] || { echo "gpu.sh: there is no bin/launch here; run it in the folder that make publish made (docs/gpu.md)" >&2; exit 2; }
"$python" -c 'import torch; assert torch.cuda.device_count() >= '"$gpus" 2> /dev/null || { echo "gpu.sh: $python sees fewer than $gpus GPUs" >&2; exit 2; }
export NCCL_NVLS_ENABLE=${NCCL_NVLS_ENABLE:-0} # multicast is not everywhere that NVLink is
echo "$(date -u +%F), $gpus of $(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -1), $("$python" -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda, "NCCL", ".".join(map(str, torch.cuda.nccl.version())))')"
errors=$(mktemp)
trap 'rm -f "$errors" "$errors.out"' EXIT
ours() {
  bin/launch bench step --config configs/bench/olmoe-8l.yaml --nodes "$gpus" --warmup 4 --repeats 20 --ui json 2> "$errors" > "$errors.out" ||
    { cat "$errors" >&2; exit 1; }
  grep -o '"\(tokens_per_s\|step_ms\|mfu_pct\|peak_gib\)":[0-9.]*' "$errors.out" | tr '\n' ' '
  echo
}
ours
if [ "$gpus" -eq 1 ]; then
  ONLY=compiled "$python" "$peers/gpu_one.py" 8 2048 8 20
else
  COMPILE=1 CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 $((gpus - 1)))} "$python" "$peers/gpu_ep.py" 8 2048 8 16
fi
ours
