#!/usr/bin/env bash
# Each optimizer on 103 million parameters over four ranks, and PyTorch's AdamW on the same tensors, in turn; then Muon's and MKOR's share of
# a training step. Prints the tables of benchmarks/optimizers/README.md. About ten minutes on two cores.
#   benchmarks/optimizers/run.sh [ROUNDS]      PYTHON names a python3 with PyTorch (Debian: apt-get install python3-torch)
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-3}
python=${PYTHON:-/usr/bin/python3}
if [ -z "${LAUNCH:-}" ]; then
  dotnet build launch --configuration Release --verbosity quiet > /dev/null
  LAUNCH="dotnet launch/bin/Release/net10.0/launch.dll"
fi
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT

declare -A settings=(
  [adamw]="optimizer.name=adamw"
  [adamw-unsharded]="optimizer.name=adamw parallel.shard_optimizer=false"
  [sgd]="optimizer.name=sgd"
  [adabelief]="optimizer.name=adabelief"
  [lamb]="optimizer.name=lamb"
  [lars]="optimizer.name=lars"
  [muon]="optimizer.name=muon"
  [drop_muon]="optimizer.name=drop_muon"
  [mkor-adamw]="optimizer.name=adamw optimizer.precondition=mkor"
)
order="adamw adamw-unsharded sgd adabelief lamb lars muon drop_muon mkor-adamw"

bench() { # name config
  local overrides=() pair
  for pair in ${settings[$1]}; do overrides+=(--set "$pair"); done
  $LAUNCH bench step --config "$2" --nodes 4 "${overrides[@]}" --warmup 3 --repeats "$3" --ui json 2> /dev/null
}

echo "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), $(nproc) cores, $(date -u +%F), four ranks of one thread, medians; rounds: $rounds"
for ((round = 1; round <= rounds; round++)); do
  for name in $order; do
    bench "$name" configs/bench/optimizers.yaml 12 >> "$data/$name"
    if [ "$name" = adamw-unsharded ] && "$python" -c 'import torch' 2> /dev/null; then
      "$python" benchmarks/optimizers/torch_adamw.py >> "$data/torch"
    fi
  done
done

echo
echo "| optimizer | ms a step | ns a parameter | state bytes a parameter | native calls a step |"
echo "| --- | --- | --- | --- | --- |"
row='def median(f): map(f) | sort | .[length / 2 | floor]; def show(d): . * pow(10; d) | round / pow(10; d);'
for name in $order; do
  jq -rs --arg name "$name" "$row"' "| \($name) | \(median(.optimizer_ms) | show(1)) | \(median(.optimizer_ns_per_parameter) | show(2)) | \(median(.optimizer_state_bytes_per_parameter) | show(2)) | \(median(.optimizer_calls) | show(1)) |"' "$data/$name"
done
if [ -f "$data/torch" ]; then
  jq -rs "$row"' "| PyTorch \(.[0].torch) AdamW, foreach | \(median(.optimizer_ms) | show(1)) | | 8 | |"' "$data/torch"
  paste -d' ' <(jq .optimizer_ms "$data/adamw-unsharded") <(jq .optimizer_ms "$data/torch") | awk '{ printf "%sAdamW against PyTorch, round %d: %.2f x\n", NR == 1 ? "\n" : "", NR, $2 / $1 }'
fi

echo
echo "| training step of configs/bench/cpu-4r.yaml | step ms | optimizer ms | share | products, GFLOP a step | of the machine's rate |"
echo "| --- | --- | --- | --- | --- | --- |"
for name in adamw muon drop_muon mkor-adamw; do
  bench "$name" configs/bench/cpu-4r.yaml 20 | jq -r --arg name "$name" "$row"'
    "| \($name) | \(.step_ms | show(1)) | \(.optimizer_ms | show(1)) | \(100 * .optimizer_ms / .step_ms | show(1)) % | \(.optimizer_gflop | show(2)) | \(if .optimizer_gflop > 0 then "\(100 * .optimizer_gflop / .optimizer_ms / .machine_tflops | show(0)) %" else "" end) |"'
done
