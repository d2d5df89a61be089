package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/resp"
	"github.com/kernwave/kernwave/cache/upstream"
)

// session answers one child's questions.
type session struct {
	runner  *Runner
	order   Order
	child   *process
	began   time.Time
	result  Result
	node    int // that the heavy lock is held for; valid while unlock is set
	unlock  func()
	debt    time.Duration // of idle time that is owed to nodes
	refused map[string]bool
}

// serve sends the order and answers until the program is done. errChildEnded: the child ended without a word.
func (s *session) serve(ctx context.Context) error {
	m := &s.order.Bundle.Manifest
	w := resp.NewWriter(s.child.in, 3)
	nodes := cache.List()
	for _, n := range s.order.Nodes {
		nodes.Items = append(nodes.Items, cache.Dict("addr", cache.String(n.Addr), "cluster", cache.String(n.Cluster), "host", cache.String(n.Host),
			"service", cache.String(n.Service), "role", cache.String(n.Role), "shard", cache.String(n.Shard), "version", cache.String(n.Version)))
	}
	w.Value(cache.Dict("program", cache.String(string(s.order.Bundle.ProgramText)), "args", s.order.Args, "nodes", nodes,
		"steps", cache.Number(m.Budgets.Steps), "memory", cache.Number(m.Budgets.Memory), "wall_ms", cache.Number(m.Budgets.Wall.Milliseconds()), "deadline_ns", cache.Number(clockNS()+int64(time.Until(s.began.Add(m.Budgets.Wall)))), "check", cache.Truth(s.order.check)))
	if w.Flush() != nil {
		return errChildEnded
	}
	q := resp.NewRequests(s.child.out, resp.Limits{Args: 64 << 10, Bulk: 1 << 20, Request: 8 << 20})
	for {
		args, err := q.Next()
		switch {
		case errors.Is(err, resp.ErrProtocol):
			return budgetError("output", "1mb for one row", "one was larger")
		case err != nil:
			return errChildEnded
		}
		words := make([]string, len(args))
		for i, a := range args {
			words[i] = string(a)
		}
		answer, done, err := s.one(ctx, words)
		if err != nil || done {
			return err
		}
		if answer != nil {
			w.Value(*answer)
			if w.Flush() != nil {
				return errChildEnded
			}
		}
	}
}

// one handles one message. Errors end the run; errors that the program should see are answers.
func (s *session) one(ctx context.Context, words []string) (answer *cache.Value, done bool, err error) {
	m := &s.order.Bundle.Manifest
	for _, w := range words {
		if words[0] == "ROW" || words[0] == "PLAN" || words[0] == "PROGRESS" {
			s.result.Used.Output += int64(len(w)) + 8
		}
	}
	if s.result.Used.Output > m.Budgets.Output {
		return nil, false, budgetError("output", fmt.Sprintf("%d bytes", m.Budgets.Output), "its rows and plan were larger")
	}
	broken := cache.Errorf(cache.CodeErr, "report it", "the program's process sent what it should not: %q", clip(strings.Join(words, " ")))
	switch {
	case words[0] == "DONE":
		return nil, true, nil
	case words[0] == "FAIL" && len(words) == 2:
		return nil, true, s.failed(words[1])
	case words[0] == "ROW" && len(words) == 2:
		v, err := resp.NewReader(strings.NewReader(words[1]), resp.Limits{}).Next()
		if err != nil {
			return nil, false, broken
		}
		s.result.Rows = append(s.result.Rows, v)
		return nil, false, nil
	case words[0] == "PROGRESS" && len(words) == 2:
		if s.order.Progress != nil {
			s.order.Progress(clip(words[1]))
		}
		return nil, false, nil
	case words[0] == "PLAN" && len(words) == 5:
		return nil, false, s.plan(words)
	case words[0] == "SCAN" && len(words) == 4:
		v, err := s.ask(ctx, words[1], [][]string{{"SCAN", words[2], "MATCH", words[3], "COUNT", strconv.Itoa(pageSize)}})
		if err != nil {
			return nil, false, err
		}
		page := v.Items[0]
		if page.Kind == cache.Array && len(page.Items) == 2 {
			s.result.Used.Keys += int64(len(page.Items[1].Items))
		} else {
			page = cache.Value{Kind: cache.Err, Str: "scan: " + page.Text()}
		}
		return &page, false, nil
	case words[0] == "READ" && len(words) > 3:
		cmds, ok := unpack(words[2:])
		if !ok {
			return nil, false, broken
		}
		v, err := s.ask(ctx, words[1], cmds)
		return &v, false, err
	}
	return nil, false, broken
}

// unpack reads a count, and so many commands, each with its own count.
func unpack(words []string) ([][]string, bool) {
	n, err := strconv.Atoi(words[0])
	if err != nil || n < 1 || n > maxPipe {
		return nil, false
	}
	words = words[1:]
	var cmds [][]string
	for range n {
		if len(words) == 0 {
			return nil, false
		}
		k, err := strconv.Atoi(words[0])
		if err != nil || k < 1 || k > len(words)-1 {
			return nil, false
		}
		cmds = append(cmds, words[1:1+k])
		words = words[1+k:]
	}
	return cmds, len(words) == 0
}

// allows says whether the manifest lists the command: by its first word, or the first two.
func allows(m *Manifest, words []string) bool {
	one := strings.ToUpper(words[0])
	if slices.Contains(m.Commands, one) && slices.Contains(readable, one) {
		return true
	}
	if len(words) < 2 {
		return false
	}
	two := one + " " + strings.ToUpper(words[1])
	return slices.Contains(m.Commands, two) && slices.Contains(readable, two)
}

