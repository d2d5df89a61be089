package judge

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// The fleet of the benchmarks: 10,000 hosts of one type with 8 signals, at 15 s, 24 hours before and after.
const (
	benchHosts   = 10_000
	benchSignals = 8
	benchStep    = 15 * time.Second
	benchBefore  = 24 * time.Hour
)

// benchGroup has half of its hosts treated, changed within ten minutes.
func benchGroup(hosts int) Group {
	t0 := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	g := Group{ID: "bench", Step: benchStep, Start: t0.Add(-benchBefore), T0: t0}
	for s := range benchSignals {
		g.Signals = append(g.Signals, Signal{Name: "s" + strconv.Itoa(s), Margin: 0.05})
	}
	for i := range hosts {
		h := Host{ID: "h" + strconv.Itoa(i), Treated: i%2 == 0}
		if h.Treated {
			h.Changed = t0.Add(time.Duration(i%40) * benchStep)
		}
		g.Hosts = append(g.Hosts, h)
	}
	return g
}

// noise is a fast source of samples: making them is not what is measured.
type noise uint64

func (n *noise) fill(values []float64) {
	x := uint64(*n)
	for i := range values {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		values[i] = 100 + float64(i%50) + float64(x>>40)/float64(1<<22)
	}
	*n = noise(x)
}

// cpu is the processor time that this process has used: other work on the machine does not count.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCold shows a day before and a day after, then looks: all that a restart has to do. With -short the hosts
// are fewer: time and memory grow with them.
func BenchmarkCold(b *testing.B) {
	hosts := benchHosts
	if testing.Short() {
		hosts = 500
	}
	for b.Loop() {
		g := benchGroup(hosts)
		samples := int(2 * benchBefore / benchStep)
		values := make([]float64, hosts)
		src := noise(88172645463325252)
		c, err := New(g)
		if err != nil {
			b.Fatal(err)
		}
		f := NewFamily([]Group{g})
		var peak uint64
		began := cpu(b)
		for k := range samples {
			src.fill(values)
			for s := range benchSignals {
				if err := c.Observe(s, values); err != nil {
					b.Fatal(err)
				}
			}
			if k%500 == 0 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapInuse)
			}
		}
		at := g.T0.Add(benchBefore)
		if got := f.Decide(at, map[int]Look{0: c.Look(at)}); len(got) != benchSignals || got[0].Outcome != Pass {
			b.Fatalf("%+v", got)
		}
		took := cpu(b) - began
		b.ReportMetric(took.Seconds(), "cpu-s/cold")
		b.ReportMetric(float64(took.Nanoseconds())/float64(hosts*benchSignals*samples), "cpu-ns/sample")
		b.ReportMetric(float64(peak)/(1<<20), "MB-heap")
	}
}

// BenchmarkLook is one look at the whole fleet, a minute after the one before: what arrived since, and the verdicts.
func BenchmarkLook(b *testing.B) {
	g := benchGroup(benchHosts)
	g.Start = g.T0.Add(-time.Hour) // the length of the before does not matter to a look
	c, err := New(g)
	if err != nil {
		b.Fatal(err)
	}
	f := NewFamily([]Group{g})
	values := make([]float64, benchHosts)
	src := noise(88172645463325252)
	at := g.Start
	feed := func(d time.Duration) {
		for end := at.Add(d); at.Before(end); at = at.Add(g.Step) {
			for s := range benchSignals {
				src.fill(values)
				if err := c.Observe(s, values); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	feed(2 * time.Hour)
	began, n := cpu(b), 0.0
	for b.Loop() {
		feed(time.Minute)
		f.Decide(at, map[int]Look{0: c.Look(at)})
		n++
	}
	b.ReportMetric((cpu(b)-began).Seconds()/n, "cpu-s/look")
}

// BenchmarkSmallLook is the usual size: 3 canaries and 20 controls, one signal.
func BenchmarkSmallLook(b *testing.B) {
	g := benchGroup(23)
	g.Signals = g.Signals[:1]
	for i := range g.Hosts {
		g.Hosts[i] = Host{ID: fmt.Sprint(i)}
		if i < 3 {
			g.Hosts[i].Treated, g.Hosts[i].Changed = true, g.T0
		}
	}
	g.Start = g.T0.Add(-time.Hour)
	c, err := New(g)
	if err != nil {
		b.Fatal(err)
	}
	values := make([]float64, 23)
	src := noise(88172645463325252)
	for range int(2 * time.Hour / g.Step) {
		src.fill(values)
		if err := c.Observe(0, values); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if l := c.Look(g.T0.Add(time.Hour)); math.IsNaN(l.Cells[0].Estimate) {
			b.Fatal("no estimate")
		}
	}
}
