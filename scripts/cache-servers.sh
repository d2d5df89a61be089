#!/bin/bash
# Fetches newer Redis and Valkey servers for the tests of cache, each release of Debian into a tree of its own under the
# user's cache folder. Nothing is installed: the trees are only unpacked, and the servers run with the loader and the
# libraries of their tree. Without this, or without the network, the tests run with the host's own Redis and say so.
set -uo pipefail
dir=${KERNWAVE_SERVERS:-${XDG_CACHE_HOME:-$HOME/.cache}/kernwave/servers}
# The mirror that this machine uses, like the lab.
# shellcheck disable=SC2016 # apt expands it
mirror=${KERNWAVE_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1)}
mirror=${mirror%/}
[ -n "$mirror" ] || { echo "cache-servers: apt names no mirror of Debian; next: set KERNWAVE_MIRROR, or apt-get update"; exit 0; }
# A tree is kept for a week before the index is asked again; releases that move do so every few hours.
days=7
mkdir -p "$dir"
exec 9>"$dir/.lock"; flock 9
get() { # name packages suite [more suites]
  local name=$1 packages=$2; shift 2
  local now; now=$(readlink "$dir/$name" 2>/dev/null)
  if [ -n "$now" ] && [ -d "$dir/$now" ] && [ -z "$(find "$dir/$now/.checked" -mtime +$days 2>/dev/null)" ]; then
    return 0
  fi
  local hash="" sources=()
  for suite; do
    local index
    index=$(curl -fsS --max-time 60 "$mirror/dists/$suite/InRelease") || { echo "cache-servers: the index of $suite could not be fetched${now:+; $now is used as it is}"; return 1; }
    hash+=$index
    sources+=("deb $mirror $suite main")
  done
  hash=$(printf '%s %s' "$packages" "$hash" | sha256sum | cut -c1-16)
  local tree=$name-$hash
  if [ ! -d "$dir/$tree" ]; then
    echo "cache-servers: fetching $packages of Debian $1"
    local tmp=$dir/.unfinished-$name
    rm -rf "$tmp"
    # An index may be older than its promise on a mirror that lags; it is still signed.
    if ! mmdebstrap --quiet --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' --include="$packages" \
      --dpkgopt='path-exclude=/usr/share/*' "$1" "$tmp" "${sources[@]}" >"$dir/$name.log" 2>&1; then
      echo "cache-servers: Debian $1 could not be unpacked: $(grep -m1 '^E:' "$dir/$name.log"); see $dir/$name.log"
      rm -rf "$tmp"
      return 1
    fi
    rm -rf "${tmp:?}/dev" "${tmp:?}/var/cache" "${tmp:?}/var/lib/apt"
    mv "$tmp" "$dir/$tree"
  fi
  touch "$dir/$tree/.checked"
  ln -sfn "$tree" "$dir/$name"
  [ -z "$now" ] || [ "$now" = "$tree" ] || rm -rf "${dir:?}/$now"
}
command -v mmdebstrap >/dev/null || { echo "cache-servers: mmdebstrap is missing; next: apt-get install mmdebstrap"; exit 0; }
command -v curl >/dev/null || { echo "cache-servers: curl is missing; next: apt-get install curl"; exit 0; }
get trixie redis-tools,valkey-tools trixie
get forky valkey-tools forky
get experimental redis-tools/experimental sid experimental
exit 0
