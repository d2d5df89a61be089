package cachetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/builtin"
	"github.com/kernwave/kernwave/cache/upstream"
)

// Rig is a gateway over real servers, for tests of commands that change things. Tests of package cache, upstream and builtin that use
// cachetest stand outside of their packages: it imports those.
type Rig struct {
	*cache.Gateway
	Fleet     *upstream.Fleet
	Approvals *cache.Approvals
	// Role of whoever calls.
	Role cache.Role
}

// OpenRig returns a gateway with the built-in commands. Its seeds are addrs, HOST:PORT joined by commas; one server may take timeout for an answer.
// It may write, as whoever it reads as, and its record is in memory.
func OpenRig(addrs string, timeout time.Duration, role cache.Role) (*Rig, error) {
	none := ""
	f, err := upstream.Open(upstream.Config{Name: "main", Seeds: strings.Split(addrs, ","), WriteUser: &none, WritePassword: &none, Timeout: timeout})
	if err != nil {
		return nil, err
	}
	log := &cache.MemLog{}
	g := &cache.Gateway{Registry: cache.NewRegistry(), Users: cache.Loopback{}, Log: log, Writes: func(*cache.Command) error { return nil }}
	r := &Rig{Gateway: g, Fleet: f, Approvals: cache.NewApprovals(log, nil), Role: role}
	return r, builtin.Register(builtin.Deps{Fleet: f, Gateway: g, Approvals: r.Approvals})
}

// Put adds commands.
func (r *Rig) Put(cs []*cache.Command) error {
	for _, c := range cs {
		if err := r.Registry.Put(c); err != nil {
			return err
		}
	}
	return nil
}

// Close ends every job, then closes what the rig was given, and at last the connections.
func (r *Rig) Close(more func() error) {
	r.Jobs.Close()
	_ = more()
	r.Fleet.Close()
}

// Call carries out a call that is written as one line; words hold no blanks.
func (r *Rig) Call(ctx context.Context, user, line string) (cache.Value, error) {
	return r.Do(ctx, cache.Request{User: cache.User{Name: user, Role: r.Role}, Args: strings.Fields(line), From: "test"})
}

// Line is Call with one line as the answer, JSON or an error.
func (r *Rig) Line(ctx context.Context, user, line string) string {
	v, err := r.Call(ctx, user, line)
	if err != nil {
		return err.Error()
	}
	b, err := v.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// OK is Call that must succeed.
func (r *Rig) OK(t TB, user, line string) cache.Value {
	t.Helper()
	v, err := r.Call(context.Background(), user, line)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return v
}

// Refused is Call that must fail with a code. It returns what was said.
func (r *Rig) Refused(t TB, user, line, code string) string {
	t.Helper()
	v, err := r.Call(context.Background(), user, line)
	e, is := errors.AsType[*cache.Error](err)
	if !is || e.Code != code {
		t.Fatalf("%s: %v, %v; want %s", line, v, err, code)
		return ""
	}
	return e.Error()
}

// Serve says "up" and answers each line "USER CALL" on standard input with one on standard output, until the input ends.
func (r *Rig) Serve() error {
	fmt.Println("up")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		user, line, _ := strings.Cut(in.Text(), " ")
		fmt.Println(r.Line(context.Background(), user, line))
	}
	return in.Err()
}

// Addrs are the servers' addresses, joined by commas.
func Addrs(ss ...*Server) string {
	var list []string
	for _, s := range ss {
		list = append(list, s.Addr())
	}
	return strings.Join(list, ",")
}

// gatewayWord, as the first argument, makes a test's program a gateway.
const gatewayWord = "cachetest-gateway"

// Main is what TestMain calls where tests start gateways that they can kill: started by OpenGateway, the program runs gateway with the arguments
// given there, and no test.
func Main(tests interface{ Run() int }, gateway func(args []string) error) {
	if len(os.Args) < 2 || os.Args[1] != gatewayWord {
		os.Exit(tests.Run())
	}
	if err := gateway(os.Args[2:]); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Gateway is a gateway in a process of its own. It is spoken to by lines; what it says to what is its gateway function's.
type Gateway struct {
	// Lines are what it says. The channel is closed when the process is gone.
	Lines chan string
	cmd   *exec.Cmd
	in    *os.File
}

// OpenGateway starts one and waits until it says "up".
func OpenGateway(args ...string) (*Gateway, error) {
	g := &Gateway{Lines: make(chan string, 100), cmd: exec.Command("/proc/self/exe", append([]string{gatewayWord}, args...)...)}
	g.cmd.Stderr = os.Stderr
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }()
	g.in, g.cmd.Stdin = ours, theirs
	out, err := g.cmd.StdoutPipe()
	if err == nil {
		err = start(g.cmd)
	}
	if err != nil {
		return nil, fmt.Errorf("start a gateway: %w", err)
	}
	go func() {
		defer close(g.Lines)
		s := bufio.NewScanner(out)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			g.Lines <- s.Text()
		}
	}()
	if got := g.Hear(Patience); got != "up" {
		g.Kill()
		return nil, fmt.Errorf("the gateway says %s", got)
	}
	return g, nil
}

// StartGateway is OpenGateway that fails the test on any error.
func StartGateway(t TB, args ...string) *Gateway {
	t.Helper()
	g, err := OpenGateway(args...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return g
}

// Send says one line to it. That it is dead is not an error: it is killed in the middle of things.
func (g *Gateway) Send(line string) { _, _ = fmt.Fprintln(g.in, line) }

// Hear waits for a line. "gone": the process is dead, "nothing": it said none in time.
func (g *Gateway) Hear(within time.Duration) string {
	select {
	case l, ok := <-g.Lines:
		if ok {
			return l
		}
		return "gone"
	case <-time.After(within):
		return "nothing"
	}
}

// Ask is Send and Hear.
func (g *Gateway) Ask(line string, within time.Duration) string {
	g.Send(line)
	return g.Hear(within)
}

// Kill ends the process by SIGKILL and waits for its end. It may be called again.
func (g *Gateway) Kill() {
	_ = g.cmd.Process.Kill()
	for range g.Lines { //nolint:revive // to its end
	}
	_ = g.cmd.Wait()
	_ = g.in.Close()
}
