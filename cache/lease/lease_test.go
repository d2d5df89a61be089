package lease

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fake is a server without a network: a value, a run id, and what may happen when it is asked.
type fake struct {
	value, run string
	file       string        // what its file says
	down       bool          // does not answer
	mu         *sync.Mutex   // one question at a time, of all servers that share it; nil: none is asked at once
	on         func() error  // before each question; may kill the gateway
	after      func() error  // after each set
	did        func(set any) // is told what was set
	between    func()        // after each look, before the set: someone else may set something
	sets       int           // how often something was set
	noKill     bool          // connections cannot be killed, so what was sent may arrive late
}

// other is someone else who sets the value.
func (f *fake) other(v string) { f.value = v; f.sets++ }

func (f *fake) lock() func() {
	if f.mu == nil {
		return func() {}
	}
	f.mu.Lock()
	return f.mu.Unlock
}

func (f *fake) Get(context.Context, string) (string, string, error) {
	defer f.lock()()
	if f.on != nil {
		if err := f.on(); err != nil {
			return "", "", err
		}
	}
	if f.down {
		return "", "", errors.New("connection refused")
	}
	return f.value, f.run, nil
}

func (f *fake) Swap(_ context.Context, c Change, intend func(Attempt) error) (Swapped, error) {
	defer f.lock()()
	if f.on != nil {
		if err := f.on(); err != nil {
			return Swapped{}, err
		}
	}
	if f.down {
		return Swapped{}, errors.New("connection refused")
	}
	s := Swapped{Found: f.value, RunID: f.run, Sets: -1, Sure: c.Prior == Attempt{} || !f.noKill || c.Prior.RunID != f.run}
	if c.Prior.RunID == f.run {
		s.Sets = f.sets - c.Prior.Sets
	}
	if f.value != c.From {
		return s, nil
	}
	if err := intend(Attempt{RunID: f.run, Client: 1, Sets: f.sets}); err != nil {
		return s, err
	}
	if f.between != nil {
		f.between()
	}
	before := f.value
	f.other(c.To)
	s.Done, s.Now = true, c.To
	if f.did != nil {
		f.did(c.To)
	}
	if f.after != nil {
		if err := f.after(); err != nil {
			return s, err
		}
	}
	if before != c.From && before != c.To {
		f.other(before)
		s.Done, s.Raced, s.Found, s.Now = false, true, before, before
	}
	return s, nil
}

func (f *fake) restart(n int) { f.value, f.run, f.sets = f.file, fmt.Sprint("run", n), 0 }

type fakes map[string]*fake

func (f fakes) Node(_, addr string) Node { return f[addr] }

// clockAt is a clock that a test sets.
type clockAt struct{ now time.Time }

func (c *clockAt) clock() Clock {
	return Clock{Now: func() time.Time { return c.now }, Boot: func() (time.Duration, string) { return 0, "" }}
}

// memory is a folder that costs no disk a thousand syncs, where there is one.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "kernwave-lease-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func open2(t testing.TB, path string, n Nodes, c *clockAt) *Keeper {
	t.Helper()
	k, err := Open(path, n, &cache.MemLog{}, c.clock())
	must(t, err)
	return k
}

func two() fakes {
	return fakes{"a": {value: "10", run: "run0", file: "10"}, "b": {value: "10", run: "run0", file: "10"}}
}

func change(c *clockAt) Lease {
	return Lease{Param: "hz", Value: "50", By: "ada", Reason: "test", Deadline: Clock(c.clock()).In(time.Minute), Parts: []Part{{Cluster: "main", Addr: "a"}, {Cluster: "main", Addr: "b"}}}
}

