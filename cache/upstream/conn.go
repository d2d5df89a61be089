package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/resp"
)

// Conn is one connection to one node. What is in flight on it is what its owner sent, and no more: it is not shared.
// It is not safe for concurrent use, but for Close.
type Conn struct {
	nc net.Conn
	r  *resp.Reader
	w  *resp.Writer
	// broken is set when an answer was given up: what comes next belongs to someone else's question.
	broken   bool
	readonly bool // READONLY was said: of pooled connections to nodes of a cluster
}

// credential is who the gateway is in a node's eyes.
type credential struct{ user, password string }

// dial connects and logs in. ctx bounds all of it.
func dial(ctx context.Context, addr string, tc *tls.Config, who credential) (*Conn, error) {
	d := net.Dialer{}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, reason(ctx, err)
	}
	if tc != nil {
		if tc.ServerName == "" {
			tc = tc.Clone()
			tc.ServerName, _, _ = net.SplitHostPort(addr)
		}
		t := tls.Client(nc, tc)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(reason(ctx, err), nc.Close())
		}
		nc = t
	}
	c := &Conn{nc: nc, r: resp.NewReader(nc, resp.Limits{}), w: resp.NewWriter(nc, 2)}
	if who.password != "" {
		args := []string{"AUTH", who.user, who.password}
		if who.user == "" {
			args = []string{"AUTH", who.password}
		}
		v, err := c.Do(ctx, args...)
		if err == nil && v.Kind == cache.Err {
			err = fmt.Errorf("log in as %s: %s", orDefault(who.user), v.Str)
		}
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

func orDefault(user string) string {
	if user == "" {
		return "default"
	}
	return user
}

// Do sends one command and waits for its answer. An error of Redis is a value of kind Err. When ctx ends first, the
// connection is closed, which is how a node learns that nobody waits.
func (c *Conn) Do(ctx context.Context, args ...string) (cache.Value, error) {
	c.w.Command(args...)
	vs, err := c.read(ctx, 1)
	if err != nil {
		return cache.Value{}, err
	}
	return vs[0], nil
}

// Pipe sends commands in one go and returns their answers in order.
func (c *Conn) Pipe(ctx context.Context, cmds ...[]string) ([]cache.Value, error) {
	for _, args := range cmds {
		c.w.Command(args...)
	}
	return c.read(ctx, len(cmds))
}

// Queue writes a command that Read will wait for: for pages where the next question goes out with the last answers'.
func (c *Conn) Queue(args ...string) { c.w.Command(args...) }

// Send sends what is queued, and waits for nothing.
func (c *Conn) Send() error {
	err := c.w.Flush()
	if err != nil {
		c.fail()
	}
	return err
}

// Read sends what is queued and waits for n answers.
func (c *Conn) Read(ctx context.Context, n int) ([]cache.Value, error) { return c.read(ctx, n) }

func (c *Conn) read(ctx context.Context, n int) ([]cache.Value, error) {
	if err := ctx.Err(); err != nil {
		c.fail()
		return nil, context.Cause(ctx)
	}
	stop := c.watch(ctx)
	defer stop()
	if err := c.w.Flush(); err != nil {
		c.fail()
		return nil, reason(ctx, err)
	}
	vs := make([]cache.Value, 0, n)
	for len(vs) < n {
		v, err := c.r.Next()
		if err != nil {
			c.fail()
			return nil, reason(ctx, err)
		}
		vs = append(vs, v)
	}
	return vs, nil
}

// watch makes reads and writes end with ctx.
func (c *Conn) watch(ctx context.Context) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	off := context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(1, 0)) })
	return func() {
		if !off() { // it ran, or runs: this connection is of no more use
			c.fail()
		}
	}
}

// Next waits for one answer that nothing asked for, such as a line of MONITOR.
func (c *Conn) Next(ctx context.Context) (cache.Value, error) {
	vs, err := c.read(ctx, 1)
	if err != nil {
		return cache.Value{}, err
	}
	return vs[0], nil
}

// Buffered says how many bytes have come that nobody has read.
func (c *Conn) Buffered() int { return c.r.Buffered() }

// fail gives the connection up. A reset instead of a farewell: the node learns at once, and no port of ours is kept
// waiting for it, of which a hundred thousand cancelled calls would need more than there are.
func (c *Conn) fail() {
	c.broken = true
	nc := c.nc
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	if t, ok := nc.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
		_ = t.Close()
	}
	_ = c.nc.Close()
}

// Close closes the connection.
func (c *Conn) Close() error {
	err := c.nc.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// reason says why something on the network ended: the caller's wish comes before what it looked like on the socket.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}

// Refused says whether v is an error of Redis that begins with code, such as NOPERM.
func Refused(v cache.Value, code string) bool {
	return v.Kind == cache.Err && strings.HasPrefix(v.Str, code)
}
