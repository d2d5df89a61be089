#!/bin/bash
# Prints from a log of `go test` the tests that failed and what they said, without what a thousand other lines say: with up to
# 16 lines for each message, and then the first message of each alone, so that even the tail of a log tells it.
# A message goes on while lines are indented deeper. Of verbose tests, those that passed speak too.
set -uo pipefail
messages() { # LOG, lines of a message, messages of a test
  awk -v most="$2" -v of="$3" '
    /^=== RUN|^ok / { said = 0; left = 0; next }
    /^ *--- FAIL: |^panic: |^FAIL\t|: error: / { print; said = 0; left = 0; next }
    match($0, /^ *[a-z0-9_]+_test\.go:[0-9]+: /) { deep = match($0, /[^ ]/); left = ++said > of ? 0 : most; if (left) print; next }
    left > 0 && match($0, /[^ ]/) > deep { left--; print; next }
    { left = 0 }
  ' "$1" | cut -c1-200
}
messages "${1:?a log of go test}" 16 100 | tail -n 100
echo "in short:"
messages "$1" 2 1 | tail -n 10
