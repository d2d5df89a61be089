package bulk

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/builtin"
	"github.com/kernwave/kernwave/cache/cachetest"
	"github.com/kernwave/kernwave/cache/upstream"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// gatewayWord makes this program a gateway that a test can kill: its arguments are the folder and the servers.
const gatewayWord = "bulk-test-gateway"

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == gatewayWord {
		r, err := open(os.Args[2], os.Args[3])
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("up")
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			user, line, _ := strings.Cut(in.Text(), " ")
			fmt.Println(r.line(context.Background(), user, line))
		}
		return
	}
	flag.Parse()
	os.Exit(m.Run())
}

// rig is a gateway over real servers.
type rig struct {
	g *cache.Gateway
	m *Manager
	f *upstream.Fleet
}

func open(dir, addrs string) (*rig, error) {
	none := ""
	f, err := upstream.Open(upstream.Config{Name: "main", Seeds: strings.Split(addrs, ","), WriteUser: &none, WritePassword: &none, Timeout: 20 * time.Second})
	if err != nil {
		return nil, err
	}
	g := &cache.Gateway{Registry: cache.NewRegistry(), Users: cache.Loopback{}, Log: &cache.MemLog{}, Writes: func(*cache.Command) error { return nil }}
	a := cache.NewApprovals(g.Log, nil)
	if err := builtin.Register(builtin.Deps{Fleet: f, Gateway: g, Approvals: a}); err != nil {
		return nil, err
	}
	m, err := Open(dir, f, a, g.Log, nil)
	if err != nil {
		return nil, err
	}
	for _, c := range Commands(m) {
		if err := g.Registry.Put(c); err != nil {
			return nil, err
		}
	}
	return &rig{g, m, f}, nil
}

func newRig(t testing.TB, ss ...*cachetest.Server) *rig {
	t.Helper()
	r, err := open(t.TempDir(), addrs(ss...))
	must(t, err)
	t.Cleanup(func() { r.g.Jobs.Close(); _ = r.m.Close(); r.f.Close() })
	return r
}

func addrs(ss ...*cachetest.Server) string {
	var list []string
	for _, s := range ss {
		list = append(list, s.Addr())
	}
	return strings.Join(list, ",")
}

func (r *rig) do(ctx context.Context, user, line string) (cache.Value, error) {
	return r.g.Do(ctx, cache.Request{User: cache.User{Name: user, Role: cache.Operator}, Args: strings.Fields(line), From: "test"})
}

// line is do with one line as the answer.
func (r *rig) line(ctx context.Context, user, line string) string {
	v, err := r.do(ctx, user, line)
	if err != nil {
		return err.Error()
	}
	b, err := v.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (r *rig) ok(t testing.TB, user, line string) cache.Value {
	t.Helper()
	v, err := r.do(t.Context(), user, line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return v
}

func (r *rig) refused(t testing.TB, user, line, code string) string {
	t.Helper()
	v, err := r.do(t.Context(), user, line)
	e, is := errors.AsType[*cache.Error](err)
	if !is || e.Code != code {
		t.Fatalf("%s: %v, %v; want %s", line, v, err, code)
	}
	return e.Error()
}

// approved makes a dry run of a call as ada, lets bob approve it, and returns the id and the count.
func (r *rig) approved(t testing.TB, line string) (id string, keys int64) {
	t.Helper()
	v := r.ok(t, "ada", line+" DRYRUN")
	id = v.Get("plan").Get("id").Str
	r.ok(t, "bob", "CACHE.APPROVE "+id)
	return id, v.Get("keys").Int
}

// carried is a call from its dry run to its end.
func (r *rig) carried(t testing.TB, line string) cache.Value {
	t.Helper()
	id, _ := r.approved(t, line)
	return r.ok(t, "ada", line+" APPROVAL "+id)
}

// gateway is a process.
type gateway struct {
	cmd   *exec.Cmd
	in    *os.File
	lines chan string
}

func startGateway(t testing.TB, dir, addrs string) *gateway {
	t.Helper()
	g := &gateway{cmd: exec.Command("/proc/self/exe", gatewayWord, dir, addrs), lines: make(chan string, 10)}
	r, w, err := os.Pipe()
	must(t, err)
	g.in, g.cmd.Stdin = w, r
	out, err := g.cmd.StdoutPipe()
	must(t, err)
	must(t, g.cmd.Start())
	_ = r.Close()
	go func() {
		defer close(g.lines)
		s := bufio.NewScanner(out)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			g.lines <- s.Text()
		}
	}()
	if got := g.hear(t); got != "up" {
		t.Fatalf("the gateway says %s", got)
	}
	return g
}

func (g *gateway) send(t testing.TB, user, line string) {
	t.Helper()
	if _, err := fmt.Fprintf(g.in, "%s %s\n", user, line); err != nil {
		t.Log(err)
	}
}

func (g *gateway) hear(t testing.TB) string {
	t.Helper()
	select {
	case l, ok := <-g.lines:
		if ok {
			return l
		}
		return "gone"
	case <-time.After(30 * time.Minute):
		t.Fatal("the gateway says nothing")
		return ""
	}
}

func (g *gateway) ask(t testing.TB, user, line string) string {
	t.Helper()
	g.send(t, user, line)
	return g.hear(t)
}

func (g *gateway) kill() {
	_ = g.cmd.Process.Kill()
	for range g.lines { //nolint:revive // to its end
	}
	_ = g.cmd.Wait()
	_ = g.in.Close()
}
