package cli

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/sim/scenarios"
)

// usageError is a mistake on the command line or in the settings: nothing was sent.
type usageError struct{ what, next string }

func (e *usageError) Error() string { return e.what }

// advised is an error with its next step, for those that have no fleet.Error of their own.
type advised struct {
	err  error
	next string
}

func (e *advised) Error() string { return e.err.Error() }
func (e *advised) Unwrap() error { return e.err }

// explanation is an error as an operator reads it.
type explanation struct {
	Op   string `json:"op,omitempty"`
	Host string `json:"host,omitempty"`
	Why  string `json:"why"`
	Next string `json:"next,omitempty"`
	Code int    `json:"exit_code"`
	// File and Mistakes are what is wrong with a scenario.
	File     string              `json:"file,omitempty"`
	Mistakes []scenarios.Mistake `json:"mistakes,omitempty"`
}

// what is the first of the two lines.
func (e explanation) what() string {
	return (&fleet.Error{Op: e.Op, Host: fleet.HostID(e.Host), Err: errors.New(e.Why)}).Error()
}

// report prints err in two lines, and decides the exit code.
func (a *app) report(ctx context.Context, cmd *cobra.Command, err error) int {
	if err == nil {
		return ExitOK
	}
	if code, ok := errors.AsType[quietExit](err); ok {
		return int(code)
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || connect.CodeOf(err) == connect.CodeCanceled) {
		fmt.Fprintln(a.Err, "kernwave: interrupted")
		return ExitInterrupted
	}
	e := a.explain(cmd, err)
	if a.json() {
		if err := printJSONLine(a.Err, "error", e); err != nil {
			return ExitFailed
		}
		return e.Code
	}
	a.sayWhat(e)
	if e.Next != "" {
		a.say("next:", palette.good, e.Next)
	}
	return e.Code
}

// maxMistakes is how many are printed: whoever mends fifty asks again.
const maxMistakes = 50

// sayWhat prints what went wrong: in one line, or each mistake in a file on its own.
func (a *app) sayWhat(e explanation) {
	if len(e.Mistakes) == 0 {
		a.say("error:", palette.bad, e.what())
		return
	}
	for i, m := range e.Mistakes {
		if i == maxMistakes {
			a.say("error:", palette.bad, fmt.Sprintf("%s: and %d more", e.File, len(e.Mistakes)-i))
			return
		}
		a.say("error:", palette.bad, m.In(e.File))
	}
}

// explain finds out what an error means for an operator. Later causes are asked before earlier wrappers.
func (a *app) explain(cmd *cobra.Command, err error) explanation {
	help := fmt.Sprintf("see %q", cmd.CommandPath()+" --help")
	if u, ok := errors.AsType[*usageError](err); ok {
		next := u.next
		if next == "" {
			next = help
		}
		return explanation{Why: u.what, Next: next, Code: ExitUsage}
	}
	if m, ok := errors.AsType[*scenarios.Mistakes](err); ok {
		return explanation{Why: "the scenario is wrong", File: m.File, Mistakes: m.List, Next: badScenario(m), Code: ExitUsage}
	}
	e := explanation{Why: err.Error(), Code: ExitFailed}
	if c, ok := errors.AsType[*connect.Error](err); ok {
		e = a.explainCall(cmd, c)
	} else if u, ok := errors.AsType[*unreachable](err); ok {
		e = explanation{Why: u.Error(), Next: "check the address, and that the gateway runs: kernwave cache serve", Code: ExitUnreachable}
	} else if x, ok := a.explainTransport(err); ok {
		e = x
	} else if c, ok := errors.AsType[*cache.Error](err); ok {
		e = explanation{Why: c.Code + " " + c.Msg, Next: c.Next, Code: ExitFailed}
		if c.Code == cache.CodeUnreachable {
			e.Code = ExitUnreachable
		}
	} else if f, ok := errors.AsType[*fleet.Error](err); ok {
		e = explanation{Op: f.Op, Host: string(f.Host), Why: f.Err.Error(), Next: f.Next, Code: ExitFailed}
	}
	if adv, ok := errors.AsType[*advised](err); ok {
		e.Next = adv.next
	}
	if e.Next == "" {
		e.Next = help
	}
	return e
}

// explainCall explains what the control plane, or the way to it, answered.
func (a *app) explainCall(cmd *cobra.Command, c *connect.Error) explanation {
	// The server may notice the end of the caller's patience first, and say so: that is the same to the operator.
	if !connect.IsWireError(c) || c.Code() == connect.CodeDeadlineExceeded {
		if e, ok := a.explainTransport(c); ok {
			return e
		}
	}
	e := explanation{Op: verb(cmd), Why: c.Message(), Code: ExitFailed}
	for _, d := range c.Details() {
		if v, err := d.Value(); err == nil {
			if detail, ok := v.(*kwv1.ErrorDetail); ok {
				e.Op, e.Host, e.Next = detail.GetOp(), detail.GetHost(), detail.GetNext()
				if detail.GetWhy() != "" {
					e.Why = detail.GetWhy()
				}
			}
		}
	}
	next := ""
	switch c.Code() {
	case connect.CodeUnauthenticated:
		next = "use a valid token (" + a.conn.tokenFrom() + `); an admin makes one with "kernwave operator create"`
	case connect.CodePermissionDenied:
		next = `"kernwave status" shows your role; ask an admin to do it, or for a token with a higher role`
	case connect.CodeUnavailable:
		e.Code = ExitUnreachable
		next = `wait a moment and repeat it; "kernwave status" says how the control plane is`
	case connect.CodeUnimplemented:
		next = "the control plane may be older than this program, or something else listens there: check --server"
	case connect.CodeResourceExhausted:
		next = "ask for less, for example with --selector or --limit"
	case connect.CodeInternal, connect.CodeUnknown, connect.CodeDataLoss:
		next = "look at the control plane's log; \"kernwave status\" says how it is"
	}
	if e.Next == "" {
		e.Next = next
	}
	return e
}

// verb says what a command tried, as an operation: "rollout start".
func verb(cmd *cobra.Command) string {
	if cmd.HasParent() && cmd.Parent().HasParent() {
		return cmd.Parent().Name() + " " + cmd.Name()
	}
	return cmd.Name()
}
