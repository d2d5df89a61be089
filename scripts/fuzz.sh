#!/bin/bash
# Runs every fuzz test, JOBS=2 at a time. FUZZTIME=20s each; FUZZ=REGEXP chooses (folder and name); with FUZZLOGS=DIR the
# outputs stay there, and what has passed there already for as long is not run again: a long run can be cut short.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
time=${FUZZTIME:-20s}
logs=${FUZZLOGS:-$(mktemp -d)}
mkdir -p "$logs"
# On a busy machine two ends are chance, and get a second try: "context deadline exceeded" without an input to show, when
# the end meets an input that is still running, and an input that hung for Go's ten seconds and passes alone, which is
# then beside the log. What hangs within the first ten seconds of a try fails the second as well.
chance() { # DIR NAME LOG
  local input
  input=$(sed -nE 's/^ *Failing input written to //p' "$3")
  if [ -z "$input" ]; then
    grep -q 'context deadline exceeded' "$3"
    return
  fi
  grep -q 'fuzzing process hung' "$3" &&
    timeout 60 go test "./$1" -count=1 -run "^$2\$/^$(basename "$input")\$" >/dev/null 2>&1 &&
    mv "$1/$input" "${3%.log}.hung" && echo "$1 $2: an input hung and passes alone: once more"
}
one() { # DIR NAME
  local log; log="$logs/$(tr / - <<<"$1")-$2-$time.log"
  if [ -f "$log" ] && grep -q '^ok' "$log"; then
    echo "passed before: $1 $2"
    return 0
  fi
  local began=$SECONDS
  # One worker each. Minimising would go on for a minute after the end.
  run() { go test "./$1" -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 1x -parallel 1 -timeout 0 >"$log" 2>&1; }
  if run "$1" "$2" || { chance "$1" "$2" "$log" && run "$1" "$2"; }; then
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
