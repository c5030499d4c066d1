#!/bin/sh
# Runs every test and closes with the line `N passed, N failed, N skipped`, counted from the test runners' own result files.
# Arguments go to `dotnet test`, such as --filter FullyQualifiedName~Launch. Without any, two runners share the tests: those of launcher, tracking and
# process groups wait for other processes and for time-outs most of the while, and all others run in what that leaves of the machine.
set -u
cd "$(dirname "$0")/.."

results=TestResults
rm -rf "$results"
mkdir "$results"

command="dotnet test tests/Tests.csproj --configuration ${CONFIGURATION:-Release} --no-build --nologo --results-directory $results"
code=0
if [ $# -gt 0 ]; then
  wanted=1
  $command --logger "trx;LogFileName=tests.trx" "$@" || code=$?
else
  wanted=2
  waiting=
  others=
  for room in Launch Tracking Distributed; do
    waiting="$waiting|FullyQualifiedName~Moe.Tests.$room."
    others="$others&FullyQualifiedName!~Moe.Tests.$room."
  done

  setsid nice -n 5 $command --logger "trx;LogFileName=others.trx" --filter "${others#&}" > "$results/others.log" 2>&1 &
  second=$!
  trap 'kill -s TERM -- "-$second" 2> /dev/null; exit 130' INT TERM HUP
  $command --logger "trx;LogFileName=waiting.trx" --filter "${waiting#|}" || code=$?
  wait "$second" || code=$?
  trap - INT TERM HUP
  cat "$results/others.log"
fi

if [ "$(cat "$results"/*.trx 2> /dev/null | grep -c '<Counters ')" -ne "$wanted" ]; then
  echo "a test runner left no result"
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
fi

number() { cat "$results"/*.trx | grep -o '<Counters [^>]*>' | sed "s/.* $1=\"\([0-9]*\)\".*/\1/" | awk '{ sum += $1 } END { print sum }'; }
total=$(number total)
passed=$(number passed)
executed=$(number executed)
failed=$((executed - passed)) # whatever ran and did not pass: failed, aborted, timed out
skipped=$((total - executed))
[ "$total" -gt 0 ] || { echo "no test ran"; code=1; }
[ "$failed" -eq 0 ] || [ "$code" -ne 0 ] || code=1

# Thousands of lines may stand between a failure and the end: each once more, with the first lines of its message.
if [ "$failed" -gt 0 ]; then
  awk '
    /<UnitTestResult / { failed = /outcome="(Failed|Error|Timeout|Aborted)"/; name = $0; sub(/.* testName="/, "", name); sub(/" .*/, "", name); if (failed) print "failed: " name; lines = 0 }
    failed && /<Message>/ { told = 1 }
    failed && told && lines++ < 6 { text = $0; gsub(/<\/?Message>/, "", text); print "    " text }
    /<\/Message>/ { told = 0 }
    /<StackTrace>/ { failed = 0 }
  ' "$results"/*.trx | sed 's/&quot;/"/g; s/&lt;/</g; s/&gt;/>/g; s/&#xD;//g; s/&amp;/\&/g'
fi
echo "$passed passed, $failed failed, $skipped skipped"
exit "$code"
