package drain

import (
	"strconv"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache/cachetest"
)

// TestMoreReplicas: a group of three under Sentinel. The replica that takes over is the primary in the end, the Sentinels
// promote no other, and the other replica follows it.
func TestMoreReplicas(t *testing.T) {
	all := cachetest.Two(t)
	s := newShard(t, "sentinel of three", all[len(all)-1])
	r := newRig(t, s.seeds)
	for run := range 2 {
		s.ready(t)
		w := s.write(run)
		time.Sleep(100 * time.Millisecond)
		d, err := r.drain(s.a.Addr())
		if err != nil || d.Get("state").Str != Drained || d.Get("nodes").Items[0].Get("to").Str != s.b.Addr() {
			t.Fatalf("%v, %v; want %s, which has the lower replica-priority", d, err, s.b.Addr())
		}
		cachetest.Eventually(t, "the others follow the replica that took over", func() bool {
			for _, x := range []*cachetest.Server{s.a, s.c} {
				if primary(x) || x.Info("master_port") != strconv.Itoa(s.b.Port) || x.Info("master_link_status") != "up" {
					return false
				}
			}
			return primary(s.b)
		})
		time.Sleep(300 * time.Millisecond)
		acked, lost, by := w.end(s.b)
		t.Logf("%d acknowledged writes: %v; %s at most without one", acked, by, w.gap.Round(time.Millisecond))
		if lost > 0 {
			t.Errorf("%d lost of %d: %v", lost, acked, by)
		}
		for x, priority := range s.priorities() {
			if got := x.Must("CONFIG", "GET", "replica-priority").Items[1].Str; got != priority {
				t.Errorf("%s has replica-priority %s, want %s as before", x.Addr(), got, priority)
			}
		}
	}
}

// TestOneThatStoodAside: a replica that dies while it stands aside gets its priority back when it answers, also when its file says that Sentinels
// must not promote it.
func TestOneThatStoodAside(t *testing.T) {
	all := cachetest.Two(t)
	s := newShard(t, "sentinel of three", all[len(all)-1])
	s.ready(t)
	r := newRig(t, s.seeds)
	r.k.step = func(step string) {
		if step == "tidy up" {
			cachetest.Eventually(t, "its file is written", func() bool { // as by a Sentinel that makes it follow the new primary, and closes its connections
				v, err := s.c.Do("CONFIG", "REWRITE")
				return err == nil && v.Str == "OK"
			})
			s.c.Stop()
		}
	}
	d, err := r.drain(s.a.Addr())
	if err != nil || d.Get("state").Str != Drained || d.Get("nodes").Items[0].Get("why").Str != s.c.Addr()+" gets its replica-priority back as soon as it answers" {
		t.Fatalf("%v, %v", d, err)
	}
	go r.k.Run(t.Context())
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		other := &Drain{ID: "d-other", Parts: []Part{{Cluster: r.k.list()[0].Parts[0].Cluster}}}
		if err := r.k.begin(other); err != nil {
			t.Fatalf("while one is owed something: %v", err)
		}
		r.k.mu.Lock()
		delete(r.k.drains, other.ID)
		delete(r.k.busy, other.ID)
		r.k.mu.Unlock()
	}
	s.c.Kill()
	s.c.Restart()
	priority := func() string { return s.c.Must("CONFIG", "GET", "replica-priority").Items[1].Str }
	cachetest.Eventually(t, "it has its priority again", func() bool { return priority() == "100" })
	s.c.Kill()
	s.c.Restart()
	if priority() != "100" {
		t.Errorf("replica-priority %s after a restart", priority())
	}
	cachetest.Eventually(t, "nothing is owed", func() bool { d := r.k.list()[0]; return len(d.Parts[0].Aside) == 0 && d.State == Drained })
}
