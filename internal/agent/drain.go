package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/hook"
)

// drain runs the drain programs. One that fails takes the host back.
func (a *Agent) drain(ctx context.Context, o operation, n now) result {
	set, err := a.programs.Load()
	if err != nil {
		p := problemOf(fleet.CauseDrain, fmt.Errorf("the operator's programs cannot be read: %w", err))
		o.goBack(fleet.PhaseFailed, p, n)
		return result{next: &o}
	}
	for _, p := range set.Of(hook.Drain) {
		r := a.programs.Run(ctx, p, a.env(&o))
		if ctx.Err() != nil {
			return result{retry: context.Cause(ctx)}
		}
		if !r.OK {
			o.goBack(fleet.PhaseFailed, &fleet.Problem{
				Cause: fleet.CauseDrain, What: p.Name() + ": " + r.What, Expected: "exit code 0 within " + p.Timeout.String(),
				Evidence: r.Output, Next: "run it by hand: " + p.Command(),
			}, a.now())
			return result{next: &o}
		}
	}
	o.enter(fleet.PhaseDrained, a.now())
	return result{next: &o}
}

// undrain runs the undrain programs, backwards. It is tried until it works.
func (a *Agent) undrain(ctx context.Context, o operation, _ now) result {
	set, err := a.programs.Load()
	if err != nil {
		return result{retry: fmt.Errorf("the operator's programs cannot be read: %w", err)}
	}
	var failed []error
	for _, p := range set.Of(hook.Undrain) {
		if r := a.programs.Run(ctx, p, a.env(&o)); !r.OK {
			failed = append(failed, fmt.Errorf("%s: %s%s", p.Name(), r.What, lastLine(r.Output)))
		}
	}
	if len(failed) > 0 {
		return result{retry: errors.Join(failed...)} // the others have been undrained: as much service as there can be
	}
	o.Undrained = true
	return result{next: &o}
}

// askReady ends the operation when every ready program agrees.
func (a *Agent) askReady(ctx context.Context, o operation, _ now) result {
	if why := a.notReady(ctx, a.env(&o)); why != "" {
		return result{retry: errors.New("not ready: " + why), after: a.cfg.ReadyEvery}
	}
	o.enter(endOf(o), a.now())
	return result{next: &o}
}

// lastLine adds the end of a program's output to a sentence.
func lastLine(out string) string {
	out = strings.TrimSpace(out)
	if i := strings.LastIndexByte(out, '\n'); i >= 0 {
		out = out[i+1:]
	}
	if len(out) > 200 {
		out = "…" + strings.ToValidUTF8(out[len(out)-200:], "")
	}
	if out == "" {
		return ""
	}
	return " (" + out + ")"
}
