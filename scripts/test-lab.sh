#!/bin/bash
# Runs lab scenarios on virtual machines. `shared`: those of every change; `all`: also the ones that take longer.
set -euo pipefail
cd "$(dirname "$0")/.."
export KERNWAVE_LAB=${1:-shared}
# One package after the other: each boots as many machines as two cores can carry. Never from the cache of results,
# which knows nothing of kernels and mirrors.
exec go test -p 1 -count=1 -v -timeout 70m ./internal/lab/scenario/... 
