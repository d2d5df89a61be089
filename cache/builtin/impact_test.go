package builtin_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
)

var (
	impactRounds = flag.Int("impact.rounds", 30, "of BenchmarkImpact: windows of each kind")
	impactKeys   = flag.Int("impact.keys", 1_000_000, "of BenchmarkImpact")
	impactServer = flag.String("impact.server", "redis-8.0", "of BenchmarkImpact, if it is on this machine; else the newest Redis")
	impactFast   = flag.String("impact.fast", "DUTY 1 SLACK 20", "of BenchmarkImpact: how CACHE.PREFIX is called for 4 times redis-cli's speed")
	impactGentle = flag.String("impact.gentle", "DUTY 0.65 SLACK 20 BUDGET 6", "of BenchmarkImpact: how CACHE.PREFIX is called for twice redis-cli's speed")
)

// aloneFor is a window in which nothing happens.
const aloneFor = 3 * time.Second

// foreground is how many operations a second customers send meanwhile.
const foreground = 5000

// impact is a server full of keys, a gateway in front of it, and customers' load.
type impact struct {
	b    testing.TB
	s    *cachetest.Server
	g    *cache.Gateway
	keys int
	fifo bool
	load *cachetest.OpenLoop
	left float64 // the part of the operations that is not counted, see measure
}

// newImpact makes the data set: ten prefixes of 45 % to 0.1 % of the keys, 85 % strings of 16 to 2,000 bytes, the rest small
// hashes, sorted sets, lists and sets, 60 % with an expiry hours away.
func newImpact(b testing.TB, v cachetest.Version, keys int) *impact {
	m := &impact{b: b, s: cachetest.Start(b, v), keys: keys}
	r := rand.New(rand.NewPCG(3, 5))
	shares := []float64{0.45, 0.2, 0.12, 0.08, 0.06, 0.04, 0.03, 0.015, 0.004, 0.001}
	value := strings.Repeat("x", 2000)
	var strs []string
	m.s.Fill(func(send func(...string)) {
		for i := range keys {
			x, p := r.Float64(), 0
			for p < len(shares)-1 && x > shares[p] {
				x -= shares[p]
				p++
			}
			key := fmt.Sprintf("prefix%d:item:%d", p, i)
			kind := r.IntN(100)
			if kind < 85 {
				strs = append(strs, key)
				send("SET", key, value[:16+int(1984*math.Pow(r.Float64(), 6))])
			} else {
				cmd := []string{"HSET", "ZADD", "RPUSH", "SADD"}[kind%4]
				args := []string{cmd, key}
				for j := range 2 + r.IntN(8) {
					e := strconv.Itoa(j)
					switch cmd {
					case "HSET":
						args = append(args, "field"+e, value[:20])
					case "ZADD":
						args = append(args, e, "member"+e)
					default:
						args = append(args, "element"+e)
					}
				}
				send(args...)
			}
			if r.IntN(10) < 6 {
				send("EXPIRE", key, strconv.Itoa(20_000+r.IntN(1_000_000)))
			}
		}
	})
	r.Shuffle(len(strs), func(i, j int) { strs[i], strs[j] = strs[j], strs[i] })
	m.g = newRigB(b, seeds("main", m.s))
	m.load = m.s.StartOpenLoop(foreground, strs)
	return m
}

// realTime puts the server before the customers, these before the tools, and all of them before everyone else on the machine.
func (m *impact) realTime() {
	for _, p := range []struct{ pid, priority int }{{m.s.PID(), 30}, {m.load.PID(), 20}, {os.Getpid(), 10}} {
		if err := cachetest.FIFO(p.pid, p.priority); err != nil {
			m.b.Logf("measured among all that runs on this machine, for want of %v", err)
			return
		}
	}
	m.fifo = true
}

// window is a stretch of time in which one thing was done.
type window struct {
	kind     string
	from, to time.Time
	p50, p99 time.Duration
	speed    float64 // keys a second; 0: nothing was walked over
	guards   string
}

