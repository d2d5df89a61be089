// Package command runs the programs of a host: dpkg, update-grub, systemctl.
// Everything in internal/linux that starts a program does it through a
// [Runner], so that a test can answer in its place.
package command

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Cmd is one program to run.
type Cmd struct {
	Name string // looked up in PATH
	Args []string
	Env  []string // added to the agent's own environment and LC_ALL=C
	// Timeout ends the program. Zero means one minute.
	Timeout time.Duration
	// Finish lets the program run to its end, within Timeout, although ctx ends or the agent is killed: what dpkg
	// leaves behind when it is killed is worse than a late answer.
	Finish bool
	// Both returns what it wrote to its error output too, in the order of writing.
	Both bool
}

// String prints the command line.
func (c Cmd) String() string { return strings.Join(append([]string{c.Name}, c.Args...), " ") }

// Runner runs a program and returns what it wrote to its standard output. A program that could not be started, was
// killed or did not exit with 0 is an [*Error]; the output is returned with it.
type Runner interface {
	Run(ctx context.Context, c Cmd) (stdout string, err error)
}

// Error is a program that did not succeed.
type Error struct {
	Cmd  Cmd
	Code int // -1: it did not exit by itself
	// Output is the end of what it wrote to both its outputs, at most 2 KiB.
	Output string
	Err    error
}

// Error gives the program, how it ended and the last lines that it wrote.
func (e *Error) Error() string {
	s := e.Cmd.String()
	if len(s) > 120 {
		s = s[:117] + "..."
	}
	if e.Code > 0 {
		s = fmt.Sprintf("%s: exit code %d", s, e.Code)
	} else {
		s = fmt.Sprintf("%s: %v", s, e.Err)
	}
	// dpkg says why first, and then at length that it failed.
	if last := lastLines(e.Output, 8); last != "" {
		s += ": " + last
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func lastLines(s string, n int) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' })
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}
