#!/bin/bash
# Runs every fuzz test, JOBS=2 at a time. FUZZTIME=20s each; FUZZ=REGEXP chooses (folder and name); with FUZZLOGS=DIR the
# outputs stay there, and what has passed there already for as long is not run again: a long run can be cut short.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
time=${FUZZTIME:-20s}
logs=${FUZZLOGS:-$(mktemp -d)}
mkdir -p "$logs"
one() { # DIR NAME
  local log; log="$logs/$(tr / - <<<"$1")-$2-$time.log"
  if [ -f "$log" ] && grep -q '^ok' "$log"; then
    echo "passed before: $1 $2"
    return 0
  fi
  local began=$SECONDS
  # One worker each. Minimising would go on for a minute after the end.
  run() { go test "./$1" -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 1x -parallel 1 -timeout 0 >"$log" 2>&1; }
  # Go's fuzzer says "context deadline exceeded", with no input to show, when its end meets one that is still running: on a
  # busy machine that is chance, so it gets a second try; an input that hangs fails that as well.
  if run "$1" "$2" || { ! grep -q 'Failing input' "$log" && grep -q 'context deadline exceeded' "$log" && run "$1" "$2"; }; then
    echo "ok   $1 $2: $(grep -oE 'execs: [0-9]+' "$log" | tail -n 1), $(grep -oE 'total: [0-9]+' "$log" | tail -n 1) interesting, $((SECONDS - began)) s"
  else
    echo "FAIL $1 $2:"
    sed 's/^/    /' "$log"
    return 1
  fi
}
mapfile -t tests < <(git grep -oE '^func Fuzz[A-Za-z0-9_]+\(' -- '*_test.go' |
  sed -E 's|/?[^/]*_test\.go:func | |; s|\($||' | sort -u | grep -E "${FUZZ:-.}")
echo "fuzz: ${#tests[@]} tests, $time each, ${JOBS:-2} at a time"
fail=0
for t in "${tests[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-2}" ]; do wait -n || fail=1; done
  read -r dir name <<<"$t"
  one "$dir" "$name" &
done
while [ -n "$(jobs -p)" ]; do wait -n || fail=1; done
[ $fail = 0 ] && echo "fuzz: no findings" || echo "fuzz: error: see above; go test writes the input that failed below testdata/fuzz, and runs it from then on"
[ -n "${FUZZLOGS:-}" ] || rm -rf "$logs"
exit $fail
