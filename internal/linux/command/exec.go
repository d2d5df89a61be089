package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// maxOutput is the most that is read of a program's standard output: the list of files of a large kernel package is
// about 1 MiB. More is an error, because half a list would be read as a whole one.
const maxOutput = 16 << 20

// Exec is the real [Runner].
type Exec struct{}

// Run starts the program with its outputs in files that have no name: a pipe would break, and kill a program that
// is to finish, when the agent goes away first.
func (Exec) Run(ctx context.Context, c Cmd) (string, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = time.Minute
	}
	if err := ctx.Err(); err != nil {
		return "", &Error{Cmd: c, Code: -1, Err: context.Cause(ctx)}
	}
	if c.Finish {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("still running after %s", timeout))
	defer cancel()

	stdout, err := scratch()
	if err != nil {
		return "", &Error{Cmd: c, Code: -1, Err: err}
	}
	defer stdout.Close()
	stderr, err := scratch()
	if err != nil {
		return "", &Error{Cmd: c, Code: -1, Err: err}
	}
	defer stderr.Close()

	cmd := exec.CommandContext(ctx, c.Name, c.Args...)
	cmd.Env = append(environ(), c.Env...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if c.Both {
		cmd.Stderr = stdout
	}
	// A group of its own, so that a program's children end with it when it takes too long, and a Ctrl-C at an agent
	// in the foreground does not reach dpkg.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	runErr := cmd.Run()

	out, err := readBack(stdout, maxOutput)
	if runErr != nil {
		errOut, _ := readBack(stderr, maxOutput)
		e := &Error{Cmd: c, Code: -1, Output: tail(out, 1024) + tail(errOut, 1024), Err: runErr}
		if x, ok := errors.AsType[*exec.ExitError](runErr); ok {
			e.Code = x.ExitCode()
		}
		if ctx.Err() != nil {
			e.Err = context.Cause(ctx)
		}
		return out, e
	}
	if err != nil {
		return "", &Error{Cmd: c, Code: -1, Err: err}
	}
	return out, nil
}

// environ is the agent's environment in plain English: programs' words are read by programs here. PATH gets the
// system's folders, which a shell's su or cron may lack.
func environ() []string {
	env := []string{"LC_ALL=C", "LANGUAGE=C"}
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		switch k {
		case "LC_ALL", "LANGUAGE":
		case "PATH":
			path = v + ":" + path
		default:
			env = append(env, kv)
		}
	}
	return append(env, "PATH="+path)
}

func scratch() (*os.File, error) {
	f, err := os.CreateTemp("", "kernwave-output-")
	if err != nil {
		return nil, fmt.Errorf("make a file for the output: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("unname the file for the output: %w", err)
	}
	return f, nil
}

func readBack(f *os.File, limit int64) (string, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("read the output: %w", err)
	}
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(f, limit+1))
	if err != nil {
		return "", fmt.Errorf("read the output: %w", err)
	}
	if n > limit {
		return "", fmt.Errorf("more than %d bytes of output", limit)
	}
	return b.String(), nil
}

func tail(s string, n int) string {
	if len(s) > n {
		return s[len(s)-n:]
	}
	return s
}
