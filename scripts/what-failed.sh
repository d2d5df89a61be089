#!/bin/bash
# Prints from a log of `go test` the tests that failed and what they said, without what a thousand other lines say.
# A message is taken with the lines below it that are indented deeper. Of verbose tests, those that passed speak too.
exec awk '
  /^ *--- FAIL: |^panic: |^FAIL\t|: error: / { print; next }
  match($0, /^ *[a-z0-9_]+_test\.go:[0-9]+: /) { deep = match($0, /[^ ]/); left = 25; print; next }
  left > 0 && match($0, /[^ ]/) > deep { left--; print; next }
  { left = 0 }
' "${1:?a log of go test}" | cut -c1-240 | tail -n 120
