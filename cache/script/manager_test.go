package script

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
	"github.com/kernwave/kernwave/cache/upstream"
)

var (
	ada = cache.User{Name: "ada", Role: cache.Admin}
	bob = cache.User{Name: "bob", Role: cache.Admin}
	vi  = cache.User{Name: "vi", Role: cache.Viewer}
	op  = cache.User{Name: "op", Role: cache.Operator}
)

// gateway is a gateway with one real server behind it.
type gateway struct {
	t   testing.TB
	gw  *cache.Gateway
	ap  *cache.Approvals
	log *cache.MemLog
	srv *cachetest.Server
	dir string
	fl  *upstream.Fleet
}

func newGateway(t testing.TB) *gateway {
	t.Helper()
	srv := cachetest.Start(t, cachetest.Any(t))
	none := ""
	fl, err := upstream.Open(upstream.Config{Name: "main", Seeds: []string{srv.Addr()}, WriteUser: &none, WritePassword: &none})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fl.Close)
	g := &gateway{t: t, srv: srv, dir: t.TempDir(), fl: fl, log: &cache.MemLog{}}
	g.open()
	return g
}

// open starts the gateway anew, with what is on disk.
func (g *gateway) open() {
	g.t.Helper()
	reg := cache.NewRegistry()
	g.ap = cache.NewApprovals(g.log, nil)
	if _, err := New(Config{Dir: g.dir, Registry: reg, Fleet: g.fl, Approvals: g.ap, Log: g.log, Server: serverPath(g.t)}); err != nil {
		g.t.Fatal(err)
	}
	g.gw = &cache.Gateway{Registry: reg, Users: cache.Loopback{}, Log: g.log, Writes: func(*cache.Command) error { return nil }}
}

