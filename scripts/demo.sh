#!/bin/bash
# Shows a kernel update from end to end; needs `make setup` before. Ends by itself, also without a terminal.
set -euo pipefail
cd "$(dirname "$0")/.."
exec bin/kernwave-lab demo
