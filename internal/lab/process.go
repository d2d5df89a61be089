package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// A process is a child that dies with us, however we die.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// spawn starts cmd with a parent-death signal. That signal is tied to the thread that forked, not to the process, so
// the thread is kept for as long as the child lives.
func spawn(cmd *exec.Cmd) (*process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine, after the child
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process and waits for that.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// jailed makes cmd the first process of its own PID namespace with its own mounts: when it is killed, everything it
// started dies with it, and what it mounted is gone.
func jailed(cmd *exec.Cmd) *exec.Cmd {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWPID
	cmd.SysProcAttr.Unshareflags |= syscall.CLONE_NEWNS // Go makes the new namespace private, which Cloneflags would not
	return cmd
}

// run runs cmd until it ends or ctx does, and returns what it wrote to stdout. The error quotes the end of its output.
func run(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	var said transcript
	cmd.Stdout, cmd.Stderr = said.stream(&out), said.stream(io.Discard)
	if cmd.Env == nil {
		cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	}
	p, err := spawn(cmd)
	if err != nil {
		return "", fmt.Errorf("run %s: %w", cmd.Args[0], err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
		return "", fmt.Errorf("run %s: %w", cmd.Args[0], context.Cause(ctx))
	}
	if p.err != nil {
		return "", fmt.Errorf("run %s: %w: %s", strings.Join(head(cmd.Args, 3), " "), p.err, lastLines(said.all.String(), 12))
	}
	return out.String(), nil
}

// transcript collects what a command wrote to both streams, in the order in which it came.
type transcript struct {
	mu  sync.Mutex
	all bytes.Buffer
}

// stream returns a writer to the transcript and to own.
func (t *transcript) stream(own io.Writer) io.Writer {
	return writerFunc(func(b []byte) (int, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.all.Write(b)
		return own.Write(b)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func head(s []string, n int) []string { return s[:min(n, len(s))] }

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
