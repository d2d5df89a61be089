package builtin_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
)

// BenchmarkHotkeysRecall is how many of the 16 hottest keys CACHE.HOTKEYS finds in ten seconds, at Zipf 0.99 over 500,000
// keys: "recall" is the mean over the rounds, "inside" the part of the stated intervals that held the truth, "ops/s" what
// the machine could send. Run it with -benchtime 5x on a machine that does nothing else.
func BenchmarkHotkeysRecall(b *testing.B) {
	s := cachetest.Start(b, cachetest.Newest(b, false))
	z := cachetest.NewZipf(500_000, 0.99)
	r := newRigB(b, seeds("main", s))
	load := s.Traffic(60_000, z, func(rank int) string { return fmt.Sprintf("k:%d", rank) })
	defer load.Stop()
	time.Sleep(2 * time.Second) // until the server's own figure of its rate is there
	recall, inside, rows, ops := 0.0, 0.0, 0, 0.0
	for b.Loop() {
		before, from := load.Sent(), time.Now()
		v, err := r.Do(b.Context(), cache.Request{User: operator, Args: []string{"CACHE.HOTKEYS", "VIA", "monitor", "SLACK", "100", "MAXBYTES", "512mb"}, From: "bench"})
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(from).Seconds()
		truth := map[string]int64{}
		var all int64
		for k, n := range load.Sent() {
			truth[k] = n - before[k]
			all += n - before[k]
		}
		ops += float64(all) / took
		best := top16(truth)
		for _, row := range v.Get("rows").Items {
			key := row.Get("key").Str
			if slices.Contains(best, key) {
				recall++
			}
			rows++
			if rate := float64(truth[key]) / took; row.Get("lo").Float <= rate*1.02 && rate*0.98 <= row.Get("hi").Float { // the two clocks differ by a little
				inside++
			}
		}
	}
	b.ReportMetric(recall/16/float64(b.N), "recall")
	b.ReportMetric(inside/float64(max(1, rows)), "inside")
	b.ReportMetric(ops/float64(b.N), "ops/s")
}
