package builtin_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/builtin"
	"github.com/kernwave/kernwave/cache/cachetest"
	"github.com/kernwave/kernwave/cache/upstream"
)

// rig is a gateway in front of real servers.
type rig struct {
	t   *testing.T
	g   *cache.Gateway
	log *cache.MemLog
}

var operator = cache.User{Name: "ada", Role: cache.Operator}

func newRig(t *testing.T, cfgs ...upstream.Config) *rig {
	t.Helper()
	g := newRigB(t, cfgs...)
	return &rig{t, g, g.Log.(*cache.MemLog)}
}

// newRigB is the gateway of a rig, for benchmarks as well.
func newRigB(t testing.TB, cfgs ...upstream.Config) *cache.Gateway {
	t.Helper()
	for i := range cfgs {
		if cfgs[i].Timeout == 0 {
			cfgs[i].Timeout = 20 * time.Second // a busy machine may not run a healthy server for two
		}
	}
	f, err := upstream.Open(cfgs...)
	if err != nil {
		t.Fatal(err)
	}
	log := &cache.MemLog{}
	g := &cache.Gateway{Registry: cache.NewRegistry(), Users: cache.Loopback{}, Log: log}
	if err := builtin.Register(builtin.Deps{Fleet: f, Gateway: g}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Jobs.Close(); f.Close() })
	return g
}

func seeds(name string, ss ...*cachetest.Server) upstream.Config {
	c := upstream.Config{Name: name}
	for _, s := range ss {
		c.Seeds = append(c.Seeds, s.Addr())
	}
	return c
}

// do carries out a call that is written as one line; words hold no blanks.
func (r *rig) do(line string) (cache.Value, error) {
	return r.g.Do(r.t.Context(), cache.Request{User: operator, Args: strings.Fields(line), From: "test"})
}

// ok is do that must succeed.
func (r *rig) ok(line string) cache.Value {
	r.t.Helper()
	v, err := r.do(line)
	if err != nil {
		r.t.Fatalf("%s: %v", line, err)
	}
	return v
}

// refused is do that must fail with a code.
func (r *rig) refused(line, code string) string {
	r.t.Helper()
	v, err := r.do(line)
	e, is := errors.AsType[*cache.Error](err)
	if !is || e.Code != code {
		r.t.Errorf("%s: %v, %v; want %s", line, v, err, code)
		return ""
	}
	return e.Error()
}

