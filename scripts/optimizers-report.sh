#!/usr/bin/env bash
# The comparison of docs/optimizers.md: each optimizer over a grid of learning rates on three kinds of text, the best rate again with two more
# seeds, and AdamW's best under each schedule. Trains what docs/results/optimizers lacks (about 80 runs of five minutes on one core each),
# then writes the tables and plots from what is there.
#   scripts/optimizers-report.sh [--jobs N]   trains, N runs at once (default: one a core), and plots; needs jq and gnuplot-nox
#   scripts/optimizers-report.sh --plot       only the tables and the plots
#   scripts/optimizers-report.sh --train [--jobs N] [--runs FILE]   only trains; with FILE only the runs it lists, each a line of
#                                             optimizer, schedule, rate and seed: for parts of the work on several machines
# LAUNCH is the launch command where it is not built from these sources, as in a published folder.
set -euo pipefail
cd "$(dirname "$0")/.."

results=docs/results/optimizers
config=configs/experiments/optimizers.yaml
jobs=$(nproc)
runs=
train=yes
plot=yes
while [ $# -gt 0 ]; do
  case $1 in
    --jobs) jobs=$2; shift 2 ;;
    --runs) runs=$2; shift 2 ;;
    --plot) train=; shift ;;
    --train) plot=; shift ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 1 ;;
  esac
done
for tool in jq ${plot:+gnuplot}; do
  command -v "$tool" > /dev/null || { echo "optimizers-report: $tool is missing; try: apt-get install -y --no-install-recommends jq gnuplot-nox" >&2; exit 2; }
done

# An arm: its settings, and its grid.
declare -A settings=(
  [sgd]="optimizer.name=sgd optimizer.momentum=0.9 optimizer.weight_decay=1e-4 optimizer.decay=coupled"
  [adamw]="optimizer.name=adamw"
  [adabelief]="optimizer.name=adabelief"
  [lamb]="optimizer.name=lamb"
  [lars]="optimizer.name=lars optimizer.weight_decay=1e-4"
  [muon]="optimizer.name=muon optimizer.muon.preset=moonlight"
  [drop_muon]="optimizer.name=drop_muon optimizer.muon.preset=moonlight"
  [mkor-adamw]="optimizer.name=adamw optimizer.precondition=mkor"
  [mkor-lamb]="optimizer.name=lamb optimizer.precondition=mkor"
  [mkor_h-lamb]="optimizer.name=lamb optimizer.precondition=mkor_h"
)
declare -A grids=(
  [sgd]="0.1 0.3 1 3"
  [adamw]="1e-3 3e-3 6e-3 1.2e-2"
  [adabelief]="1e-3 3e-3 6e-3 1.2e-2"
  [lamb]="5e-3 1e-2 2e-2 4e-2 8e-2"
  [lars]="3 10 30 100"
  [muon]="1e-3 3e-3 6e-3 1.2e-2"
  [drop_muon]="1e-3 3e-3 6e-3 1.2e-2 2.4e-2"
  [mkor-adamw]="1e-3 3e-3 6e-3 1.2e-2"
  [mkor-lamb]="1e-2 2e-2 4e-2 8e-2"
  [mkor_h-lamb]="1e-2 2e-2 4e-2 8e-2"
)
arms="adamw sgd adabelief lamb lars muon drop_muon mkor-adamw mkor-lamb mkor_h-lamb"
schedules="cosine wsd constant refined"

run_one() { # arm schedule rate seed
  local name=$1-$2-$3-$4 folder=runs/optimizers/$1-$2-$3-$4 overrides=() pair
  [ ! -f "$results/$name.json" ] || return 0
  for pair in ${settings[$1]} "schedule.name=$2"; do overrides+=(--set "$pair"); done
  [ "$2" != refined ] || overrides+=(--set "schedule.file=$results/refined.json")
  rm -rf "$folder"
  if ! $LAUNCH train --config "$config" "${overrides[@]}" --set "optimizer.learning_rate=$3" --set "run.seed=$4" --set parallel.threads=1 \
    --nodes 1 --run-dir "$folder" --ui plain > "runs/optimizers/$name.log" 2>&1; then
    grep -q '"train/loss"' "$folder/metrics.jsonl" 2> /dev/null || { tail -5 "runs/optimizers/$name.log" >&2; return 1; }
    echo "$name diverged or stopped: $(tail -1 "runs/optimizers/$name.log")" >&2
  fi
  jq -cs --arg status "$(jq -r .status "$folder/run.json")" --arg arm "$1" --arg schedule "$2" --arg rate "$3" --arg seed "$4" '
    def median: sort | .[length / 2 | floor];
    {arm: $arm, schedule: $schedule, rate: $rate, seed: ($seed | tonumber),
     step_ms: ([.[] | select(has("perf/step_ms")) | .["perf/step_ms"]] | median),
     eval: [.[] | select(has("eval/loss")) | [.step, .["train/tokens"], .["eval/loss"]]],
     final: ([.[] | select(has("eval/loss"))] | if length > 0 and $status == "done" then .[-1]["eval/loss"] else null end)}' \
    "$folder/metrics.jsonl" > "$results/$name.json.partial"
  mv "$results/$name.json.partial" "$results/$name.json"
  echo "$name $(jq -r .final "$results/$name.json")"
}

