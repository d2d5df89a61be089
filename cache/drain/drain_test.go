package drain

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
	"github.com/kernwave/kernwave/cache/resp"
)

var runs = flag.Int("drain.runs", 4, "how many randomised runs with faults TestFaults plays in a cluster; make bench-cache plays 100")

var oldest = flag.Bool("drain.oldest", false, "TestFaults on the oldest Redis instead of the newest Valkey")

var sentinelRuns = flag.Int("drain.sentinel", 0, "TestFaults plays so many runs under Sentinel, and no others")

// shard is a primary and its replica, whichever is which.
type shard struct {
	mode    string
	a, b    *cachetest.Server // the primary to be drained, and its replica
	seeds   string
	tag     string // of keys that are in the shard
	cluster *cachetest.Cluster
}

// keeping are settings with which a server that is killed loses nothing that it has acknowledged.
var keeping = []string{"--appendonly", "yes", "--repl-backlog-size", "16mb"}

func newShard(t testing.TB, mode string, v cachetest.Version) shard {
	switch mode {
	case "cluster":
		c := cachetest.StartCluster(t, v, 3, 1, append([]string{"raw", "cluster-require-full-coverage no"}, keeping...)...)
		for _, n := range c.Servers() { // see tooSoon: the tests have no time to wait for more
			if !v.Valkey {
				n.Must("CONFIG", "SET", "cluster-node-timeout", "2000")
			}
		}
		s := shard{mode: mode, a: c.Primaries[0], b: c.Replicas[0][0], seeds: addrs(c.Primaries...), cluster: c}
		for i := 0; ; i++ {
			if s.tag = fmt.Sprintf("{t%d}", i); c.Of(t, s.tag) == s.a {
				return s
			}
		}
	case "sentinel":
		g := cachetest.StartSentinel(t, v, "orders", 1, keeping...)
		return shard{mode: mode, a: g.Primary, b: g.Replicas[0], seeds: addrs(g.Sentinels...)}
	}
	p := cachetest.StartPair(t, v, 1, keeping...)
	return shard{mode: mode, a: p.Primary, b: p.Replicas[0], seeds: addrs(p.Primary, p.Replicas[0])}
}

