package drain

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/cachetest"
	"github.com/kernwave/kernwave/cache/resp"
)

// shard is a primary and its replica, whichever is which.
type shard struct {
	mode    string
	a, b    *cachetest.Server // the primary to be drained, and its replica
	c       *cachetest.Server // nil: there is no second one
	seeds   string
	tag     string // of keys that are in the shard
	cluster *cachetest.Cluster
	group   *cachetest.Group
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
		s := shard{mode: mode, a: c.Primaries[0], b: c.Replicas[0][0], seeds: cachetest.Addrs(c.Primaries...), cluster: c}
		for i := 0; ; i++ {
			if s.tag = fmt.Sprintf("{t%d}", i); c.Of(t, s.tag) == s.a {
				return s
			}
		}
	case "sentinel":
		g := cachetest.StartSentinel(t, v, "orders", 1, keeping...)
		return shard{mode: mode, a: g.Primary, b: g.Replicas[0], seeds: cachetest.Addrs(g.Sentinels...), group: g}
	case "sentinel of three":
		g := cachetest.StartSentinel(t, v, "orders", 2, keeping...)
		for _, one := range g.Sentinels { // a run would take 10 s more
			one.Must("SENTINEL", "DEBUG", "INFO-PERIOD", "500")
		}
		return shard{mode: mode, a: g.Primary, b: g.Replicas[0], c: g.Replicas[1], seeds: cachetest.Addrs(g.Sentinels...), group: g}
	}
	p := cachetest.StartPair(t, v, 1, keeping...)
	return shard{mode: mode, a: p.Primary, b: p.Replicas[0], seeds: cachetest.Addrs(p.Primary, p.Replicas[0])}
}

// rotate makes a the primary, and b the replica that is to take over, of three.
func (s *shard) rotate(t testing.TB) {
	t.Helper()
	cachetest.Eventually(t, "one is the primary and the others follow it", func() bool {
		if primary(s.b) {
			s.a, s.b = s.b, s.a
		} else if primary(s.c) {
			s.a, s.c = s.c, s.a
		}
		for _, x := range []*cachetest.Server{s.b, s.c} {
			if primary(x) || x.Info("master_port") != strconv.Itoa(s.a.Port) || x.Info("master_link_status") != "up" || x.Info("aof_rewrite_in_progress") != "0" || x.Info("aof_rewrite_scheduled") != "0" {
				return false
			}
		}
		return primary(s.a) && strings.Contains(s.a.Info("slave0"), "state=online") && strings.Contains(s.a.Info("slave1"), "state=online")
	})
	for x, priority := range s.priorities() {
		x.Must("CONFIG", "SET", "replica-priority", priority)
		x.Must("CONFIG", "REWRITE") // it may be killed
	}
	cachetest.Eventually(t, "the Sentinels have heard of their priorities", func() bool {
		for _, one := range s.group.Sentinels {
			for _, r := range one.Must("SENTINEL", "REPLICAS", s.group.Name).Items {
				for x, priority := range s.priorities() {
					if r.Get("port").Str == strconv.Itoa(x.Port) && r.Get("slave-priority").Str != priority {
						return false
					}
				}
			}
		}
		return true
	})
}

// priorities are those of three.
func (s *shard) priorities() map[*cachetest.Server]string {
	return map[*cachetest.Server]string{s.a: "100", s.b: "90", s.c: "100"}
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
	for name, srv := range map[string]*cachetest.Server{"a": s.a, "b": s.b, "c": s.c} {
		if srv == nil {
			continue
		}
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

// lose makes packets between the two's machines vanish, until cachetest.Heal.
func (s shard) lose(t testing.TB) {
	t.Helper()
	must(t, cachetest.Cut(s.a.Host, s.b.Host))
}

// refuse makes both refuse replication, in both directions, until allow.
func (s shard) refuse() {
	for _, x := range []*cachetest.Server{s.a, s.b} {
		_, _ = x.Do("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
		_, _ = x.Do("CLIENT", "KILL", "TYPE", "replica")
		_, _ = x.Do("CLIENT", "KILL", "TYPE", "master")
	}
}

func (s shard) allow() {
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
	if s.c != nil {
		s.rotate(t)
		return
	}
	cachetest.Eventually(t, "one is the primary and the other follows it", func() bool {
		if primary(s.b) {
			s.a, s.b = s.b, s.a
		}
		return primary(s.a) && !primary(s.b) && s.b.Info("master_link_status") == "up" && strings.Contains(s.a.Info("slave0"), "state=online") &&
			s.b.Info("aof_rewrite_in_progress") == "0" && s.b.Info("aof_rewrite_scheduled") == "0"
	})
	// After a full synchronisation a primary sends nothing until the replica has spoken, which it does once a second.
	cachetest.Eventually(t, "the replica gets what is written", func() bool {
		v, err := s.a.Do("SET", s.tag+"ready", "x")
		if err != nil || v.Str != "OK" {
			return false
		}
		v, err = s.a.Do("WAIT", "1", "1000")
		return err == nil && v.Int == 1
	})
	if s.group != nil {
		cachetest.Eventually(t, "the Sentinels would promote the replica", func() bool {
			for _, one := range s.group.Sentinels {
				for _, r := range one.Must("SENTINEL", "REPLICAS", s.group.Name).Items {
					if r.Get("slave-priority").Str == "0" {
						return false
					}
				}
			}
			return true
		})
	}
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