best_rate() { # arm: the rate of its grid with the least loss
  jq -rs --arg arm "$1" '[.[] | select(.arm == $arm and .schedule == "linear" and .seed == 1 and .final != null)] | min_by(.final) | .rate // empty' "$results/$1"-linear-*-1.json
}

batch() { # lines of: arm schedule rate seed
  local line
  while read -r line; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || true; done
    # shellcheck disable=SC2086 # the words are the arguments
    run_one $line &
  done
  wait
}

if [ -n "$train" ]; then
  mkdir -p runs/optimizers "$results"
  if [ -z "${LAUNCH:-}" ]; then
    dotnet build launch --configuration Release --verbosity quiet
    LAUNCH="dotnet launch/bin/Release/net10.0/launch.dll"
  fi
  $LAUNCH config show --config "$config" > /dev/null
  for text in shakespeare.txt kjv.txt sqlite.c.txt; do [ -d "data/$text.tokens" ] || $LAUNCH data prepare "data/$text" -o "data/$text.tokens"; done
  if [ -n "$runs" ]; then
    batch < "$runs"
  else
    for arm in $arms; do for rate in ${grids[$arm]}; do echo "$arm linear $rate 1"; done; done | batch
    if [ ! -f "$results/refined.json" ]; then
      $LAUNCH schedule refine --run "runs/optimizers/adamw-linear-$(best_rate adamw)-1" --output "$results/refined.json"
    fi
    {
      for arm in $arms; do for seed in 2 3; do echo "$arm linear $(best_rate "$arm") $seed"; done; done
      for schedule in $schedules; do for seed in 1 2 3; do echo "adamw $schedule $(best_rate adamw) $seed"; done; done
    } | batch
  fi
fi
[ -n "$plot" ] || exit 0

data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT

# Rounding, and the tokens after which a curve is down to a loss.
functions='
    def show(digits): . * pow(10; digits) | round / pow(10; digits);
    def crossing($level): . as $c | first(range($c | length) | select($c[.][1] <= $level)) as $i
      | if $i == 0 then $c[0][0] else $c[$i - 1] as $a | $c[$i] as $b | $a[0] + ($b[0] - $a[0]) * ($a[1] - $level) / ($a[1] - $b[1]) end;
'

# Of each arm the runs at its best rate (the least loss of seed 1), joined over seeds: mean curve, final loss, milliseconds a step.
jq -s '
  def mean: add / length;
  def group(runs): {final: (runs | map(.final) | mean), low: (runs | map(.final) | min), high: (runs | map(.final) | max), seeds: (runs | length),
    step_ms: (runs | min_by(.seed).step_ms), rate: runs[0].rate,  # of one seed: the others may have run on another machine
    curve: [range(runs[0].eval | length) as $i | [runs[0].eval[$i][1], (runs | map(.eval[$i][2]) | mean)]]};
  [group_by([.arm, .schedule])[] | (map(select(.seed == 1 and .final != null)) | min_by(.final) | .rate?) as $best
    | select($best != null) | {arm: .[0].arm, schedule: .[0].schedule} + group(map(select(.rate == $best and .final != null)))]' "$results"/*-*.json > "$data/best.json"

{
  echo "| optimizer | best rate | eval loss, mean (least to most) | ms a step | of AdamW | tokens to AdamW's loss | of AdamW's | time to it, of AdamW's |"
  echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
  jq -r --arg arms "$arms" "$functions"'
    (map(select(.schedule == "linear"))) as $all | ($all[] | select(.arm == "adamw")) as $adamw
    | ($arms | split(" "))[] as $arm | $all[] | select(.arm == $arm)
    | ([.curve | crossing($adamw.final + 1e-9)] | first) as $tokens
    | ($adamw.curve | last[0]) as $budget
    | "| \(.arm) | \(.rate) | \(.final | show(4)) (\(.low | show(4)) to \(.high | show(4)), \(.seeds) seeds) | \(.step_ms | round) | \(.step_ms / $adamw.step_ms | show(2)) | " +
      (if $tokens then "\($tokens / 1000 | round)k | \(100 * $tokens / $budget | round) % | \(100 * $tokens * .step_ms / $budget / $adamw.step_ms | round) % |" else "not reached | | |" end)' "$data/best.json"
} | tee "$results/table.md"

