package resp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// conn is one connection. One goroutine reads its requests and answers them in order; while a gateway's command runs,
// a second one watches for the client's leaving.
type conn struct {
	srv  *Server
	nc   net.Conn
	raw  net.Conn // nc, below TLS
	id   int64
	born time.Time
	from string // for the record: "resp 127.0.0.1:5001"

	q *Requests

	wmu   sync.Mutex // held while a reply or a push is written
	w     *Writer
	reply replyMode
	out   chan cache.Value // pushes that wait for their turn; nil until the first
	outWG sync.WaitGroup

	mu    sync.Mutex // what other connections may look at
	state state

	closing bool
	fails   int // logins that failed
	killed  atomic.Bool
}

// state is what CLIENT LIST shows of a connection.
type state struct {
	user     cache.User
	known    bool // user may call
	name     string
	lib      string
	libVer   string
	proto    int
	cmd      string
	active   time.Time
	channels map[string]bool // subscribed to
}

// replyMode is what CLIENT REPLY has chosen.
type replyMode int

const (
	replyOn replyMode = iota
	replyOff
	replySkip     // this command's reply
	replySkipNext // the next command's
)

func newConn(s *Server, nc, raw net.Conn) *conn {
	now := s.cfg.Now()
	c := &conn{srv: s, nc: nc, raw: raw, id: s.ids.Add(1), born: now, from: "resp " + nc.RemoteAddr().String()}
	c.q = NewRequests(nc, s.cfg.Limits)
	c.w = NewWriter(deadlined{c}, 2)
	c.state = state{proto: 2, active: now, channels: map[string]bool{}}
	c.state.user, c.state.known = s.gw.Users.Default()
	if !c.state.known {
		c.q.SetLimits(stranger)
	}
	return c
}

// deadlined writes to a connection within the time that a client has for it.
type deadlined struct{ c *conn }

func (d deadlined) Write(p []byte) (int, error) {
	if err := d.c.nc.SetWriteDeadline(time.Now().Add(d.c.srv.cfg.WriteTimeout)); err != nil {
		return 0, err
	}
	return d.c.nc.Write(p)
}

func (c *conn) close() { _ = c.nc.Close() }

// serve answers requests until the client leaves.
func (c *conn) serve(ctx context.Context) {
	defer c.endPushes()
	for !c.closing {
		if c.q.Buffered() == 0 || !c.q.Ready() {
			if err := c.flush(); err != nil {
				c.gone(ctx, err)
				return
			}
			c.idle()
		}
		args, err := c.q.Next()
		if err != nil {
			c.gone(ctx, err)
			return
		}
		c.srv.served.Add(1)
		c.one(ctx, args)
	}
	_ = c.flush()
}

// gone says why a connection ended, where the client can still hear it.
func (c *conn) gone(ctx context.Context, err error) {
	switch {
	case errors.Is(err, ErrProtocol):
		c.wmu.Lock()
		c.w.Error("ERR " + strings.ToUpper(err.Error()[:1]) + err.Error()[1:])
		_ = c.w.Flush()
		c.wmu.Unlock()
		c.srv.log.DebugContext(ctx, "a client does not speak the protocol", "peer", c.from, "err", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.srv.log.DebugContext(ctx, "a client was too slow or idle", "peer", c.from, "err", err)
	}
}

// idle sets how long the next request may take to come.
func (c *conn) idle() {
	var at time.Time
	if d := c.srv.cfg.IdleTimeout; d > 0 && len(c.state.channels) == 0 {
		at = time.Now().Add(d)
	}
	_ = c.nc.SetReadDeadline(at)
}

func (c *conn) flush() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.w.Flush()
}