// serverPath is a server that can be started by its path alone.
func serverPath(t testing.TB) string {
	t.Helper()
	for _, name := range servers {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	t.Skip("skipped: there is no Redis and no Valkey (apt-get install redis-tools)")
	return ""
}

func (g *gateway) do(u cache.User, args ...string) (cache.Value, error) {
	return g.gw.Do(g.t.Context(), cache.Request{User: u, Args: args, From: "test"})
}

func (g *gateway) must(u cache.User, args ...string) cache.Value {
	g.t.Helper()
	v, err := g.do(u, args...)
	if err != nil {
		g.t.Fatalf("%.80q: %v", args, err)
	}
	return v
}

func (g *gateway) fails(want string, u cache.User, args ...string) {
	g.t.Helper()
	if v, err := g.do(u, args...); err == nil || !strings.Contains(err.Error(), want) {
		g.t.Errorf("%.80q: %+v, %v, want %s", args, v, err, want)
	}
}

func (g *gateway) redis(args ...string) cache.Value {
	g.t.Helper()
	v, err := g.srv.Do(args...)
	if err != nil || v.Kind == cache.Err {
		g.t.Fatalf("%q: %+v, %v", args, v, err)
	}
	return v
}

// TestExamples: every example passes its own tests on a real server.
func TestExamples(t *testing.T) {
	r := NewRunner("", nil)
	all := Examples()
	if len(all) != 3 {
		t.Fatalf("%d examples", len(all))
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := r.Test(t.Context(), all[name], serverPath(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// say is a bundle whose program emits one word, after waiting until the key "go" is there.
func say(t testing.TB, word string) *Bundle {
	return bundle(t, "read", "commands: [EXISTS, PING]\nbudgets: {wall: 60s, steps: 1_000_000_000}\n", fmt.Sprintf(`def run(args, nodes):
  for i in range(1 << 60):
    if not nodes or nodes[0].read("EXISTS", "go"):
      break
  emit(word = %q)
`, word))
}

func TestLifecycle(t *testing.T) {
	g := newGateway(t)
	one, two := say(t, "one"), say(t, "two")
	empty := "\ntests:\n  - name: none\n    rows: 0\n"
	for _, b := range []*Bundle{one, two} { // their test: a server that has the key
		text := strings.Replace(string(b.ManifestText), empty, "\ntests:\n  - {name: says it, setup: [SET go 1], rows: 1, has: [word]}\n", 1)
		n, err := newBundle(map[string][]byte{manifestFile: []byte(text), programFile: b.ProgramText})
		if err != nil {
			t.Fatal(err)
		}
		*b = *n
	}
	g.fails("NOPERM user op is operator, and CACHE.CMD PUT is for admins", op, "CACHE.CMD PUT", string(one.Tar()))
	g.fails("unknown command 'CACHE.X.TRY'", ada, "CACHE.X.TRY")
	v := g.must(ada, "CACHE.CMD", "PUT", string(one.Tar()))
	if v.Get("version").Str != one.Hash {
		t.Errorf("PUT: %+v", v)
	}
	g.fails("unknown command 'CACHE.X.TRY'", ada, "CACHE.X.TRY")
	g.fails("has not passed its tests; CACHE.CMD TEST CACHE.X.TRY", ada, "CACHE.CMD", "PROMOTE", "CACHE.X.TRY")
	g.fails("no command CACHE.X.NO is loaded", ada, "CACHE.CMD", "TEST", "CACHE.X.NO")
	g.must(op, "CACHE.CMD", "TEST", "CACHE.X.TRY")
	g.redis("SET", "go", "1")
	if v := g.must(op, "CACHE.CMD", "SHADOW", "CACHE.X.TRY"); v.Get("rows").Int != 1 || v.Get("commands").Int != 1 {
		t.Errorf("SHADOW: %+v", v)
	}
	g.must(ada, "CACHE.CMD", "PROMOTE", "CACHE.X.TRY")
	g.fails("has no other version to compare this one with", vi, "CACHE.CMD", "DIFF", "CACHE.X.TRY")
	word := func(u cache.User) string {
		v := g.must(u, "CACHE.X.TRY")
		return v.Get("rows").Items[0].Get("word").Str
	}
	if got := word(vi); got != "one" {
		t.Errorf("says %s", got)
	}
	// A call that runs keeps its version, whatever is promoted meanwhile.
	g.redis("DEL", "go")
	type answer struct {
		v   cache.Value
		err error
	}
	got := make(chan answer, 1)
	go func() {
		v, err := g.do(vi, "CACHE.X.TRY")
		got <- answer{v, err}
	}()
	time.Sleep(100 * time.Millisecond)
	g.must(ada, "CACHE.CMD", "PUT", string(two.Tar()))
	for _, against := range [][]string{nil, {"VERSION", two.Hash, "AGAINST", one.Hash[:8]}} {
		d := g.must(vi, append([]string{"CACHE.CMD", "DIFF", "CACHE.X.TRY"}, against...)...)
		if p := d.Get("program").Str; d.Get("from").Str != one.Hash || d.Get("to").Str != two.Hash || d.Get("manifest").Str != "" ||
			!strings.Contains(p, "\n-  emit(word = \"one\")\n+  emit(word = \"two\")\n") || !strings.Contains(p, "\n   ") {
			t.Errorf("DIFF %v: %+v", against, d)
		}
	}
	g.fails("has no version 0123456789", vi, "CACHE.CMD", "DIFF", "CACHE.X.TRY", "AGAINST", "0123456789")
	g.must(op, "CACHE.CMD", "TEST", "CACHE.X.TRY")
	began := time.Now()
	g.must(ada, "CACHE.CMD", "PROMOTE", "CACHE.X.TRY")
	t.Logf("promoted within %v", time.Since(began).Round(time.Millisecond))
	g.redis("SET", "go", "1")
	if a := <-got; a.err != nil || a.v.Get("rows").Items[0].Get("word").Str != "one" {
		t.Errorf("the call that ran: %+v", a)
	}
	if got := word(vi); got != "two" {
		t.Errorf("says %s", got)
	}
	g.open() // a restart
	if got := word(vi); got != "two" {
		t.Errorf("after a restart: says %s", got)
	}
	g.must(ada, "CACHE.CMD", "ROLLBACK", "CACHE.X.TRY")
	if got := word(vi); got != "one" {
		t.Errorf("after the rollback: says %s", got)
	}
	if rows := g.must(vi, "CACHE.CMD", "LIST").Get("rows").Items; len(rows) != 2 || rows[0].Get("state").Str != "active" || rows[1].Get("state").Str != "tested" {
		t.Errorf("LIST: %+v", rows)
	}
	g.must(ada, "CACHE.CMD", "ROLLBACK", "CACHE.X.TRY")
	g.fails("unknown command 'CACHE.X.TRY'", ada, "CACHE.X.TRY")
	g.fails("no version of CACHE.X.TRY runs", ada, "CACHE.CMD", "ROLLBACK", "CACHE.X.TRY")
	g.must(ada, "CACHE.CMD", "PROMOTE", "CACHE.X.TRY", "VERSION", one.Short())
	// A bundle that someone changed on disk does not run.
	if err := os.WriteFile(filepath.Join(g.dir, "CACHE.X.TRY", one.Hash+".tar"), two.Tar(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Dir: g.dir, Registry: cache.NewRegistry(), Fleet: g.fl, Approvals: g.ap, Log: g.log}); err == nil || !strings.Contains(err.Error(), "was changed on disk") {
		t.Errorf("a changed bundle: %v", err)
	}
	events, _ := g.log.Tail(1000)
	kinds := map[string]int{}
	for _, e := range events {
		kinds[e.Kind]++
	}
	if kinds["command.loaded"] != 2 || kinds["command.promoted"] != 3 || kinds["command.rolled_back"] != 2 || kinds["command.tested"] != 2 || kinds["command.shadowed"] != 1 {
		t.Errorf("on record: %v", kinds)
	}
}

func TestBadBundles(t *testing.T) {
	g := newGateway(t)
	b, err := newBundle(map[string][]byte{
		manifestFile: []byte("name: stale\nsummary: x\nversion: 1\nclass: writes\nowner: x\ncommands: [KEYS]\ntests: [{name: a}]\n"),
		programFile:  []byte("def run(args, nodes):\n  return nothing\n"),
	})
	if _, ok := errors.AsType[Findings](err); !ok {
		t.Fatal(err)
	}
	for _, want := range []string{
		"ERR 6 mistakes: manifest.yaml:1: name: ", "manifest.yaml:3: version: ", "manifest.yaml:4: class: ", "manifest.yaml:6: commands: KEYS", "manifest.yaml:7: tests: a expects nothing", "command.star:2: undefined: nothing; mend them and try again",
	} {
		g.fails(want, ada, "CACHE.CMD", "PUT", string(b.Tar()))
		g.fails(want, vi, "CACHE.CMD", "CHECK", string(b.Tar()))
	}
	g.fails("is no tar archive", ada, "CACHE.CMD", "PUT", strings.Repeat("x", 2000))
	g.fails("lacks manifest.yaml", ada, "CACHE.CMD", "PUT", "")
	failing := bundle(t, "read", "", "def run(args, nodes):\n  emit(n = 1)\n")
	g.must(ada, "CACHE.CMD", "PUT", string(failing.Tar()))
	g.fails(`ERR 1 mistakes: manifest.yaml:8: test "none": 1 rows, want 0; mend them`, ada, "CACHE.CMD", "TEST", "CACHE.X.TRY")
	g.fails("has not passed its tests", ada, "CACHE.CMD", "PROMOTE", "CACHE.X.TRY")
}

// TestWritesNeedTwo: nothing is written but the plan that another person approved.
func TestWritesNeedTwo(t *testing.T) {
	g := newGateway(t)
	b := Examples()["capttl"]
	g.must(ada, "CACHE.CMD", "PUT", string(b.Tar()))
	g.must(ada, "CACHE.CMD", "TEST", "CACHE.X.CAPTTL")
	g.fails("APPROVAL ada loaded CACHE.X.CAPTTL, which writes, and cannot promote it as well", ada, "CACHE.CMD", "PROMOTE", "CACHE.X.CAPTTL")
	g.must(bob, "CACHE.CMD", "PROMOTE", "CACHE.X.CAPTTL")
	for i := range 300 {
		g.redis("SET", fmt.Sprintf("session:%d", i), "x")
	}
	g.redis("SET", "other", "x")
	g.redis("SET", "session:ttl", "x", "EX", "50")
	call := []string{"CACHE.X.CAPTTL", "session:*", "TTL", "1h"}
	v := g.must(op, append(call, "DRYRUN")...)
	id := v.Get("plan").Get("id").Str
	if v.Get("plan").Get("expire").Int != 300 || v.Get("coverage").Float != 1 {
		t.Fatalf("DRYRUN: %+v", v)
	}
	if got := g.redis("TTL", "session:1").Int; got != -1 {
		t.Fatalf("a dry run set a TTL of %d", got)
	}
	run := func(u cache.User, id string) []string { return append(slices.Clone(call), "APPROVAL", id) }
	g.fails("nobody has approved it yet; someone else says CACHE.APPROVE "+id, op, run(op, id)...)
	g.fails("APPROVAL p-", op, call...) // without DRYRUN it asks as well
	for u, want := range map[cache.User]string{op: "cannot approve it as well", ada: "loaded the command", vi: "may not approve"} {
		if err := g.ap.Give(id, u); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s approves: %v, want %s", u.Name, err, want)
		}
	}
	if err := g.ap.Give(id, bob); err != nil {
		t.Fatal(err)
	}
	g.fails(id+" is op's", bob, run(bob, id)...)
	g.redis("DEL", "session:7") // what is gone meanwhile stays gone
	if v := g.must(op, run(op, id)...); v.Get("changed").Int != 299 || v.Get("gone").Int != 1 {
		t.Errorf("carried out: %+v", v)
	}
	for i := range 300 {
		if i == 7 {
			continue
		}
		if ttl := g.redis("TTL", fmt.Sprintf("session:%d", i)).Int; ttl < 3200 || ttl > 3600 {
			t.Fatalf("session:%d has a TTL of %d", i, ttl)
		}
	}
	if got := g.redis("TTL", "other").Int; got != -1 {
		t.Errorf("another key got a TTL of %d", got)
	}
	if got := g.redis("TTL", "session:ttl").Int; got > 50 {
		t.Errorf("a key with a TTL got one of %d", got)
	}
	g.fails("there is no plan "+id, op, run(op, id)...)
	events, _ := g.log.Tail(1)
	for _, e := range events {
		if strings.Contains(e.What, "session:") {
			t.Errorf("the record shows a key: %s", e.What)
		}
	}
}

// TestProgramsMayOnly what their manifests list.
func TestProgramsMayOnly(t *testing.T) {
	g := newGateway(t)
	r := NewRunner("", nil)
	view, err := g.fl.Look(t.Context(), cache.Select{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ class, more, program, want string }{
		{"read", "commands: [TTL]", `nodes[0].read("GET", "a")`, "NOPERM the program may not send GET"},
		{"read", "commands: [TTL]", `nodes[0].read("FLUSHALL")`, "NOPERM the program may not send FLUSHALL"},
		{"read", "commands: [CONFIG GET]", `nodes[0].read("CONFIG", "SET", "maxmemory", "1")`, "NOPERM the program may not send CONFIG"},
		{"read", "commands: [TTL]", `nodes[0].pipe([["TTL", "a"], ["DEL", "a"]])`, "NOPERM the program may not send DEL"},
		{"read", "commands: [TTL]", `plan.unlink(nodes[0], "a")`, "NOPERM the program may not plan unlink"},
		{"write", "writes: [unlink]", `plan.expire(nodes[0], "a", 5)`, "NOPERM the program may not plan expire"},
		{"write", "writes: [expire]", `plan.expire(nodes[0], "a", 0)`, "seconds: 0 is below 1"},
		{"write", "writes: [unlink]\nbudgets: {writes: 2}", `[plan.unlink(nodes[0], "a") for i in range(3)]`, "its budget of writes is 2"},
		{"read", "commands: [PING]\nbudgets: {commands: 10}", `[nodes[0].read("PING") for i in range(11)]`, "its budget of commands is 10"},
		{"read", "commands: [TTL]", `nodes[0].read("TTL")`, "read: TTL: ERR wrong number of arguments"},
		{"read", "commands: [TTL]", `nodes[0].read("TTL", [])`, "a word of a command is a string or a number, not list"},
	} {
		b := bundle(t, tc.class, tc.more, "def run(args, nodes):\n  "+tc.program+"\n")
		if _, err := r.Run(t.Context(), Order{Bundle: b, Nodes: view.Nodes, Args: cache.Dict()}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.program, err, tc.want)
		}
	}
	g.srv.Kill()
	b := bundle(t, "read", "commands: [PING]", "def run(args, nodes):\n  nodes[0].read('PING')\n")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := r.Run(ctx, Order{Bundle: b, Nodes: view.Nodes, Args: cache.Dict()}); err == nil || !strings.Contains(err.Error(), g.srv.Addr()) {
		t.Errorf("a dead node: %v", err)
	}
}
