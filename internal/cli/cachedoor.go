package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/builtin"
	"github.com/kernwave/kernwave/cache/resp"
	"github.com/kernwave/kernwave/cache/upstream"
	"github.com/kernwave/kernwave/fleet"
)

// cacheDoor is where calls are carried out.
type cacheDoor interface {
	do(ctx context.Context, words []string, progress func(cache.Value)) (cache.Value, error)
	close()
}

// cacheDoor opens the door that the flags name.
func (a *app) cacheDoor(ctx context.Context, f *cacheFlags) (cacheDoor, error) {
	gateway := f.gateway
	if gateway == "" && len(f.seeds) == 0 && f.clusters == "" {
		gateway = a.Getenv(envGateway)
	}
	switch own := len(f.seeds) > 0 || f.clusters != ""; {
	case gateway != "" && own:
		return nil, &usageError{"--gateway goes without --seed and --clusters", "a gateway knows its fleet; leave one of them out"}
	case gateway != "":
		return a.dialGateway(ctx, gateway, f.user)
	case !own:
		return nil, &usageError{"neither a gateway nor a fleet is named", "use --seed HOST:PORT of one of its nodes, or --gateway HOST:PORT"}
	}
	g, closeAll, err := openCache(f, nil)
	if err != nil {
		return nil, err
	}
	return &ownDoor{g, closeAll}, nil
}

// openCache builds a gateway over the fleet that the flags name.
func openCache(f *cacheFlags, adjust func(*cacheFile)) (*cache.Gateway, func(), error) {
	serves := adjust != nil // and so keeps what it has promised
	file := &cacheFile{}
	if f.clusters != "" {
		var err error
		if file, err = readCacheFile(f.clusters); err != nil {
			return nil, nil, err
		}
	}
	if len(f.seeds) > 0 {
		file.Clusters = append(file.Clusters, cacheCluster{Config: upstream.Config{Name: "main", Seeds: f.seeds}})
	}
	if adjust != nil {
		adjust(file)
	}
	var cfgs []upstream.Config
	for _, c := range file.Clusters {
		cfgs = append(cfgs, c.Config)
	}
	fl, err := upstream.Open(cfgs...)
	if err != nil {
		return nil, nil, &usageError{strings.ReplaceAll(err.Error(), "\n", "; "), "mend --seed or the file"}
	}
	g := &cache.Gateway{Registry: cache.NewRegistry(), Users: file.users, Log: &cache.MemLog{}}
	if g.Users == nil {
		g.Users = cache.Loopback{}
	}
	closers := []func(){g.Jobs.Close, fl.Close}
	if file.Record != "" {
		l, err := cache.OpenLog(file.Record)
		if err != nil {
			return nil, nil, &fleet.Error{Op: "open the record", Err: plainPathError(err), Next: "choose another file, or move this one away and keep it"}
		}
		g.Log = l
		closers = append(closers, func() { _ = l.Close() })
	}
	closeAll := func() {
		for _, c := range closers {
			c()
		}
	}
	approvals := cache.NewApprovals(g.Log, g.Now)
	err = builtin.Register(builtin.Deps{Fleet: fl, Gateway: g, Approvals: approvals})
	dir := ""
	if serves && file.users != nil {
		dir = file.State
		g.Writes = func(*cache.Command) error { return nil } // a cluster without a credential for writes refuses by itself
	}
	var state *cacheState
	if err == nil {
		state, err = openState(dir, g, fl, approvals)
	}
	if err != nil {
		closeAll()
		return nil, nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		state.run(ctx)
	}()
	// Calls end first, then what they work with.
	closers = append([]func(){g.Jobs.Close, func() { stop(); <-done; state.close() }}, closers[1:]...)
	return g, closeAll, nil
}

// ownDoor carries out calls in this process.
type ownDoor struct {
	g    *cache.Gateway
	stop func()
}

func (d *ownDoor) do(ctx context.Context, words []string, progress func(cache.Value)) (cache.Value, error) {
	u, ok := d.g.Users.Default()
	if !ok {
		u = cache.User{Name: "local", Role: cache.Operator}
	}
	return d.g.Do(ctx, cache.Request{User: u, Args: words, From: "cli", Progress: progress})
}

func (d *ownDoor) close() { d.stop() }

// gatewayDoor speaks to a gateway that runs, as any client does.
type gatewayDoor struct {
	nc net.Conn
	r  *resp.Reader
	w  *resp.Writer
}

