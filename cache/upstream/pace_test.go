package upstream_test

import (
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache/cachetest"
	"github.com/kernwave/kernwave/cache/upstream"
)

var (
	stalls = flag.Int("upstream.stalls", 3, "how many times TestStallOpensTheBreaker lets a server stand still; make bench-cache does it 100 times")
	stall  = flag.Duration("upstream.stall", time.Second, "and for how long; make bench-cache does it for 50 ms, on a machine where nothing else runs")
)

// TestStallOpensTheBreaker: a server that stands still is left alone within two windows, and the report says why. On a machine so busy
// that pings take long anyway, only what is much longer is a stall.
func TestStallOpensTheBreaker(t *testing.T) {
	s := cachetest.Start(t, cachetest.Any(t))
	n := look(t, open(t, s.Addr())).Nodes[0]
	opened, longer := 0, 0
	for range *stalls {
		p, err := n.Pace(t.Context(), 1000, 1) // slow pings alone do nothing here: only a stall does
		if err != nil {
			t.Fatal(err)
		}
		before := p.Report()
		still := max(*stall, 10*before.Base)
		if still > *stall {
			longer++
		}
		time.Sleep(50 * time.Millisecond)
		s.Stop()
		time.Sleep(still)
		s.Continue()
		for range 2 * 16 { // two windows of pages
			if err := p.Page(t.Context(), 100*time.Microsecond); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		r := p.Report()
		p.Close()
		if r.Opens > before.Opens && strings.Contains(r.Why, "a ping took") && r.Throttle >= 100*time.Millisecond {
			opened++
		} else {
			t.Errorf("a stall of %s, and the guards did %+v", still, r)
		}
	}
	t.Logf("%d of %d stalls of %s opened the breaker within two windows; %d lasted longer, for pings took long anyway", opened, *stalls, *stall, longer)
}

// TestPacerEndsWithTheServer: a restart or the death of the server ends the job, and says so.
func TestPacerEndsWithTheServer(t *testing.T) {
	s := cachetest.Start(t, cachetest.Any(t))
	n := look(t, open(t, s.Addr())).Nodes[0]
	p, err := n.Pace(t.Context(), 2, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s.Kill()
	cachetest.Eventually(t, "the job is told", func() bool {
		return p.Page(t.Context(), 0) != nil
	})
}

// TestRoleChangeEndsTheJob: what was a replica a moment ago must not be walked over as one.
func TestRoleChangeEndsTheJob(t *testing.T) {
	pair := cachetest.StartPair(t, cachetest.Any(t), 1)
	f := open(t, pair.Primary.Addr())
	var replica *upstream.Node
	for _, n := range look(t, f).Nodes {
		if n.Role == upstream.Replica {
			replica = n
		}
	}
	p, err := replica.Pace(t.Context(), 1000, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	pair.Replicas[0].Must("REPLICAOF", "NO", "ONE")
	var end error
	cachetest.Eventually(t, "the job is told", func() bool {
		end = p.Page(t.Context(), 0)
		return end != nil
	})
	if g, ok := errors.AsType[*upstream.ErrGuard](end); !ok || !strings.Contains(g.Why, "its role changed from slave to master") {
		t.Errorf("got %v", end)
	}
}

// TestHeavyOneAtATime: one job on a machine and on a shard; the others wait, and give up when their caller does.
func TestHeavyOneAtATime(t *testing.T) {
	pair := cachetest.StartPair(t, cachetest.Any(t), 1) // two machines, one shard
	f := open(t, pair.Primary.Addr())
	nodes := look(t, f).Nodes
	release, err := f.Heavy.Take(t.Context(), nodes[0], "j-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan string, 1)
	got := make(chan error, 1)
	go func() {
		r, err := f.Heavy.Take(t.Context(), nodes[1], "j-2", func(holder string) { waits <- holder })
		if err == nil {
			r()
		}
		got <- err
	}()
	if holder := <-waits; holder != "j-1" {
		t.Errorf("waits for %s", holder)
	}
	select {
	case <-got:
		t.Fatal("two heavy jobs on one shard")
	case <-time.After(50 * time.Millisecond):
	}
	release()
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}