// look walks over all keys by the gateway, or does nothing for a while.
func (m *impact) look(kind, how string) window {
	w := window{kind: kind, from: time.Now()}
	if kind == "alone" {
		time.Sleep(aloneFor)
		w.to = time.Now()
		return w
	}
	v, err := m.g.Do(m.b.Context(), cache.Request{User: operator, Args: append([]string{"CACHE.PREFIX"}, strings.Fields(how)...), From: "bench"})
	w.to = time.Now()
	if err != nil {
		m.b.Fatal(err)
	}
	seen := v.Get("keys_seen").Int
	if whole := !strings.Contains(how, "BUDGET"); whole && (seen != int64(m.keys) || v.Get("total").Get("keys").Int != seen || v.Get("coverage").Float != 1) {
		m.b.Errorf("%s: %d keys of %d were seen, coverage %v", how, seen, m.keys, v.Get("coverage").Float)
	}
	w.speed = float64(seen) / w.to.Sub(w.from).Seconds()
	g := v.Get("guards")
	w.guards = g.Text()
	if b, err := g.MarshalJSON(); err == nil {
		w.guards = string(b)
	}
	return w
}

// byRedisCLI is the yardstick: redis-cli --bigkeys.
func (m *impact) byRedisCLI() window {
	w := window{kind: "redis-cli"}
	cmd := m.s.Version.CLI("-h", m.s.Host, "-p", strconv.Itoa(m.s.Port), "--bigkeys")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	w.from = time.Now()
	if err := cmd.Start(); err != nil { // it inherits the policy of whoever starts it
		m.b.Fatal(err)
	}
	err := cmd.Wait()
	w.to = time.Now()
	if err != nil || !strings.Contains(out.String(), fmt.Sprintf("Sampled %d keys", m.keys)) {
		m.b.Fatalf("redis-cli --bigkeys: %v\n%s", err, out.String())
	}
	w.speed = float64(m.keys) / w.to.Sub(w.from).Seconds()
	return w
}

// measure ends the load and says what customers felt in each window.
func (m *impact) measure(ws []window) {
	took, gaps, err := m.load.Stop()
	if err != nil {
		m.b.Fatal(err)
	}
	slices.SortFunc(gaps, func(a, b cachetest.Gap) int { return a.From.Compare(b.From) })
	slices.SortFunc(took, func(a, b cachetest.Took) int { return a.At.Compare(b.At) })
	var whole []cachetest.Took // without what was out while the machine stood still, and until its queues were empty again
	g, until := 0, time.Time{}
	for _, t := range took {
		for ; g < len(gaps) && gaps[g].From.Before(t.At.Add(t.Long)); g++ {
			until = gaps[g].To.Add(gapAfter)
		}
		if until.Before(t.At) {
			whole = append(whole, t)
		}
	}
	if !m.fifo { // among all that runs here, standing still for a while is what every part of it does
		whole = took
	}
	m.left = 1 - float64(len(whole))/float64(len(took))
	for i := range ws {
		var long []time.Duration
		for _, t := range whole {
			if !t.At.Before(ws[i].from) && t.At.Before(ws[i].to) {
				long = append(long, t.Long)
			}
		}
		if len(long) == 0 {
			m.b.Fatalf("no operation was sent in a window of %s", ws[i].to.Sub(ws[i].from))
		}
		slices.Sort(long)
		ws[i].p50, ws[i].p99 = long[len(long)/2], long[len(long)*99/100]
	}
}

// gapAfter is how long after a gap the queues that it left are worked off.
const gapAfter = 5 * time.Millisecond

// median is that of xs and its interval of 95 %, by drawing with replacement.
func median(xs []float64) (mid, lo, hi float64) {
	of := func(xs []float64) float64 {
		slices.Sort(xs)
		return (xs[(len(xs)-1)/2] + xs[len(xs)/2]) / 2
	}
	r := rand.New(rand.NewPCG(7, 7))
	draws := make([]float64, 10_000)
	some := make([]float64, len(xs))
	for i := range draws {
		for j := range some {
			some[j] = xs[r.IntN(len(xs))]
		}
		draws[i] = of(some)
	}
	slices.Sort(draws)
	return of(slices.Clone(xs)), draws[len(draws)*25/1000], draws[len(draws)*975/1000]
}

// of returns the windows of a kind.
func of(ws []window, kind string) []window {
	var out []window
	for _, w := range ws {
		if w.kind == kind {
			out = append(out, w)
		}
	}
	return out
}

