package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// cluster is one configured cluster and what is known of it.
type cluster struct {
	cfg   Config
	read  credential
	write *credential

	looking chan struct{} // one look at a time

	mu    sync.Mutex
	pools map[string]*pool // by address
	caps  map[string]Caps  // by run id: a restarted server is asked again
	last  []*Node
	at    time.Time
	known map[string]time.Time // addresses that answered, and when last
	shut  bool
}

const (
	// fresh is how long a look is good for others who ask: shorter than any change of role takes.
	fresh = 300 * time.Millisecond
	// remember is how long a node that nobody names any more is asked for: a primary forgets its dead replicas at once.
	remember = 10 * time.Minute
	// maxNodes of one cluster: beyond it the topology is taken for wrong. Redis Cluster itself is not made for more.
	maxNodes = 2000
	// maxRounds is how far a chain of replicas of replicas is followed.
	maxRounds = 8
)

func newCluster(cfg Config) *cluster {
	c := &cluster{
		cfg: cfg, read: credential{cfg.User, cfg.Password}, looking: make(chan struct{}, 1),
		pools: map[string]*pool{}, caps: map[string]Caps{}, known: map[string]time.Time{},
	}
	if c.cfg.Timeout == 0 {
		c.cfg.Timeout = DefaultTimeout
	}
	if cfg.WriteUser != nil && cfg.WritePassword != nil {
		c.write = &credential{*cfg.WriteUser, *cfg.WritePassword}
	}
	return c
}

func (c *cluster) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut = true
	for _, p := range c.pools {
		p.close()
	}
}

// pool returns the pool of an address.
func (c *cluster) pool(addr string, who credential) *pool { return c.poolAs(addr, addr, who) }

// poolAs is pool for who has several credentials at one address.
func (c *cluster) poolAs(key, addr string, who credential) *pool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pools[key]
	if p == nil {
		p = &pool{closed: c.shut, dial: func(ctx context.Context) (*Conn, error) {
			conn, err := dial(ctx, addr, c.cfg.TLS, who)
			if err != nil {
				return nil, err
			}
			_, err = conn.Do(ctx, "CLIENT", "SETNAME", "kernwave-cache")
			if err != nil {
				return nil, err
			}
			return conn, nil
		}}
		c.pools[key] = p
	}
	return p
}

// look finds the nodes, or returns what another look has just found.
func (c *cluster) look(ctx context.Context) ([]*Node, error) {
	select {
	case c.looking <- struct{}{}:
		defer func() { <-c.looking }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	c.mu.Lock()
	last, at := c.last, c.at
	c.mu.Unlock()
	if last != nil && time.Since(at) < fresh {
		return last, nil
	}
	nodes, err := c.discover(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.last, c.at = nodes, time.Now()
	c.mu.Unlock()
	return nodes, nil
}

// sight is what one address said.
type sight struct {
	addr  string
	info  map[string]string
	names []string // of other nodes
	table string   // CLUSTER NODES
	err   error
}

// discover asks the seeds, then whoever they name, until nobody new is named.
func (c *cluster) discover(ctx context.Context) ([]*Node, error) {
	asked := map[string]bool{}
	next := slices.Clone(c.cfg.Seeds)
	c.mu.Lock()
	for addr, at := range c.known {
		if time.Since(at) > remember {
			delete(c.known, addr)
		} else {
			next = append(next, addr)
		}
	}
	c.mu.Unlock()
	var seen []sight
	for range maxRounds {
		var todo []string
		for _, a := range next {
			if !asked[a] {
				asked[a] = true
				todo = append(todo, a)
			}
		}
		if len(todo) == 0 {
			break
		}
		if len(asked) > maxNodes {
			return nil, fmt.Errorf("more than %d addresses are named: this is taken for a mistake in the topology", maxNodes)
		}
		got := make([]sight, len(todo))
		var wg sync.WaitGroup
		for i, a := range todo {
			wg.Go(func() { got[i] = c.see(ctx, a) })
		}
		wg.Wait()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		next = nil
		for _, s := range got {
			next = append(next, s.names...)
		}
		seen = append(seen, got...)
	}
	return c.assemble(seen)
}

// see asks one address what it is and whom it knows.
func (c *cluster) see(ctx context.Context, addr string) sight {
	s := sight{addr: addr}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, fmt.Errorf("no answer within %s", c.cfg.Timeout))
	defer cancel()
	p := c.pool(addr, c.read)
	conn, err := p.get(ctx)
	if err != nil && c.cfg.SentinelPassword != "" && ctx.Err() == nil { // it may be a Sentinel, which has users of its own
		conn, err = dial(ctx, addr, c.cfg.TLS, credential{c.cfg.SentinelUser, c.cfg.SentinelPassword})
	}
	if err != nil {
		s.err = err
		return s
	}
	defer func() { p.put(conn) }()
	v, err := conn.Do(ctx, "INFO")
	if err != nil || v.Kind == cache.Err {
		s.err = orText(err, v)
		return s
	}
	s.info = ParseInfo(v.Str)
	switch s.info["redis_mode"] + s.info["server_mode"] { // Valkey may send both
	case "sentinel", "sentinelsentinel":
		s.names, s.err = c.askSentinel(ctx, conn)
	case "cluster", "clustercluster":
		v, err := conn.Do(ctx, "CLUSTER", "NODES")
		if err != nil || v.Kind == cache.Err {
			s.err = orText(err, v)
			return s
		}
		s.table = v.Str
		for _, l := range parseTable(v.Str) {
			if l.addr != "" {
				s.names = append(s.names, l.addr)
			}
		}
	default:
		if s.info["role"] == "slave" {
			s.names = append(s.names, net.JoinHostPort(s.info["master_host"], s.info["master_port"]))
		}
		for i := 0; ; i++ {
			line, ok := s.info["slave"+strconv.Itoa(i)]
			if !ok {
				break
			}
			f := fields(line, ",", "=")
			s.names = append(s.names, net.JoinHostPort(f["ip"], f["port"]))
		}
	}
	return s
}

func orText(err error, v cache.Value) error {
	if err != nil {
		return err
	}
	return errors.New(v.Str)
}

// askSentinel returns the nodes of the group that is configured, or of the only one.
func (c *cluster) askSentinel(ctx context.Context, conn *Conn) ([]string, error) {
	v, err := conn.Do(ctx, "SENTINEL", "MASTERS")
	if err != nil || v.Kind == cache.Err {
		return nil, orText(err, v)
	}
	var groups, names []string
	for _, m := range v.Items {
		name := m.Get("name").Str
		groups = append(groups, name)
		if c.cfg.Group != "" && c.cfg.Group != name || c.cfg.Group == "" && len(v.Items) > 1 {
			continue
		}
		names = append(names, net.JoinHostPort(m.Get("ip").Str, m.Get("port").Str))
		rs, err := conn.Do(ctx, "SENTINEL", "REPLICAS", name)
		if err == nil && rs.Kind == cache.Err { // before 5.0
			rs, err = conn.Do(ctx, "SENTINEL", "SLAVES", name)
		}
		if err != nil {
			return nil, err
		}
		for _, r := range rs.Items {
			names = append(names, net.JoinHostPort(r.Get("ip").Str, r.Get("port").Str))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the Sentinel watches %s: name one as the cluster's group", strings.Join(groups, ", "))
	}
	return names, nil
}
