package lease

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
)

// sets says whether a piece of a request sets hz to a value.
func sets(piece []byte, to string) bool {
	return bytes.Contains(piece, []byte("CONFIG\r\n$3\r\nSET\r\n$2\r\nhz\r\n$2\r\n"+to+"\r\n"))
}

// behind is a keeper over servers, each behind a proxy that shows each piece to send.
func behind(t *testing.T, c *clockAt, send func(s *cachetest.Server, piece []byte), servers ...*cachetest.Server) (*Keeper, Lease) {
	t.Helper()
	l := change(c)
	l.Parts = nil
	var addrs []string
	for _, s := range servers {
		s.Must("CONFIG", "SET", "hz", "10")
		p := cachetest.StartProxy(t, s.Addr(), func(piece []byte) { send(s, piece) })
		addrs = append(addrs, p.Addr)
		l.Parts = append(l.Parts, Part{Cluster: "main", Addr: p.Addr})
	}
	f, err := fleet(strings.Join(addrs, ","))
	must(t, err)
	t.Cleanup(f.Close)
	k, err := Open(filepath.Join(t.TempDir(), "j"), FleetNodes(f), &cache.MemLog{}, c.clock())
	must(t, err)
	t.Cleanup(func() { _ = k.Close() })
	return k, l
}

func hz(s *cachetest.Server) string { return s.Must("CONFIG", "GET", "hz").Items[1].Str }

// TestSomeoneElseWithinTheRoundTrip: someone else changes the setting after the gateway has looked and before its own
// change arrives. What they set is there in the end, and they are reported.
func TestSomeoneElseWithinTheRoundTrip(t *testing.T) {
	for _, v := range cachetest.Two(t) {
		s := cachetest.Start(t, v)
		for _, tc := range []struct{ name, to string }{{"while it is taken back", "10"}, {"while it is made", "50"}} {
			c := &clockAt{time.Unix(1e9, 0)}
			var once sync.Once
			k, l := behind(t, c, func(s *cachetest.Server, piece []byte) {
				if sets(piece, tc.to) {
					once.Do(func() { s.Must("CONFIG", "SET", "hz", "77") })
				}
			}, s)
			_, err := k.Take(t.Context(), l)
			if tc.to == "50" {
				if err == nil || !strings.Contains(err.Error(), "CONFLICT") || hz(s) != "77" {
					t.Errorf("%s, %s: hz is %s, %v", v.Name, tc.name, hz(s), err)
				}
				continue
			}
			must(t, err)
			c.now = c.now.Add(time.Hour)
			k.Due(t.Context())
			if p := k.List()[0].Parts[0]; hz(s) != "77" || p.State != Conflicted || p.Found != "77" {
				t.Errorf("%s, %s: hz is %s, want 77, which someone else set: %+v", v.Name, tc.name, hz(s), p)
			}
		}
	}
}

// TestTakenBackLate: the change back is sent, and its connection hangs until the gateway gives it up. It is made again;
// then someone else changes the setting; then what hung arrives. It must not count any more.
func TestTakenBackLate(t *testing.T) {
	for _, v := range cachetest.Two(t) {
		s := cachetest.Start(t, v)
		c := &clockAt{time.Unix(1e9, 0)}
		release := make(chan struct{})
		hung := make(chan struct{})
		var first atomic.Bool
		k, l := behind(t, c, func(_ *cachetest.Server, piece []byte) {
			if sets(piece, "10") && !first.Swap(true) {
				close(hung)
				<-release
			}
		}, s)
		_, err := k.Take(t.Context(), l)
		must(t, err)
		c.now = c.now.Add(time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-hung; cancel() }() // the gateway's patience ends
		k.Due(ctx)
		if hz(s) != "50" || !k.List()[0].Open() {
			t.Fatalf("%s: hz is %s: %+v", v.Name, hz(s), k.List())
		}
		k.Due(t.Context())
		if hz(s) != "10" || k.List()[0].Open() {
			t.Fatalf("%s: hz is %s: %+v", v.Name, hz(s), k.List())
		}
		s.Must("CONFIG", "SET", "hz", "77")
		close(release)
		time.Sleep(300 * time.Millisecond)
		if hz(s) != "77" {
			t.Errorf("%s: hz is %s: a change that was given up has overwritten someone else's", v.Name, hz(s))
		}
	}
}

// TestHungServerHoldsUpNobody: of three servers one hangs, which others are not to wait for.
func TestHungServerHoldsUpNobody(t *testing.T) {
	v := cachetest.Any(t)
	a, b, d := cachetest.Start(t, v), cachetest.Start(t, v), cachetest.Start(t, v)
	c := &clockAt{time.Unix(1e9, 0)}
	k, l := behind(t, c, func(*cachetest.Server, []byte) {}, a, b, d)
	other := l
	l.Parts, other.Parts = l.Parts[:2], l.Parts[2:]
	other.Param, other.Value = "lfu-decay-time", "7"
	_, err := k.Take(t.Context(), l)
	must(t, err)
	_, err = k.Take(t.Context(), other)
	must(t, err)
	a.Stop()
	defer a.Continue()
	c.now = c.now.Add(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { k.Run(ctx); close(done) }()
	began := time.Now()
	for hz(b) != "10" || d.Must("CONFIG", "GET", "lfu-decay-time").Items[1].Str != "1" {
		if time.Since(began) > 15*time.Second {
			t.Fatalf("one server hangs, and %s is not taken back on another after %s", hz(b), time.Since(began).Round(time.Second))
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("taken back on the others after %s", time.Since(began).Round(time.Millisecond))
	a.Continue()
	cachetest.Eventually(t, "it is taken back on the one that hung", func() bool { return hz(a) == "10" })
	cancel()
	<-done
}
