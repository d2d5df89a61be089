package hook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// maxOutput is how much of the end of a program's output is kept. The end is where the reason stands.
const maxOutput = 4 << 10

// killWait is how long after its process group was killed a program may keep its output open (a daemon that it left
// behind in another group).
const killWait = 2 * time.Second

// Env tells a program what it runs for. Empty fields are not set.
type Env struct {
	Operation fleet.OperationID
	Kernel    fleet.KernelID
	Phase     fleet.Phase
}

// Result is how a program ended.
type Result struct {
	OK     bool
	What   string // one sentence, when not OK: exit code 3, timed out after 30s
	Output string // the end of stdout and stderr together, at most 4 KiB
	Took   time.Duration
}

// Run runs the program in a process group of its own and waits. When its timeout passes or ctx ends, the whole group
// is killed.
func Run(ctx context.Context, p Program, env Env) Result {
	timedOut := fmt.Errorf("timed out after %s", p.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, p.Timeout, timedOut)
	defer cancel()
	out := &tail{}
	cmd := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), env.list()...)
	// A program must not outlive an agent that was killed: its drain would run into the next agent's undrain. The
	// kernel ties this to the thread that starts it, so the thread stays until it has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killWait
	began := time.Now()
	err := cmd.Run()
	r := Result{OK: err == nil, Output: out.String(), Took: time.Since(began)}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		r.What = context.Cause(ctx).Error()
	case errors.Is(err, exec.ErrWaitDelay):
		// It ended well, and something that it started still holds its output: the answer is the exit code.
		r.OK = true
	case errors.As(err, &exit):
		r.What = exit.ProcessState.String()
	default:
		r.What = err.Error() // not found, not executable
	}
	return r
}

func (e Env) list() []string {
	var out []string
	for _, kv := range [][2]string{
		{"KERNWAVE_OPERATION", string(e.Operation)},
		{"KERNWAVE_KERNEL", string(e.Kernel)},
		{"KERNWAVE_PHASE", string(e.Phase)},
	} {
		if kv[1] != "" {
			out = append(out, kv[0]+"="+kv[1])
		}
	}
	return out
}

// tail keeps the end of what is written.
type tail struct {
	buf []byte
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > maxOutput {
		p, t.cut = p[len(p)-maxOutput:], true
	}
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - maxOutput; over > 0 {
		t.buf, t.cut = append(t.buf[:0], t.buf[over:]...), true
	}
	return n, nil
}

func (t *tail) String() string {
	s := strings.ToValidUTF8(string(t.buf), "�")
	if t.cut {
		s = "…" + s
	}
	return s
}

// Dir is a directory of hooks whose programs are really run.
type Dir string

// Load reads the directory; see [Load].
func (d Dir) Load() (Set, error) { return Load(string(d)) }

// Run runs a program; see [Run].
func (Dir) Run(ctx context.Context, p Program, env Env) Result { return Run(ctx, p, env) }
