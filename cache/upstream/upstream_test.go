package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
	"github.com/kernwave/kernwave/cache/upstream"
)

func open(t *testing.T, seeds ...string) *upstream.Fleet {
	t.Helper()
	// Ten seconds, because a busy machine may not run a healthy server for two.
	f, err := upstream.Open(upstream.Config{Name: "main", Seeds: seeds, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func look(t *testing.T, f *upstream.Fleet) *upstream.View {
	t.Helper()
	v, err := f.Look(t.Context(), cache.Select{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// shape is a view in one line a node, with names instead of ports.
func shape(v *upstream.View, names map[string]string) string {
	var lines []string
	for _, n := range v.Nodes {
		slots := 0
		for _, s := range n.Slots {
			slots += s[1] - s[0] + 1
		}
		state := "up"
		if n.Down != "" {
			state = "down"
		}
		lines = append(lines, fmt.Sprintf("%s %s of %s %s slots=%d %s", names[n.Addr], n.Role, names[n.Shard], n.Mode, slots, state))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func TestDiscovery(t *testing.T) {
	for _, v := range cachetest.Two(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Run("a chain of replicas, from its end", func(t *testing.T) {
				t.Parallel()
				p := cachetest.StartPair(t, v, 1)
				last := cachetest.StartOn(t, v, "127.0.0.3", "--replicaof", p.Replicas[0].Host+" "+fmt.Sprint(p.Replicas[0].Port))
				cachetest.Eventually(t, "the last one follows", func() bool { return last.Info("master_link_status") == "up" })
				names := map[string]string{p.Primary.Addr(): "p", p.Replicas[0].Addr(): "r", last.Addr(): "rr"}
				want := "p primary of p standalone slots=0 up\nr replica of p standalone slots=0 up\nrr replica of p standalone slots=0 up"
				if got := shape(look(t, open(t, last.Addr())), names); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				// The same server under another name is one node.
				local := net.JoinHostPort("localhost", fmt.Sprint(p.Primary.Port))
				if got := shape(look(t, open(t, local)), names); got != want {
					t.Errorf("from localhost: got\n%s\nwant\n%s", got, want)
				}
			})
			t.Run("a group that Sentinel watches", func(t *testing.T) {
				t.Parallel()
				g := cachetest.StartSentinel(t, v, "orders", 1)
				names := map[string]string{g.Primary.Addr(): "p", g.Replicas[0].Addr(): "r"}
				want := "p primary of p sentinel slots=0 up\nr replica of p sentinel slots=0 up"
				f := open(t, g.Sentinels[0].Addr(), g.Sentinels[1].Addr())
				if got := shape(look(t, f), names); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			})
			t.Run("a cluster, with a node that dies", func(t *testing.T) {
				t.Parallel()
				c := cachetest.StartCluster(t, v, 3, 1)
				names := map[string]string{}
				for i, p := range c.Primaries {
					names[p.Addr()], names[c.Replicas[i][0].Addr()] = fmt.Sprintf("p%d", i), fmt.Sprintf("r%d", i)
				}
				f := open(t, c.Primaries[1].Addr())
				want := `p0 primary of p0 cluster slots=5461 up
p1 primary of p1 cluster slots=5461 up
p2 primary of p2 cluster slots=5462 up
r0 replica of p0 cluster slots=0 up
r1 replica of p1 cluster slots=0 up
r2 replica of p2 cluster slots=0 up`
				first := look(t, f)
				if got := shape(first, names); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				c.Replicas[2][0].Kill()
				time.Sleep(400 * time.Millisecond) // longer than a look is shared
				after := look(t, f)
				want = strings.Replace(want, "r2 replica of p2 cluster slots=0 up", "r2 replica of p2 cluster slots=0 down", 1)
				if got := shape(after, names); got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				if fs := after.Failed(); len(fs) != 1 || !strings.Contains(fs[0].Error(), "connection refused") {
					t.Errorf("failed: %v", fs)
				}
			})
		})
	}
}

func TestNobodyThere(t *testing.T) {
	f := open(t, fmt.Sprintf("127.0.0.1:%d", cachetest.FreePort(t, "127.0.0.1")))
	_, err := f.Look(t.Context(), cache.Select{})
	e, ok := errors.AsType[*cache.Error](err)
	if !ok || e.Code != cache.CodeUnreachable || !strings.Contains(e.Msg, "connection refused") {
		t.Errorf("got %v", err)
	}
	sel, _ := cache.ParseSelect("cluster:other")
	if _, err := f.Look(t.Context(), sel); err == nil || !strings.Contains(err.Error(), "use one of main") {
		t.Errorf("got %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	_, err := upstream.Open(upstream.Config{Name: "a b", Seeds: []string{"here"}, Timeout: time.Millisecond}, upstream.Config{Name: "b"}, upstream.Config{Name: "b", Seeds: []string{"h:1"}})
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{`"a b": name`, `"here" is no HOST:PORT`, "1ms is below 10ms", `"b": seeds: at least one`, `"b" is there twice`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}

// TestPasswords: the nodes want a password; a wrong one is said as the server says it.
func TestPasswords(t *testing.T) {
	s := cachetest.Start(t, cachetest.Any(t))
	s.Must("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+@connection", "+info", "+command")
	s.Must("CONFIG", "SET", "requirepass", "top")
	for _, tc := range []struct{ user, pw, want string }{
		{"reader", "pw", ""}, {"", "top", ""}, {"reader", "no", "WRONGPASS"}, {"", "", "NOAUTH"},
	} {
		f, err := upstream.Open(upstream.Config{Name: "main", Seeds: []string{s.Addr()}, User: tc.user, Password: tc.pw})
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Look(t.Context(), cache.Select{})
		f.Close()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s/%s: %v, want %q", tc.user, tc.pw, err, tc.want)
		}
	}
}

// TestCaps holds what the servers say against what is known of each version from its documentation.
func TestCaps(t *testing.T) {
	want := map[string][]string{ // capability → versions that have it, of those that Debian packages
		upstream.CapLatencyHistogram: {"redis-7.0", "redis-8.0", "redis-8.6", "valkey-8.1", "valkey-9.1"},
		upstream.CapCommandLog:       {"valkey-8.1", "valkey-9.1"},
		upstream.CapHotkeysStart:     {"redis-8.6"},
		upstream.CapNoTouch:          {"redis-8.0", "redis-8.6", "valkey-8.1", "valkey-9.1"},
		upstream.CapKeySizes:         {"redis-8.0", "redis-8.6"},
		upstream.CapMemoryUsage:      {"redis-7.0", "redis-8.0", "redis-8.6", "valkey-8.1", "valkey-9.1"},
	}
	if len(cachetest.Versions()) == 0 {
		t.Skip("skipped: there is no server on this machine; apt-get install redis-tools")
	}
	for _, v := range cachetest.Versions() {
		s := cachetest.Start(t, v)
		s.Must("SET", "k", "v") // else INFO keysizes has nothing to say
		n := look(t, open(t, s.Addr())).Nodes[0]
		caps, err := n.Caps(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s %s: %v", v.Name, v.Full, caps.Names())
		if n.Flavour+"-"+n.Version != strings.SplitN(v.Name, "-", 2)[0]+"-"+v.Full {
			t.Errorf("%s %s is taken for %s %s", v.Name, v.Full, n.Flavour, n.Version)
		}
		for c, versions := range want {
			if caps[c] != slices.Contains(versions, v.Name) {
				t.Errorf("%s: %s is %v", v.Name, c, caps[c])
			}
		}
	}
}

// TestSilentNodeCostsItsOwnTimeout: of 20 nodes one is dead and one takes connections and never answers.
func TestSilentNodeCostsItsOwnTimeout(t *testing.T) {
	v := cachetest.Any(t)
	var seeds []string
	var silent *cachetest.Server
	for i := range 20 {
		s := cachetest.Start(t, v)
		seeds = append(seeds, s.Addr())
		if i == 7 {
			silent = s
		}
		if i == 11 {
			s.Kill()
		}
	}
	f, err := upstream.Open(upstream.Config{Name: "main", Seeds: seeds, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	nodes := look(t, f).Nodes
	silent.Stop()
	defer silent.Continue()
	const own = 3 * time.Second
	a := upstream.Ask(t.Context(), nodes, own, func(ctx context.Context, n *upstream.Node) (string, error) {
		v, err := n.Do(ctx, "PING")
		return v.Str, err
	})
	if len(a.Got) != 18 || len(a.Failed) != 2 || a.Coverage() != 0.9 {
		t.Fatalf("%d answered, failed: %v", len(a.Got), a.Failed)
	}
	for _, g := range a.Got { // who answers does not wait for who does not
		if g.Took >= own {
			t.Errorf("%s answered after %s", g.Node, g.Took)
		}
	}
	said := fmt.Sprint(a.Failed)
	if !strings.Contains(said, "connection refused") || !strings.Contains(said, silent.Addr()+": no answer within 3s") {
		t.Errorf("failed: %s", said)
	}
}

// TestCancelReachesTheNode: what a node sees of a cancelled question is that its connection ends.
func TestCancelReachesTheNode(t *testing.T) {
	s := cachetest.Start(t, cachetest.Any(t))
	n := look(t, open(t, s.Addr())).Nodes[0]
	c, err := n.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := c.Do(ctx, "BLPOP", "nothing", "0"); done <- err }()
	cachetest.Eventually(t, "the node is waited for", func() bool { return s.Info("blocked_clients") == "1" })
	began := time.Now()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	cachetest.Eventually(t, "the node lets go", func() bool { return s.Info("blocked_clients") == "0" })
	t.Logf("the node let go %s after the cancel (100 ms are allowed on an idle machine)", time.Since(began).Round(time.Millisecond))
}

// TestCancelledCallsLeakNothing: cancelled before, during and after. make bench-cache does it 100,000 times.
func TestCancelledCallsLeakNothing(t *testing.T) {
	s := cachetest.Start(t, cachetest.Any(t))
	f := open(t, s.Addr())
	n := look(t, f).Nodes[0]
	before := runtime.NumGoroutine()
	for i := range cancelled() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7)*100*time.Microsecond)
		_, _ = n.Do(ctx, "DEBUG", "SLEEP", "0.0002")
		cancel()
	}
	f.Close()
	cachetest.Eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() <= before+2 })
	cachetest.Eventually(t, "connections end", func() bool { return s.Info("connected_clients") == "1" })
	if _, err := n.Do(t.Context(), "PING"); err != nil {
		t.Errorf("the node is of no more use: %v", err)
	}
}
