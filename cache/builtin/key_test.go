package builtin_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
)

func TestKeyExplain(t *testing.T) {
	onAll(t, func(t *testing.T, tp topology) {
		key := "user:17"
		tp.at(key).Must("HSET", key, "name", "ada", "mail", "ada@example.org")
		tp.at(key).Must("PEXPIRE", key, "500000")
		tp.settle(t)
		r := newRig(t, tp.cfg)
		v := r.ok("CACHE.KEY EXPLAIN " + key)
		rows := v.Get("rows").Items
		if len(rows) != 1 {
			t.Fatalf("got %v", v)
		}
		row := rows[0]
		if row.Get("node").Str != tp.at(key).Addr() || row.Get("type").Str != "hash" || row.Get("items").Int != 2 || row.Get("ttl_ms").Int < 1 || row.Get("bytes").Int < 50 {
			t.Errorf("got %v", row)
		}
		if tp.name == "cluster" != !row.Get("slot").IsNull() || len(tp.replicas) > 0 != (len(row.Get("replicas").Items) == 1) {
			t.Errorf("slot %v, replicas %v", row.Get("slot"), row.Get("replicas"))
		}
		if !strings.Contains(row.Get("eviction").Str, "never: the node has no maxmemory") {
			t.Errorf("eviction: %v", row.Get("eviction"))
		}
		v = r.ok("CACHE.KEY EXPLAIN no:such")
		if len(v.Get("rows").Items) != 0 || !strings.Contains(v.Get("notes").Items[0].Str, "no node that was asked holds the key") {
			t.Errorf("got %v", v)
		}
		if b, _ := v.MarshalJSON(); strings.Contains(string(b), "example.org") {
			t.Error("it shows the value")
		}
	})
}

// TestEviction: who goes first is known here, because it was made so.
func TestEviction(t *testing.T) {
	for _, v := range cachetest.Two(t) {
		s := cachetest.Start(t, v, "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru")
		for i := range 100 {
			s.Must("SET", fmt.Sprintf("old:%d", i), "x")
			s.Must("SET", fmt.Sprintf("new:%d", i), "x", "EX", "5000")
			s.Must("RESTORE", fmt.Sprintf("stale:%d", i), "0", s.Must("DUMP", "old:0").Str, "REPLACE", "IDLETIME", "100000")
		}
		r := newRig(t, seeds("main", s))
		rank := func(key string) float64 {
			return r.ok("CACHE.KEY EXPLAIN " + key).Get("rows").Items[0].Get("eviction_rank").Float
		}
		if stale, fresh := rank("stale:3"), rank("new:3"); stale > 5 || fresh < 20 {
			t.Errorf("%s: the key that was not used for a day goes after %v %%, the new one after %v %%", v.Name, stale, fresh)
		}
		got := r.ok("CACHE.EVICTION EXPLAIN SAMPLES 300")
		by := map[string]cache.Value{}
		for _, row := range got.Get("rows").Items {
			by[row.Get("policy").Str] = row
		}
		if lru := by["allkeys-lru"]; lru.Get("set").Int != 1 || !strings.HasPrefix(lru.Get("victims").Items[0].Str, "stale:*") || lru.Get("victim_idle_s").Int < 1000 {
			t.Errorf("%s: lru: %v", v.Name, lru)
		}
		if ttl := by["volatile-ttl"]; len(ttl.Get("victims").Items) != 1 || !strings.HasPrefix(ttl.Get("victims").Items[0].Str, "new:* 100") || ttl.Get("evictable_pct").Float < 20 || ttl.Get("evictable_pct").Float > 47 {
			t.Errorf("%s: ttl: %v", v.Name, ttl)
		}
		if _, known := by["allkeys-lfu"]; known {
			t.Errorf("%s: a server with an LRU policy keeps no counters, and a figure is made up from them", v.Name)
		}
		if s.Must("CONFIG", "GET", "maxmemory-policy").Items[1].Str != "allkeys-lru" {
			t.Error("the policy was changed")
		}
		s.Must("CONFIG", "SET", "maxmemory-policy", "noeviction")
		if e := r.ok("CACHE.KEY EXPLAIN old:1").Get("rows").Items[0].Get("eviction").Str; !strings.Contains(e, "never: the policy is noeviction") {
			t.Error(e)
		}
	}
}

