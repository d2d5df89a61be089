package cache

import (
	"errors"
	"fmt"
	"strings"
)

// Error is an error as Redis writes it: a code in capitals, then a sentence, then what to do. Doors send it as it is.
type Error struct {
	Code string // one of the codes below
	Msg  string // what happened and why, no full stop
	Next string // what to do, an imperative sentence; may be empty
}

// The codes. Clients choose by them, so they do not change.
const (
	CodeErr         = "ERR"         // bad input
	CodeNoPerm      = "NOPERM"      // the role is too low
	CodeNoAuth      = "NOAUTH"      // nobody is logged in
	CodeWrongPass   = "WRONGPASS"   // no such user, or not that password
	CodeGuard       = "GUARD"       // a guard stopped it, or would not let it begin
	CodeApproval    = "APPROVAL"    // a second person must agree first; Msg begins with the plan's id
	CodeStale       = "STALE"       // the topology or the plan is not what it was
	CodeUnsupported = "UNSUPPORTED" // no node can do it
	CodeUnreachable = "UNREACHABLE" // no node answered
	CodeCancelled   = "CANCELLED"   // the caller went away, or someone cancelled the job
	CodeConflict    = "CONFLICT"    // someone else changed what was to be changed back
	CodeBusy        = "BUSY"        // another job holds the node, shard or host
)

// Error is the line that Redis clients print: "GUARD the breaker is open: …; wait 30 s and try again".
func (e *Error) Error() string {
	s := e.Code + " " + e.Msg
	if e.Next != "" {
		s += "; " + e.Next
	}
	return s
}

// Errorf makes an [*Error] with a code, what to do next, and a message.
func Errorf(code, next, format string, args ...any) *Error {
	return &Error{Code: code, Next: next, Msg: fmt.Sprintf(format, args...)}
}

// ErrorValue is err as a reply: one line, whatever err holds.
func ErrorValue(err error) Value {
	line := CodeErr + " " + err.Error()
	if e, ok := errors.AsType[*Error](err); ok {
		line = e.Error()
	}
	return Value{Kind: Err, Str: strings.NewReplacer("\r", " ", "\n", " ").Replace(line)}
}
