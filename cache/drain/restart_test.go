package drain

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache/cachetest"
)

// TestRestartedReplicaIsNotPromoted: a replica that dies in the middle of the hand-over and comes back empty does not
// become the primary, at whichever step that is: the old primary has everything, and stays. One that dies after it was promoted
// comes back as the primary, with what is in its file.
func TestRestartedReplicaIsNotPromoted(t *testing.T) {
	all := cachetest.Two(t)
	v := all[len(all)-1]
	for mode, last := range map[string]string{"sentinel": "watch", "standalone": "await"} {
		t.Run(mode, func(t *testing.T) {
			s := newShard(t, mode, v)
			for _, at := range []string{"fail over", "promote", last} {
				t.Run(at, func(t *testing.T) { restarted(t, &s, at, at == last) })
			}
		})
	}
}

// restarted drains s, kills its replica before the step at and starts it again, empty unless it is the primary by then.
func restarted(t *testing.T, s *shard, at string, last bool) {
	s.ready(t)
	r := newRig(t, s.seeds)
	a, b, reached := s.a, s.b, false
	r.k.step = func(step string) {
		if step != at || reached {
			return
		}
		reached = true
		b.Kill()
		if last {
			b.Restart()
			return
		}
		files, err := filepath.Glob(filepath.Join(b.Dir, "appendonlydir"))
		must(t, err)
		for _, f := range files {
			must(t, os.RemoveAll(f))
		}
		b.Restart()
		time.Sleep(200 * time.Millisecond) // enough for a Sentinel to find it
	}
	w := s.write(0)
	time.Sleep(100 * time.Millisecond)
	_, err := r.drain(a.Addr())
	if !reached {
		t.Fatalf("there is no step %q: %v", at, err)
	}
	now, other, want := a, b, Unchanged
	if last {
		now, other, want = b, a, Drained
	}
	state := func() string { return r.k.list()[0].State }
	if last && state() == Draining { // the call gave up waiting
		r.k.reconcile(t.Context(), r.k.drains[r.k.list()[0].ID])
	}
	cachetest.Eventually(t, "one is the primary, and the other follows it", func() bool {
		return primary(now) && !primary(other) && other.Info("master_link_status") == "up"
	})
	acked, lost, by := w.end(now)
	t.Logf("%s, of %d acknowledged writes %d are lost, %v; %v", state(), acked, lost, by, err)
	if lost > 0 || state() != want {
		t.Errorf("%s, and %d of %d acknowledged writes are lost: %v", state(), lost, acked, by)
	}
}
