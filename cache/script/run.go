package script

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

const (
	// maxPipe is how many commands a program may send to a node in one go.
	maxPipe = 1000
	// pageSize is COUNT of a scan: 50 to 100 keys keep each call of the node below a tenth of a millisecond.
	pageSize = 100
	// maxChildren is how many programs run at once; more wait.
	maxChildren = 4
)

// Runner runs programs, each in a child process of its own. It is safe for concurrent use.
type Runner struct {
	exe   string
	slots chan struct{}
	heavy *upstream.Heavy
}

// NewRunner returns a runner that starts exe, a program that calls [RunIfChild]; empty: this one. Programs that put load
// on nodes share heavy with the commands that do; nil: with nobody.
func NewRunner(exe string, heavy *upstream.Heavy) *Runner {
	if exe == "" {
		exe = "/proc/self/exe"
	}
	if heavy == nil {
		heavy = upstream.NewHeavy()
	}
	return &Runner{exe: exe, slots: make(chan struct{}, maxChildren), heavy: heavy}
}

// Order is one run.
type Order struct {
	Bundle   *Bundle
	Args     cache.Value      // a map: what the program gets as args
	Nodes    []*upstream.Node // what it gets as nodes
	Job      string
	Progress func(text string)
	check    bool // look for mistakes only
}

// Result is what came out.
type Result struct {
	Rows   []cache.Value
	Writes []Write
	Used   Used
	Failed []string // nodes that did not answer, each with the reason
}

// Used is what a run has used of its budgets.
type Used struct {
	Wall     time.Duration
	Commands int64
	Keys     int64
	Output   int64
}

// Run runs the program until it ends, its budgets are spent, or ctx ends. The error is an [*cache.Error].
func (r *Runner) Run(ctx context.Context, o Order) (*Result, error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	b := o.Bundle.Manifest.Budgets
	over := budgetError("wall", b.Wall.String(), "its run took longer")
	ctx, cancel := context.WithTimeoutCause(ctx, b.Wall, over)
	defer cancel()
	c, err := r.start(ctx)
	if err != nil {
		return nil, cache.Errorf(cache.CodeErr, "see the gateway's log, and its limits on processes", "the program could not be started: %v", err)
	}
	stop := context.AfterFunc(ctx, c.kill)
	began := time.Now()
	s := &session{runner: r, order: o, child: c, began: began}
	err = s.serve(ctx)
	stop()
	if errors.Is(err, errChildEnded) { // how it ended says why; it has had its say
		time.AfterFunc(100*time.Millisecond, c.kill)
	} else {
		c.kill()
	}
	c.end()
	s.release()
	s.result.Used.Wall = time.Since(began)
	switch {
	case err == nil:
		return &s.result, nil
	case ctx.Err() != nil:
		if cause := context.Cause(ctx); errors.Is(cause, over) {
			return &s.result, over
		}
		return &s.result, cache.Errorf(cache.CodeCancelled, "", "%s was cancelled", o.Bundle.Manifest.Name)
	case errors.Is(err, errChildEnded):
		return &s.result, s.died()
	}
	return &s.result, err
}

// Check looks for mistakes in the program without running it.
func (r *Runner) Check(ctx context.Context, b *Bundle) error {
	_, err := r.Run(ctx, Order{Bundle: b, check: true})
	return err
}

func budgetError(what, most, happened string) *cache.Error {
	return cache.Errorf(cache.CodeGuard, "make it do less, or raise budgets."+what+" in its manifest", "the program was ended: its budget of %s is %s, and %s", what, most, happened)
}

var errChildEnded = errors.New("the child ended")

// process is a running child.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *os.File
	stderr bytes.Buffer // may be read once ended is closed
	ended  chan struct{}
}

// start starts the child from a thread that lives as long as the child: the kernel ends a child whose Pdeathsig is set
// when the thread that started it ends, and Go ends threads as it likes.
func (r *Runner) start(ctx context.Context) (*process, error) {
	p := &process{ended: make(chan struct{}), cmd: exec.Command(r.exe, childWord)}
	p.cmd.Env = []string{"GOTRACEBACK=none"} // nothing of the gateway's: it may hold secrets
	p.cmd.Dir = "/"
	p.cmd.Stderr = &limited{w: &p.stderr, left: 4 << 10}
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = childAttr()
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, theirs, err := os.Pipe() // one that Wait does not close: what the child said last is still to be read
	if err != nil {
		return nil, err
	}
	p.out, p.cmd.Stdout = out, theirs
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		_ = theirs.Close()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended is in ProcessState
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return p, nil
}

// kill ends the child at once.
func (p *process) kill() {
	select {
	case <-p.ended: // its number may be someone else's by now
	default:
		_ = p.cmd.Process.Kill()
	}
}

// end waits for a child that was killed or has ended, and lets go of it.
func (p *process) end() {
	<-p.ended
	_ = p.out.Close()
}

// limited drops what is beyond its limit.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	_, err := l.w.Write(p[:n])
	return len(p), err
}

func clip(s string) string { return clipTo(s, 120) }

// clipTo keeps a program's text short and printable.
func clipTo(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
}
