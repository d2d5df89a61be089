package bulk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
)

// place is the servers of a test, and who has a key.
type place struct {
	servers []*cachetest.Server
	of      func(key string) *cachetest.Server
}

func single(t testing.TB, v cachetest.Version) place {
	s := cachetest.Start(t, v)
	return place{[]*cachetest.Server{s}, func(string) *cachetest.Server { return s }}
}

func cluster(t testing.TB, v cachetest.Version) place {
	c := cachetest.StartCluster(t, v, 3, 0)
	return place{c.Primaries, func(key string) *cachetest.Server { return c.Of(t, key) }}
}

// onBoth runs f on a single server and on a cluster, each of the oldest Redis and the newest Valkey.
func onBoth(t *testing.T, f func(t *testing.T, p place)) {
	for _, v := range cachetest.Two(t) {
		t.Run(v.Name+"/single", func(t *testing.T) { f(t, single(t, v)) })
		t.Run(v.Name+"/cluster", func(t *testing.T) { f(t, cluster(t, v)) })
	}
}

// fill makes n keys of all types under prefix, two thirds of them with a time to live.
func (p place) fill(prefix string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	for _, s := range p.servers {
		s.Fill(func(send func(args ...string)) {
			for i, k := range keys {
				if p.of(k) != s {
					continue
				}
				val := fmt.Sprintf("\x00\xff %d %s", i, strings.Repeat("v", i%700))
				switch i % 5 {
				case 0, 1:
					send("SET", k, val)
				case 2:
					send("HSET", k, "a", val, "b", "2")
				case 3:
					send("RPUSH", k, val, "x", "y")
				case 4:
					send("ZADD", k, "1.5", val, "-2", "m")
				}
				if i%3 > 0 {
					send("PEXPIRE", k, fmt.Sprint(3_600_000+i))
				}
			}
		})
	}
	return keys
}

// was is a key's value and the instant it expires.
type was struct {
	dump  string
	until int64
}

func (p place) look(keys []string) map[string]was {
	out := map[string]was{}
	for _, k := range keys {
		s := p.of(k)
		if d := s.Must("DUMP", k); !d.IsNull() {
			if all := s.Must("TYPE", k); all.Str == "hash" { // whose fields have no order
				var fields []string
				for pair := range slices.Chunk(s.Must("HGETALL", k).Items, 2) {
					fields = append(fields, pair[0].Str+"="+pair[1].Str)
				}
				slices.Sort(fields)
				d.Str = strings.Join(fields, " ")
			}
			out[k] = was{d.Str, s.Must("PEXPIRETIME", k).Int}
		}
	}
	return out
}

func diff(t *testing.T, what string, got, want map[string]was) {
	t.Helper()
	n := 0
	for k, w := range want {
		if g, ok := got[k]; !ok || g != w {
			if n++; n <= 3 {
				t.Errorf("%s: %s is %q until %d, want %q until %d", what, k, g.dump, g.until, w.dump, w.until)
			}
		}
	}
	if n > 3 || len(got) != len(want) {
		t.Errorf("%s: %d keys differ; %d there, want %d", what, n, len(got), len(want))
	}
}

