#!/bin/sh
# Holds `launch plan` against `launch bench step` on this machine: a table for docs/plan.md. About a minute a round; ROUNDS=3 by default.
# LOCK=FILE takes a lock around every measurement, on a machine that others use too.
set -eu
cd "$(dirname "$0")/../.."
launch="dotnet launch/bin/Release/net10.0/launch.dll"
out=${OUT:-$(mktemp -d)}
rounds=${ROUNDS:-3}
locked() { if [ -n "${LOCK:-}" ]; then flock -o "$LOCK" "$@"; else "$@"; fi; }

# A prediction before and the measurement after it, so that both see the machine in the same mood.
pair() {
    locked sh -c "$launch plan --device cpu --ui json $2 > $out/$1-$3.plan.json
        $launch bench step --warmup 6 --repeats 8 --ui json --run-dir $out/run-$1-$3 $2 > $out/$1-$3.bench.json 2> $out/$1-$3.log"
}

for round in $(seq "$rounds"); do
    while read -r name arguments; do
        pair "$name" "--config configs/bench/cpu-4r.yaml $arguments" "$round"
    done <<'CASES'
quickstart-4 --nodes 4
quickstart-2 --nodes 2
quickstart-1 --nodes 1
wide-2 --nodes 2 --set model.width=256 --set model.moe.expert_width=512 --set model.moe.experts=8 --set train.micro_batch=4
replicas-sgd-4 --nodes 4 --set parallel.expert_parallel=2 --set optimizer.name=sgd
muon-1 --nodes 1 --set optimizer.name=muon --set model.width=256 --set train.micro_batch=16
CASES
done
python3 benchmarks/plan/table.py "$out"
