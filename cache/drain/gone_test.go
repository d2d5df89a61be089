package drain

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache/cachetest"
)

// TestGatewayGone: under Sentinel, a gateway dies between the two roles, when there is no primary, and stays away until the Sentinels act.
// They promote the replica if it is the process that has everything. If it was restarted and has less, they do not, and the next gateway calls
// the old primary back. Either way the replica may be promoted again afterwards.
func TestGatewayGone(t *testing.T) {
	t.Parallel() // nothing that runs at the same time cuts anything
	all := cachetest.Two(t)
	v := all[len(all)-1]
	for _, tc := range []struct {
		name     string
		replicas int
		restarts bool
		ends     string
	}{
		{"the replica lives on", 1, false, Drained},
		{"the replica restarts with less", 1, true, Unchanged},
		{"one of two lives on", 2, false, Drained},
		{"one of two restarts with less", 2, true, Unchanged},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			g := cachetest.StartSentinel(t, v, "orders", tc.replicas, append([]string{"--replica-priority", "70"}, keeping...)...)
			g.Replicas[0].Must("CONFIG", "SET", "replica-priority", "60") // of two it takes over
			g.Replicas[0].Must("CONFIG", "REWRITE")
			for _, s := range g.Sentinels { // they would take half a minute to act
				s.Must("SENTINEL", "SET", "orders", "down-after-milliseconds", "2000")
				s.Must("SENTINEL", "DEBUG", "INFO-PERIOD", "500")
			}
			s := shard{mode: "sentinel", a: g.Primary, b: g.Replicas[0], seeds: cachetest.Addrs(g.Sentinels...)}
			s.ready(t)
			if tc.replicas == 2 {
				s.c = g.Replicas[1]
			}
			w := s.write(0)
			defer w.stop()
			path := filepath.Join(t.TempDir(), "j")
			first := cachetest.StartGateway(t, path, s.seeds, "promote")
			defer first.Kill()
			s.b.Must("CONFIG", "SET", "replica-priority", "0")
			if said := first.Ask("ada CACHE.DRAIN "+s.a.Addr()+" DRYRUN", cachetest.Patience); tc.replicas == 1 && !strings.Contains(said, "never to be promoted") {
				t.Errorf("a replica that Sentinels must not promote: %s", said)
			}
			s.b.Must("CONFIG", "SET", "replica-priority", "60")
			if said := first.Ask(approved(t, first, s.a.Addr()), cachetest.Patience); said != "gone" {
				t.Fatalf("the gateway does not die: %s", said)
			}
			if tc.restarts {
				s.b.Kill()
				must(t, os.RemoveAll(filepath.Join(s.b.Dir, "appendonlydir")))
				s.b.Restart()
			}
			cachetest.Eventually(t, "a Sentinel promotes the replica, or finds that it must not", func() bool {
				for _, one := range g.Sentinels {
					if log, _ := os.ReadFile(filepath.Join(one.Dir, "log")); strings.Contains(string(log), "-failover-abort-no-good-slave") {
						return true
					}
				}
				return primary(s.b)
			})
			next := cachetest.StartGateway(t, path, s.seeds, "0")
			defer next.Kill()
			cachetest.Eventually(t, "it has ended", func() bool {
				return !strings.Contains(next.Ask("ada CACHE.DRAINS", cachetest.Patience), `"state":"draining"`)
			})
			if got := next.Ask("ada CACHE.DRAINS", cachetest.Patience); !strings.Contains(got, `"state":"`+tc.ends+`"`) {
				t.Errorf("it ends as %s, want %s", got, tc.ends)
			}
			now, other := s.b, s.a
			if tc.restarts {
				now, other = s.a, s.b
			}
			cachetest.Eventually(t, "one is the primary, and the other follows it", func() bool {
				return primary(now) && !primary(other) && other.Info("master_link_status") == "up"
			})
			time.Sleep(100 * time.Millisecond) // customers write
			acked, lost, by := w.end(now)
			t.Logf("of %d acknowledged writes %d are lost: %v", acked, lost, by)
			if lost > 0 || by["a"] == 0 {
				t.Errorf("of %d acknowledged writes %d are lost: %v", acked, lost, by)
			}
			for i, x := range append([]*cachetest.Server{g.Primary}, g.Replicas...) {
				want := []string{"70", "60", "70"}[i]
				x.Kill()
				x.Restart()
				if got := x.Must("CONFIG", "GET", "replica-priority").Items[1].Str; got != want {
					t.Errorf("%s has replica-priority %s after a restart, want %s as before", x.Addr(), got, want)
				}
			}
		})
	}
}

// TestSentinelsMustKnow: Sentinels that have heard of replica-priority 0 last, as after a hand-over that was just undone, would never call the
// replica the primary: nothing is begun until they have looked again.
func TestSentinelsMustKnow(t *testing.T) {
	t.Parallel()
	s := newShard(t, "sentinel", cachetest.Any(t))
	heard := func() bool {
		for _, one := range s.group.Sentinels {
			if rs := one.Must("SENTINEL", "REPLICAS", "orders").Items; len(rs) != 1 || rs[0].Get("slave-priority").Str != "0" {
				return false
			}
		}
		return true
	}
	look := func(ms string) {
		for _, one := range s.group.Sentinels {
			one.Must("SENTINEL", "DEBUG", "INFO-PERIOD", ms)
		}
	}
	s.ready(t)
	s.b.Must("CONFIG", "SET", "replica-priority", "0")
	look("100")
	cachetest.Eventually(t, "the Sentinels have heard of it", heard)
	look("3600000")
	s.b.Must("CONFIG", "SET", "replica-priority", "100")
	r := newRig(t, s.seeds)
	if v, err := r.drain(s.a.Addr()); err == nil || !strings.Contains(err.Error(), "GUARD") || !strings.Contains(err.Error(), "would not promote "+s.b.Addr()) || !strings.Contains(err.Error(), "is unchanged") {
		t.Errorf("%v, %v", v, err)
	}
	look("100")
	cachetest.Eventually(t, "the Sentinels have looked again", func() bool { return !heard() })
	s.ready(t)
	if v, err := r.drain(s.a.Addr()); err != nil || v.Get("state").Str != Drained {
		t.Errorf("%v, %v", v, err)
	}
}
