package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// Role of a node.
const (
	Primary = "primary"
	Replica = "replica"
)

// Node is one server of a fleet as it was when it was last looked at. What it holds does not change; a later look makes
// new nodes, which share the connections of the old ones.
type Node struct {
	cache.Target
	ID       string // run id, or the id in its cluster
	Follows  string // a replica's primary, HOST:PORT
	Shard    string // the name of its shard: the primary's address
	Slots    [][2]int
	Mode     string // standalone, sentinel, cluster
	LinkUp   bool   // a replica's link to its primary
	Offset   int64  // in the replication stream
	LagBytes int64  // a replica's, against its primary's offset at about the same time; -1: unknown
	Version  string // what the server says
	Flavour  string // redis, valkey
	Loading  bool
	Down     string // why it could not be looked at; empty: it could

	pool    *pool
	cluster *cluster
}

// String is its address.
func (n *Node) String() string { return n.Addr }

// Do sends one command on a connection of the node's pool. An error of Redis is an error here: [*Failure].
func (n *Node) Do(ctx context.Context, args ...string) (cache.Value, error) {
	vs, err := n.Pipe(ctx, args)
	if err != nil {
		return cache.Value{}, err
	}
	if vs[0].Kind == cache.Err {
		return cache.Value{}, &Failure{Node: n.Addr, Err: errors.New(vs[0].Str)}
	}
	return vs[0], nil
}

// Pipe sends commands in one go. Errors of Redis are values.
func (n *Node) Pipe(ctx context.Context, cmds ...[]string) ([]cache.Value, error) {
	c, err := n.pool.get(ctx)
	if err != nil {
		return nil, &Failure{Node: n.Addr, Err: err}
	}
	if n.Mode == "cluster" && !c.readonly { // else a replica sends every question about a key to its primary
		c.readonly = true
		_, err = c.Pipe(ctx, []string{"READONLY"})
	}
	var vs []cache.Value
	if err == nil {
		vs, err = c.Pipe(ctx, cmds...)
	}
	n.pool.put(c)
	if err != nil {
		return nil, &Failure{Node: n.Addr, Err: err}
	}
	return vs, nil
}

// Dial opens a connection of its own, for scans, canaries and MONITOR. Reading leaves no trace in the node's LRU and LFU
// where the server can promise that, and the connection is not evicted for its buffers. The caller closes it.
func (n *Node) Dial(ctx context.Context) (*Conn, error) { return n.dial(ctx, n.cluster.read) }

// DialWrite is Dial with the credential for writes. It fails where none is configured.
func (n *Node) DialWrite(ctx context.Context) (*Conn, error) {
	if n.cluster.write == nil {
		return nil, &Failure{Node: n.Addr, Err: errors.New("no credential for writes is configured for cluster " + n.Cluster)}
	}
	return n.dial(ctx, *n.cluster.write)
}

func (n *Node) dial(ctx context.Context, who credential) (*Conn, error) {
	c, err := dial(ctx, n.Addr, n.cluster.cfg.TLS, who)
	if err != nil {
		return nil, &Failure{Node: n.Addr, Err: err}
	}
	cmds := [][]string{
		{"CLIENT", "SETNAME", "kernwave-cache"},
		{"CLIENT", "NO-EVICT", "on"}, // 7.0; may be refused
		{"CLIENT", "NO-TOUCH", "on"}, // 7.2; may be refused
	}
	if n.Mode == "cluster" {
		cmds = append(cmds, []string{"READONLY"})
	}
	if _, err := c.Pipe(ctx, cmds...); err != nil {
		return nil, errors.Join(&Failure{Node: n.Addr, Err: err}, c.Close())
	}
	return c, nil
}

// Failure is why one node gave no answer.
type Failure struct {
	Node string
	Err  error
}

func (f *Failure) Error() string { return fmt.Sprintf("%s: %v", f.Node, f.Err) }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

// pool keeps a few idle connections to one address.
type pool struct {
	dial func(ctx context.Context) (*Conn, error)

	mu     sync.Mutex
	idle   []idleConn
	closed bool
}

type idleConn struct {
	c     *Conn
	since time.Time
}

const (
	maxIdle = 2                // connections that wait for the next question, per node
	idleFor = 30 * time.Second // servers and firewalls close what is silent for long; ask before they do
)

func (p *pool) get(ctx context.Context) (*Conn, error) {
	p.mu.Lock()
	for len(p.idle) > 0 {
		last := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if time.Since(last.since) < idleFor && last.c.alive() {
			p.mu.Unlock()
			return last.c, nil
		}
		_ = last.c.Close()
	}
	p.mu.Unlock()
	return p.dial(ctx)
}

func (p *pool) put(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.broken || p.closed || len(p.idle) >= maxIdle {
		_ = c.Close()
		return
	}
	p.idle = append(p.idle, idleConn{c, time.Now()})
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, i := range p.idle {
		_ = i.c.Close()
	}
	p.idle = nil
}
