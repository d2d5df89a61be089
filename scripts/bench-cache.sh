#!/bin/bash
# The long proofs of the cache gateway. PART chooses: protocol, leases, scripts, looks, impact, bulk, drain, doors. Each prints its figures.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
part=${PART:-protocol leases scripts looks impact bulk drain doors}
fail=0
run() { echo "bench-cache: $*"; go test -count=1 -timeout 0 -v "$@" || fail=1; }
for p in $part; do
  case $p in
    protocol)
      run ./cache/resp -run 'TestManyBytes' -resp.bytes 1000000000
      run ./cache/resp -run '^$' -bench 'Cancel' -benchtime 100000x
      run ./cache/resp -run '^$' -bench 'Ping'
      ;;
    leases)
      run ./cache/lease -run 'TestRandomSchedules' -lease.stories 10000
      run ./cache/lease -run 'TestRealSchedules' -lease.schedules 1000
      ;;
    scripts) # the last beside four computing processes for each processor
      run ./cache/script -run 'TestHostile|TestOthersAreUnharmed|TestCancelEndsTheChild'
      run ./cache/script -run '^$' -bench 'HostileOnABusyMachine' -benchtime 100x
      ;;
    looks) # cancelled questions to a node; how often a sample's interval holds the truth; the hottest keys at 60,000 operations a second
      KERNWAVE_CANCELLED=100000 run ./cache/upstream -run 'TestCancelledCallsLeakNothing'
      for seed in 7 $RANDOM $RANDOM; do run ./cache/builtin -run 'TestIntervalsHoldTheTruth' -builtin.seed "$seed"; done
      run ./cache/builtin -run '^$' -bench 'HotkeysRecall' -benchtime 10x
      ;;
    impact) # what customers feel of a profile of 1,000,000 keys, under SCHED_FIFO where that is allowed; and that a stall of 50 ms opens the breaker
      run ./cache/builtin -run '^$' -bench Impact -benchtime 1x
      run ./cache/upstream -run TestStallOpensTheBreaker -upstream.stalls 100 -upstream.stall 50ms
      ;;
    bulk) run ./cache/bulk -run 'TestKilledAndResumed|TestRateIsHeld|TestCustomersWriteMeanwhile' -bulk.keys 1000000 ;;
    drain) # 100 runs in a cluster, 20 each under Sentinel, with two replicas, and of a plain pair; as many with packets lost only; 80 more under Sentinel
      run ./cache/drain -run 'TestFaults' -drain.runs 100
      run ./cache/drain -run 'TestFaults|TestPacketsVanish' -drain.runs 100 -drain.fault packets
      run ./cache/drain -run 'TestFaults' -drain.sentinel 40
      ;;
    doors) run ./internal/cli -run 'TestEveryCommandThroughEveryDoor' -cache.matrix ;; # each door on each topology
    *) echo "bench-cache: error: there is no part $p; next: PART=protocol, leases, scripts, looks, impact, bulk, drain or doors" >&2; exit 2 ;;
  esac
done
exit $fail
