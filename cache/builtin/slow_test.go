package builtin_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache/cachetest"
)

func TestSlow(t *testing.T) {
	onAll(t, func(t *testing.T, tp topology) {
		for _, p := range tp.primary {
			p.Must("CONFIG", "SET", "slowlog-log-slower-than", "10000000") // else a busy machine fills it
			p.Must("SLOWLOG", "RESET")
			p.Must("CONFIG", "SET", "slowlog-log-slower-than", "0")
		}
		keys := []string{"user:1:cart", "user:2:cart", "user:3:cart"}
		for _, k := range keys {
			tp.at(k).Must("SET", k, "a secret value")
		}
		for _, p := range tp.primary {
			p.Must("CONFIG", "SET", "slowlog-log-slower-than", "-1")
			defer p.Must("CONFIG", "SET", "slowlog-log-slower-than", "10000")
		}
		r := newRig(t, tp.cfg)
		v := r.ok("CACHE.SLOW SINCE 1h TOP 100")
		found := false
		for _, row := range v.Get("rows").Items {
			if row.Get("fingerprint").Str == "SET user:*:cart" {
				found = true
				if row.Get("n").Int != 3 || row.Get("p50").Int > row.Get("p99").Int || row.Get("unit").Str != "us" || !strings.Contains(row.Get("example").Str, "SET #") {
					t.Errorf("got %v", row)
				}
			}
		}
		if !found {
			t.Errorf("got\n%s", table(v, "fingerprint", "n"))
		}
		if b, _ := v.MarshalJSON(); strings.Contains(string(b), "secret") || strings.Contains(string(b), "user:1") {
			t.Errorf("it shows what customers store: %s", b)
		}
		if n := len(tp.primary[0].Must("SLOWLOG", "GET", "100").Items); n == 0 {
			t.Error("the slow log was reset")
		}
	})
}

// TestSlowLargeReplies: Valkey's own logs, and a server that has none of them.
func TestSlowLargeReplies(t *testing.T) {
	s := cachetest.Start(t, cachetest.Newest(t, true), "--commandlog-reply-larger-than", "1000")
	s.Must("SET", "big:1", strings.Repeat("x", 5000))
	s.Must("GET", "big:1")
	r := newRig(t, seeds("main", s))
	v := r.ok("CACHE.SLOW KIND large-reply")
	if got := table(v, "fingerprint", "n", "unit"); !strings.Contains(got, "GET big:* 1 bytes\n") {
		t.Errorf("got\n%s", got)
	}
	old := newRig(t, seeds("main", cachetest.Start(t, cachetest.Newest(t, false))))
	if e := old.refused("CACHE.SLOW KIND large-reply", "UNREACHABLE"); !strings.Contains(e, "no COMMANDLOG; KIND slow works") {
		t.Error(e)
	}
}

func TestLatency(t *testing.T) {
	onAll(t, func(t *testing.T, tp topology) {
		var loads []*cachetest.Load
		for i, p := range tp.primary {
			tag := tp.tag(i)
			loads = append(loads, p.Traffic(500, cachetest.NewZipf(50, 1), func(rank int) string { return tag + strconv.Itoa(rank) }))
		}
		time.Sleep(300 * time.Millisecond) // something before, to compare with
		r := newRig(t, tp.cfg)
		v := r.ok("CACHE.LATENCY FOR 1 ON role:primary TOP 1000")
		byNode := r.ok("CACHE.LATENCY FOR 0.5 BY node")
		for _, l := range loads {
			l.Stop()
		}
		for _, row := range v.Get("rows").Items {
			if row.Get("what").Str == "get" {
				want := 450 * float64(len(tp.primary))
				if rate := row.Get("calls_per_s").Float; rate < want/3 || rate > want*3 || row.Get("p99_us").Int < row.Get("p50_us").Int || row.Get("p99_ratio").IsNull() {
					t.Errorf("get: %v", row)
				}
				if len(byNode.Get("rows").Items) < len(tp.primary) {
					t.Errorf("by node: %v", byNode)
				}
				return
			}
		}
		t.Errorf("there is no get: %s", table(v, "what", "calls_per_s"))
	})
}

func TestClients(t *testing.T) {
	onAll(t, func(t *testing.T, tp topology) {
		load := tp.primary[0].Traffic(1000, cachetest.NewZipf(10, 1), func(int) string { return tp.tag(0) })
		defer load.Stop()
		tp.primary[0].Must("CLIENT", "SETNAME", "shop")
		defer tp.primary[0].Must("CLIENT", "SETNAME", "")
		r := newRig(t, tp.cfg)
		v := r.ok("CACHE.CLIENTS BY name")
		var shop, none bool
		for _, row := range v.Get("rows").Items {
			shop = shop || row.Get("group").Str == "shop" && row.Get("conns").Int == 1
			none = none || row.Get("group").Str == "(none)"
			if row.Get("group").Str == "kernwave-cache" {
				t.Error("the gateway counts itself")
			}
		}
		if !shop || !none {
			t.Errorf("got\n%s", table(v, "group", "conns"))
		}
		v = r.ok("CACHE.CLIENTS ON node:" + tp.primary[0].Addr())
		row := v.Get("rows").Items[0]
		if row.Get("group").Str != "127.0.0.1" {
			t.Errorf("got\n%s", table(v, "group", "conns"))
		}
		if counted := !row.Get("cmds_per_s").IsNull(); counted && (row.Get("cmds_per_s").Float < 200 || row.Get("in_bytes").Int < 1000) {
			t.Errorf("1000 operations a second are sent: %v", row)
		}
		if !strings.HasPrefix(r.ok("CACHE.CLIENTS BY user FOR 0.1").Get("rows").Items[0].Get("group").Str, "default") {
			t.Error("by user")
		}
	})
}
