package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/kernwave/kernwave/internal/operator"
)

// server is one running `kernwave server`.
type server struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan error
}

func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// DataDir is the control plane's.
func (r *Rig) DataDir() string { return filepath.Join(r.cfg.Dir, "data") }

// StartServer starts the control plane, on the address that it had before, and waits until it answers.
func (r *Rig) StartServer(ctx context.Context) error {
	if r.server != nil {
		return errors.New("the control plane runs already")
	}
	logPath := filepath.Join(r.cfg.Dir, "server.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	ready := filepath.Join(r.cfg.Dir, "ready")
	_ = os.Remove(ready)
	args := append([]string{"server", "--data", r.DataDir(), "--listen", r.addr, "--name", "kernwave.lab", "--ready-file", ready}, r.cfg.ServerArgs...)
	cmd := exec.Command(filepath.Join(r.cfg.Bin, "kernwave"), args...)
	cmd.Stdout = log
	cmd.Stderr = io.Writer(log)
	if r.cfg.Log != nil {
		cmd.Stderr = io.MultiWriter(log, r.cfg.Log)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s := &server{cmd: cmd, log: log, done: make(chan error, 1)}
	started := make(chan error, 1)
	go func() {
		// The signal comes when the thread dies that forked, not when the process does. A thread that is not locked may
		// be used for a host later, and ends with that host's power.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			s.done <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return errors.Join(err, log.Close())
	}
	for began := time.Now(); ; {
		if _, err := os.Stat(ready); err == nil {
			r.server = s
			return nil
		}
		select {
		case err := <-s.done:
			b, _ := os.ReadFile(logPath)
			return fmt.Errorf("the control plane ended: %w\n%s", err, tail(b))
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), kill(s, syscall.SIGKILL))
		case <-time.After(50 * time.Millisecond):
		}
		if time.Since(began) > time.Minute {
			return errors.Join(fmt.Errorf("the control plane does not come up; see %s", logPath), kill(s, syscall.SIGKILL))
		}
	}
}

// StopServer asks the control plane to end; KillServer does not ask.
func (r *Rig) StopServer() error { return r.end(syscall.SIGTERM) }

// KillServer is kill -9.
func (r *Rig) KillServer() error { return r.end(syscall.SIGKILL) }

func (r *Rig) end(sig syscall.Signal) error {
	if r.server == nil {
		return nil
	}
	s := r.server
	r.server = nil
	return kill(s, sig)
}

func kill(s *server, sig syscall.Signal) error {
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.done:
	case <-time.After(20 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
		return errors.Join(errors.New("the control plane did not end within 20 s and was killed"), s.log.Close())
	}
	return s.log.Close()
}

// CLI runs one kernwave command as the first operator and returns what it printed.
func (r *Rig) CLI(ctx context.Context, args ...string) (string, error) {
	cmd := r.Command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kernwave %s: %w\n%s", strings.Join(args, " "), err, tail(errs.Bytes()))
	}
	return out.String(), nil
}

// Command is one kernwave command as the first operator, not yet started.
func (r *Rig) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(r.cfg.Bin, "kernwave"), append([]string{"--config", r.DataDir()}, args...)...)
}

// JSON runs one kernwave command with -o json and reads what it printed into v.
func (r *Rig) JSON(ctx context.Context, v any, args ...string) error {
	out, err := r.CLI(ctx, append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), v); err != nil {
		return fmt.Errorf("kernwave %s: %w in %q", strings.Join(args, " "), err, out)
	}
	return nil
}

// Hosts are the hosts as the control plane sees them.
func (r *Rig) Hosts(ctx context.Context) ([]operator.Host, error) {
	var v struct{ Hosts []operator.Host }
	err := r.JSON(ctx, &v, "hosts")
	return v.Hosts, err
}

// Rollout is one rollout as the control plane sees it.
func (r *Rig) Rollout(ctx context.Context, id string) (operator.Rollout, error) {
	var v struct{ Rollout operator.Rollout }
	err := r.JSON(ctx, &v, "rollout", "status", id)
	return v.Rollout, err
}

// tail is the end of what a program said.
func tail(b []byte) string {
	const most = 2000
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return string(b)
}
