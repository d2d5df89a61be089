package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

const (
	// callLimit bounds one answer of the guest agent, which may carry megabytes out of a busy emulated machine.
	callLimit = 60 * time.Second
	// lineHold is how long one command may keep the line to the guest before others get a turn.
	lineHold = time.Second
	// wrongBoot is the exit code by which the guest says that a command was meant for an earlier boot.
	wrongBoot = 120
)

// A Result is what a command in a host wrote and how it ended.
type Result struct {
	Stdout string
	Stderr string
	Exit   int
	BootID string // of the boot in which it ran
}

// Exec runs a shell script as root on a host and waits for its end. It needs neither the host's network nor udev, and
// works from early in the boot. The script has no stdin. It runs at most once, whatever gets lost on the way; if the
// host restarts meanwhile, the error is ErrRebooted. A script that exits with another code than 0 is not an error.
// When ctx ends, the script goes on without a listener; without a deadline in ctx, that is after InstallLimit, longer
// on a busy machine. Output beyond 16 MB is cut off.
func (f *Fleet) Exec(ctx context.Context, name, script string) (Result, error) {
	h, err := f.host(name)
	if err != nil {
		return Result{}, err
	}
	res, err := h.exec(ctx, script)
	if err != nil {
		err = &fleet.Error{Op: "run " + firstLine(script), Host: fleet.HostID(name), Err: withConsole(err, h, 8), Next: "look at its console: " + h.serial()}
	}
	return res, err
}

// Output is Exec for scripts that should work: it returns stdout without its last newline, and another exit code than
// 0 is an error that quotes stderr.
func (f *Fleet) Output(ctx context.Context, name, script string) (string, error) {
	res, err := f.Exec(ctx, name, script)
	if err == nil && res.Exit != 0 {
		err = &fleet.Error{Op: "run " + firstLine(script), Host: fleet.HostID(name), Err: fmt.Errorf("exit %d: %s", res.Exit, lastLines(res.Stderr, 8))}
	}
	return strings.TrimSuffix(res.Stdout, "\n"), err
}

var errRunning = errors.New("still running")

// exec asks again with the same id until it knows the result; the guest's wrapper runs the script once.
func (h *host) exec(ctx context.Context, script string) (Result, error) {
	var (
		res    Result
		id     = rand.Text()
		pid    int
		status struct {
			Exited   bool
			ExitCode int
			Signal   int
			OutData  []byte `json:"out-data"`
			ErrData  []byte `json:"err-data"`
		}
		pause = 50 * time.Millisecond
	)
	once := func(a *agentConn) error {
		boot, err := a.readFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return err
		}
		boot = strings.TrimSpace(boot)
		if res.BootID == "" {
			res.BootID = boot
		} else if res.BootID != boot {
			return ErrRebooted
		}
		if pid == 0 {
			var started struct{ PID int }
			err := a.call("guest-exec", map[string]any{
				"path": "/usr/lib/kernwave-lab/exec", "arg": []string{id, res.BootID}, "input-data": []byte(script), "capture-output": true,
				"env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"},
			}, &started, callLimit)
			if err != nil {
				return err
			}
			pid = started.PID
		}
		for held := time.Now(); time.Since(held) < lineHold; time.Sleep(pause) {
			if err := a.call("guest-exec-status", map[string]any{"pid": pid}, &status, callLimit); err != nil {
				pid = 0 // the agent restarted, or its answer was lost with the connection
				return err
			}
			if status.Exited {
				return nil
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			pause = min(pause*5/4, 400*time.Millisecond)
		}
		return errRunning
	}
	if err := h.agent(ctx, once); err != nil {
		return res, err
	}
	if now := strings.TrimSpace(string(status.ErrData)); status.ExitCode == wrongBoot && isBootID(now) && now != res.BootID {
		return res, ErrRebooted
	}
	res.Stdout, res.Stderr, res.Exit = string(status.OutData), string(status.ErrData), status.ExitCode
	if status.Signal != 0 {
		res.Exit = 128 + status.Signal
	}
	return res, nil
}

func isBootID(s string) bool { return len(s) == 36 && strings.Count(s, "-") == 4 }

// agent calls do with a connection to the guest agent until it returns no error, the host restarted, QEMU is gone or
// ctx ends.
func (h *host) agent(ctx context.Context, do func(*agentConn) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		limit := time.Duration(float64(InstallLimit) * busy())
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: no end after %.0f s", ErrSlow, limit.Seconds()))
		defer cancel()
	}
	var last error
	for answer := syncLimit; ; answer = min(2*answer, callLimit) {
		err := h.once(ctx, answer, do)
		if err == nil || errors.Is(err, ErrRebooted) {
			return err
		}
		if !errors.Is(err, errRunning) {
			last = err
		}
		if !h.powered() {
			return errPoweredOff
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (h *host) once(ctx context.Context, answer time.Duration, do func(*agentConn) error) error {
	h.line.Lock() // in this process; QEMU makes other processes wait
	defer h.line.Unlock()
	a, err := dialAgent(ctx, h.dir, answer)
	if err != nil {
		return err
	}
	defer a.Close()
	defer context.AfterFunc(ctx, a.Close)()
	return do(a)
}

func firstLine(script string) string {
	line, rest, _ := strings.Cut(strings.TrimSpace(script), "\n")
	if len(line) > 60 {
		line, rest = line[:60], "more"
	}
	if rest != "" {
		line += " …"
	}
	return fmt.Sprintf("%q", line)
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