func TestUnlinkAndUndo(t *testing.T) {
	onBoth(t, func(t *testing.T, p place) {
		old, others := p.fill("old:", 600), p.fill("other:", 300)
		before, rest := p.look(old), p.look(others)
		r := newRig(t, p.servers...)
		const call = "CACHE.UNLINK MATCH old:* CAPTURE 10mb RATE 100000"
		r.Refused(t, "ada", call, cache.CodeApproval)
		id, keys := r.approved(t, call)
		if keys != 600 {
			t.Errorf("the dry run counts %d keys, want 600", keys)
		}
		r.Refused(t, "ada", "CACHE.UNLINK MATCH other:* CAPTURE 10mb RATE 100000 APPROVAL "+id, cache.CodeStale)
		r.Refused(t, "eve", call+" APPROVAL "+id, cache.CodeStale) // who calls is a part of the plan
		if got := len(p.look(old)); got != 600 {
			t.Fatalf("a dry run, and %d of 600 keys are left", got)
		}
		v := r.OK(t, "ada", call+" APPROVAL "+id)
		if v.Get("changed").Int != 600 || v.Get("state").Str != Done {
			t.Errorf("changed %s, %s", v.Get("changed").Text(), v.Get("state").Str)
		}
		diff(t, "after the unlink", p.look(old), nil)
		diff(t, "what does not match", p.look(others), rest)
		r.Refused(t, "ada", call+" APPROVAL "+id, cache.CodeApproval) // once

		// Some keys are written by customers since.
		for _, k := range old[:20] {
			p.of(k).Must("SET", k, "new")
		}
		work := v.Get("id").Str
		u := r.carried(t, "CACHE.UNDO "+work+" RATE 100000")
		if u.Get("changed").Int != 580 || u.Get("kept").Int != 20 {
			t.Errorf("undone: %s put back, %s kept", u.Get("changed").Text(), u.Get("kept").Text())
		}
		now := p.look(old)
		for _, k := range old[:20] {
			if got := p.of(k).Must("GET", k).Str; got != "new" {
				t.Errorf("%s was written since, and is %q", k, got)
			}
			now[k] = before[k]
		}
		diff(t, "after the undo", now, before)
		u = r.carried(t, "CACHE.UNDO "+work+" RATE 100000") // again
		if u.Get("changed").Int != 0 || u.Get("there").Int != 580 || u.Get("kept").Int != 20 {
			t.Errorf("undone again: %s", text(u))
		}
		list := text(r.OK(t, "ada", "CACHE.BULK LIST"))
		if !strings.Contains(list, work) || !strings.Contains(list, `"kept":20`) {
			t.Errorf("the list: %s", list)
		}
		audit := text(r.OK(t, "ada", "CACHE.AUDIT"))
		if !strings.Contains(audit, "keys.changed") || strings.Contains(audit, "old:") {
			t.Errorf("the record has no change, or shows a pattern: %s", audit)
		}
	})
}

