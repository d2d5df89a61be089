package drain

import (
	"strconv"
	"testing"
	"time"

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

// TestToldLate: the Sentinels have found the new primary by themselves when they are told to fail over, because the gateway was held up or one of
// them was slow. They do not make the old one the primary again, and each server has the replica-priority that it had.
func TestToldLate(t *testing.T) {
	s := newShard(t, "sentinel", cachetest.Any(t))
	s.ready(t)
	s.a.Must("CONFIG", "SET", "replica-priority", "70")
	r := newRig(t, s.seeds)
	r.k.step = func(step string) {
		if step != "watch" {
			return
		}
		s.group.Sentinels[0].Must("SENTINEL", "FAILOVER", s.group.Name)
		for _, one := range s.group.Sentinels {
			cachetest.Eventually(t, one.Addr()+" calls the replica the primary, and is at nothing", func() bool {
				m := one.Must("SENTINEL", "MASTER", s.group.Name)
				return m.Get("port").Str == strconv.Itoa(s.b.Port) && m.Get("flags").Str == "master"
			})
		}
	}
	d, err := r.drain(s.a.Addr())
	if err != nil || d.Get("state").Str != Drained {
		t.Errorf("%v, %v", d, err)
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if !primary(s.b) || primary(s.a) {
			t.Fatalf("the old primary is %s, the new one %s", s.a.Info("role"), s.b.Info("role"))
		}
	}
	for x, want := range map[*cachetest.Server]string{s.a: "70", s.b: "100"} {
		if got := x.Must("CONFIG", "GET", "replica-priority").Items[1].Str; got != want {
			t.Errorf("%s has replica-priority %s, want %s", x.Addr(), got, want)
		}
	}
}
