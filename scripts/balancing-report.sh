#!/usr/bin/env bash
# The experiment of docs/balancing.md: global against micro-batch balancing on three kinds of text, equal lengths, three seeds. Trains what
# docs/results/balancing lacks (six runs of about four minutes each on two cores), then writes the table and the plot from what is there.
#   scripts/balancing-report.sh            trains and plots; needs jq and gnuplot-nox
#   scripts/balancing-report.sh --plot     only the table and the plot
set -euo pipefail
cd "$(dirname "$0")/.."

results=docs/results/balancing
for tool in jq gnuplot; do
  command -v "$tool" > /dev/null || { echo "balancing-report: $tool is missing; try: apt-get install -y --no-install-recommends jq gnuplot-nox" >&2; exit 2; }
done
launch() { dotnet run --project launch --configuration Release -- "$@"; }

if [ "${1:-}" != --plot ]; then
  for seed in 1 2 3; do
    for scope in micro global; do
      name=$scope-$seed
      [ ! -f "$results/$name.json" ] || continue
      launch train --config "configs/experiments/balance-$scope.yaml" --nodes 4 --run-dir "runs/balance-$name" --set run.seed="$seed" --ui plain
      launch eval --run "runs/balance-$name" --ui json > "$results/$name.json.partial"
      mv "$results/$name.json.partial" "$results/$name.json"
    done
  done
fi

data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
{
  echo "| balancing | seed | eval loss | shakespeare | kjv | sqlite | domain preference |"
  echo "| --- | --- | --- | --- | --- | --- | --- |"
  for scope in micro global; do
    for seed in 1 2 3; do
      jq -r --arg scope "$scope" --arg seed "$seed" '
        def show: . * 10000 | round / 10000;
        "| \($scope) | \($seed) | \(.loss | show) | \([.domains[].loss | show | tostring] | join(" | ")) | \(.domain_preference | show) |"' "$results/$scope-$seed.json"
    done
    jq -rs --arg scope "$scope" '
      def show: . * 10000 | round / 10000;
      def mean(f): map(f) | add / length;
      "| **\($scope)** | mean | **\(mean(.loss) | show)** | \(mean(.domains[0].loss) | show) | \(mean(.domains[1].loss) | show) | \(mean(.domains[2].loss) | show) | **\(mean(.domain_preference) | show)** |"' \
      "$results/$scope"-?.json
  done
} | tee "$results/table.md"

for seed in 1 2 3; do
  echo "$seed $(jq -r .loss "$results/micro-$seed.json") $(jq -r .loss "$results/global-$seed.json")" \
    "$(jq -r .domain_preference "$results/micro-$seed.json") $(jq -r .domain_preference "$results/global-$seed.json")"
done > "$data/seeds"

# Each domain's share of its choices by expert, in the last layer of seed 1.
for scope in micro global; do
  jq -r '.experts as $e | [.domains[] | .counts[-$e:] | (add) as $sum | map(. / $sum * 100)] | transpose | to_entries[] | [.key, .value[]] | @tsv' \
    "$results/$scope-1.json" > "$data/$scope"
done

gnuplot << PLOT
set terminal svg size 1000,640 font 'sans-serif,13' background '#ffffff'
set output 'docs/images/balancing.svg'
set multiplot layout 2,2
set style data histogram
set style fill solid 0.85 noborder
set boxwidth 0.9
set grid ytics lc rgb '#dddddd'
set key top left horizontal samplen 1
set ytics nomirror
set xtics nomirror
set format x '%g'
set xlabel 'seed'
set title 'Evaluation loss, nats per byte'
set yrange [1.6:1.71]
plot '$data/seeds' using 2:xtic(1) title 'micro' lc rgb '#b9770e', '' using 3 title 'global' lc rgb '#1f618d'
set title 'Domain preference (0 none, 1 no shared expert)'
set yrange [0:0.06]
plot '$data/seeds' using 4:xtic(1) title 'micro' lc rgb '#b9770e', '' using 5 title 'global' lc rgb '#1f618d'
set key top left vertical
set xlabel 'expert of the last layer, seed 1'
set ylabel '% of the domain''s choices'
set yrange [0:16]
set title 'micro'
plot '$data/micro' using 2:xtic(1) title 'shakespeare' lc rgb '#7d3c98', '' using 3 title 'kjv' lc rgb '#229954', '' using 4 title 'sqlite' lc rgb '#cb4335'
set title 'global'
plot '$data/global' using 2:xtic(1) title 'shakespeare' lc rgb '#7d3c98', '' using 3 title 'kjv' lc rgb '#229954', '' using 4 title 'sqlite' lc rgb '#cb4335'
PLOT
echo "docs/images/balancing.svg and $results/table.md written"
