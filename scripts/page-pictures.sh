#!/bin/sh
# Draws docs/images/{report,live}-{desktop,phone}-{light,dark}.png: trains docs' example on four ranks with a live page, and takes pictures of the page while the
# run goes on and of its report afterwards. Needs chromium, chromium-driver and curl.
# usage: [LAUNCH="COMMAND"] scripts/page-pictures.sh [CONFIG [NODES]]
set -eu
cd "$(dirname "$0")/.."
config=${1:-configs/experiments/balance-global.yaml}
nodes=${2:-4}
folder=runs/page-pictures
port=5099
launch=${LAUNCH:-dotnet run --project launch --}

driver=http://127.0.0.1:5098

for program in chromium chromedriver curl; do
  command -v $program > /dev/null || { echo "page-pictures: $program is missing: apt-get install chromium chromium-driver curl" >&2; exit 2; }
done
chromedriver --port=${driver##*:} > /dev/null &
driving=$!
trap 'kill $driving' EXIT
until curl -s "$driver/status" > /dev/null; do sleep 0.2; done

# picture ADDRESS NAME WIDTH HEIGHT SCHEME: by WebDriver, since a live page goes on to draw after it has loaded.
picture() {
  scheme=1
  [ "$5" = light ] || scheme=0
  profile=$(mktemp -d)
  flags=$(printf '"%s",' --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync \
    --hide-scrollbars "--user-data-dir=$profile" "--window-size=$3,$4" "--blink-settings=preferredColorScheme=$scheme")
  session=$(post session "{\"capabilities\":{\"alwaysMatch\":{\"goog:chromeOptions\":{\"binary\":\"/usr/bin/chromium\",\"args\":[${flags%,}]}}}}" \
    | sed 's/.*"sessionId":"\([^"]*\)".*/\1/')
  post "session/$session/url" "{\"url\":\"$1\"}" > /dev/null
  sleep 3
  curl -s "$driver/session/$session/screenshot" | sed 's/.*"value":"\([^"]*\)".*/\1/' | base64 -d > "docs/images/$2-$5.png"
  curl -s -X DELETE "$driver/session/$session" > /dev/null
  rm -rf "$profile"
}

post() { curl -s -X POST -H 'Content-Type: application/json' -d "$2" "$driver/$1"; }

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
