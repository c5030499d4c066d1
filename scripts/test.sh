#!/bin/sh
# Runs every test and closes with the line `N passed, N failed, N skipped`, counted from the test runner's own result file.
# Arguments go to `dotnet test`, such as --filter FullyQualifiedName~Launch.
set -u
cd "$(dirname "$0")/.."

results=TestResults
rm -rf "$results"
dotnet test tests/Tests.csproj --configuration "${CONFIGURATION:-Release}" --no-build --nologo \
  --logger "trx;LogFileName=tests.trx" --results-directory "$results" "$@"
code=$?

counters=$(grep -o '<Counters [^>]*>' "$results/tests.trx" 2> /dev/null)
if [ -z "$counters" ]; then
  echo "the test runner left no result"
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
fi

number() { printf '%s' "$counters" | sed -n "s/.* $1=\"\([0-9]*\)\".*/\1/p"; }
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
  ' "$results/tests.trx" | sed 's/&quot;/"/g; s/&lt;/</g; s/&gt;/>/g; s/&#xD;//g; s/&amp;/\&/g'
fi
echo "$passed passed, $failed failed, $skipped skipped"
exit "$code"
