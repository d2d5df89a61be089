// Package upstream is the gateway's side towards the nodes: it finds the nodes of standalone, replicated, Sentinel and
// Cluster topologies from a seed, asks what each can do instead of guessing from its version, and asks many of them at
// once, where one that is dead or silent costs its own timeout and is named in the answer.
//
// Every connection is the gateway's own and is used by one question at a time, so what is in flight is exact, and giving
// up a question closes its connection: that is how cancelling reaches the node. It never shares a customer's connection.
package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// Config is one cluster: what belongs together behind a name.
type Config struct {
	// Name is what selectors call it: cluster:NAME.
	Name string
	// Seeds are HOST:PORT of any of its nodes, or of its Sentinels. At least one.
	Seeds []string
	// Service is what it serves; may be empty.
	Service string
	// Group is the name that Sentinels call it; empty: the only one they watch.
	Group string
	// User and Password log in on nodes; both empty: no login. The user needs reads only.
	User, Password string
	// SentinelUser and SentinelPassword log in on Sentinels.
	SentinelUser, SentinelPassword string
	// WriteUser and WritePassword log in for approved writes, and are used for nothing else. Both nil: no writes.
	WriteUser, WritePassword *string
	// TLS towards the nodes; nil: none.
	TLS *tls.Config
	// Hosts says which machine an address (HOST:PORT, or HOST) is on. What is missing is on the machine of its IP.
	Hosts map[string]string
	// Timeout is how long one node may take to answer one question. Zero means 2s; below 10ms every answer would be late.
	Timeout time.Duration
}

// DefaultTimeout is how long one node may take for one short answer.
const DefaultTimeout = 2 * time.Second

func (c Config) validate() error {
	var errs []error
	bad := func(f string, a ...any) {
		errs = append(errs, fmt.Errorf("cluster %q: "+f, append([]any{c.Name}, a...)...))
	}
	if c.Name == "" || strings.ContainsAny(c.Name, " ,:*?[]\t\n") {
		bad("name: must be a word without blanks, commas, colons and wildcards")
	}
	if len(c.Seeds) == 0 {
		bad("seeds: at least one HOST:PORT")
	}
	for _, s := range c.Seeds {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			bad("seeds: %q is no HOST:PORT", s)
		}
	}
	if c.Timeout != 0 && c.Timeout < 10*time.Millisecond {
		bad("timeout: %s is below 10ms", c.Timeout)
	}
	return errors.Join(errs...)
}

// Fleet is all clusters. It is safe for concurrent use.
type Fleet struct {
	clusters []*cluster
	Heavy    *Heavy // who may run something heavy, on which host and shard
}

// Open checks the configuration. It connects to nobody yet.
func Open(cfgs ...Config) (*Fleet, error) {
	f := &Fleet{Heavy: NewHeavy()}
	var errs []error
	for _, c := range cfgs {
		errs = append(errs, c.validate())
		if slices.ContainsFunc(f.clusters, func(o *cluster) bool { return o.cfg.Name == c.Name }) {
			errs = append(errs, fmt.Errorf("cluster %q is there twice", c.Name))
		}
		f.clusters = append(f.clusters, newCluster(c))
	}
	if len(cfgs) == 0 {
		errs = append(errs, errors.New("no cluster"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return f, nil
}

// Close closes all idle connections.
func (f *Fleet) Close() {
	for _, c := range f.clusters {
		c.close()
	}
}

// Clusters are the names.
func (f *Fleet) Clusters() []string {
	names := make([]string, len(f.clusters))
	for i, c := range f.clusters {
		names[i] = c.cfg.Name
	}
	return names
}

// View is the fleet at one moment.
type View struct {
	Nodes []*Node // by cluster, shard, role and address
	// Lost says of clusters that could not be looked at why.
	Lost []*Failure
	// Epoch changes when a node comes or goes, or a role moves.
	Epoch string
	At    time.Time
}

// Look returns the nodes that sel chooses, as they are now. Looks that are asked for at the same time share one. The
// error is an *cache.Error: nothing is chosen, or nothing could be reached.
func (f *Fleet) Look(ctx context.Context, sel cache.Select) (*View, error) {
	type found struct {
		nodes []*Node
		err   error
	}
	all := make([]found, len(f.clusters))
	var wg sync.WaitGroup
	asked := 0
	for i, c := range f.clusters {
		if !sel.MayMatch("cluster", c.cfg.Name) {
			continue
		}
		asked++
		wg.Go(func() {
			nodes, err := c.look(ctx)
			all[i] = found{nodes, err}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if asked == 0 {
		return nil, cache.Errorf(cache.CodeErr, "use one of "+strings.Join(f.Clusters(), ", "), "no cluster is called as '%s' says", sel)
	}
	v := &View{At: time.Now().UTC()}
	seen := 0
	for i, r := range all {
		if r.err != nil {
			v.Lost = append(v.Lost, &Failure{Node: strings.Join(f.clusters[i].cfg.Seeds, ","), Err: r.err})
			continue
		}
		seen += len(r.nodes)
		for _, n := range r.nodes {
			if sel.Matches(n.Target) {
				v.Nodes = append(v.Nodes, n)
			}
		}
	}
	if len(v.Nodes) == 0 {
		if seen > 0 {
			return nil, cache.Errorf(cache.CodeErr, "CACHE.NODES lists what there is", "no node is as '%s' says", sel)
		}
		var why []string
		for _, l := range v.Lost {
			why = append(why, l.Error())
		}
		return nil, cache.Errorf(cache.CodeUnreachable, "check the address, the password and that the servers run", "no node can be reached: %s", strings.Join(why, "; "))
	}
	v.Epoch = epoch(v.Nodes)
	return v, nil
}

// At returns the server at an address without looking at it: who it is and in which role is not known, and that others of
// its cluster do not answer holds nobody up.
func (f *Fleet) At(name, addr string) (*Node, error) {
	i := slices.IndexFunc(f.clusters, func(x *cluster) bool { return x.cfg.Name == name })
	if i < 0 {
		return nil, cache.Errorf(cache.CodeErr, "use one of "+strings.Join(f.Clusters(), ", "), "no cluster is called %s", name)
	}
	c := f.clusters[i]
	return &Node{Target: cache.Target{Cluster: name, Addr: addr}, LagBytes: -1, pool: c.pool(addr, c.read), cluster: c}, nil
}

// epoch is a hash of who is there in which role.
func epoch(nodes []*Node) string {
	h := sha256.New()
	for _, n := range nodes {
		fmt.Fprintf(h, "%s %s %s %s %v\n", n.Cluster, n.Addr, n.Role, n.Follows, n.Slots)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// Failed are the nodes that are known and do not answer, and the clusters that could not be looked at.
func (v *View) Failed() []*Failure {
	list := slices.Clone(v.Lost)
	for _, n := range v.Nodes {
		if n.Down != "" {
			list = append(list, &Failure{Node: n.Addr, Err: errors.New(n.Down)})
		}
	}
	return list
}

// Up are the nodes that answer.
func (v *View) Up() []*Node {
	return slices.DeleteFunc(slices.Clone(v.Nodes), func(n *Node) bool { return n.Down != "" })
}
