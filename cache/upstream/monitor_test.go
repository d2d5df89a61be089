package upstream_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache/cachetest"
	"github.com/kernwave/kernwave/cache/upstream"
)

// TestBurstReadsWhatWasSent: bytes of every kind come back from MONITOR's quoting, keys are found, and nothing is left.
func TestBurstReadsWhatWasSent(t *testing.T) {
	s := cachetest.Start(t, cachetest.Any(t))
	n := look(t, open(t, s.Addr())).Nodes[0]
	table, err := n.Commands(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	odd := "a\"b\\c\n\r\t\a\b\x00\xff é]["
	stop := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
			for _, call := range [][]string{{"SET", odd, "v"}, {"MGET", "k1", odd}, {"EVAL", "return redis.call('get', KEYS[1])", "1", "k2"}, {"OBJECT", "HELP"}} {
				if _, err := s.Do(call...); err != nil {
					return
				}
			}
		}
	})
	seen := map[string]bool{}
	if _, _, err := n.Burst(t.Context(), upstream.Burst{For: time.Second, Bytes: 1 << 20, Line: func(l upstream.Line) {
		keys, write := table.Keys(l.Words)
		switch l.Words[0] {
		case "SET":
			seen["set"] = slices.Equal(keys, []string{odd}) && write
		case "MGET":
			seen["mget"] = slices.Equal(keys, []string{"k1", odd}) && !write
		case "EVAL":
			seen["eval"] = slices.Equal(keys, []string{"k2"})
		case "get":
			seen["lua"] = l.Client == "lua" && slices.Equal(keys, []string{"k2"})
		case "OBJECT":
			seen["object"] = len(keys) == 0
		}
	}}); err != nil {
		t.Error(err)
	}
	close(stop)
	sender.Wait()
	for _, what := range []string{"set", "mget", "eval", "lua", "object"} {
		if !seen[what] {
			t.Errorf("%s was not read as it was sent", what)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	began := time.Now()
	_, _, err = n.Burst(ctx, upstream.Burst{For: time.Minute, Bytes: 1 << 30, Line: func(upstream.Line) {}})
	if err == nil || time.Since(began) > 30*time.Second {
		t.Errorf("a cancelled burst: %v after %s", err, time.Since(began))
	}
}

// FuzzParseLine: any bytes between quotes that the server would write are read; others are an error, and never a panic.
func FuzzParseLine(f *testing.F) {
	f.Add(`1339518083.107412 [0 127.0.0.1:60866] "GET" "k\x00\"\\"`)
	f.Add(`1 [0 lua] "get"`)
	f.Add(`1 [0 unix:/tmp/s] "x`)
	f.Add(`1 [0 a] "\`)
	f.Fuzz(func(t *testing.T, s string) {
		l, err := upstream.ParseLine(s)
		if err == nil && l.At == "" && len(l.Words) > 0 && s[0] != ' ' {
			t.Errorf("%q: %+v", s, l)
		}
	})
}