// ask sends commands to a node, within the budgets and no faster than the node may be kept busy.
func (s *session) ask(ctx context.Context, index string, cmds [][]string) (cache.Value, error) {
	m := &s.order.Bundle.Manifest
	i, err := strconv.Atoi(index)
	if err != nil || i < 0 || i >= len(s.order.Nodes) {
		return cache.Value{}, cache.Errorf(cache.CodeErr, "report it", "the program asked a node that it was not given")
	}
	for _, c := range cmds {
		if !allows(m, c) {
			return cache.Value{}, cache.Errorf(cache.CodeNoPerm, "add it to commands in the manifest, if programs may use it", "the program may not send %s", clip(strings.ToUpper(c[0])))
		}
	}
	if s.result.Used.Commands += int64(len(cmds)); s.result.Used.Commands > m.Budgets.Commands {
		return cache.Value{}, budgetError("commands", strconv.FormatInt(m.Budgets.Commands, 10), "it wanted to send more")
	}
	n := s.order.Nodes[i]
	if m.Class != cache.Read {
		if s.unlock == nil || s.node != i { // one machine and shard at a time, and nobody else's heavy job beside it
			s.release()
			if s.unlock, err = s.runner.heavy.Take(ctx, n, s.order.Job, nil); err != nil {
				return cache.Value{}, err
			}
			s.node = i
		}
		if s.debt > 2*time.Millisecond { // shorter sleeps take longer than they say
			began := time.Now()
			select {
			case <-time.After(s.debt):
			case <-ctx.Done():
				return cache.Value{}, context.Cause(ctx)
			}
			s.debt -= time.Since(began)
		}
	}
	began := time.Now()
	one, cancel := context.WithTimeout(ctx, upstream.DefaultTimeout)
	vs, err := n.Pipe(one, cmds...)
	cancel()
	if err != nil {
		if ctx.Err() == nil { // that node is not there: the program sees None or nothing, the reply says so
			s.lost(n.Addr, err)
			return cache.Value{Kind: cache.Err, Str: err.Error()}, nil
		}
		return cache.Value{}, err
	}
	s.debt += time.Duration(float64(time.Since(began)) * (1/m.Budgets.Busy - 1))
	return cache.List(vs...), nil
}

func (s *session) lost(addr string, err error) {
	if s.refused == nil {
		s.refused = map[string]bool{}
	}
	if !s.refused[addr] {
		s.refused[addr] = true
		s.result.Failed = append(s.result.Failed, err.Error())
	}
}

func (s *session) release() {
	if s.unlock != nil {
		s.unlock()
		s.unlock = nil
	}
}

func (s *session) plan(words []string) error {
	m := &s.order.Bundle.Manifest
	op := words[1]
	i, err := strconv.Atoi(words[2])
	seconds, serr := strconv.ParseInt(words[4], 10, 64)
	switch {
	case err != nil || serr != nil || i < 0 || i >= len(s.order.Nodes):
		return cache.Errorf(cache.CodeErr, "report it", "the program planned a write on a node that it was not given")
	case !slices.Contains(m.Writes, op) || !slices.Contains(writable, op):
		return cache.Errorf(cache.CodeNoPerm, "add it to writes in the manifest, and make the class write", "the program may not plan %s", clip(op))
	case int64(len(s.result.Writes)) >= m.Budgets.Writes:
		return budgetError("writes", strconv.FormatInt(m.Budgets.Writes, 10), "its plan was longer")
	}
	n := s.order.Nodes[i]
	primary := n.Addr
	if n.Role == upstream.Replica {
		primary = n.Shard
	}
	s.result.Writes = append(s.result.Writes, Write{Op: op, Cluster: n.Cluster, Node: primary, Key: words[3], Seconds: seconds})
	return nil
}

// failed is what the program said of its failure.
func (s *session) failed(text string) error {
	if strings.Contains(text, "BUDGET steps") {
		return budgetError("steps", strconv.FormatInt(s.order.Bundle.Manifest.Budgets.Steps, 10), "it took more")
	}
	return cache.Errorf(cache.CodeErr, "mend the program", "%s", clipTo(text, 500))
}

// died says why a child ended that did not say so itself.
func (s *session) died() error {
	b := s.order.Bundle.Manifest.Budgets
	said := s.child.stderr.String()
	state := s.child.cmd.ProcessState
	memory := budgetError("memory", fmt.Sprintf("%d bytes", b.Memory), "it needed more")
	switch code := state.ExitCode(); {
	case code == exitMemory, strings.Contains(said, "out of memory"), strings.Contains(said, "cannot allocate memory"):
		return memory
	case strings.Contains(said, "stack exceeds"), strings.Contains(said, "stack overflow"):
		return cache.Errorf(cache.CodeGuard, "make it less deep", "the program was ended: something in it nests too deeply")
	case code == exitWall, killed(state) && time.Since(s.began) >= b.Wall: // the kernel was first, see deadline
		return budgetError("wall", b.Wall.String(), "its run took longer")
	case code == -1 && strings.Contains(state.String(), "bad system call"):
		return cache.Errorf(cache.CodeGuard, "", "the program was ended: it tried to leave its confinement")
	case code == -1:
		return cache.Errorf(cache.CodeGuard, "look for an out-of-memory message in the kernel's log of the gateway's machine", "the program was ended by the system: %s", state)
	default:
		return cache.Errorf(cache.CodeErr, "see what it says, and report it", "the program's process ended with code %d: %s", code, clipTo(said, 300))
	}
}

// killed says whether a process was ended by SIGKILL.
func killed(state *os.ProcessState) bool {
	ws, ok := state.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL
}
