package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// askEvery is the pause between last-moment questions that nobody answered.
const askEvery = time.Second

var (
	errNoAnswer      = errors.New("the control plane did not answer in time")
	errRefusedAnswer = errors.New("the answer came from a control plane that must not be obeyed")
	errUnwritten     = errors.New("the journal cannot be written")
	errTooLate       = errors.New("more than 5s passed between asking and rebooting")
)

// look writes down what the machine is like right before it reboots, drained: what the trial is compared with.
func (a *Agent) look(ctx context.Context, o operation, n now) result {
	net, err := a.sys.Network(ctx)
	if err != nil {
		return result{retry: fmt.Errorf("look at the network: %w", err)}
	}
	s, err := a.sys.SystemState(ctx)
	if err != nil {
		return result{retry: fmt.Errorf("list failed units: %w", err)}
	}
	o.Before = &before{BootID: n.BootID, Network: net, FailedUnits: s.FailedUnits}
	return result{next: &o}
}

// arm sets the new kernel for one boot. That it may be set was written before; a restart in between arms again.
func (a *Agent) arm(ctx context.Context, o operation, _ now) result {
	err := a.sys.SecureWayBack(ctx) // days may have passed since prepare, and package managers write boot menus
	if err == nil {
		err = a.sys.ArmTrial(ctx, TrialBoot{Operation: o.ID, Release: o.Kernel.Release, Deadline: o.TrialDeadline})
	}
	if err != nil {
		if ctx.Err() != nil {
			return result{retry: context.Cause(ctx)}
		}
		o.goBack(fleet.PhaseFailed, problemOf(fleet.CauseBroken, fmt.Errorf("set %s for one boot: %w", o.Kernel.Release, err)), a.now())
		return result{next: &o}
	}
	o.Armed = true
	return result{next: &o}
}

// disarm takes the armed trial back. It is tried until it works: until then every boot would be the trial.
func (a *Agent) disarm(ctx context.Context, o operation, _ now) result {
	if err := a.sys.Disarm(ctx); err != nil {
		return result{retry: fmt.Errorf("take back the armed trial: %w", err)}
	}
	o.Arming, o.Armed = false, false
	return result{next: &o}
}

// startAsk puts the last-moment question. A yes is good for [fleet.ConfirmLife] from the asking, under the live grant.
func (a *Agent) startAsk(ctx context.Context) {
	grant := a.grant
	if !grant.liveAt(a.now()) {
		return // lapse takes it from here
	}
	asked := a.sys.Uptime()
	a.launch(ctx, doAsk, func(ctx context.Context, o operation, _ now) result {
		ctx, cancel := context.WithTimeoutCause(ctx, fleet.ConfirmLife, errNoAnswer)
		defer cancel()
		c, err := a.ctl.ConfirmReboot(ctx, o.ID, grant.ID)
		if err != nil {
			return result{retry: err, after: askEvery}
		}
		return result{then: func() { a.confirmed(o.ID, c, asked, grant.ID) }}
	})
}

// confirmed acts on the answer to the last-moment question.
func (a *Agent) confirmed(id fleet.OperationID, c fleet.Confirmation, asked time.Duration, grant fleet.GrantID) {
	again := func(err error) { a.applied(doAsk, result{retry: err, after: askEvery}) }
	if !a.obeys(c.From) {
		a.applied(doAsk, result{retry: errRefusedAnswer, after: slackening(a.refusals, askEvery)})
		return
	}
	n := a.now()
	next := *a.op
	if !c.Yes {
		why := c.WhyNot
		if why == "" {
			why = "the control plane said no at the last moment"
		}
		next.goBack(fleet.PhaseCancelled, &fleet.Problem{Cause: fleet.CauseTold, What: why}, n)
		a.move(next)
		return
	}
	if n.Uptime-asked >= fleet.ConfirmLife {
		again(errTooLate)
		return
	}
	if !a.grant.liveAt(n) || a.grant.ID != grant {
		again(errors.New("the grant changed or ran out while the question was on its way"))
		return
	}
	next.Grant = a.grant
	next.Reboot = &reboot{
		BootID: n.BootID, Why: fmt.Sprintf("trial of %s, operation %s", next.Kernel.Release, id),
		Asked: asked, Grant: grant, Began: n.Uptime,
	}
	next.enter(fleet.PhaseRebooting, n)
	if !a.move(next) {
		again(errUnwritten)
		return
	}
	a.goAhead = true
}

// goIntoTrial reboots, if writing the journal has left it time to.
func (a *Agent) goIntoTrial(ctx context.Context, o operation, _ now) result {
	if a.sys.Uptime()-o.Reboot.Asked >= fleet.ConfirmLife || !o.Grant.liveAt(a.now()) {
		o.Reboot = nil
		return result{next: &o} // asks again
	}
	if err := a.sys.Reboot(context.WithoutCancel(ctx), o.Reboot.Why); err != nil {
		o.Reboot = nil
		o.goBack(fleet.PhaseFailed, problemOf(fleet.CauseBroken, fmt.Errorf("reboot: %w", err)), a.now())
		return result{next: &o}
	}
	return result{}
}

// goBackByReboot leaves the trial: a plain boot runs the old kernel, which was the default all along.
func (a *Agent) goBackByReboot(ctx context.Context, o operation, _ now) result {
	if err := a.sys.Disarm(ctx); err != nil {
		a.log.WarnContext(ctx, "the one-shot entry cannot be cleared before the way back; the boot loader should have done it",
			"operation", o.ID, "err", err)
	}
	if err := a.sys.Reboot(context.WithoutCancel(ctx), o.Reboot.Why); err != nil {
		return result{retry: fmt.Errorf("reboot: %w", err)}
	}
	return result{}
}

// lookBack finds out how a boot ended that should have lasted.
func (a *Agent) lookBack(ctx context.Context, o operation) lastBoot {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.CheckInWithin)
	defer cancel()
	var last lastBoot
	var err error
	if last.DeadMan, err = a.sys.DeadManFired(o.ID); err != nil {
		a.log.WarnContext(ctx, "whether the dead-man fired cannot be told", "operation", o.ID, "err", err)
	}
	last.CrashText, last.NoCrash = a.sys.CrashText(ctx, o.ArmedAt)
	if over := len(last.CrashText) - maxEvidence; over > 0 {
		last.CrashText = "…" + last.CrashText[over:]
	}
	return last
}

// maxEvidence is what a problem may carry.
const maxEvidence = 16 << 10