func text(v cache.Value) string {
	b, err := v.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestExpireAndUndo(t *testing.T) {
	all := cachetest.Two(t)
	for _, p := range []place{single(t, all[0]), cluster(t, all[len(all)-1])} {
		old, others := p.fill("cart:", 600), p.fill("other:", 100)
		before, rest := p.look(old), p.look(others)
		r := newRig(t, p.servers...)
		began := time.Now()
		v := r.carried(t, "CACHE.EXPIRE MATCH cart:* TTL 1000 JITTER 20 RATE 100000")
		if v.Get("changed").Int != 600 {
			t.Errorf("changed %s", text(v))
		}
		var lefts []time.Duration
		seconds := map[int64]bool{}
		for k, w := range p.look(old) {
			left := time.UnixMilli(w.until).Sub(began)
			if left < 799*time.Second || left > 1201*time.Second+time.Since(began) {
				t.Fatalf("%s expires in %s, want 1000 s ± 20 %%", k, left)
			}
			lefts = append(lefts, left)
			seconds[w.until/1000] = true
			if w.dump != before[k].dump {
				t.Fatalf("%s has another value", k)
			}
		}
		// On a slow machine all of them are later.
		slices.Sort(lefts)
		if low, high := lefts[len(lefts)/8], lefts[len(lefts)*7/8]; high-low < 200*time.Second || len(seconds) < 200 { // 300 s apart, by chance hardly 250
			t.Errorf("not spread: three quarters expire within %s, %d different seconds", high-low, len(seconds))
		}
		diff(t, "what does not match", p.look(others), rest)
		p.of(old[0]).Must("PEXPIRE", old[0], "77000") // someone else
		p.of(old[1]).Must("UNLINK", old[1])
		u := r.carried(t, "CACHE.UNDO "+v.Get("id").Str+" RATE 100000")
		if u.Get("changed").Int != 598 || u.Get("kept").Int != 1 || u.Get("gone").Int != 1 {
			t.Errorf("undone: %s", text(u))
		}
		now := p.look(old)
		if left := now[old[0]].until - time.Now().UnixMilli(); left > 77_000 {
			t.Errorf("someone else's time to live was overwritten: %d ms are left", left)
		}
		now[old[0]], now[old[1]] = before[old[0]], before[old[1]]
		diff(t, "after the undo", now, before)

		v = r.carried(t, "CACHE.EXPIRE MATCH cart:* TTL 1000 ONLY-NO-TTL RATE 100000")
		if v.Get("changed").Int != 199 { // a third of 600, but for the first: it has one now
			t.Errorf("only those without: %s", text(v))
		}
	}
}

// TestOtherDatabases: keys of every database of a single server.
func TestOtherDatabases(t *testing.T) {
	s := cachetest.Start(t, cachetest.Any(t))
	for _, db := range []string{"0", "3", "9"} {
		s.Must("SELECT", db)
		s.Must("SET", "a:1", "db"+db)
		s.Must("SET", "b:1", "x")
	}
	r := newRig(t, s)
	v := r.carried(t, "CACHE.UNLINK MATCH a:* CAPTURE 1mb")
	u := r.carried(t, "CACHE.UNDO "+v.Get("id").Str)
	if v.Get("changed").Int != 3 || u.Get("changed").Int != 3 {
		t.Errorf("%s\n%s", text(v), text(u))
	}
	for _, db := range []string{"0", "3", "9"} {
		s.Must("SELECT", db)
		if got := s.Must("GET", "a:1").Str; got != "db"+db {
			t.Errorf("database %s: %q", db, got)
		}
	}
}

// TestStopsBeyondThePlan: keys that came after the dry run are not what was approved.
func TestStopsBeyondThePlan(t *testing.T) {
	p := single(t, cachetest.Any(t))
	p.fill("k:", 100)
	r := newRig(t, p.servers...)
	id, _ := r.approved(t, "CACHE.UNLINK MATCH k:* RATE 200000")
	p.fill("k:more:", 5000)
	said := r.Refused(t, "ada", "CACHE.UNLINK MATCH k:* RATE 200000 APPROVAL "+id, cache.CodeGuard)
	left, _ := p.servers[0].Must("DBSIZE").Integer()
	if !strings.Contains(said, "more keys match than were approved") || left < 5100-1100 {
		t.Errorf("%s; %d of 5100 keys are left", said, left)
	}
}

// TestLimits: a full capture stops before it unlinks, a large value is left alone, and without CAPTURE nothing is undone.
func TestLimits(t *testing.T) {
	p := single(t, cachetest.Any(t))
	s := p.servers[0]
	p.fill("k:", 1000)
	r := newRig(t, s)
	id, _ := r.approved(t, "CACHE.UNLINK MATCH k:* CAPTURE 64kb RATE 100000")
	said := r.Refused(t, "ada", "CACHE.UNLINK MATCH k:* CAPTURE 64kb RATE 100000 APPROVAL "+id, cache.CodeGuard)
	if left, _ := s.Must("DBSIZE").Integer(); !strings.Contains(said, "the capture is full") || left == 0 || left == 1000 {
		t.Errorf("%s; %d left", said, left)
	}
	work := r.m.list()[0]
	if got := work.captured(); got > 64<<10 {
		t.Errorf("captured %d bytes", got)
	}
	u := r.carried(t, "CACHE.UNDO "+work.ID+" RATE 100000")
	if left, _ := s.Must("DBSIZE").Integer(); left != 1000 {
		t.Errorf("undone, and %d of 1000 keys are there: %s", left, text(u))
	}
	s.Must("SETRANGE", "large", fmt.Sprint(maxValue+1<<20), "x")
	v := r.carried(t, "CACHE.UNLINK MATCH large CAPTURE 1gb")
	if v.Get("large").Int != 1 || v.Get("changed").Int != 0 || s.Must("EXISTS", "large").Int != 1 {
		t.Errorf("%s", text(v))
	}
	v = r.carried(t, "CACHE.UNLINK MATCH large")
	if v.Get("changed").Int != 1 || s.Must("EXISTS", "large").Int != 0 {
		t.Errorf("%s", text(v))
	}
	r.Refused(t, "ada", "CACHE.UNDO "+v.Get("id").Str+" DRYRUN", cache.CodeErr)
	if v := r.OK(t, "ada", "CACHE.UNLINK MATCH nothing:* DRYRUN"); v.Get("keys").Int != 0 || v.Get("state").Str != "nothing to do" {
		t.Errorf("nothing matches: %s", text(v))
	}
	s.Must("SET", "idle", "x")
	if v := r.OK(t, "ada", "CACHE.UNLINK MATCH idle IDLE 1h DRYRUN"); v.Get("keys").Int != 0 {
		t.Errorf("a key that was just written is idle: %s", text(v))
	}
	s.Must("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
	if said := r.Refused(t, "ada", "CACHE.UNLINK MATCH idle IDLE 1h DRYRUN", cache.CodeErr); !strings.Contains(said, "LFU") {
		t.Errorf("idle times under LFU: %s", said)
	}
	r.Refused(t, "ada", "CACHE.EXPIRE MATCH k:* TTL 0 DRYRUN", cache.CodeErr)
	r.Refused(t, "ada", "CACHE.BULK RESUME b-000000000000", cache.CodeErr)
}

// TestRateIsHeld: by how long it takes, which a busy machine only makes longer.
func TestRateIsHeld(t *testing.T) {
	p := single(t, cachetest.Any(t))
	p.fill("k:", 3000)
	r := newRig(t, p.servers...)
	id, _ := r.approved(t, "CACHE.UNLINK MATCH k:* RATE 1500")
	began := time.Now()
	v := r.OK(t, "ada", "CACHE.UNLINK MATCH k:* RATE 1500 APPROVAL "+id)
	took := time.Since(began)
	rate := 3000 / took.Seconds()
	t.Logf("%.0f keys a second, of 1500", rate)
	if v.Get("changed").Int != 3000 || rate > 1500*1.02 {
		t.Errorf("%s in %s: %.0f a second", text(v), took, rate)
	}
}

// TestCancelled: CACHE.JOB CANCEL interrupts the work, which keeps what is left, and can be carried on or undone.
func TestCancelled(t *testing.T) {
	p := single(t, cachetest.Any(t))
	keys := p.fill("k:", 1500)
	before := p.look(keys)
	r := newRig(t, p.servers...)
	const call = "CACHE.UNLINK MATCH k:* CAPTURE 10mb RATE 300"
	id, _ := r.approved(t, call)
	job := r.OK(t, "ada", call+" APPROVAL "+id+" ASYNC").Get("job").Str
	size := func() int64 { n, _ := p.servers[0].Must("DBSIZE").Integer(); return n }
	cachetest.Eventually(t, "it has begun", func() bool { return size() < 1500 })
	r.OK(t, "ada", "CACHE.JOB CANCEL "+job)
	if _, err := r.Call(t.Context(), "ada", "CACHE.JOB TAIL "+job); err == nil || !strings.HasPrefix(err.Error(), "CANCELLED") {
		t.Errorf("the job: %v", err)
	}
	left := size()
	w := r.m.list()[0]
	if w.State() != Interrupted || left == 0 {
		t.Fatalf("%s, %d keys are left", w.State(), left)
	}
	time.Sleep(200 * time.Millisecond)
	if now := size(); now != left {
		t.Errorf("it goes on after it was cancelled: %d keys, then %d", left, now)
	}
	r.Refused(t, "vi", "CACHE.BULK RESUME "+w.ID+" EXTRA", cache.CodeErr)
	u := r.carried(t, "CACHE.UNDO "+w.ID+" RATE 100000")
	if int64(1500)-left > u.Get("changed").Int {
		t.Errorf("%d were unlinked: %s", 1500-left, text(u))
	}
	diff(t, "undone in the middle", p.look(keys), before)
}

// TestCustomersWriteMeanwhile: a key that customers write while it is unlinked is never lost: its last value is in the
// server, or comes back by UNDO.
func TestCustomersWriteMeanwhile(t *testing.T) {
	for _, v := range cachetest.Two(t) {
		p := single(t, v)
		keys := p.fill("k:", 2000)
		s := p.servers[0]
		r := newRig(t, s)
		id, _ := r.approved(t, "CACHE.UNLINK MATCH k:* CAPTURE 100mb RATE 4000")
		ctx, stop := context.WithCancel(t.Context())
		last := make(chan map[string]string)
		go func() { // one customer writes 200 of the keys again and again
			m := map[string]string{}
			for i := 0; ctx.Err() == nil; i++ {
				k, val := keys[i%200*10], fmt.Sprint("write ", i)
				if a, err := s.Do("SET", k, val); err == nil && a.Str == "OK" {
					m[k] = val
				}
			}
			last <- m
		}()
		w := r.OK(t, "ada", "CACHE.UNLINK MATCH k:* CAPTURE 100mb RATE 4000 APPROVAL "+id)
		stop()
		want := <-last
		u := r.carried(t, "CACHE.UNDO "+w.Get("id").Str+" RATE 100000")
		lost := 0
		for k, val := range want {
			if s.Must("GET", k).Str != val {
				lost++
			}
		}
		t.Logf("%s: %d keys written meanwhile; %s; %s", v.Name, len(want), text(w), text(u))
		if n, _ := s.Must("DBSIZE").Integer(); lost > 0 || n != 2000 {
			t.Errorf("%d keys lost their last write; %d of 2000 keys are there", lost, n)
		}
	}
}

// TestCaptureFile: cut at every byte the entries before the cut are read; a changed bit is no other entry.
func TestCaptureFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c")
	c, err := openCapture(path, func(Captured) {})
	must(t, err)
	want := []Captured{{0, 0, "a", -1, 0, "value"}, {2, 7, "", 1 << 40, 1<<41 + 1, ""}, {1, 0, "b\x00\xff", 5, 0, strings.Repeat("x", 300)}}
	ends := []int64{c.size}
	for _, k := range want {
		must(t, c.keep(0, []Captured{k}))
		ends = append(ends, c.size)
	}
	must(t, c.close())
	whole, err := os.ReadFile(path)
	must(t, err)
	if int64(len(whole)) != c.size || c.keys != 3 {
		t.Fatalf("%d bytes, said to be %d", len(whole), c.size)
	}
	for cut := range len(whole) + 1 {
		must(t, os.WriteFile(path, whole[:cut], 0o600))
		var got []Captured
		c, err := openCapture(path, func(k Captured) { got = append(got, k) })
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		n := 0
		for n < len(want) && ends[n+1] <= int64(cut) {
			n++
		}
		if len(got) != n || n > 0 && got[n-1] != want[n-1] {
			t.Fatalf("cut at %d: %v", cut, got)
		}
		must(t, c.keep(0, want[:1]))
		must(t, c.close())
	}
	for at := len(captureMagic); at < len(whole); at++ {
		b := []byte(string(whole))
		b[at] ^= 0x10
		must(t, os.WriteFile(path, b, 0o600))
		f, err := os.Open(path)
		must(t, err)
		n := 0
		_, _ = readCapture(f, func(k Captured, _ int64) error {
			if n >= len(want) || k != want[n] {
				t.Errorf("byte %d changed: entry %d is %+v", at, n, k)
			}
			n++
			return nil
		})
		must(t, f.Close())
	}
}