func TestConfigDiff(t *testing.T) {
	onAll(t, func(t *testing.T, tp topology) {
		r := newRig(t, tp.cfg)
		if v := r.ok("CACHE.CONFIG DIFF"); len(v.Get("rows").Items) != 0 {
			t.Errorf("nodes that were set up alike differ:\n%s", table(v, "param", "value", "odd_value", "odd_nodes"))
		}
		if len(tp.all) == 1 {
			return
		}
		odd := tp.all[1]
		odd.Must("CONFIG", "SET", "hz", "17")
		odd.Must("CONFIG", "SET", "requirepass", "hunter2")
		defer odd.Must("CONFIG", "SET", "requirepass", "")
		defer odd.Must("CONFIG", "SET", "hz", "10")
		cfg := tp.cfg
		v, err := newRig(t, cfg).do("CACHE.CONFIG DIFF MATCH h*")
		if err != nil { // it wants a password now, and says so
			t.Fatal(err)
		}
		if f := v.Get("nodes").Get("failed").Items; len(f) != 1 || !strings.Contains(f[0].Get("error").Str, "NOAUTH") || v.Get("coverage").Float >= 1 {
			t.Errorf("a node that wants a password: %v", v)
		}
		odd.Must("CONFIG", "SET", "requirepass", "")
		v = newRig(t, cfg).ok("CACHE.CONFIG DIFF")
		if got := table(v, "param", "value", "odd_value"); got != "hz 10 17\n" && len(tp.all) > 2 || !strings.Contains(got, "hz 1") {
			t.Errorf("got\n%s", got)
		}
		v = newRig(t, cfg).ok("CACHE.CONFIG DIFF AGAINST " + odd.Addr())
		if row := v.Get("rows").Items[0]; row.Get("value").Str != "17" || row.Get("odd_value").Str != "10" {
			t.Errorf("against the odd one: %v", row)
		}
		newRig(t, cfg).refused("CACHE.CONFIG DIFF AGAINST 10.9.9.9:1", "ERR")
	})
}

// TestDeadShardIsSaid: whoever looks at one node of each shard says which shard has none, instead of answering for the others alone.
func TestDeadShardIsSaid(t *testing.T) {
	v := cachetest.Any(t)
	a, b := cachetest.Start(t, v), cachetest.StartOn(t, v, "127.0.0.2")
	a.Must("SET", "a:1", "x")
	b.Must("SET", "b:1", "x")
	r := newRig(t, seeds("a", a), seeds("b", b))
	r.ok("CACHE.NODES")
	b.Kill()
	time.Sleep(400 * time.Millisecond)
	for _, line := range []string{"CACHE.KEY EXPLAIN a:1", "CACHE.KEY EXPLAIN b:1", "CACHE.EVICTION EXPLAIN", "CACHE.MONITOR FOR 0.1", "CACHE.HOTKEYS FOR 0.5"} {
		got := r.ok(line)
		if f := got.Get("nodes").Get("failed").Items; len(f) != 1 || !strings.Contains(f[0].Get("node").Str, b.Addr()) || got.Get("coverage").Float != 0.5 {
			t.Errorf("%s: %v", line, got)
		}
	}
	// In a cluster only the shard that owns the key's slot matters.
	c := cachetest.StartCluster(t, v, 3, 0)
	r = newRig(t, seeds("main", c.Primaries...))
	r.ok("CACHE.NODES")
	here, there := "", ""
	for i := 0; here == "" || there == ""; i++ {
		if key := fmt.Sprintf("k:%d", i); c.Of(t, key) == c.Primaries[0] {
			there = key
		} else {
			here = key
		}
	}
	c.Primaries[0].Kill()
	time.Sleep(400 * time.Millisecond)
	r.refused("CACHE.KEY EXPLAIN "+there, "UNREACHABLE")
	if got := r.ok("CACHE.KEY EXPLAIN " + here); len(got.Get("nodes").Get("failed").Items) != 0 || got.Get("coverage").Float != 1 {
		t.Errorf("a key of a shard that is there: %v", got)
	}
	got := r.ok("CACHE.EVICTION EXPLAIN SAMPLES 50")
	if f := got.Get("nodes").Get("failed").Items; len(f) != 1 || !strings.Contains(f[0].Get("node").Str, c.Primaries[0].Addr()) {
		t.Errorf("evictions of a cluster with a dead shard: %v", got)
	}
}