{
  echo "| schedule (AdamW) | eval loss, mean | least to most | seeds |"
  echo "| --- | --- | --- | --- |"
  jq -r "$functions"'map(select(.arm == "adamw")) | sort_by(.final)[] | "| \(.schedule) | \(.final | show(4)) | \(.low | show(4)) to \(.high | show(4)) | \(.seeds) |"' "$data/best.json"
} | tee "$results/schedules.md"

# How soon one gets to where the worse of two ends, in the other's tokens and time: for the claims about pairs.
{
  echo "| first against second | loss | tokens | time |"
  echo "| --- | --- | --- | --- |"
  jq -r "$functions"'
    map(select(.schedule == "linear") | {key: .arm, value: .}) | from_entries as $of
    | (["muon", "adamw"], ["adabelief", "adamw"], ["mkor-adamw", "adamw"], ["mkor-lamb", "lamb"], ["drop_muon", "muon"]) as [$a, $b]
    | select($of[$a] and $of[$b]) | ([$of[$a].final, $of[$b].final] | max + 1e-9) as $level
    | ([$of[$a].curve | crossing($level)] | first) as $ta | ([$of[$b].curve | crossing($level)] | first) as $tb
    | "| \($a), \($b) | \($level | show(4)) | \(100 * $ta / $tb | round) % | \(100 * $ta * $of[$a].step_ms / $tb / $of[$b].step_ms | round) % |"' "$data/best.json"
} | tee "$results/pairs.md"

colours=(1f618d 7f8c8d 229954 b9770e d4ac0d c0392b e67e22 6c3483 8e44ad af7ac5)
tokens_plot='' time_plot='' rate_plot='' i=0
for arm in $arms; do
  jq -r --arg arm "$arm" '.[] | select(.arm == $arm and .schedule == "linear") | .step_ms as $ms | .curve[] | "\(.[0] / 1e6) \(.[1]) \(.[0] / 4096 * $ms / 1000)"' "$data/best.json" > "$data/$arm.curve"
  jq -rs '[.[] | select(.schedule == "linear" and .seed == 1 and .final != null)] | sort_by(.rate | tonumber)[] | "\(.rate | tonumber) \(.final)"' "$results/$arm"-linear-*-1.json > "$data/$arm.rates"
  style="with lines lw 2 lc rgb '#${colours[i]}' title '${arm//_/-}'"
  tokens_plot+="'$data/$arm.curve' using 1:2 $style, "
  time_plot+="'$data/$arm.curve' using 3:2 $style, "
  rate_plot+="'$data/$arm.rates' using 1:2 ${style/with lines/with linespoints pt 7 ps 0.5}, "
  i=$((i + 1))
done
jq -r 'map(select(.arm == "adamw")) | sort_by(.final)[] | "\(.schedule) \(.final) \(.low) \(.high)"' "$data/best.json" > "$data/schedules"

gnuplot << PLOT
set terminal svg size 1100,860 font 'sans-serif,13' background '#ffffff'
set output 'docs/images/optimizers.svg'
set multiplot layout 2,2
set grid lc rgb '#dddddd'
set xtics nomirror rotate by 0
set ytics nomirror
set key top right samplen 1.5 font ',11'
set yrange [1.35:2.8]
set ylabel 'evaluation loss, nats per byte'
set xlabel 'million tokens'
set title 'Best rate of each: loss against tokens'
plot ${tokens_plot%, }
unset key
set xlabel 'seconds on one core'
set title 'Loss against wall time'
plot ${time_plot%, }
set logscale x
set xlabel 'peak learning rate'
set title 'Final loss against the learning rate (seed 1)'
plot ${rate_plot%, }
unset logscale x
set style fill solid 0.85 noborder
set boxwidth 0.6
set xlabel ''
set auto x
set xrange [-0.5:4.5]
set yrange [*:*]
set offsets 0, 0, 0.01, 0.01
set title 'AdamW under each schedule: mean and range of three seeds'
plot '$data/schedules' using 0:2:3:4:xtic(1) with yerrorbars pt 7 lc rgb '#1f618d'
PLOT
echo "docs/images/optimizers.svg, $results/{table,schedules,pairs}.md written"
