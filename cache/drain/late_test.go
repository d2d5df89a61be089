package drain

import (
	"testing"

	"github.com/kernwave/kernwave/cache/cachetest"
)

// TestLateWrite: writes are not paused any more when the roles are changed, because the gateway was held up or someone has unpaused them, and one was
// acknowledged that the replica has not got. The old primary is called back.
func TestLateWrite(t *testing.T) {
	if why := cachetest.NoCut(); why != "" {
		t.Skip("skipped: packets cannot be made to vanish here (apt-get install nftables): " + why)
	}
	defer func() { must(t, cachetest.Heal()) }()
	for _, mode := range []string{"standalone", "sentinel"} {
		t.Run(mode, func(t *testing.T) {
			s := newShard(t, mode, cachetest.Any(t))
			s.ready(t)
			r := newRig(t, s.seeds)
			late := 0
			r.k.step = func(step string) {
				if step == "fail over" && late == 0 {
					late++
					s.lose(t)
					s.a.Must("CLIENT", "UNPAUSE")
					s.a.Must("SET", "late", "x")
				}
			}
			v, err := r.drain(s.a.Addr())
			must(t, cachetest.Heal())
			if err == nil || late == 0 || r.k.list()[0].State != Unchanged {
				t.Errorf("%v, %v", v, err)
			}
			cachetest.Eventually(t, "the old primary is it again", func() bool { return primary(s.a) && !primary(s.b) })
			if got := s.a.Must("GET", "late").Str; got != "x" {
				t.Error("the late write is lost")
			}
		})
	}
}