func TestLease(t *testing.T) {
	c := &clockAt{time.Unix(1e9, 0)}
	n := two()
	path := filepath.Join(t.TempDir(), "j")
	k := open2(t, path, n, c)
	l, err := k.Take(t.Context(), change(c))
	must(t, err)
	if n["a"].value != "50" || n["b"].value != "50" || !l.Held {
		t.Fatalf("%+v", l)
	}
	if _, err := k.Take(t.Context(), change(c)); err == nil || !strings.Contains(err.Error(), "BUSY") {
		t.Errorf("a second one on the same setting: %v", err)
	}
	k.Due(t.Context())
	if n["a"].value != "50" {
		t.Error("taken back before its deadline")
	}
	must(t, k.Close())
	k = open2(t, path, n, c) // the gateway is started again
	n["b"].down = true
	c.now = c.now.Add(time.Minute)
	k.Due(t.Context())
	if n["a"].value != "10" || n["b"].value != "50" || k.List()[0].Parts[1].Err == "" {
		t.Errorf("one node is down: %+v", k.List())
	}
	n["b"].down = false
	k.Due(t.Context())
	if n["b"].value != "10" || k.List()[0].Open() {
		t.Errorf("it is back: %+v", k.List())
	}
	must(t, k.Close())
}

func TestNeverOverwrites(t *testing.T) {
	for _, tc := range []struct {
		name        string
		meanwhile   func(f *fake)
		state, want string
	}{
		{"someone else changed it", func(f *fake) { f.value = "99" }, Conflicted, "99"},
		{"someone took it back already", func(f *fake) { f.value = "10" }, Reverted, "10"},
		{"the server was restarted", func(f *fake) { f.restart(1) }, Reverted, "10"},
		{"and its file says something else", func(f *fake) { f.file = "77"; f.restart(1) }, Restarted, "77"},
		{"and its file was rewritten with our value", func(f *fake) { f.file = "50"; f.restart(1) }, Reverted, "10"},
		{"restarted, and changed by someone else", func(f *fake) { f.restart(1); f.value = "99" }, Restarted, "99"},
	} {
		c := &clockAt{time.Unix(1e9, 0)}
		n := two()
		k := open2(t, filepath.Join(t.TempDir(), "j"), n, c)
		_, err := k.Take(t.Context(), change(c))
		must(t, err)
		tc.meanwhile(n["a"])
		c.now = c.now.Add(time.Hour)
		k.Due(t.Context())
		l := k.List()[0]
		if n["a"].value != tc.want || l.Parts[0].State != tc.state || n["b"].value != "10" || l.Open() {
			t.Errorf("%s: %s, %+v", tc.name, n["a"].value, l)
		}
		must(t, k.Close())
	}
}

// TestOneFailsAllGoBack: a change on all nodes or none.
func TestOneFailsAllGoBack(t *testing.T) {
	c := &clockAt{time.Unix(1e9, 0)}
	n := two()
	n["b"].down = true
	k := open2(t, filepath.Join(t.TempDir(), "j"), n, c)
	if _, err := k.Take(t.Context(), change(c)); err == nil || n["a"].value != "10" {
		t.Errorf("%v, a is %s", err, n["a"].value)
	}
	n["b"].down, n["b"].between = false, func() { n["b"].other("11") }
	if _, err := k.Take(t.Context(), change(c)); err == nil || !strings.Contains(err.Error(), "CONFLICT") || n["a"].value != "10" || n["b"].value != "11" {
		t.Errorf("someone else at the same moment: %v, a is %s, b is %s", err, n["a"].value, n["b"].value)
	}
	n["b"].between = nil
	l := change(c)
	l.Parts[0].Old, l.Parts[1].Old = "10", "10" // as it was when it was approved
	if _, err := k.Take(t.Context(), l); err == nil || !strings.Contains(err.Error(), "STALE") || n["a"].value != "10" || n["b"].value != "11" {
		t.Errorf("changed since it was approved: %v", err)
	}
	must(t, k.Close())
}

func TestClock(t *testing.T) {
	wall, boot, id := time.Unix(1e9, 0), time.Hour, "x"
	c := Clock{Now: func() time.Time { return wall }, Boot: func() (time.Duration, string) { return boot, id }}
	m := c.In(time.Minute)
	wall = wall.Add(10 * time.Hour) // someone sets the clock
	if c.past(m) {
		t.Error("the wall's clock was set, and the deadline moved")
	}
	boot += time.Minute
	if !c.past(m) {
		t.Error("not over after a minute")
	}
	id, boot, wall = "y", 0, time.Unix(1e9+30, 0)
	if c.past(m) {
		t.Error("another boot, and over before its time")
	}
	wall = time.Unix(1e9+60, 0)
	if !c.past(m) {
		t.Error("another boot, and not over")
	}
}

