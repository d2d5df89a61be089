package lab

import (
	"errors"
	"strings"
)

// ErrRebooted is returned by Exec when the host restarted while the command ran, so its result is lost.
var ErrRebooted = errors.New("the host restarted while the command ran")

// ErrSlow is in the chain of an error that only says that a limit passed: the host may still get there.
var ErrSlow = errors.New("slow")

// Error says what was attempted on which host, why it did not work and what to do next.
type Error struct {
	Op   string // "wait for boot"
	Host string // empty if it is not about one host
	Err  error
	Next string // what a person can do; may be empty
	Log  string // the last lines of the serial console, if they help
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Host != "" {
		b.WriteString(" on " + e.Host)
	}
	b.WriteString(": " + e.Err.Error())
	if e.Log != "" {
		b.WriteString("\nlast lines of the serial console:\n  " + strings.ReplaceAll(strings.TrimSpace(e.Log), "\n", "\n  "))
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }
