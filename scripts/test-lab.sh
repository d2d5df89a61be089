#!/bin/bash
# Runs lab scenarios on virtual machines. `shared`: the scenarios of every change, on one fleet; `all`: those of power
# cuts, dying kernels and other loaders, too, and the tests of the lab itself.
set -euo pipefail
cd "$(dirname "$0")/.."
export KERNWAVE_LAB=1
packages=(./internal/lab/scenario)
run='^TestShared'
[ "${1:-shared}" = all ] && packages+=(./internal/lab/labtest) && run=.
# One package after the other: each boots as many machines as two cores can carry. Never from the cache of results,
# which knows nothing of kernels and mirrors.
exec go test -p 1 -count=1 -v -timeout 180m -run "$run" "${packages[@]}"
