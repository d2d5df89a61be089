#!/bin/bash
# The tables of docs/internals/judge-bench.md. Parts: bench-judge.sh [aa] [rivals] [aa-uneasy] [rivals-uneasy] [power] [mde] [plan] [special] [nuisance]; none: all.
# Rollouts from FIRST on, of SEED; how many of each part: AA, RIVALS (also of uneasy hosts), POWER, MDE, PLAN, SPECIAL, NUISANCE. They are played in
# chunks of STEP; a chunk that is done stands in DIR and is not played again, so that the script can be interrupted.
# EVERY is the time between the looks of the parts aa: 1m, or more if time is short.
# Figures do not depend on how many are played at once.
set -euo pipefail
cd "$(dirname "$0")/.."
SEED=${SEED:-1} EVERY=${EVERY:-1m} FIRST=${FIRST:-0} STEP=${STEP:-25}
declare -A count=([aa]=${AA:-1000} [rivals]=${RIVALS:-170} [aa-uneasy]=${AA:-1000} [rivals-uneasy]=${RIVALS:-170} [power]=${POWER:-50} [mde]=${MDE:-30} [plan]=${PLAN:-5} [special]=${SPECIAL:-25} [nuisance]=${NUISANCE:-378})
DIR=${DIR:-bin/bench-judge}
[ $# -gt 0 ] || set -- aa rivals aa-uneasy rivals-uneasy power mde plan special nuisance
for part in "$@"; do
  [ -n "${count[$part]:-}" ] || { echo "bench-judge.sh: there is no part $part: aa, rivals, aa-uneasy, rivals-uneasy, power, mde, plan, special, nuisance" >&2; exit 2; }
done
mkdir -p "$DIR"
go build -trimpath -buildvcs=false -o "$DIR/judgebench" ./internal/judgebench/cmd/judgebench
# A chunk counts for the program that played it.
version=$(sha256sum "$DIR/judgebench" | cut -c1-12)
done=()
for part in "$@"; do
  for ((from = FIRST; from < FIRST + count[$part]; from += STEP)); do
    n=$((FIRST + count[$part] - from < STEP ? FIRST + count[$part] - from : STEP))
    out="$DIR/$part-$version-$SEED-$EVERY-$from-$n.json"
    if [ ! -s "$out" ]; then
      "$DIR/judgebench" run "$part" -seed "$SEED" -from "$from" -rollouts "$n" -every "$EVERY" >"$out.part"
      mv "$out.part" "$out"
      echo "$part: $((from + n - FIRST)) of ${count[$part]}" >&2
    fi
    done+=("$out")
  done
done
"$DIR/judgebench" table "${done[@]}"