// writers write to both servers all the time. What a server has acknowledged must be in the primary in the end: neither may
// a hand-over lose it, nor may two servers accept writes at a time.
type writers struct {
	mu    sync.Mutex
	acked map[string]string // key → who acknowledged it
	last  time.Time         // when a write was acknowledged last, by either
	gap   time.Duration     // the longest time without
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

func (s shard) write(run int) *writers {
	ctx, stop := context.WithCancel(context.Background())
	w := &writers{acked: map[string]string{}, stop: stop}
	for name, srv := range map[string]*cachetest.Server{"a": s.a, "b": s.b} {
		w.wg.Go(func() {
			for n := 0; ctx.Err() == nil; {
				c, err := net.DialTimeout("tcp", srv.Addr(), time.Second)
				if err != nil {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				stopped := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
				out, in := resp.NewWriter(c, 2), resp.NewReader(c, resp.Limits{})
				for ctx.Err() == nil {
					n++
					key := fmt.Sprintf("%srun%d-%s-%d", s.tag, run, name, n)
					out.Command("SET", key, "x")
					if out.Flush() != nil {
						break
					}
					v, err := in.Next()
					if err != nil {
						break
					}
					if v.Str == "OK" {
						w.mu.Lock()
						w.acked[key] = name
						if now := time.Now(); w.last.IsZero() {
							w.last = now
						} else {
							w.gap, w.last = max(w.gap, now.Sub(w.last)), now
						}
						w.mu.Unlock()
					}
					time.Sleep(time.Millisecond)
				}
				stopped()
				_ = c.Close()
			}
		})
	}
	return w
}

// end stops the writers and says what of the acknowledged writes p lacks.
func (w *writers) end(p *cachetest.Server) (acked, lost int, by map[string]int) {
	w.stop()
	w.wg.Wait()
	by = map[string]int{}
	patience := time.Now().Add(cachetest.Patience)
	for k, who := range w.acked {
		var v cache.Value
		for time.Now().Before(patience) { // a server of a cluster that was restarted takes its time until it answers for its slots
			var err error
			if v, err = p.Do("EXISTS", k); err == nil && v.Kind == cache.Int {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if v.Int != 1 {
			lost++
			by["lost of "+who]++
		}
		by[who]++
	}
	return len(w.acked), lost, by
}

// cut cuts replication between the two, in both directions, until heal.
func (s shard) cut() {
	for _, x := range []*cachetest.Server{s.a, s.b} {
		_, _ = x.Do("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
		_, _ = x.Do("CLIENT", "KILL", "TYPE", "replica")
		_, _ = x.Do("CLIENT", "KILL", "TYPE", "master")
	}
}

func (s shard) heal() {
	for _, x := range []*cachetest.Server{s.a, s.b} {
		for range 100 {
			if v, err := x.Do("ACL", "SETUSER", "default", "+@all"); err == nil && v.Str == "OK" {
				break
			}
			time.Sleep(10 * time.Millisecond) // its connection was closed
		}
	}
}

func primary(s *cachetest.Server) bool {
	for range 50 {
		if role := s.Info("role"); role != "" { // a Sentinel closes connections when it changes a role
			return role == "master"
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

// ready waits until one of the two is the primary and the other follows, all of them healthy, and makes a the primary.
func (s *shard) ready(t testing.TB) {
	t.Helper()
	cachetest.Eventually(t, "one is the primary and the other follows it", func() bool {
		if primary(s.b) {
			s.a, s.b = s.b, s.a
		}
		return primary(s.a) && !primary(s.b) && s.b.Info("master_link_status") == "up" && strings.Contains(s.a.Info("slave0"), "state=online") &&
			s.b.Info("aof_rewrite_in_progress") == "0" && s.b.Info("aof_rewrite_scheduled") == "0"
	})
	if s.cluster != nil {
		s.cluster.Primaries[0], s.cluster.Replicas[0][0] = s.a, s.b
		s.cluster.Wait(t)
		if !s.a.Version.Valkey {
			for _, n := range []*cachetest.Server{s.a, s.b} { // one that was restarted has forgotten it
				n.Must("CONFIG", "SET", "cluster-node-timeout", "2000")
			}
			cachetest.Eventually(t, "the replica has followed for long enough", func() bool {
				m := ageOf.FindStringSubmatch(s.a.Must("CLIENT", "LIST", "TYPE", "replica").Str)
				return m != nil && len(m[1]) > 1 // ten seconds and more
			})
		}
	}
}

var ageOf = regexp.MustCompile(` age=(\d+) `)

// TestTooSoon: a node of a cluster that was a primary, and a replica again, does not stand for election while it may count
// old votes.
func TestTooSoon(t *testing.T) {
	v := cachetest.Any(t)
	if v.Valkey {
		t.Skip("skipped: there is no Redis here, and Valkey does not need it")
	}
	s := newShard(t, "cluster", v)
	s.ready(t)
	r := newRig(t, s.cluster.Primaries...)
	if d, err := r.drain(t, s.a.Addr()); err != nil || d.Get("state").Str != Drained {
		t.Fatal(d, err)
	}
	cachetest.Eventually(t, "it follows", func() bool { return s.a.Info("master_link_status") == "up" })
	time.Sleep(400 * time.Millisecond)
	if _, err := r.do("ada", "CACHE.DRAIN "+s.b.Addr()+" DRYRUN"); err == nil || !strings.Contains(err.Error(), "the votes of an election") || !strings.Contains(err.Error(), "try again in") {
		t.Errorf("right after: %v", err)
	}
}

var approvalID = regexp.MustCompile(`"approval":"(p-[0-9a-f]+)"`)

// steps are how many a hand-over has between which the gateway may be killed.
var steps = map[string]int{"cluster": 4, "sentinel": 9, "standalone": 5}

// play drains a with a random fault, heals it, and looks how it ended.
func (s *shard) play(t testing.TB, rnd *rand.Rand, run int) (fault, state string) {
	s.ready(t)
	path := filepath.Join(t.TempDir(), fmt.Sprintf("j%d", run))
	fault = []string{"none", "replica killed", "link cut", "gateway killed", "gateway killed and replica killed", "gateway killed and link cut"}[rnd.IntN(6)]
	die := 0
	if strings.Contains(fault, "gateway") {
		die = 1 + rnd.IntN(steps[s.mode])
	}
	g := startGateway(t, path, s.seeds, die)
	defer func() { g.kill() }()
	w := s.write(run)
	defer w.stop()
	dry := g.ask("ada CACHE.DRAIN " + s.a.Addr() + " DRYRUN")
	m := approvalID.FindStringSubmatch(dry)
	if m == nil {
		t.Fatalf("run %d: the dry run: %s", run, dry)
	}
	if got := g.ask("bob CACHE.APPROVE " + m[1]); got != `"OK"` {
		t.Fatalf("run %d: %s", run, got)
	}
	time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
	g.send("ada CACHE.DRAIN " + s.a.Addr() + " APPROVAL " + m[1])
	time.Sleep(time.Duration(rnd.IntN(150)) * time.Millisecond)
	hurt := time.Duration(rnd.IntN(3000)) * time.Millisecond
	if s.cluster != nil && !s.a.Version.Valkey {
		hurt /= 4 // shorter than the node timeout, or the cluster itself fails over from a replica that has taken over, and loses writes
	}
	switch {
	case strings.Contains(fault, "replica killed"):
		s.b.Kill()
		time.Sleep(hurt)
		s.b.Restart()
	case strings.Contains(fault, "link cut"):
		s.cut()
		time.Sleep(hurt)
		s.heal()
	}
	said := g.hear(90 * time.Second)
	if die > 0 && said == "gone" {
		if rnd.IntN(2) == 0 {
			time.Sleep(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		}
		g.kill()
		g = startGateway(t, path, s.seeds, 0)
	}
	end := time.Now().Add(2 * time.Minute)
	for {
		list := g.ask("ada CACHE.DRAINS")
		switch {
		case strings.Contains(list, `"state":"drained"`):
			state = Drained
		case strings.Contains(list, `"state":"unchanged"`), list == `{"rows":[]}`: // killed before anything was written down
			state = Unchanged
		case time.Now().After(end):
			t.Fatalf("run %d (%s, step %d): it does not end: %s; a %s, b %s", run, fault, die, list, s.a.Info("role"), s.b.Info("role"))
		default:
			time.Sleep(200 * time.Millisecond)
			continue
		}
		break
	}
	now, other := s.a, s.b
	if state == Drained {
		now, other = s.b, s.a
	}
	end = time.Now().Add(20 * time.Second) // a node of a cluster says that it is a primary for a moment after its start
	for (!primary(now) || primary(other)) && time.Now().Before(end) {
		time.Sleep(20 * time.Millisecond)
	}
	if !primary(now) || primary(other) {
		t.Fatalf("run %d (%s, step %d): it is %s, and a is %s, b is %s; %s", run, fault, die, state, s.a.Info("role"), s.b.Info("role"), said)
	}
	time.Sleep(300 * time.Millisecond) // and it stays so, with customers writing
	acked, lost, by := w.end(now)
	if lost > 0 || acked < 10 {
		t.Errorf("run %d (%s, step %d): %s, and of %d acknowledged writes %d are lost: %v", run, fault, die, state, acked, lost, by)
	}
	return fault, state
}

func faults(t *testing.T, mode string, n int, v cachetest.Version) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %s", seed, v.Name)
	rnd := rand.New(rand.NewPCG(seed, 0))
	s := newShard(t, mode, v)
	count := map[string]int{}
	for run := range n {
		fault, state := s.play(t, rnd, run)
		count[fault+": "+state]++
		if testing.Verbose() && n > 20 && run%10 == 9 {
			t.Logf("%d runs: %v", run+1, count)
		}
	}
	t.Logf("%d runs: %v", n, count)
}

// TestFaults drains the primary of a shard while customers write, with the replica killed, replication cut, or the gateway
// killed before a random step. Every run ends as drained or unchanged, and no acknowledged write is lost.
func TestFaults(t *testing.T) {
	all := cachetest.Two(t)
	v := all[len(all)-1]
	if *oldest {
		v = all[0]
	}
	few := max(1, *runs/5)
	if *sentinelRuns > 0 {
		t.Run("sentinel", func(t *testing.T) { faults(t, "sentinel", *sentinelRuns, v) })
		return
	}
	t.Run("cluster", func(t *testing.T) { faults(t, "cluster", *runs, v) })
	t.Run("sentinel", func(t *testing.T) { faults(t, "sentinel", few, v) })
	t.Run("plain pair", func(t *testing.T) { faults(t, "standalone", few, v) })
}

// TestDrain drains without a fault, on every topology, and takes the host back.
func TestDrain(t *testing.T) {
	for _, mode := range []string{"cluster", "sentinel", "standalone"} {
		t.Run(mode, func(t *testing.T) {
			server := cachetest.Any(t)
			if all := cachetest.Two(t); mode == "cluster" { // TestTooSoon has the others, which take long
				server = all[len(all)-1]
			}
			s := newShard(t, mode, server)
			s.ready(t)
			r, err := open(filepath.Join(t.TempDir(), "j"), s.seeds)
			must(t, err)
			defer func() { r.g.Jobs.Close(); _ = r.k.Close(); r.f.Close() }()
			w := s.write(0)
			time.Sleep(100 * time.Millisecond)
			v, err := r.drain(t, s.a.Addr())
			if err != nil {
				t.Fatal(err)
			}
			if v.Get("state").Str != Drained || v.Get("may_reboot").Int != 1 || primary(s.a) || !primary(s.b) {
				b, _ := v.MarshalJSON()
				t.Fatalf("%s; a is %s, b is %s", b, s.a.Info("role"), s.b.Info("role"))
			}
			time.Sleep(200 * time.Millisecond)
			acked, lost, by := w.end(s.b)
			t.Logf("%d acknowledged writes: %v; %s at most without one", acked, by, w.gap.Round(time.Millisecond))
			if lost > 0 || by["a"] == 0 || by["b"] == 0 {
				t.Errorf("%d lost of %d: %v", lost, acked, by)
			}
			// The reboot: it comes back as a replica, by what its files say.
			s.a.Kill()
			id := v.Get("id").Str
			if _, err := r.do("ada", "CACHE.RESUME "+id); err == nil || !strings.Contains(err.Error(), "GUARD "+s.a.Addr()+" does not answer") {
				t.Errorf("resumed while it is down: %v", err)
			}
			s.a.Restart()
			if mode != "cluster" && primary(s.a) { // a node of a cluster follows a moment later, and owns no slots until then
				t.Error("it started as a primary")
			}
			cachetest.Eventually(t, "it is resumed", func() bool { _, err := r.do("ada", "CACHE.RESUME "+id); return err == nil })
			if primary(s.a) {
				t.Error("it is resumed as a primary")
			}
			if got := r.line("ada", "CACHE.DRAINS"); !strings.Contains(got, `"state":"resumed"`) {
				t.Error(got)
			}
			if got := r.line("ada", "CACHE.AUDIT TOP 2000"); !strings.Contains(got, "host.drained") || !strings.Contains(got, "host.resumed") {
				t.Error(got)
			}
		})
	}
}

// TestWholeHost: a host with two primaries, one with two replicas, and a replica of a third shard.
func TestWholeHost(t *testing.T) {
	v := cachetest.Any(t)
	one, two := cachetest.StartPair(t, v, 1), cachetest.StartPair(t, v, 2)
	third := cachetest.StartOn(t, v, "127.0.0.6")
	here := cachetest.StartOn(t, v, "127.0.0.1", "--replicaof", third.Host+" "+fmt.Sprint(third.Port))
	cachetest.Eventually(t, "it follows", func() bool { return here.Info("master_link_status") == "up" })
	r := newRig(t, one.Primary, two.Primary, third)
	d, err := r.drain(t, "127.0.0.1")
	if err != nil || d.Get("state").Str != Drained || d.Get("may_reboot").Int != 1 || len(d.Get("nodes").Items) != 3 {
		t.Fatalf("%v %+v", err, d)
	}
	if primary(one.Primary) || primary(two.Primary) || primary(here) || !primary(third) || !primary(one.Replicas[0]) {
		t.Error("a primary is left on the host, or another was moved")
	}
	now, other := two.Replicas[0], two.Replicas[1]
	if primary(other) {
		now, other = other, now
	}
	if !primary(now) || other.Info("master_port") != fmt.Sprint(now.Port) || other.Info("master_host") != now.Host {
		t.Errorf("the other replica follows %s:%s, and the primary is %s", other.Info("master_host"), other.Info("master_port"), now.Addr())
	}
	if _, err := r.do("ada", "CACHE.RESUME "+d.Get("id").Str); err != nil {
		cachetest.Eventually(t, "it is resumed", func() bool { _, err := r.do("ada", "CACHE.RESUME "+d.Get("id").Str); return err == nil })
	}
}

// TestRefuses: what may not be drained stays as it is, and says why.
func TestRefuses(t *testing.T) {
	v := cachetest.Any(t)
	alone := cachetest.StartOn(t, v, "127.0.0.5")
	p := cachetest.StartPair(t, v, 1)
	r := newRig(t, alone, p.Primary)
	refused := func(line, want string) {
		t.Helper()
		if _, err := r.do("ada", line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
	refused("CACHE.DRAIN 127.0.0.5 DRYRUN", "GUARD "+alone.Addr()+" cannot be drained: it has no replica; mend or add a replica on another host; or accept that its keys are gone, with COLD")
	refused("CACHE.DRAIN nowhere DRYRUN", "ERR no node is on host nowhere")
	if v, err := r.drain(t, "127.0.0.5 COLD"); err != nil || v.Get("state").Str != Drained {
		t.Errorf("cold: %v, %v", v, err)
	}
	if v, err := r.drain(t, p.Replicas[0].Host); err != nil || v.Get("state").Str != Drained || primary(p.Replicas[0]) {
		t.Errorf("replicas only: %v, %v", v, err)
	}
	refused("CACHE.DRAIN "+p.Primary.Host, "APPROVAL p-")
	r.k.Leased = func(_, addr string) string {
		if addr == p.Replicas[0].Addr() {
			return "l-1"
		}
		return ""
	}
	refused("CACHE.DRAIN "+p.Primary.Host+" DRYRUN", "CACHE.CONFIG TEMP REVERT l-1")
	r.k.Leased = nil
	p.Replicas[0].Must("CONFIG", "SET", "maxmemory", "1mb")
	refused("CACHE.DRAIN "+p.Primary.Host+" DRYRUN", "may hold less memory")
	p.Replicas[0].Must("CONFIG", "SET", "maxmemory", "0")
	p.Replicas[0].Kill()
	time.Sleep(400 * time.Millisecond)
	refused("CACHE.DRAIN "+p.Primary.Host+" DRYRUN", "cannot be drained")
	if _, err := r.g.Do(t.Context(), cache.Request{User: cache.User{Name: "eve", Role: cache.Operator}, Args: []string{"CACHE.DRAIN", "x", "DRYRUN"}}); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("an operator: %v", err)
	}
	if !primary(p.Primary) {
		t.Error("something was moved")
	}
}
