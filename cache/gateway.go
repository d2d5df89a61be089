package cache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
)

// Gateway carries out calls.
type Gateway struct {
	Registry *Registry
	Users    Users
	Log      Log
	Jobs     Jobs
	// Now is the clock; nil means the real one.
	Now func() time.Time
	// Writes says whether commands that write may run, and if not, what to configure. Nil: refused.
	Writes func(c *Command) error
}

// Do carries out one call and returns its reply. The error is an *Error: bad input, a refusal, or what the handler
// returned. Cancelling ctx ends the call within 100 ms.
func (g *Gateway) Do(ctx context.Context, r Request) (Value, error) {
	cmd, rest := g.Registry.Find(r.Args)
	if cmd == nil {
		return Value{}, g.unknown(r.Args)
	}
	if len(rest) == 1 && strings.EqualFold(rest[0], "HELP") {
		return cmd.HelpReply(), nil
	}
	if err := g.allow(cmd, r); err != nil {
		return Value{}, g.refuse(cmd, r, err)
	}
	call, err := cmd.Parse(rest)
	if err != nil {
		return Value{}, g.refuse(cmd, r, err)
	}
	call.Job, call.User, call.From, call.Began = NewID("j"), r.User, r.From, g.now()
	job := &Job{ID: call.Job, Command: cmd.Name, What: cmd.Redact(rest), Who: r.User.Name, From: r.From, Began: call.Began}
	if err := g.record(Event{Who: r.User.Name, Kind: "call.begun", Command: cmd.Name, Job: call.Job, What: job.What, Why: r.From}); err != nil {
		return Value{}, err
	}
	async := call.Flag("async")
	if async { // it outlives the connection that asked for it; CACHE.JOB CANCEL ends it
		ctx = context.WithoutCancel(ctx)
	}
	ctx, job.cancel = context.WithCancelCause(ctx)
	call.progress = func(v Value) {
		job.tell(v)
		if r.Progress != nil && !async {
			r.Progress(v)
		}
	}
	g.Jobs.begin(job)
	if async {
		go func() { _, _ = g.carryOut(ctx, call, job) }() // Jobs.Close waits for it
		return Dict("job", String(call.Job), "next", String("CACHE.JOB TAIL "+call.Job)), nil
	}
	return g.carryOut(ctx, call, job)
}

// carryOut runs the handler and says how it ended, to the record and to whoever follows the job.
func (g *Gateway) carryOut(ctx context.Context, call *Call, job *Job) (v Value, err error) {
	defer job.cancel(nil)
	defer func() { g.Jobs.end(job, v, err, g.now()) }()
	cmd := call.Command
	v, err = g.run(ctx, call)
	took := g.now().Sub(call.Began).Round(time.Millisecond)
	done := Event{Who: call.User.Name, Kind: "call.done", Command: cmd.Name, Job: call.Job, What: fmt.Sprintf("%s took %s", cmd.Name, took)}
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if cause, is := errors.AsType[*Error](context.Cause(ctx)); is {
			e, ok = cause, true
		}
		switch {
		case ok:
			err = e
		case ctx.Err() != nil:
			err = Errorf(CodeCancelled, "", "%s was cancelled after %s", cmd.Name, took)
		default:
			err = &Error{Code: CodeErr, Msg: err.Error()}
		}
		done.Kind, done.Why = "call.failed", err.Error()
	}
	if lerr := g.record(done); lerr != nil && err == nil {
		err = lerr
	}
	if err != nil {
		return Value{}, err
	}
	if call.Text("format") == "json" {
		b, err := v.MarshalJSON()
		if err != nil {
			return Value{}, &Error{Code: CodeErr, Msg: err.Error()}
		}
		return String(string(b)), nil
	}
	return v, nil
}

// run calls the handler. A command that panics fails alone: where, is for the record.
func (g *Gateway) run(ctx context.Context, call *Call) (v Value, err error) {
	defer func() {
		if p := recover(); p != nil {
			name := call.Command.Name
			rerr := g.record(Event{Who: "gateway", Kind: "call.panicked", Command: name, Job: call.Job, What: fmt.Sprintf("%s panicked: %v", name, p), Why: string(debug.Stack())})
			v, err = Value{}, errors.Join(Errorf(CodeErr, "report it with the record of the gateway", "%s failed in a way it should not: %v", name, p), rerr)
		}
	}()
	return call.Command.Run(ctx, call)
}

// allow checks the role, and that the gateway may write at all.
func (g *Gateway) allow(cmd *Command, r Request) error {
	need := Operator
	if cmd.Class == Disruptive {
		need = Admin
	}
	may := r.User.Role.May(cmd.Class)
	switch {
	case !may && r.User.Name == "":
		return Errorf(CodeNoAuth, "AUTH with a user who is "+string(need)+" or more", "Authentication required")
	case cmd.Class >= Write && g.Writes == nil:
		return Errorf(CodeNoPerm, "start it with --clusters FILE that names users and a write credential for the nodes",
			"this gateway does not write: it has no users and no credential for writes")
	case !may:
		return Errorf(CodeNoPerm, "ask someone who is "+string(need)+" to do it, or for that role",
			"user %s is %s, and %s is a %s command", r.User.Name, orNone(string(r.User.Role)), cmd.Name, cmd.Class)
	case cmd.Class >= Write:
		return g.Writes(cmd)
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "nobody"
	}
	return s
}

func (g *Gateway) refuse(cmd *Command, r Request, err error) error {
	lerr := g.record(Event{Who: r.User.Name, Kind: "call.refused", Command: cmd.Name, What: cmd.Name + " was refused", Why: err.Error()})
	if lerr != nil {
		return lerr
	}
	return err
}

// record appends to the log. What cannot be put on record is not done.
func (g *Gateway) record(e Event) error {
	e.At = g.now().UTC()
	if _, err := g.Log.Append(e); err != nil {
		return Errorf(CodeErr, "make room on the disk of the gateway, or look at its permissions", "the record cannot be written: %v", err)
	}
	return nil
}

func (g *Gateway) now() time.Time {
	if g.Now != nil {
		return g.Now()
	}
	return time.Now()
}

// unknown says that there is no such command, and which one may be meant.
func (g *Gateway) unknown(words []string) error {
	if len(words) == 0 {
		return Errorf(CodeErr, "COMMAND DOCS lists the commands", "no command was given")
	}
	var subs []string
	for _, c := range g.Registry.Commands() {
		if base, sub, ok := strings.Cut(c.Name, " "); ok && strings.EqualFold(base, words[0]) {
			subs = append(subs, sub)
		}
	}
	if len(subs) > 0 {
		return Errorf(CodeErr, "use one of "+strings.Join(subs, ", "), "unknown subcommand of '%s'", clip(words[0]))
	}
	return Errorf(CodeErr, "COMMAND DOCS lists the commands", "unknown command '%s'", clip(words[0]))
}

// NewID draws an id: a prefix and 12 hexadecimal digits.
func NewID(prefix string) string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + "-" + hex.EncodeToString(b[:])
}