// TestConfigDiffOfVersions: what one server has and the other does not know.
func TestConfigDiffOfVersions(t *testing.T) {
	two := cachetest.Two(t)
	if len(two) < 2 {
		t.Skip("skipped: there is one version only; scripts/cache-servers.sh fetches others")
	}
	a, b := cachetest.Start(t, two[0]), cachetest.Start(t, two[1])
	v := newRig(t, seeds("a", a), seeds("b", b)).ok("CACHE.CONFIG DIFF MATCH commandlog-*")
	if got := table(v, "param", "value", "odd_value"); !strings.Contains(got, "(none)") {
		t.Errorf("got\n%s", got)
	}
}

func TestMonitor(t *testing.T) {
	onAll(t, func(t *testing.T, tp topology) {
		tag := tp.tag(0)
		load := tp.primary[0].Traffic(500, cachetest.NewZipf(5, 1), func(rank int) string { return fmt.Sprintf("cart:%s:%d", tag, rank) })
		defer load.Stop()
		r := newRig(t, tp.cfg)
		v := r.ok("CACHE.MONITOR FOR 0.5 CMD set MATCH cart:* MAXLINES 5")
		rows := v.Get("rows").Items
		if len(rows) != 5 || !strings.Contains(v.Get("notes").Items[0].Str, "MAXLINES is 5") {
			t.Fatalf("got %v", v)
		}
		for _, row := range rows {
			if call := row.Get("call").Str; !strings.HasPrefix(call, "SET cart:#") || len(strings.Fields(call)) != 3 || strings.Contains(call, tag) {
				t.Errorf("got %q", call)
			}
		}
		r.refused("CACHE.MONITOR", "ERR")
		r.refused("CACHE.MONITOR FOR 11", "ERR")
		if c := tp.primary[0].Must("CLIENT", "LIST").Str; strings.Contains(c, "cmd=monitor") {
			t.Error("a MONITOR was left behind")
		}
	})
}

func TestJobs(t *testing.T) {
	s := cachetest.Start(t, cachetest.Any(t))
	s.Fill(func(send func(...string)) {
		for i := range 50_000 {
			send("SET", fmt.Sprintf("k:%d", i), "x")
		}
	})
	r := newRig(t, seeds("main", s))
	v := r.ok("CACHE.BIGKEYS DUTY 0.01 ASYNC")
	id := v.Get("job").Str
	if got := table(r.ok("CACHE.JOB LIST"), "job", "state", "who"); got != id+" running ada\n" {
		t.Errorf("running: %s", got)
	}
	viewer := func(line string) error {
		_, err := r.g.Do(t.Context(), cache.Request{User: cache.User{Name: "vi", Role: cache.Viewer}, Args: strings.Fields(line)})
		return err
	}
	for _, line := range []string{"CACHE.JOB CANCEL " + id, "CACHE.JOB TAIL " + id} {
		if e, ok := errors.AsType[*cache.Error](viewer(line)); !ok || e.Code != cache.CodeNoPerm {
			t.Errorf("%s by a viewer: %v", line, e)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := r.g.Do(ctx, cache.Request{User: operator, Args: []string{"CACHE.JOB", "TAIL", id}}); err == nil {
		t.Error("following ended before the job did")
	}
	r.ok("CACHE.JOB CANCEL " + id)
	if e := r.refused("CACHE.JOB TAIL "+id, cache.CodeCancelled); !strings.Contains(e, "was cancelled by ada") {
		t.Errorf("the end: %s", e)
	}
	r.refused("CACHE.JOB CANCEL "+id, "ERR") // it has ended
	r.refused("CACHE.JOB CANCEL j-nothing", "ERR")
	quick := r.ok("CACHE.BIGKEYS DUTY 1 SLACK 100 BUDGET 5s TOP 1 ASYNC").Get("job").Str
	if v := r.ok("CACHE.JOB TAIL " + quick); len(v.Get("rows").Items) != 1 {
		t.Errorf("the reply of an asynchronous job: %v", v)
	}
	kinds := strings.Fields(table(r.ok("CACHE.AUDIT TOP 100"), "kind"))
	if !slices.Contains(kinds, "call.failed") || !slices.Contains(kinds, "call.done") {
		t.Errorf("the record: %v", kinds)
	}
}
