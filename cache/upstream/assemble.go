package upstream

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
)

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
