package fleet

import (
	"errors"
	"strings"
)

// Error says what was tried, on which host, why it did not work, and what to do next.
type Error struct {
	Op   string // what was tried, lower case: "prepare kernel 6.12.9-1"
	Host HostID // empty when no host is involved
	Err  error  // why
	Next string // what to do next, an imperative sentence without full stop
}

// Error prints all but Next, which callers print on a line of its own.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Host != "" {
		b.WriteString(" on " + string(e.Host))
	}
	if e.Err != nil {
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// NextOf is what a person should do about err: what the first [*Error] in it says, else otherwise.
func NextOf(err error, otherwise string) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Next != "" {
		return e.Next
	}
	return otherwise
}