// one answers one request.
func (c *conn) one(ctx context.Context, args [][]byte) {
	var name [32]byte
	upper := name[:0]
	if len(args[0]) <= len(name) {
		upper = append(upper, args[0]...)
		for i, b := range upper {
			if 'a' <= b && b <= 'z' {
				upper[i] = b - 'a' + 'A'
			}
		}
	}
	own, ok := ownCommands[string(upper)]
	c.mu.Lock()
	c.state.active = c.srv.cfg.Now()
	if ok {
		c.state.cmd = own.lower
	} else {
		c.state.cmd = strings.ToLower(clip(string(args[0])))
	}
	known, subscribed := c.state.known, len(c.state.channels) > 0 && c.state.proto == 2
	c.mu.Unlock()

	c.wmu.Lock()
	c.muteFor()
	refused := true
	switch {
	case !known && !(ok && own.stranger):
		c.w.Error("NOAUTH Authentication required; AUTH USER SECRET first")
	case subscribed && !(ok && own.subscribed):
		c.w.Errorf("ERR Can't execute '%s': only SUBSCRIBE / UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context; use RESP3 (HELLO 3), or another connection", c.state.cmd)
	default:
		refused = false
	}
	if refused {
		c.unmute()
		c.wmu.Unlock()
		return
	}
	if ok {
		if n := len(args); n < own.min || own.max > 0 && n > own.max {
			c.w.Errorf("ERR wrong number of arguments for '%s' command", own.lower)
		} else {
			own.run(ctx, c, args)
		}
		c.unmute()
		c.wmu.Unlock()
		return
	}
	c.wmu.Unlock()
	v := c.call(ctx, args)
	c.wmu.Lock()
	c.w.Value(v)
	c.unmute()
	c.wmu.Unlock()
}

// muteFor obeys CLIENT REPLY. wmu is held.
func (c *conn) muteFor() {
	if c.reply == replySkipNext {
		c.reply = replySkip
	}
	c.w.mute = c.reply != replyOn
}

func (c *conn) unmute() {
	if c.reply == replySkip {
		c.reply = replyOn
	}
	c.w.mute = c.reply == replyOff
}

// call hands a request to the gateway. The client's leaving cancels it.
func (c *conn) call(ctx context.Context, args [][]byte) (v cache.Value) {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = string(a)
	}
	if why := notHere[strings.ToUpper(words[0])]; why != "" {
		return cache.ErrorValue(cache.Errorf(cache.CodeErr, why, "%s is not a command of this gateway", strings.ToUpper(words[0])))
	}
	if err := c.flush(); err != nil { // earlier replies of the pipeline must not wait for this one
		return cache.Value{}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	_ = c.nc.SetReadDeadline(time.Time{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watch(ctx, cancel)
	}()
	defer func() {
		if p := recover(); p != nil {
			c.srv.log.ErrorContext(ctx, "a command panicked", "command", clip(words[0]), "panic", fmt.Sprint(p), "stack", string(debug.Stack()), "next", "report it: this is a bug of the command")
			v = cache.ErrorValue(cache.Errorf(cache.CodeErr, "the gateway's log has the details; report it", "%s failed in a way it should not", clip(words[0])))
		}
		cancel(nil)
		_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // ends the watcher's read
		<-watched
		if errors.Is(c.q.err, os.ErrDeadlineExceeded) {
			c.q.forget()
		}
	}()
	v, err := c.srv.gw.Do(ctx, cache.Request{User: c.state.user, Args: words, From: c.from, Progress: c.progress()})
	if err != nil {
		return cache.ErrorValue(err)
	}
	return v
}

// watch reads ahead until ctx ends, and cancels when the client leaves.
func (c *conn) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	for ctx.Err() == nil {
		err := c.q.Fill(c.srv.cfg.ReadAhead)
		switch {
		case err == nil:
		case errors.Is(err, errFull): // there is no reading on; ask the kernel instead
			for ctx.Err() == nil && !hungUp(c.raw) {
				select {
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
			if ctx.Err() == nil {
				cancel(errGone)
			}
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() != nil {
				return
			}
			return // the deadline is set for nothing else here
		default:
			if c.killed.Load() {
				err = errKilled
			} else {
				err = errGone
			}
			cancel(err)
			return
		}
	}
}

// clip keeps what a client wrote short and printable.
func clip(s string) string {
	if len(s) > 60 {
		s = s[:60]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

func equalFold(b []byte, s string) bool { return bytes.EqualFold(b, []byte(s)) }
