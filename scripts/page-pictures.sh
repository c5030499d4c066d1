#!/bin/sh
# Draws docs/images/{report,live}-{desktop,phone}-{light,dark}.png: trains docs' example on four ranks with a live page, and takes pictures of the page while the
# run goes on and of its report afterwards. Needs chromium.
# usage: [LAUNCH="COMMAND"] scripts/page-pictures.sh [CONFIG [NODES]]
set -eu
cd "$(dirname "$0")/.."
config=${1:-configs/experiments/balance-global.yaml}
nodes=${2:-4}
folder=runs/page-pictures
port=5099
launch=${LAUNCH:-dotnet run --project launch --}

command -v chromium > /dev/null || { echo "page-pictures: chromium is not installed: apt-get install chromium" >&2; exit 2; }

# picture ADDRESS NAME WIDTH HEIGHT SCHEME
picture() {
  profile=$(mktemp -d)
  scheme=1
  [ "$5" = light ] || scheme=0
  timeout 60 chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync \
    --hide-scrollbars --user-data-dir="$profile" --window-size="$3,$4" --blink-settings=preferredColorScheme=$scheme --timeout=4000 \
    --screenshot="docs/images/$2-$5.png" "$1" 2> /dev/null
  rm -rf "$profile"
}

pictures() {
  picture "$1" "$2-desktop" 1280 "$3" light
  picture "$1" "$2-desktop" 1280 "$3" dark
  picture "$1" "$2-phone" 390 844 light
  picture "$1" "$2-phone" 390 844 dark
}

rm -rf "$folder"
$launch --config "$config" --nodes "$nodes" --run-dir "$folder" --dashboard $port \
  --set train.steps=240 --set train.log_every=2 --set train.eval_every=50 --set train.eval_sequences=64 --set train.checkpoint_every=100 --set train.sample_tokens=200 > /dev/null &
run=$!
until [ -f "$folder/metrics.jsonl" ] && grep -q '"step":120,' "$folder/metrics.jsonl"; do
  kill -0 $run 2> /dev/null || { echo "page-pictures: the run ended early, see $folder/logs" >&2; exit 3; }
  sleep 1
done
pictures "http://127.0.0.1:$port/runs/page-pictures" live 1000
wait $run
pictures "file://$PWD/$folder/report.html" report 2700