// op is something that happened to a server when the journal had a certain size.
type op struct {
	size int64
	addr string
	set  string
}

// TestJournalCutAtEveryByte: a gateway that loses power while it writes any byte of its journal takes everything back
// after it was started again, or finds that nothing was changed.
func TestJournalCutAtEveryByte(t *testing.T) {
	c := &clockAt{time.Unix(1e9, 0)}
	dir := memory(t)
	path := filepath.Join(dir, "j")
	n := two()
	var ops []op
	for addr, f := range n {
		f.did = func(v any) {
			st, err := os.Stat(path)
			must(t, err)
			ops = append(ops, op{st.Size(), addr, v.(string)})
		}
	}
	k := open2(t, path, n, c)
	_, err := k.Take(t.Context(), change(c))
	must(t, err)
	c.now = c.now.Add(time.Minute)
	k.Due(t.Context())
	must(t, k.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	if len(ops) != 4 {
		t.Fatalf("%d changes, want 4", len(ops))
	}
	tried := 0
	for cut := int64(0); cut <= int64(len(whole)); cut++ {
		// What had happened: everything before the record that was being written. Where the cut is between two records,
		// what came after the first of them may have happened or not.
		for _, also := range []bool{false, true} {
			n := two()
			between := false
			for _, o := range ops {
				if o.size < cut || o.size == cut && also {
					n[o.addr].value = o.set
				}
				between = between || o.size == cut
			}
			if also && !between {
				continue
			}
			p := filepath.Join(dir, "cut")
			must(t, os.WriteFile(p, whole[:cut], 0o600))
			k := open2(t, p, n, c)
			k.Due(t.Context())
			c.now = c.now.Add(settle) // a change that was cut off is watched for so long
			k.Due(t.Context())
			for addr, f := range n {
				if f.value != "10" {
					t.Errorf("cut at byte %d of %d: %s is %s", cut, len(whole), addr, f.value)
				}
			}
			for _, l := range k.List() {
				if l.Open() {
					t.Errorf("cut at byte %d: %+v is open", cut, l)
				}
			}
			must(t, k.Close())
			tried++
		}
	}
	t.Logf("%d cuts of a journal of %d bytes", tried, len(whole))
}

var stories = flag.Int("lease.stories", 400, "how many random stories TestRandomSchedules plays; make bench-cache plays 10,000")

// TestRandomSchedules plays random stories on servers without a network: the gateway is killed at any question and any
// change, servers are restarted or do not answer, someone else changes the setting. In the end, with everyone there,
// nothing stays changed but what someone else did, and each conflict is reported.
func TestRandomSchedules(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	dir := memory(t)
	var kills, conflicts, restarts, lates, races, lost int
	for story := range *stories {
		c := &clockAt{time.Unix(1e9, 0)}
		n := two()
		path := filepath.Join(dir, fmt.Sprint(story))
		others := map[string]string{} // what someone else set last
		ever := map[string]bool{}     // and ever
		left := rnd.IntN(12)          // questions until the gateway is killed
		var k *Keeper
		dead := false // what is left of a killed gateway neither writes nor sends
		step := func() error {
			if left--; left == 0 && !dead {
				kills++
				dead = true
				must(t, k.Close())
			}
			if dead {
				return errors.New("killed")
			}
			return nil
		}
		var one sync.Mutex
		noKill := rnd.IntN(2) == 0
		for addr, f := range n {
			f.mu, f.on, f.after, f.noKill = &one, step, step, noKill
			f.between = func() {
				if rnd.IntN(12) == 0 {
					v := fmt.Sprint(80 + rnd.IntN(5))
					f.other(v)
					others[addr] = v
					ever[addr+v] = true
					races++
				}
			}
		}
		alive := func(f func()) {
			if k == nil {
				k = open2(t, path, n, c)
			}
			f()
			if dead {
				k, dead = nil, false
			}
		}
		answered := false
		alive(func() {
			_, err := k.Take(t.Context(), change(c))
			answered = err == nil
		})
		for range rnd.IntN(6) {
			addr := []string{"a", "b"}[rnd.IntN(2)]
			f := n[addr]
			switch rnd.IntN(6) {
			case 0:
				v := fmt.Sprint(90 + rnd.IntN(5))
				f.other(v)
				others[addr] = v
				ever[addr+v] = true
			case 1:
				restarts++
				f.restart(1 + rnd.IntN(1000))
				delete(others, addr)
			case 2:
				f.down = true
			case 3:
				f.down = false
			case 4:
				c.now = c.now.Add(time.Duration(rnd.IntN(40)) * time.Second)
				alive(func() { k.Due(t.Context()) })
			case 5:
				left = rnd.IntN(8)
				alive(func() { k.Due(t.Context()) })
			}
		}
		before := c.now
		if answered && k != nil && before.Before(time.Unix(1e9+60, 0)) { // it must stand until its deadline
			for addr, f := range n {
				if others[addr] == "" && f.run == "run0" && f.value != "50" && k.List()[0].Held {
					t.Fatalf("story %d: %s is %s %v before the deadline", story, addr, f.value, time.Unix(1e9+60, 0).Sub(before))
				}
			}
		}
		c.now = time.Unix(1e9+120, 0)
		left = -1
		for _, f := range n {
			f.down = false
		}
		alive(func() { k.Due(t.Context()) })
		if noKill && rnd.IntN(3) == 0 && k != nil { // what the killed gateway had sent arrives now
			for _, l := range k.List() {
				for _, p := range l.Parts {
					if p.State == Intended {
						n[p.Addr].other(l.Value)
						lates++
					}
				}
			}
		}
		c.now = c.now.Add(settle)
		alive(func() { k.Due(t.Context()) })
		for addr, f := range n {
			want := "10"
			if others[addr] != "" {
				want = others[addr]
			}
			if f.value != want && f.value == "10" && unknown(k.List(), addr) {
				lost++ // killed between its change and the answer: it cannot know, and says so
				continue
			}
			if f.value != want {
				t.Fatalf("story %d: %s is %s, want %s: %+v", story, addr, f.value, want, k.List())
			}
		}
		for _, l := range k.List() {
			if l.Open() {
				t.Fatalf("story %d: still open: %+v", story, l)
			}
			for _, p := range l.Parts {
				if p.State == Conflicted {
					conflicts++
					if p.Found != "" && !ever[p.Addr+p.Found] {
						t.Fatalf("story %d: a conflict with %s, which nobody set", story, p.Found)
					}
				}
			}
		}
		must(t, k.Close())
		must(t, os.Remove(path))
	}
	t.Logf("%d stories: %d kills, %d restarts, %d conflicts, %d changes that arrived late, %d within a round trip; %d of them overwritten by a gateway that was killed just then, and reported",
		*stories, kills, restarts, conflicts, lates, races, lost)
	if races < *stories/100 || kills < *stories/4 || conflicts < *stories/50 {
		t.Error("too little happened")
	}
}

// unknown says whether a conflict was reported at addr in which someone else's value may have been overwritten.
func unknown(ls []Lease, addr string) bool {
	for _, l := range ls {
		for _, p := range l.Parts {
			if p.Addr == addr && p.State == Conflicted && p.Found == "" {
				return true
			}
		}
	}
	return false
}

func TestBounds(t *testing.T) {
	for _, tc := range []struct{ name, value, want string }{
		{"hz", "50", ""},
		{"hz", "0", "ERR hz: 0 is out of bounds; give a whole number from 1 to 500"},
		{"hz", "many", "ERR hz: many is out of bounds"},
		{"repl-backlog-size", "64mb", ""},
		{"repl-backlog-size", "100gb", "is out of bounds"},
		{"activedefrag", "YES", ""},
		{"activedefrag", "maybe", "give one of yes, no"},
		{"maxmemory", "1gb", "NOPERM maxmemory cannot be changed for a while; a lower limit evicts"},
		{"requirepass", "x", "NOPERM requirepass cannot be changed for a while; use one of active-expire-effort"},
		{"save", "", "NOPERM save cannot"},
	} {
		_, err := check(tc.name, tc.value)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s %s: %v, want %s", tc.name, tc.value, err, tc.want)
		}
	}
	if !same("64mb", "67108864") || same("1k", "1024") || !same("YES", "yes") || same("10", "100") {
		t.Error("values are compared wrongly")
	}
	if b, err := json.Marshal(record{1, Lease{}}); err != nil || len(b) == 0 {
		t.Error(err)
	}
}
