#!/bin/bash
# Runs what every change needs. The image of the lab is built while the other tests run. What failed is said once more at the end.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
if [ -z "${KERNWAVE_TEST_LOG:-}" ]; then
  KERNWAVE_TEST_LOG=$(mktemp) || exit
  export KERNWAVE_TEST_LOG
  trap 'rm -f "$KERNWAVE_TEST_LOG"' EXIT
  "$0" 2>&1 | tee "$KERNWAVE_TEST_LOG"
  exit "${PIPESTATUS[0]}"
fi
began=$SECONDS
step() { printf '\n=== %s (after %d s)\n' "$1" $((SECONDS - began)); }
fail=0
step "the lab's image, in the background"
bin/kernwave-lab prepare >/tmp/kernwave-lab-prepare.$$ 2>&1 &
image=$!
step "vet"
go vet ./... || fail=1
step "unit, property, fuzz seeds, API and CLI tests"
go test -timeout 40m ./... || fail=1
step "the race detector, where goroutines share state"
if command -v gcc >/dev/null; then
  CGO_ENABLED=1 go test -race -short ./fleet ./rollout ./grant ./internal/control ./internal/agent/... || fail=1
else
  echo "skipped: there is no C compiler, which the race detector needs (apt-get install gcc libc6-dev)"
fi
step "every parser of foreign bytes, 20 seconds each"
FUZZTIME=20s scripts/fuzz.sh || fail=1
step "the lab's image"
wait $image || { echo "the lab's image could not be built:"; fail=1; }
cat /tmp/kernwave-lab-prepare.$$; rm -f /tmp/kernwave-lab-prepare.$$
step "the lab: scenarios that share one fleet"
[ $fail = 0 ] && { scripts/test-lab.sh shared || fail=1; }
[ $fail = 0 ] || { step "what failed"; scripts/what-failed.sh "$KERNWAVE_TEST_LOG"; }
step "done"
exit $fail
