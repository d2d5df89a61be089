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

// assemble makes nodes out of what was seen.
func (c *cluster) assemble(seen []sight) ([]*Node, error) {
	var nodes []*Node
	var table []tableLine
	byRun := map[string]*Node{}
	sentinel := false
	var errs []error
	for _, s := range seen {
		if len(parseTable(s.table)) > len(table) {
			table = parseTable(s.table)
		}
		if s.info["redis_mode"] == "sentinel" || s.info["server_mode"] == "sentinel" {
			sentinel = true
			if s.err != nil {
				errs = append(errs, &Failure{Node: s.addr, Err: s.err})
			}
		}
	}
	for _, s := range seen {
		if s.info["redis_mode"] == "sentinel" || s.info["server_mode"] == "sentinel" {
			continue
		}
		n := c.node(s)
		if n.Down == "" {
			// One server under two names, as localhost and 127.0.0.1: the name that the others use stays.
			if other := byRun[s.info["run_id"]]; other != nil {
				if named(seen, other.Addr) || !named(seen, n.Addr) {
					continue
				}
				nodes = slices.DeleteFunc(nodes, func(x *Node) bool { return x == other })
			}
			byRun[s.info["run_id"]] = n
		}
		nodes = append(nodes, n)
	}
	// A seed that is silent under a name is most likely a node that is known under its address.
	up := len(byRun)
	if up == 0 {
		for _, s := range seen {
			if s.err != nil {
				errs = append(errs, &Failure{Node: s.addr, Err: s.err})
			}
		}
		if len(errs) == 0 {
			errs = append(errs, errors.New("nobody is there"))
		}
		return nil, errors.Join(errs...)
	}
	for _, n := range nodes {
		if sentinel {
			n.Mode = "sentinel"
		}
	}
	for _, l := range table {
		i := slices.IndexFunc(nodes, func(n *Node) bool { return n.Addr == l.addr })
		if i < 0 {
			continue
		}
		n := nodes[i]
		n.ID, n.Slots, n.Mode = l.id, l.slots, "cluster"
		if n.Down != "" {
			n.Role, n.Follows = l.role, addrOf(table, l.follows)
		}
	}
	// A silent seed of a cluster that is in nobody's table is a stale setting, and still said.
	relate(nodes)
	c.mu.Lock()
	for _, n := range nodes {
		if n.Down == "" {
			c.known[n.Addr] = time.Now()
		}
	}
	c.mu.Unlock()
	slices.SortFunc(nodes, func(a, b *Node) int {
		return strings.Compare(a.Shard+"\x00"+a.Role+"\x00"+a.Addr, b.Shard+"\x00"+b.Role+"\x00"+b.Addr)
	})
	return nodes, nil
}

func named(seen []sight, addr string) bool {
	return slices.ContainsFunc(seen, func(s sight) bool { return slices.Contains(s.names, addr) })
}

func addrOf(table []tableLine, id string) string {
	for _, l := range table {
		if l.id == id {
			return l.addr
		}
	}
	return ""
}

// node makes one of what an address said of itself.
func (c *cluster) node(s sight) *Node {
	host, _, _ := net.SplitHostPort(s.addr)
	if h, ok := c.cfg.Hosts[s.addr]; ok {
		host = h
	} else if h, ok := c.cfg.Hosts[host]; ok {
		host = h
	}
	n := &Node{
		Target:  cache.Target{Cluster: c.cfg.Name, Addr: s.addr, Host: host, Service: c.cfg.Service},
		cluster: c, pool: c.pool(s.addr, c.read), LagBytes: -1, Mode: "standalone",
	}
	if s.err != nil {
		n.Down = s.err.Error()
		return n
	}
	in := s.info
	n.ID, n.Version, n.Flavour, n.Loading = in["run_id"], in["redis_version"], "redis", in["loading"] == "1"
	if in["server_name"] == "valkey" || in["valkey_version"] != "" {
		n.Flavour, n.Version = "valkey", in["valkey_version"]
	}
	n.Role = Primary
	n.Offset, _ = strconv.ParseInt(in["master_repl_offset"], 10, 64)
	if in["role"] == "slave" {
		n.Role, n.Follows = Replica, net.JoinHostPort(in["master_host"], in["master_port"])
		n.LinkUp = in["master_link_status"] == "up"
		n.Offset, _ = strconv.ParseInt(in["slave_repl_offset"], 10, 64)
	}
	return n
}

// relate fills what needs more than one node: shards and lags. A replica belongs to the shard at the top of its chain.
func relate(nodes []*Node) {
	by := map[string]*Node{}
	for _, n := range nodes {
		by[n.Addr] = n
	}
	for _, n := range nodes {
		top := n
		for range maxRounds {
			up := by[top.Follows]
			if up == nil || top.Role != Replica {
				break
			}
			top = up
		}
		n.Shard = top.Addr
		if top.Role == Replica && top.Follows != "" {
			n.Shard = top.Follows
		}
		if p := by[n.Follows]; n.Role == Replica && p != nil && p.Down == "" && n.LinkUp {
			n.LagBytes = max(0, p.Offset-n.Offset)
		}
	}
}

// tableLine is one line of CLUSTER NODES.
type tableLine struct {
	id, addr, role, follows string
	slots                   [][2]int
}

// parseTable reads CLUSTER NODES. Nodes without an address, or that are still shaking hands, are left out.
func parseTable(s string) []tableLine {
	var out []tableLine
	for line := range strings.SplitSeq(s, "\n") {
		f := strings.Fields(line)
		if len(f) < 8 || strings.Contains(f[2], "handshake") || strings.Contains(f[2], "noaddr") {
			continue
		}
		addr, _, _ := strings.Cut(f[1], "@")
		addr, _, _ = strings.Cut(addr, ",")
		host, port, ok := cutLast(addr, ":")
		if !ok || host == "" {
			continue
		}
		l := tableLine{id: f[0], addr: net.JoinHostPort(strings.Trim(host, "[]"), port), role: Primary}
		if strings.Contains(f[2], "slave") {
			l.role, l.follows = Replica, f[3]
		}
		for _, r := range f[8:] {
			if strings.HasPrefix(r, "[") { // on its way to or from elsewhere
				continue
			}
			lo, hi, two := strings.Cut(r, "-")
			a, err := strconv.Atoi(lo)
			b := a
			if two && err == nil {
				b, err = strconv.Atoi(hi)
			}
			if err == nil && a >= 0 && a <= b && b < 16384 {
				l.slots = append(l.slots, [2]int{a, b})
			}
		}
		out = append(out, l)
	}
	return out
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// ParseInfo reads the fields of INFO.
func ParseInfo(s string) map[string]string { return fields(s, "\n", ":") }

// fields reads "a=1,b=2" and the like.
func fields(s, sep, eq string) map[string]string {
	m := map[string]string{}
	for part := range strings.SplitSeq(s, sep) {
		if k, v, ok := strings.Cut(strings.TrimRight(part, "\r"), eq); ok {
			m[k] = v
		}
	}
	return m
}

// Fields reads "a=1,b=2", as the values of INFO hold.
func Fields(s string) map[string]string { return fields(s, ",", "=") }
