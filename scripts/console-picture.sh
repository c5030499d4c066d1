#!/bin/sh
# Draws docs/images/console.svg: a training on four ranks in a terminal of 110 columns, as it stands after a given step. Needs tmux.
# usage: [LAUNCH="dotnet launch/bin/Release/net10.0/launch.dll"] scripts/console-picture.sh [STEP]
set -eu
cd "$(dirname "$0")/.."
step=${1:-60}
launch=${LAUNCH:-dotnet run --project launch --}
folder=runs/console-picture
capture=$(mktemp)
terminal="tmux -L console-picture"
rm -rf "$folder"
$terminal -f /dev/null new-session -d -x 110 -y 16 -s run \
  "$launch --nodes 4 --set train.eval_every=25 --set train.eval_sequences=64 --set train.checkpoint_every=25 --run-dir $folder; sleep 600"
until $terminal capture-pane -e -p -t run > "$capture" && grep -Eq " step ($step|$((step + 10)))/" "$capture"; do
  sleep 1
done
$terminal send-keys -t run C-c
dotnet run --file scripts/AnsiToSvg.cs -- 110 '$ dotnet run --project launch -- --nodes 4' < "$capture" > docs/images/console.svg
rm -f "$capture"
# The run ends in order, with a checkpoint, before its terminal does.
until grep -q '"status":"stopped"' "$folder/run.json"; do sleep 1; done
$terminal kill-server
