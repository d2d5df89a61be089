package drain

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
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

// gatewayWord makes this program a gateway that a test can kill: its arguments are the journal, the servers, and before which
// step it is to kill itself; 0: before none.
const gatewayWord = "drain-test-gateway"

func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == gatewayWord {
		r, err := open(os.Args[2], os.Args[3])
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		left, _ := strconv.Atoi(os.Args[4])
		r.k.step = func(string) {
			if left--; left == 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		go r.k.Run(context.Background())
		fmt.Println("up")
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			user, line, _ := strings.Cut(in.Text(), " ")
			go fmt.Println(r.line(user, line))
		}
		return
	}
	flag.Parse()
	os.Exit(m.Run())
}

// rig is a gateway over real servers.
type rig struct {
	g *cache.Gateway
	k *Keeper
	f *upstream.Fleet
}

func open(path, addrs string) (*rig, error) {
	none := ""
	f, err := upstream.Open(upstream.Config{Name: "main", Seeds: strings.Split(addrs, ","), WriteUser: &none, WritePassword: &none, Timeout: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	g := &cache.Gateway{Registry: cache.NewRegistry(), Users: cache.Loopback{}, Log: &cache.MemLog{}, Writes: func(*cache.Command) error { return nil }}
	a := cache.NewApprovals(g.Log, nil)
	if err := builtin.Register(builtin.Deps{Fleet: f, Gateway: g, Approvals: a}); err != nil {
		return nil, err
	}
	k, err := Open(path, f, a, g.Log, nil)
	if err != nil {
		return nil, err
	}
	for _, c := range Commands(k) {
		if err := g.Registry.Put(c); err != nil {
			return nil, err
		}
	}
	return &rig{g, k, f}, nil
}

func newRig(t testing.TB, ss ...*cachetest.Server) *rig {
	t.Helper()
	r, err := open(t.TempDir()+"/j", addrs(ss...))
	must(t, err)
	t.Cleanup(func() { r.g.Jobs.Close(); _ = r.k.Close(); r.f.Close() })
	return r
}

func addrs(ss ...*cachetest.Server) string {
	var list []string
	for _, s := range ss {
		list = append(list, s.Addr())
	}
	return strings.Join(list, ",")
}

func (r *rig) do(user, line string) (cache.Value, error) {
	return r.g.Do(context.Background(), cache.Request{User: cache.User{Name: user, Role: cache.Admin}, Args: strings.Fields(line), From: "test"})
}

func (r *rig) line(user, line string) string {
	v, err := r.do(user, line)
	if err != nil {
		return err.Error()
	}
	b, err := v.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// drain is CACHE.DRAIN from its dry run to its end.
func (r *rig) drain(t testing.TB, what string) (cache.Value, error) {
	t.Helper()
	v, err := r.do("ada", "CACHE.DRAIN "+what+" DRYRUN")
	if err != nil {
		return v, err
	}
	id := v.Get("approval").Str
	if _, err := r.do("bob", "CACHE.APPROVE "+id); err != nil {
		return v, err
	}
	return r.do("ada", "CACHE.DRAIN "+what+" APPROVAL "+id)
}

// gateway is a process.
type gateway struct {
	cmd   *exec.Cmd
	in    *os.File
	lines chan string
}

func startGateway(t testing.TB, path, addrs string, die int) *gateway {
	t.Helper()
	g := &gateway{cmd: exec.Command("/proc/self/exe", gatewayWord, path, addrs, strconv.Itoa(die)), lines: make(chan string, 10)}
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
		for s.Scan() {
			g.lines <- s.Text()
		}
	}()
	if got := g.hear(30 * time.Second); got != "up" {
		t.Fatalf("the gateway says %s", got)
	}
	return g
}

func (g *gateway) send(line string) { _, _ = fmt.Fprintln(g.in, line) }

// hear waits for a line; "gone": it was killed.
func (g *gateway) hear(d time.Duration) string {
	select {
	case l, ok := <-g.lines:
		if ok {
			return l
		}
		return "gone"
	case <-time.After(d):
		return "nothing"
	}
}

func (g *gateway) ask(line string) string {
	g.send(line)
	return g.hear(60 * time.Second)
}

func (g *gateway) kill() {
	_ = g.cmd.Process.Kill()
	for range g.lines { //nolint:revive // to its end
	}
	_ = g.cmd.Wait()
	_ = g.in.Close()
}
