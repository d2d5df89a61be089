package cachetest

import (
	"fmt"
	"strconv"
	"strings"
)

// Pair is a primary with replicas that follow it.
type Pair struct {
	Primary  *Server
	Replicas []*Server
}

// StartPair starts a primary on 127.0.0.1 and n replicas on 127.0.0.2 and on, and waits until they follow.
func StartPair(t TB, v Version, n int, settings ...string) *Pair {
	t.Helper()
	p := &Pair{Primary: Start(t, v, settings...)}
	for i := range n {
		r := StartOn(t, v, host(i+1), append(settings, "--replicaof", p.Primary.Host+" "+strconv.Itoa(p.Primary.Port))...)
		p.Replicas = append(p.Replicas, r)
	}
	p.Wait(t)
	return p
}

// Wait waits until every replica's link is up.
func (p *Pair) Wait(t TB) {
	t.Helper()
	for _, r := range p.Replicas {
		Eventually(t, r.Addr()+" follows "+p.Primary.Addr(), func() bool { return r.Info("master_link_status") == "up" })
	}
	// Else a replica may be called "wait_bgsave" in the primary's eyes.
	Eventually(t, "the primary sees its replicas online", func() bool {
		for i := range p.Replicas {
			if !strings.Contains(p.Primary.Info("slave"+strconv.Itoa(i)), "state=online") {
				return false
			}
		}
		return true
	})
}

// Servers are all of them, the primary first.
func (p *Pair) Servers() []*Server { return append([]*Server{p.Primary}, p.Replicas...) }

func host(i int) string { return fmt.Sprintf("127.0.0.%d", i+1) }

// Group is a primary with replicas that three Sentinels watch under a name.
type Group struct {
	Pair
	Name      string
	Sentinels []*Server
}

// StartSentinel starts a pair with n replicas and three Sentinels that call it name.
func StartSentinel(t TB, v Version, name string, n int, settings ...string) *Group {
	t.Helper()
	g := &Group{Pair: *StartPair(t, v, n, settings...), Name: name}
	for i := range 3 {
		g.Sentinels = append(g.Sentinels, startAt(t, v, "sentinel", host(i),
			"raw", fmt.Sprintf("sentinel monitor %s %s %d 2", name, g.Primary.Host, g.Primary.Port),
			"raw", "sentinel down-after-milliseconds "+name+" 10000",
			"raw", "sentinel failover-timeout "+name+" 20000"))
	}
	for _, s := range g.Sentinels {
		Eventually(t, "the Sentinels know each other and the replicas", func() bool {
			m, err := s.Do("SENTINEL", "MASTER", name)
			return err == nil && m.Get("num-other-sentinels").Str == "2" && m.Get("num-slaves").Str == strconv.Itoa(n)
		})
	}
	return g
}

// Cluster is a Redis Cluster.
type Cluster struct {
	Primaries []*Server
	Replicas  [][]*Server // of each primary
}

// StartCluster starts n primaries, the first of them on 127.0.0.1 and so on, with m replicas each, which are on the
// hosts after their primary's.
func StartCluster(t TB, v Version, n, m int, settings ...string) *Cluster {
	t.Helper()
	c := &Cluster{Replicas: make([][]*Server, n)}
	settings = append(settings, "--cluster-enabled", "yes", "--cluster-node-timeout", "10000")
	for i := range n {
		c.Primaries = append(c.Primaries, StartOn(t, v, host(i), settings...))
	}
	for i := range n {
		for j := range m {
			c.Replicas[i] = append(c.Replicas[i], StartOn(t, v, host((i+j+1)%(n+m)), settings...))
		}
	}
	all := c.Servers()
	for i, p := range c.Primaries {
		p.Must("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*16384/n), strconv.Itoa((i+1)*16384/n-1))
	}
	for i, s := range all {
		s.Must("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)) // else gossip sorts out collisions for seconds
	}
	for _, s := range all[1:] {
		bus := s.Must("CONFIG", "GET", "cluster-port").Items[1].Str
		all[0].Must("CLUSTER", "MEET", s.Host, strconv.Itoa(s.Port), bus)
	}
	known := func(want int) func() bool {
		return func() bool {
			for _, s := range all {
				if v, err := s.Do("CLUSTER", "INFO"); err != nil || !strings.Contains(v.Str, "cluster_known_nodes:"+strconv.Itoa(want)+"\r") {
					return false
				}
			}
			return true
		}
	}
	Eventually(t, "the nodes of the cluster know each other", known(len(all)))
	for i, p := range c.Primaries {
		id := p.Must("CLUSTER", "MYID").Str
		for _, r := range c.Replicas[i] {
			Eventually(t, r.Addr()+" becomes a replica", func() bool {
				v, err := r.Do("CLUSTER", "REPLICATE", id)
				return err == nil && v.Str == "OK"
			})
		}
	}
	c.Wait(t)
	return c
}

// Wait waits until every node calls the cluster whole and every replica follows.
func (c *Cluster) Wait(t TB) {
	t.Helper()
	Eventually(t, "the cluster is whole", func() bool {
		for _, s := range c.Servers() {
			v, err := s.Do("CLUSTER", "INFO")
			if err != nil || !strings.Contains(v.Str, "cluster_state:ok") || !strings.Contains(v.Str, "cluster_slots_ok:16384") {
				return false
			}
			v, err = s.Do("CLUSTER", "NODES")
			if err != nil || strings.Count(v.Str, "slave") != len(c.Servers())-len(c.Primaries) {
				return false
			}
		}
		for _, rs := range c.Replicas {
			for _, r := range rs {
				if r.Info("master_link_status") != "up" {
					return false
				}
			}
		}
		return true
	})
}

// Servers are all of them, the primaries first.
func (c *Cluster) Servers() []*Server {
	all := append([]*Server(nil), c.Primaries...)
	for _, rs := range c.Replicas {
		all = append(all, rs...)
	}
	return all
}

// Of returns the primary that holds key's slot.
func (c *Cluster) Of(t TB, key string) *Server {
	t.Helper()
	slot, _ := c.Primaries[0].Must("CLUSTER", "KEYSLOT", key).Integer()
	n := len(c.Primaries)
	for i, p := range c.Primaries {
		if int(slot) < (i+1)*16384/n {
			return p
		}
	}
	panic("a slot beyond the last")
}
