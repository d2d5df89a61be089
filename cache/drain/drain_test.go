package drain

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
)

// TestDrain drains without a fault, on every topology, and takes the host back.
func TestDrain(t *testing.T) {
	for _, mode := range []string{"cluster", "sentinel", "standalone"} {
		t.Run(mode, func(t *testing.T) {
			server := cachetest.Any(t)
			if all := cachetest.Two(t); mode == "cluster" { // TestTooSoon has the others, which take long
				server = all[len(all)-1]
			}
			s := newShard(t, mode, server)
			s.ready(t)
			r := newRig(t, s.seeds)
			w := s.write(0)
			time.Sleep(100 * time.Millisecond)
			v, err := r.drain(s.a.Addr())
			if err != nil {
				t.Fatal(err)
			}
			if v.Get("state").Str != Drained || v.Get("may_reboot").Int != 1 || primary(s.a) || !primary(s.b) {
				b, _ := v.MarshalJSON()
				t.Fatalf("%s; a is %s, b is %s", b, s.a.Info("role"), s.b.Info("role"))
			}
			time.Sleep(200 * time.Millisecond)
			acked, lost, by := w.end(s.b)
			t.Logf("%d acknowledged writes: %v; %s at most without one", acked, by, w.gap.Round(time.Millisecond))
			if lost > 0 || by["a"] == 0 || by["b"] == 0 {
				t.Errorf("%d lost of %d: %v", lost, acked, by)
			}
			// The reboot: it comes back as a replica, by what its files say.
			s.a.Kill()
			id := v.Get("id").Str
			if _, err := r.do("ada", "CACHE.RESUME "+id); err == nil || !strings.Contains(err.Error(), "GUARD "+s.a.Addr()+" does not answer") {
				t.Errorf("resumed while it is down: %v", err)
			}
			s.a.Restart()
			if mode != "cluster" && primary(s.a) { // a node of a cluster follows a moment later, and owns no slots until then
				t.Error("it started as a primary")
			}
			cachetest.Eventually(t, "it is resumed", func() bool { _, err := r.do("ada", "CACHE.RESUME "+id); return err == nil })
			if primary(s.a) {
				t.Error("it is resumed as a primary")
			}
			if got := r.Line(t.Context(), "ada", "CACHE.DRAINS"); !strings.Contains(got, `"state":"resumed"`) {
				t.Error(got)
			}
			if got := r.Line(t.Context(), "ada", "CACHE.AUDIT TOP 2000"); !strings.Contains(got, "host.drained") || !strings.Contains(got, "host.resumed") {
				t.Error(got)
			}
		})
	}
}

// TestWholeHost: a host with two primaries, one with two replicas, and a replica of a third shard.
func TestWholeHost(t *testing.T) {
	v := cachetest.Any(t)
	one, two := cachetest.StartPair(t, v, 1), cachetest.StartPair(t, v, 2)
	third := cachetest.StartOn(t, v, "127.0.0.6")
	here := cachetest.StartOn(t, v, "127.0.0.1", "--replicaof", third.Host+" "+fmt.Sprint(third.Port))
	cachetest.Eventually(t, "it follows", func() bool { return here.Info("master_link_status") == "up" })
	r := newRig(t, cachetest.Addrs(one.Primary, two.Primary, third))
	d, err := r.drain("127.0.0.1")
	if err != nil || d.Get("state").Str != Drained || d.Get("may_reboot").Int != 1 || len(d.Get("nodes").Items) != 3 {
		t.Fatalf("%v %+v", err, d)
	}
	if primary(one.Primary) || primary(two.Primary) || primary(here) || !primary(third) || !primary(one.Replicas[0]) {
		t.Error("a primary is left on the host, or another was moved")
	}
	now, other := two.Replicas[0], two.Replicas[1]
	if primary(other) {
		now, other = other, now
	}
	if !primary(now) || other.Info("master_port") != fmt.Sprint(now.Port) || other.Info("master_host") != now.Host {
		t.Errorf("the other replica follows %s:%s, and the primary is %s", other.Info("master_host"), other.Info("master_port"), now.Addr())
	}
	if _, err := r.do("ada", "CACHE.RESUME "+d.Get("id").Str); err != nil {
		cachetest.Eventually(t, "it is resumed", func() bool { _, err := r.do("ada", "CACHE.RESUME "+d.Get("id").Str); return err == nil })
	}
}

// TestRefuses: what may not be drained stays as it is, and says why.
func TestRefuses(t *testing.T) {
	v := cachetest.Any(t)
	alone := cachetest.StartOn(t, v, "127.0.0.5")
	p := cachetest.StartPair(t, v, 1)
	r := newRig(t, cachetest.Addrs(alone, p.Primary))
	refused := func(line, want string) {
		t.Helper()
		if _, err := r.do("ada", line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	refused("CACHE.DRAIN 127.0.0.5 DRYRUN", "GUARD "+alone.Addr()+" cannot be drained: it has no replica; mend or add a replica on another host; or accept that its keys are gone, with COLD")
	refused("CACHE.DRAIN nowhere DRYRUN", "ERR no node is on host nowhere")
	if v, err := r.drain("127.0.0.5 COLD"); err != nil || v.Get("state").Str != Drained {
		t.Errorf("cold: %v, %v", v, err)
	}
	if v, err := r.drain(p.Replicas[0].Host); err != nil || v.Get("state").Str != Drained || primary(p.Replicas[0]) {
		t.Errorf("replicas only: %v, %v", v, err)
	}
	refused("CACHE.DRAIN "+p.Primary.Host, "APPROVAL p-")
	r.k.Leased = func(_, addr string) string {
		if addr == p.Replicas[0].Addr() {
			return "l-1"
		}
		return ""
	}
	refused("CACHE.DRAIN "+p.Primary.Host+" DRYRUN", "CACHE.CONFIG TEMP REVERT l-1")
	r.k.Leased = nil
	p.Replicas[0].Must("CONFIG", "SET", "maxmemory", "1mb")
	refused("CACHE.DRAIN "+p.Primary.Host+" DRYRUN", "may hold less memory")
	p.Replicas[0].Must("CONFIG", "SET", "maxmemory", "0")
	p.Replicas[0].Kill()
	time.Sleep(400 * time.Millisecond)
	refused("CACHE.DRAIN "+p.Primary.Host+" DRYRUN", "cannot be drained")
	if _, err := r.Do(t.Context(), cache.Request{User: cache.User{Name: "eve", Role: cache.Operator}, Args: []string{"CACHE.DRAIN", "x", "DRYRUN"}}); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("an operator: %v", err)
	}
	if !primary(p.Primary) {
		t.Error("something was moved")
	}
}

// TestTooSoon: a node of a cluster that was a primary, and a replica again, does not stand for election while it may count
// old votes.
func TestTooSoon(t *testing.T) {
	v := cachetest.Any(t)
	if v.Valkey {
		t.Skip("skipped: there is no Redis here, and Valkey does not need it")
	}
	s := newShard(t, "cluster", v)
	s.ready(t)
	r := newRig(t, s.seeds)
	if d, err := r.drain(s.a.Addr()); err != nil || d.Get("state").Str != Drained {
		t.Fatal(d, err)
	}
	cachetest.Eventually(t, "it follows", func() bool { return s.a.Info("master_link_status") == "up" })
	time.Sleep(400 * time.Millisecond)
	if _, err := r.do("ada", "CACHE.DRAIN "+s.b.Addr()+" DRYRUN"); err == nil || !strings.Contains(err.Error(), "the votes of an election") || !strings.Contains(err.Error(), "try again in") {
		t.Errorf("right after: %v", err)
	}
}