// BenchmarkImpact is what customers feel of a profile of all keys: rounds of windows in random order, in which nothing happens,
// CACHE.PREFIX looks at all keys as fast as it can, and at about twice the speed of redis-cli --bigkeys, which has a window of
// its own every sixth round. The metrics are ratios to the window of the same round in which nothing happened.
func BenchmarkImpact(b *testing.B) {
	v := cachetest.Newest(b, false)
	for _, o := range cachetest.Versions() {
		if o.Name == *impactServer {
			v = o
		}
	}
	for b.Loop() {
		m := newImpact(b, v, *impactKeys)
		m.realTime()
		m.look("warm", "DUTY 1 SLACK 20")
		var ws []window
		r := rand.New(rand.NewPCG(1, 1))
		for round := range *impactRounds {
			kinds := []string{"alone", "fast", "gentle"}
			if round%6 == 0 {
				kinds = append(kinds, "redis-cli")
			}
			r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
			for _, k := range kinds {
				switch k {
				case "fast":
					ws = append(ws, m.look(k, *impactFast))
				case "gentle":
					ws = append(ws, m.look(k, *impactGentle))
				case "alone":
					ws = append(ws, m.look(k, ""))
				default:
					ws = append(ws, m.byRedisCLI())
				}
				time.Sleep(200 * time.Millisecond)
			}
		}
		m.measure(ws)
		report(b, m, ws)
	}
}

func report(b *testing.B, m *impact, ws []window) {
	b.Logf("%s, %d keys, %d operations a second, SCHED_FIFO %t; %.1f %% of the operations were sent while the machine itself stood still, and are not counted", m.s.Version.Name, m.keys, foreground, m.fifo, 100*m.left)
	for _, w := range ws {
		b.Logf("%-9s p50 %6d µs, p99 %6d µs, %7.0f keys/s, %s", w.kind, w.p50.Microseconds(), w.p99.Microseconds(), w.speed, w.guards)
	}
	var cli []float64
	for _, w := range of(ws, "redis-cli") {
		cli = append(cli, w.speed)
	}
	yard, yardLo, yardHi := median(cli)
	b.Logf("redis-cli --bigkeys: %.0f keys/s (%.0f to %.0f)", yard, yardLo, yardHi)
	alone := of(ws, "alone")
	for _, k := range []struct {
		kind        string
		speed, slow float64
	}{{"fast", 4, 1.5}, {"gentle", 2, 1.1}} {
		var speeds, ratios []float64
		for i, w := range of(ws, k.kind) {
			speeds = append(speeds, w.speed/yard)
			ratios = append(ratios, float64(w.p99)/float64(alone[i].p99))
		}
		s, slo, shi := median(speeds)
		p, plo, phi := median(ratios)
		b.Logf("%s: %.2f times as fast as redis-cli (%.2f to %.2f; asked %.0f: %s), p99 %.2f times (%.2f to %.2f; asked at most %.1f: %s)", k.kind,
			s, slo, shi, k.speed, reached(slo >= k.speed), p, plo, phi, k.slow, reached(phi <= k.slow))
		b.ReportMetric(s, k.kind+"-speed")
		b.ReportMetric(p, k.kind+"-p99")
	}
}

func reached(yes bool) string {
	if yes {
		return "reached"
	}
	return "not reached"
}

// TestImpactSmall is BenchmarkImpact in small, among all that runs on the machine: all keys are seen, every operation of customers
// is answered, and half of them do not take many times as long. How fast a walk is depends on how much else runs: it yields to that.
func TestImpactSmall(t *testing.T) {
	m := newImpact(t, cachetest.Any(t), 30_000)
	time.Sleep(time.Second)
	ws := []window{m.byRedisCLI(), m.look("fast", "DUTY 1 SLACK 50"), m.look("alone", "")}
	m.measure(ws)
	for _, w := range ws {
		t.Logf("%-9s p50 %s, p99 %s, %.0f keys/s", w.kind, w.p50, w.p99, w.speed)
	}
	if fast, alone := ws[1].p50, ws[2].p50; fast > 20*alone+20*time.Millisecond {
		t.Errorf("half of the operations take %s, without a walk %s", fast, alone)
	}
}
