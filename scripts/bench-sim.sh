#!/bin/bash
# What the simulator shows once, with its figures. Parts: bench-sim.sh [fleets] [large] [never-boots] [planted]; none: all.
# SEEDS random fleets from seed FIRST on, in ranges of STEP. A range that is done stands in DIR and is not played again, so
# that the script can be interrupted. SEEDS_LARGE seeds of 5,000 hosts of which one type never boots. JOBS seeds at a
# time (0: one per processor). KERNWAVE is the program: a copy of it, if the tree is built on meanwhile.
set -euo pipefail
cd "$(dirname "$0")/.."
FIRST=${FIRST:-1} SEEDS=${SEEDS:-20000} STEP=${STEP:-500} SEEDS_LARGE=${SEEDS_LARGE:-200} PLANTED=${PLANTED:-1000} JOBS=${JOBS:-0}
DIR=${DIR:-bin/bench-sim}
KERNWAVE=${KERNWAVE:-bin/kernwave}
[ $# -gt 0 ] || set -- fleets large never-boots planted
mkdir -p "$DIR"
# A range counts for the program that played it.
version=$(sha256sum "$KERNWAVE" | cut -c1-12)

# figures adds up the answers of kernwave sim … --seeds … -o json: one line.
figures() {
  awk '
    FNR == 1 { part = "" }
    /^  "[a-z_]+": \{/ { part = $1; next }
    /^  \}/ { part = "" }
    part == "\"faults\":" { faults += $2; kinds[$1] = 1 }
    part == "\"seen\":" && $1 == "\"promise-checked\":" { checks += $2 }
    part == "\"seen\":" && $1 == "\"check-in\":" { checkins += $2 }
    part != "" { next }
    $1 == "\"seeds\":" { seeds += $2 }
    $1 == "\"hosts\":" { hosts += $2 }
    $1 == "\"harmed\":" { harmed += $2 }
    $1 == "\"not_back\":" { away += $2 }
    $1 == "\"most_harmed\":" { if ($2 + 0 > most) most = $2 + 0 }
    $1 == "\"virtual_ns\":" { virtual += $2 }
    $1 == "\"real_sec\":" { real += $2 }
    END {
      n = 0; for (k in kinds) n++
      printf "%d seeds, %d hosts, %.0f hours of their time, %d check-ins, %d faults of %d kinds, promises checked %d times, %d hosts harmed (at most %d in one seed), %d not back: %.0f s\n",
        seeds, hosts, virtual / 3.6e12, checkins, faults, n, checks, harmed, most, away, real
    }' "$@"
}

fleets() {
  local done=() from to n out
  for ((from = FIRST; from < FIRST + SEEDS; from += STEP)); do
    n=$((FIRST + SEEDS - from < STEP ? FIRST + SEEDS - from : STEP)) to=$((from + n - 1))
    out="$DIR/random-$version-$from-$to.json"
    if [ ! -s "$out" ]; then
      "$KERNWAVE" sim random --seed "$from" --seeds "$n" --parallel "$JOBS" -o json >"$out.part" || { cat "$out.part"; exit 1; }
      mv "$out.part" "$out"
    fi
    done+=("$out")
    echo "$from to $to: $(figures "$out")"
  done
  echo "random fleets, seeds $FIRST to $((FIRST + SEEDS - 1)), no promise broken: $(figures "${done[@]}")"
}

large() {
  "$KERNWAVE" sim run healthy-5000 -o json >"$DIR/healthy-5000.json"
  awk '/^  "virtual_ns":/ { v = $2 } /^  "real_sec":/ { r = $2 } /^      "status":/ { s = $2 }
    END { printf "healthy-5000: status %s %.1f h simulated in %.1f s\n", s, v / 3.6e12, r; exit s != "\"done\"," }' "$DIR/healthy-5000.json"
}

never_boots() {
  local from n out done=()
  for ((from = 1; from <= SEEDS_LARGE; from += 10)); do
    n=$((SEEDS_LARGE - from + 1 < 10 ? SEEDS_LARGE - from + 1 : 10))
    out="$DIR/never-boots-5000-$version-$from-$n.json"
    if [ ! -s "$out" ]; then
      "$KERNWAVE" sim run never-boots-5000 --seed "$from" --seeds "$n" --parallel "$JOBS" -o json >"$out.part" || { cat "$out.part"; exit 1; }
      mv "$out.part" "$out"
    fi
    done+=("$out")
  done
  echo "never-boots-5000: $(figures "${done[@]}")"
  awk '/^  "most_harmed":/ && $2 + 0 > 2 { bad = 1 } /^  "not_back":/ && $2 + 0 > 0 { bad = 1 } /^    "done":/ { n += $2 }
    END { if (bad) print "more than 2 hosts were harmed, or one is not back"; exit bad }' "${done[@]}"
}

planted() {
  go test ./internal/sim/planted -count=1 -v -run Planted -seeds "$PLANTED" -timeout 12h | sed -nE 's/^ +planted_test.go:[0-9]+: //p; /^(FAIL|ok|---)/p'
}

for part in "$@"; do
  case $part in
  fleets) fleets ;;
  large) large ;;
  never-boots) never_boots ;;
  planted) planted ;;
  *) echo "bench-sim.sh: there is no part $part: fleets, large, never-boots, planted" >&2; exit 2 ;;
  esac
done
