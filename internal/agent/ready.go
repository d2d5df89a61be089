package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/internal/agent/hook"
)

// readiness is what the ready programs said last of a host that has not left service.
type readiness struct {
	busy  bool
	known bool
	ok    bool
	why   string
	next  time.Time
}

// startReady asks the ready programs now and then while the host is in service: one that is down for reasons of its
// own says so.
func (a *Agent) startReady(ctx context.Context) {
	r := &a.ready
	if r.busy || a.op.drained() || time.Now().Before(r.next) {
		return
	}
	r.busy = true
	env := a.env(a.op)
	a.beside(func() func() {
		why := a.notReady(ctx, env)
		return func() {
			r.busy = false
			r.next = time.Now().Add(a.jitter(a.cfg.ReadyIdleEvery))
			if a.op.drained() {
				return // it was asked while the host still served
			}
			a.setReady(why)
		}
	})
}

func (a *Agent) setReady(why string) {
	r := &a.ready
	if !r.known || r.ok != (why == "") {
		a.checkIn.soon()
	}
	r.known, r.ok, r.why = true, why == "", why
}

// notReady asks every ready program and says which one does not agree. Empty: all do.
func (a *Agent) notReady(ctx context.Context, env hook.Env) string {
	set, err := a.programs.Load()
	if err != nil {
		return "the operator's programs cannot be read: " + err.Error()
	}
	for _, p := range set.Of(hook.Ready) {
		if r := a.programs.Run(ctx, p, env); !r.OK {
			return fmt.Sprintf("%s: %s%s", p.Name(), r.What, lastLine(r.Output))
		}
	}
	return ""
}

func (a *Agent) env(o *operation) hook.Env {
	if o.ended() {
		return hook.Env{}
	}
	return hook.Env{Operation: o.ID, Kernel: o.Kernel.ID, Phase: o.Phase}
}
