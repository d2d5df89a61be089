package script

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// servers are the programs that can be a throwaway server, the first that is there is taken. Each is one program that
// looks at the name it is called by: distributions that have the server in a package of its own ship it with the tools,
// too, as the program that checks files.
var servers = []string{"valkey-server", "redis-server", "valkey-check-rdb", "redis-check-rdb"}

// throwaway is a real server, started for one test of a bundle and thrown away after it.
type throwaway struct {
	fleet *upstream.Fleet
	stop  func()
}

// startThrowaway starts server (empty: one from the path) on loopback, with nothing in it and nothing kept.
func startThrowaway(ctx context.Context, server string) (*throwaway, error) {
	for _, s := range servers {
		if server == "" {
			if p, err := exec.LookPath(s); err == nil {
				server = p
			}
		}
	}
	if server == "" {
		return nil, cache.Errorf(cache.CodeUnsupported, "install valkey-tools or redis-tools on the gateway's machine, or a server, which need not run", "tests need a server to try on, and there is none on this machine")
	}
	var last error
	for range 5 { // a port that was free may be taken meanwhile
		t, err := tryThrowaway(ctx, server)
		if err == nil {
			return t, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		last = err
	}
	return nil, cache.Errorf(cache.CodeErr, "try to start it by hand on the gateway's machine", "a throwaway server could not be started: %v", last)
}

func tryThrowaway(ctx context.Context, server string) (*throwaway, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kernwave-throwaway-")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(server, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir, "--maxmemory", "64mb", "--daemonize", "no")
	cmd.Args[0] = "redis-server"
	if strings.HasPrefix(filepath.Base(server), "valkey") {
		cmd.Args[0] = "valkey-server"
	}
	cmd.SysProcAttr = childAttr()
	ended := make(chan struct{})
	started := make(chan error)
	go func() { // a thread of its own, see Runner.start
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	t := &throwaway{}
	t.stop = func() {
		if t.fleet != nil {
			t.fleet.Close()
		}
		_ = cmd.Process.Kill()
		<-ended
		_ = os.RemoveAll(dir)
	}
	none := "" // the server knows no passwords
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	t.fleet, err = upstream.Open(upstream.Config{Name: "throwaway", Seeds: []string{addr}, WriteUser: &none, WritePassword: &none})
	if err != nil {
		t.stop()
		return nil, err
	}
	end := time.Now().Add(20 * time.Second)
	for {
		if _, err = t.fleet.Look(ctx, cache.Select{}); err == nil {
			return t, nil
		}
		select {
		case <-ended:
			t.stop()
			return nil, fmt.Errorf("%s ended at once", server)
		case <-ctx.Done():
			t.stop()
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.stop()
			return nil, fmt.Errorf("%s does not answer: %w", server, err)
		}
	}
}

// Test runs the bundle's own tests, each against an empty throwaway server. The error is [Findings], or why no test could
// be run.
func (r *Runner) Test(ctx context.Context, b *Bundle, server string) error {
	t, err := startThrowaway(ctx, server)
	if err != nil {
		return err
	}
	defer t.stop()
	var found Findings
	cmd := b.command(nil)
	for _, tc := range b.Manifest.Tests {
		if err := r.test(ctx, b, cmd, t, tc); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			found = append(found, fmt.Sprintf("%s:%d: test %q: %v", manifestFile, tc.Line, tc.Name, err))
		}
	}
	if len(found) > 0 {
		return found
	}
	return nil
}

func (r *Runner) test(ctx context.Context, b *Bundle, cmd *cache.Command, t *throwaway, tc Test) error {
	v, err := t.fleet.Look(ctx, cache.Select{})
	if err != nil {
		return err
	}
	n := v.Nodes[0]
	c, err := n.DialWrite(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for _, words := range append([][]string{{"FLUSHALL"}}, tc.Setup...) {
		got, err := c.Do(ctx, words...)
		if err != nil {
			return err
		}
		if got.Kind == cache.Err {
			return fmt.Errorf("setup: %s: %s", strings.Join(words, " "), got.Str)
		}
	}
	call, err := cmd.Parse(tc.Args)
	var res *Result
	if err == nil {
		res, err = r.Run(ctx, Order{Bundle: b, Args: b.args(call), Nodes: v.Nodes, Job: "test"})
	}
	if tc.Error != "" {
		if err == nil || !strings.Contains(err.Error(), tc.Error) {
			return fmt.Errorf("ended with %v, want an error with %q", err, tc.Error)
		}
		return nil
	}
	if err != nil {
		return err
	}
	return tc.check(res)
}

// check compares what came out with what the test wants.
func (tc Test) check(res *Result) error {
	var errs []error
	if tc.Rows != nil && len(res.Rows) != *tc.Rows {
		errs = append(errs, fmt.Errorf("%d rows, want %d", len(res.Rows), *tc.Rows))
	}
	var all strings.Builder
	for _, row := range res.Rows {
		b, err := row.MarshalJSON()
		if err != nil {
			return err
		}
		all.Write(append(b, '\n'))
	}
	for _, h := range tc.Has {
		if !strings.Contains(all.String(), h) {
			errs = append(errs, fmt.Errorf("no row has %s; the rows are %s", h, clipTo(all.String(), 500)))
		}
	}
	if tc.Plan != nil {
		want := map[string]int{}
		for _, p := range tc.Plan {
			want[p]++
		}
		for _, w := range res.Writes {
			want[w.String()]--
		}
		for p, n := range want {
			switch {
			case n > 0:
				errs = append(errs, fmt.Errorf("the plan lacks %s", p))
			case n < 0:
				errs = append(errs, fmt.Errorf("the plan has %s besides", p))
			}
		}
	}
	return errors.Join(errs...)
}