func (a *app) dialGateway(ctx context.Context, addr, user string) (cacheDoor, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, &usageError{fmt.Sprintf("--gateway %s is no HOST:PORT", addr), "for example --gateway 127.0.0.1:6390"}
	}
	d := net.Dialer{Timeout: a.timeout}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, &unreachable{addr, err}
	}
	if a.conn.ca != "" { // a gateway that speaks TLS is told by its CA
		pem, err := os.ReadFile(a.conn.ca)
		if err != nil {
			return nil, errors.Join(plainPathError(err), nc.Close())
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			_ = nc.Close()
			return nil, &usageError{a.conn.ca + " holds no certificate", "name the PEM file of the CA"}
		}
		host, _, _ := net.SplitHostPort(addr)
		nc = tls.Client(nc, &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12})
	}
	g := &gatewayDoor{nc: nc, r: resp.NewReader(nc, resp.Limits{}), w: resp.NewWriter(nc, 3)}
	hello := []string{"HELLO", "3"}
	if user != "" {
		secret := a.Getenv(envToken)
		if a.conn.tokenFile != "" {
			b, err := os.ReadFile(a.conn.tokenFile)
			if err != nil {
				return nil, errors.Join(&usageError{plainPathError(err).Error(), "name the file that holds your secret with --token-file"}, nc.Close())
			}
			secret = strings.TrimSpace(string(b))
		}
		hello = append(hello, "AUTH", user, secret)
	}
	if _, err := g.do(ctx, hello, nil); err != nil {
		g.close()
		if e, ok := errors.AsType[*cache.Error](err); ok {
			return nil, e
		}
		return nil, &unreachable{addr, err}
	}
	return g, nil
}

func (g *gatewayDoor) do(ctx context.Context, words []string, progress func(cache.Value)) (cache.Value, error) {
	stop := context.AfterFunc(ctx, func() { _ = g.nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	g.w.Command(words...)
	if err := g.w.Flush(); err != nil {
		return cache.Value{}, err
	}
	for {
		v, err := g.r.Next()
		switch {
		case ctx.Err() != nil:
			return cache.Value{}, context.Cause(ctx)
		case err != nil:
			return cache.Value{}, fmt.Errorf("the gateway went away before it had answered: %w", err)
		case v.Kind == cache.Push:
			if progress != nil && len(v.Items) == 2 {
				progress(v.Items[1])
			}
		case v.Kind == cache.Err:
			code, msg, _ := strings.Cut(v.Str, " ")
			msg, next, _ := cutLast(msg, "; ")
			return cache.Value{}, &cache.Error{Code: code, Msg: msg, Next: next}
		default:
			return v, nil
		}
	}
}

func (g *gatewayDoor) close() { _ = g.nc.Close() }

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// unreachable is a gateway that gave no answer.
type unreachable struct {
	addr string
	err  error
}

func (u *unreachable) Error() string { return fmt.Sprintf("the gateway %s: %v", u.addr, u.err) }
func (u *unreachable) Unwrap() error { return u.err }

// cacheError is a gateway's error as the command line reports it.
func cacheError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Canceled
	}
	e, ok := errors.AsType[*cache.Error](err)
	if !ok {
		return err
	}
	return e
}

// cacheBar is one line on a terminal that shows how far a call has come.
type cacheBar struct {
	a  *app
	on bool
	mu sync.Mutex
}

func (a *app) newCacheBar() *cacheBar {
	return &cacheBar{a: a, on: isTerminal(a.Err) && !a.quiet && a.Getenv("TERM") != "dumb"}
}

func (b *cacheBar) show(v cache.Value) {
	if !b.on {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var parts []string
	for i := 0; i+1 < len(v.Items); i += 2 {
		if k := v.Items[i].Str; k != "job" && v.Items[i+1].Text() != "" {
			parts = append(parts, strings.ReplaceAll(k, "_", " ")+" "+v.Items[i+1].Text())
		}
	}
	width := widthOf(b.a.Err)
	fmt.Fprint(b.a.Err, "\r"+cutEnd(b.a.paletteFor(b.a.Err).faint(clean(strings.Join(parts, " · "))), width-1, b.a.glyphs())+"\x1b[K")
}

func (b *cacheBar) done() {
	if b.on {
		fmt.Fprint(b.a.Err, "\r\x1b[K")
	}
}
