#!/bin/sh
# Generates api/gen from the .proto files, with protoc from the distribution and plugins pinned in tools/go.mod.
set -eu
cd "$(dirname "$0")"
command -v protoc >/dev/null || { echo "generate: protoc is missing; next: apt-get install protobuf-compiler libprotobuf-dev" >&2; exit 1; }
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
(cd ../tools && GOBIN=$bin go install google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go)
rm -rf gen && mkdir gen
PATH=$bin:$PATH protoc -I . --go_out=gen --go_opt=paths=source_relative \
  --connect-go_out=gen --connect-go_opt=paths=source_relative kernwave/v1/*.proto
