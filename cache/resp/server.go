package resp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// Config is how a [Server] treats its connections. The zero value of each field means its default.
type Config struct {
	// Version is the gateway's own, for HELLO and INFO.
	Version string
	// MaxConns is how many connections may be open at once; one more is told so and closed. Default 1,000.
	MaxConns int
	// IdleTimeout closes a connection that has sent nothing for so long, subscribers apart. Default 1 h; negative: never.
	IdleTimeout time.Duration
	// WriteTimeout is how long a client may take to read 16 KiB of a reply. Default 10 s. A slower one is disconnected:
	// replies are not kept in memory for it.
	WriteTimeout time.Duration
	// ReadAhead is how many bytes a client may send while its command runs; more wait in the kernel. Default 1 MiB. A
	// client that leaves when it has sent more than both hold is missed until its command ends: its farewell is behind
	// what nobody reads.
	ReadAhead int
	// Limits of requests.
	Limits Limits
	// TLS makes every listener speak TLS. Nil: plain.
	TLS *tls.Config
	// Now is the clock; nil means the real one.
	Now func() time.Time
}

func (c *Config) validate() error {
	if c.MaxConns == 0 {
		c.MaxConns = 1000
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Hour
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 10 * time.Second
	}
	if c.ReadAhead == 0 {
		c.ReadAhead = 1 << 20
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	var errs []error
	if c.MaxConns < 0 {
		errs = append(errs, fmt.Errorf("max_conns: %d is negative", c.MaxConns))
	}
	if c.WriteTimeout < 0 {
		errs = append(errs, fmt.Errorf("write_timeout: %v is negative", c.WriteTimeout))
	}
	if c.ReadAhead < 0 {
		errs = append(errs, fmt.Errorf("read_ahead: %d is negative", c.ReadAhead))
	}
	if c.TLS != nil && len(c.TLS.Certificates) == 0 && c.TLS.GetCertificate == nil && c.TLS.GetConfigForClient == nil {
		errs = append(errs, errors.New("tls: no certificate"))
	}
	return errors.Join(errs...)
}

// Server answers connections with the commands of a gateway. It is safe for concurrent use.
type Server struct {
	cfg   Config
	gw    *cache.Gateway
	log   *slog.Logger
	began time.Time

	ids    atomic.Int64
	served atomic.Int64 // commands
	turned atomic.Int64 // connections turned away

	mu    sync.Mutex
	conns map[int64]*conn
}

// NewServer checks cfg; a connection calls what gw has registered at that moment.
func NewServer(cfg Config, gw *cache.Gateway, log *slog.Logger) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if gw == nil || gw.Registry == nil || gw.Users == nil {
		return nil, errors.New("a gateway needs a registry and users")
	}
	return &Server{cfg: cfg, gw: gw, log: log, began: cfg.Now(), conns: map[int64]*conn{}}, nil
}

// Serve accepts connections from ln, which it closes, until ctx ends; then it cancels what runs, closes the connections
// and waits for them. It returns nil after ctx ended, and otherwise why no more connections can be accepted. It may be
// called for several listeners.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	var pause time.Duration
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			var ne net.Error
			if errors.As(err, &ne) && ne.Temporary() { //nolint:staticcheck // out of file descriptors: it passes
				pause = min(max(2*pause, 5*time.Millisecond), time.Second)
				s.log.WarnContext(ctx, "cannot accept a connection, will retry", "err", err, "retry_in", pause)
				select {
				case <-time.After(pause):
				case <-ctx.Done():
				}
				continue
			}
			cancel(errStopped)
			return fmt.Errorf("accept connections on %v: %w", ln.Addr(), err)
		}
		pause = 0
		wg.Go(func() { s.serveConn(ctx, nc) })
	}
}

var (
	errStopped = errors.New("the gateway is being stopped")
	errGone    = errors.New("the client is gone")
	errKilled  = errors.New("the connection was killed")
)

// serveConn takes nc through its life.
func (s *Server) serveConn(ctx context.Context, nc net.Conn) {
	defer func() { _ = nc.Close() }()
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetKeepAlive(true)
		_ = tc.SetKeepAlivePeriod(30 * time.Second) // a client whose machine died is found within minutes
	}
	raw := nc
	if s.cfg.TLS != nil {
		t := tls.Server(nc, s.cfg.TLS)
		hctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := t.HandshakeContext(hctx)
		cancel()
		if err != nil {
			s.log.DebugContext(ctx, "no TLS connection came about", "peer", nc.RemoteAddr().String(), "err", err)
			return
		}
		nc = t
	}
	c := newConn(s, nc, raw)
	if !s.add(c) {
		s.turned.Add(1)
		_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = nc.Write([]byte("-ERR max number of clients reached; close connections, or raise max_conns of the gateway\r\n"))
		return
	}
	defer s.drop(c)
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	c.serve(ctx)
}

func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.cfg.MaxConns {
		return false
	}
	s.conns[c.id] = c
	return true
}

func (s *Server) drop(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c.id)
}

// open returns the connections that are open, by id.
func (s *Server) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for _, c := range s.conns {
		list = append(list, c)
	}
	return list
}