// table is the rows' named columns, one row a line.
func table(v cache.Value, columns ...string) string {
	var b strings.Builder
	for _, row := range v.Get("rows").Items {
		for i, c := range columns {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(row.Get(c).Text())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// topology is one way to set up servers, with the addresses that hold keys by who they are.
type topology struct {
	name     string
	cfg      upstream.Config
	at       func(key string) *cachetest.Server // the primary of a key
	replicas []*cachetest.Server
	all      []*cachetest.Server
	primary  []*cachetest.Server
}

// onAll runs f on each topology and version of the short tests, side by side. The servers are shared by the tests of this
// package, because a cluster takes seconds to agree; each test finds them empty.
func onAll(t *testing.T, f func(t *testing.T, tp topology)) {
	for _, v := range cachetest.Two(t) {
		for _, name := range []string{"standalone", "pair", "sentinel", "cluster"} {
			t.Run(v.Name+"/"+name, func(t *testing.T) {
				t.Parallel()
				tp := shared(v, name)
				for _, p := range tp.primary {
					p.Must("FLUSHALL")
					p.Must("CONFIG", "RESETSTAT")
				}
				tp.settle(t)
				f(t, tp)
			})
		}
	}
}

var house = cachetest.NewProcess()

func TestMain(m *testing.M) {
	cachetest.OpenLoopMain()
	code := m.Run()
	house.Close()
	os.Exit(code)
}

var (
	sharedMu  sync.Mutex
	sharedAll = map[string]func() topology{}
)

func shared(v cachetest.Version, name string) topology {
	sharedMu.Lock()
	once := sharedAll[v.Name+name]
	if once == nil {
		once = sync.OnceValue(func() topology { return start(house, v, name) })
		sharedAll[v.Name+name] = once
	}
	sharedMu.Unlock()
	return once()
}

func start(t cachetest.TB, v cachetest.Version, name string, settings ...string) topology {
	tp := topology{name: name}
	switch name {
	case "standalone":
		s := cachetest.Start(t, v, settings...)
		tp.cfg, tp.all, tp.primary = seeds("main", s), []*cachetest.Server{s}, []*cachetest.Server{s}
		tp.at = func(string) *cachetest.Server { return s }
	case "pair":
		p := cachetest.StartPair(t, v, 1, settings...)
		tp.cfg, tp.replicas, tp.all, tp.primary = seeds("main", p.Primary), p.Replicas, p.Servers(), []*cachetest.Server{p.Primary}
		tp.at = func(string) *cachetest.Server { return p.Primary }
	case "sentinel":
		g := cachetest.StartSentinel(t, v, "orders", 1, settings...)
		tp.cfg, tp.replicas, tp.all, tp.primary = seeds("main", g.Sentinels...), g.Replicas, g.Servers(), []*cachetest.Server{g.Primary}
		tp.at = func(string) *cachetest.Server { return g.Primary }
	case "cluster":
		c := cachetest.StartCluster(t, v, 3, 1, settings...)
		tp.cfg, tp.all, tp.primary = seeds("main", c.Primaries[0]), c.Servers(), c.Primaries
		for _, rs := range c.Replicas {
			tp.replicas = append(tp.replicas, rs...)
		}
		tp.at = func(key string) *cachetest.Server { return c.Of(t, key) }
	}
	return tp
}

// settle waits until every replica has what its primary has.
func (tp topology) settle(t *testing.T) {
	t.Helper()
	for _, p := range tp.primary {
		if len(tp.replicas) > 0 {
			cachetest.Eventually(t, "the replicas caught up", func() bool {
				v, err := p.Do("WAIT", "1", "1000")
				return err == nil && v.Int >= 1
			})
		}
	}
}

func TestNodesAndCaps(t *testing.T) {
	onAll(t, func(t *testing.T, tp topology) {
		r := newRig(t, tp.cfg)
		v := r.ok("CACHE.NODES")
		if got := len(v.Get("rows").Items); got != len(tp.all) {
			t.Errorf("%d nodes, want %d:\n%s", got, len(tp.all), table(v, "node", "role", "state"))
		}
		if v.Get("coverage").Float != 1 || v.Get("nodes").Get("ok").Int != int64(len(tp.all)) {
			t.Errorf("coverage %v", v.Get("coverage"))
		}
		if len(tp.replicas) > 0 {
			v = r.ok("CACHE.NODES ON role:replica")
			if got := len(v.Get("rows").Items); got != len(tp.replicas) {
				t.Errorf("%d replicas, want %d", got, len(tp.replicas))
			}
		} else {
			r.refused("CACHE.NODES ON role:replica", "ERR")
		}
		v = r.ok("CACHE.CAPS")
		if !strings.Contains(fmt.Sprint(v.Get("rows").Items[0].Get("caps")), "memory-usage") {
			t.Errorf("caps: %v", v)
		}
		r.refused("CACHE.NODES ON cluster:other", "ERR")
		r.refused("CACHE.NODES ON host:nowhere", "ERR")
	})
}

// TestNodeThatDies: it stays in the list, and coverage says that something is missing.
func TestNodeThatDies(t *testing.T) {
	p := cachetest.StartPair(t, cachetest.Any(t), 1)
	r := newRig(t, seeds("main", p.Primary))
	r.ok("CACHE.NODES")
	p.Replicas[0].Kill()
	time.Sleep(400 * time.Millisecond)
	v := r.ok("CACHE.NODES")
	if v.Get("coverage").Float != 0.5 || len(v.Get("nodes").Get("failed").Items) != 1 {
		t.Errorf("a dead node is not said: %v", v)
	}
	if !strings.Contains(table(v, "state"), "connection refused") {
		t.Errorf("got\n%s", table(v, "node", "state"))
	}
}

func TestBigkeys(t *testing.T) {
	onAll(t, func(t *testing.T, tp topology) {
		for i := range 300 {
			key := fmt.Sprintf("k:%d", i)
			tp.at(key).Must("SET", key, strings.Repeat("x", 10+i))
		}
		for i := range 40 {
			key := fmt.Sprintf("h:%d", i)
			args := []string{"HSET", key}
			for f := range 200 + i {
				args = append(args, fmt.Sprint(f), strings.Repeat("y", 70+20*i))
			}
			tp.at(key).Must(args...)
		}
		tp.at("h:39").Must("EXPIRE", "h:39", "1000")
		tp.settle(t)
		r := newRig(t, tp.cfg)
		v := r.ok("CACHE.BIGKEYS TOP 3")
		if got, want := table(v, "key", "type", "items"), "h:39 hash 239\nh:38 hash 238\nh:37 hash 237\n"; got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		row := v.Get("rows").Items[0]
		if ttl := row.Get("ttl_ms").Int; ttl < 1 || ttl > 1_000_000 {
			t.Errorf("ttl_ms %d", ttl)
		}
		if got, want := row.Get("bytes").Int, tp.at("h:39").Must("MEMORY", "USAGE", "h:39").Int; got < want*9/10 || got > want*11/10 {
			t.Errorf("%d bytes, its primary says %d", got, want)
		}
		if v.Get("coverage").Float != 1 || v.Get("keys_seen").Int != 340 {
			t.Errorf("coverage %v, %d keys seen", v.Get("coverage"), v.Get("keys_seen").Int)
		}
		isReplica := false
		for _, s := range tp.replicas {
			isReplica = isReplica || s.Addr() == row.Get("node").Str
		}
		if len(tp.replicas) > 0 && !isReplica {
			t.Errorf("%s was asked, and there are replicas", row.Get("node").Str)
		}
		v = r.ok("CACHE.BIGKEYS TOP 2 BY items TYPE string MATCH k:*")
		if got, want := table(v, "key", "items"), "k:299 309\nk:298 308\n"; got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		v = r.ok("CACHE.BIGKEYS TOP 10000 FORMAT json")
		if !strings.HasPrefix(v.Str, `{"job":"j-`) {
			t.Errorf("json: %.40s", v.Str)
		}
	})
}

// TestBigkeysInPart: one shard is dead, another spends the budget; what is known is the answer, and coverage says so.
func TestBigkeysInPart(t *testing.T) {
	v := cachetest.Any(t)
	a, b := cachetest.Start(t, v), cachetest.StartOn(t, v, "127.0.0.2")
	for i := range 100 {
		a.Must("SET", fmt.Sprintf("a:%d", i), "x")
		b.Must("SET", fmt.Sprintf("b:%d", i), "x")
	}
	r := newRig(t, seeds("a", a), seeds("b", b))
	r.ok("CACHE.NODES")
	b.Kill()
	time.Sleep(400 * time.Millisecond)
	got := r.ok("CACHE.BIGKEYS")
	if len(got.Get("rows").Items) != 20 || len(got.Get("nodes").Get("failed").Items) != 1 {
		t.Errorf("got %v", got)
	}
	a.Fill(func(send func(...string)) {
		for i := range 60_000 {
			send("SET", fmt.Sprintf("more:%d", i), "x")
		}
	})
	got = r.ok("CACHE.BIGKEYS ON cluster:a DUTY 0.05 BUDGET 300ms")
	if c := got.Get("coverage").Float; c <= 0 || c >= 1 || !strings.Contains(got.Get("notes").Items[0].Str, "the budget of 300ms was spent") {
		t.Errorf("coverage %v, notes %v", c, got.Get("notes"))
	}
	a.Kill()
	time.Sleep(400 * time.Millisecond)
	r.refused("CACHE.BIGKEYS", "UNREACHABLE")
}

// TestCancelledWalk: the caller goes away in the middle of a walk that would take long.
func TestCancelledWalk(t *testing.T) {
	s := cachetest.Start(t, cachetest.Any(t))
	s.Fill(func(send func(...string)) {
		for i := range 50_000 {
			send("SET", fmt.Sprintf("k:%d", i), "x")
		}
	})
	r := newRig(t, seeds("main", s))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.g.Do(ctx, cache.Request{User: operator, Args: strings.Fields("CACHE.BIGKEYS DUTY 0.01"), From: "test"})
		done <- err
	}()
	time.Sleep(500 * time.Millisecond)
	cancel()
	if e, ok := errors.AsType[*cache.Error](<-done); !ok || e.Code != cache.CodeCancelled {
		t.Errorf("got %v", e)
	}
	r.ok("CACHE.BIGKEYS TOP 1 BUDGET 200ms DUTY 1") // nothing holds the machine any more
}

// TestGentleWalkTakesSmallPages: a walk that need not hurry keeps the server for a moment only at a time, as the server's own
// count of SCANs shows.
func TestGentleWalkTakesSmallPages(t *testing.T) {
	s := cachetest.Start(t, cachetest.Any(t))
	const keys = 3000
	s.Fill(func(send func(...string)) {
		for i := range keys {
			send("SET", fmt.Sprintf("k:%d", i), "x")
		}
	})
	r := newRig(t, seeds("main", s))
	if seen := r.ok("CACHE.PREFIX DUTY 0.3 SLACK 100").Get("keys_seen").Int; seen != keys {
		t.Errorf("saw %d keys", seen)
	}
	calls, err := strconv.Atoi(upstream.Fields(s.Info("cmdstat_scan"))["calls"])
	if err != nil || calls < keys/16 {
		t.Errorf("%d keys in %d pages (%v)", keys, calls, err)
	}
}

// TestMatchIsWhatTheServerDoes compares our filter with the server's own.
func TestMatchIsWhatTheServerDoes(t *testing.T) {
	s := cachetest.Start(t, cachetest.Any(t))
	var keys []string
	for _, a := range []string{"", "a", "b", "ab", "a*", "[a]", "a-b", "user:1", "user:12", `\`, "]", "^", "é", "aab", "a]b"} {
		for _, b := range []string{"", "x", "*", "?", "["} {
			keys = append(keys, a+b)
			s.Must("SET", a+b, "")
		}
	}
	for _, p := range []string{"*", "a*", "*b", "?", "a?", "[ab]*", "[^a]*", "[a-c]b*", "[c-a]*", `\[a\]*`, `a\*`, "user:?", "user:[0-9]*", `\\`, "[]]", "[a", "[", "a[", "[^", `[\]]*`, "*a*b*", "**", "a**b", "", `\`, "[a-", "*[*", "??*"} {
		want := map[string]bool{}
		for _, k := range s.Must("KEYS", p).Items {
			want[k.Str] = true
		}
		for _, k := range keys {
			if got := builtin.Match(p, k); got != want[k] {
				t.Errorf("pattern %q, key %q: %v, the server says %v", p, k, got, want[k])
			}
		}
	}
}

// ownerOf is which of n primaries holds a key in a cluster that cachetest made.
func ownerOf(key string, n int) int {
	slot := upstream.Slot(key)
	for i := range n {
		if slot < (i+1)*16384/n {
			return i
		}
	}
	panic("a slot beyond the last")
}

// tag is a hashtag of keys that the i-th primary holds.
func (tp topology) tag(i int) string {
	for j := 0; ; j++ {
		if tag := fmt.Sprintf("{%d}", j); len(tp.primary) == 1 || ownerOf(tag, len(tp.primary)) == i {
			return tag
		}
	}
}
