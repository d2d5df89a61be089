package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/hook"
)

// maxDetail bounds what one check says; there may be two hundred of them.
const maxDetail = 400

// lookEvery is the pause between looks at a system or a network that is not yet as it should be.
const lookEvery = time.Second

// try runs the trial's checks, all of them, so that one report says everything. They have nine tenths of the
// dead-man's time: the agent, who can say what is wrong, is to be first.
func (a *Agent) try(ctx context.Context, o operation, n now) result {
	left := o.TrialDeadline*9/10 - n.Uptime
	tctx, cancel := context.WithTimeoutCause(ctx, max(left, time.Second), errTrialTime)
	defer cancel()
	t := trial{a: a, o: &o, out: fleet.Trial{BootID: n.BootID, Release: n.Release}}
	t.check("kernel", fleet.CauseWrongKernel, func() verdict {
		if n.Release != o.Kernel.Release {
			return fail("uname -r shows "+n.Release, "uname -r shows "+o.Kernel.Release)
		}
		return pass(n.Release)
	})
	t.check("boot", fleet.CauseBroken, func() verdict {
		if n.BootID == o.FromBootID {
			return fail("the boot id is the one from before the reboot", "a new boot id")
		}
		return pass(n.BootID)
	})
	t.check("system", fleet.CauseUnits, func() verdict { return a.systemUp(tctx, o, &t.out) })
	t.check("network", fleet.CauseNetwork, func() verdict { return a.networkBack(tctx, o) })
	t.programs(tctx)
	if t.problem == nil {
		t.check("one-shot", fleet.CauseBroken, func() verdict {
			if err := a.sys.OneShotProven(tctx); err != nil {
				return fail(err.Error(), "a boot loader that has forgotten the one-shot entry")
			}
			return pass("the boot loader forgot the one-shot entry by itself")
		})
	}
	if ctx.Err() != nil {
		return result{retry: context.Cause(ctx)}
	}
	o.Trial = &t.out
	if t.problem == nil {
		if err := a.sys.ChecksPassed(ctx, o.ID); err != nil {
			return result{retry: fmt.Errorf("tell the dead-man that the checks passed: %w", err)}
		}
		o.enter(fleet.PhasePassed, a.now())
		return result{next: &o}
	}
	o.revert(fleet.PhaseReverted, t.problem, a.now())
	return result{next: &o}
}

var errTrialTime = fmt.Errorf("the trial's time was over")

// trial collects what the checks say.
type trial struct {
	a       *Agent
	o       *operation
	out     fleet.Trial
	problem *fleet.Problem // the first; the others are in the checks
}

// verdict is what one check says.
type verdict struct {
	passed           bool
	detail, expected string
	evidence, next   string
}

func pass(detail string) verdict           { return verdict{passed: true, detail: detail} }
func fail(detail, expected string) verdict { return verdict{detail: detail, expected: expected} }

func (t *trial) check(name string, cause fleet.Cause, f func() verdict) {
	began := time.Now()
	v := f()
	t.out.Checks = append(t.out.Checks, fleet.Check{
		Name: name, Passed: v.passed, Detail: clip(v.detail, maxDetail), Sec: time.Since(began).Round(time.Millisecond).Seconds(),
	})
	if v.passed || t.problem != nil {
		return
	}
	t.problem = &fleet.Problem{
		Cause: cause, What: clip(fmt.Sprintf("check %s on %s: %s", name, t.o.Kernel.Release, v.detail), maxSentence),
		Expected: v.expected, Evidence: v.evidence, Next: v.next,
	}
}

// systemUp waits until nothing is left to start and no unit has failed that had not before.
func (a *Agent) systemUp(ctx context.Context, o operation, out *fleet.Trial) verdict {
	var old []string
	if o.Before != nil {
		old = o.Before.FailedUnits
	}
	expected := "the system up, with no more failed units than before"
	var upSince time.Duration
	for {
		s, err := a.sys.SystemState(ctx)
		broken := newlyFailed(old, s.FailedUnits)
		now := a.sys.Uptime()
		if err == nil && s.Up {
			if upSince == 0 {
				upSince = now
				out.BootSec = now.Round(time.Millisecond).Seconds()
			}
			if len(broken) == 0 {
				return pass(fmt.Sprintf("%s, %d failed units, as before", s.State, len(s.FailedUnits)))
			}
		} else {
			upSince = 0
		}
		over := upSince > 0 && now-upSince >= a.cfg.SettleUnits
		if !over && pause(ctx, lookEvery) {
			continue
		}
		switch {
		case err != nil:
			return fail(fmt.Sprintf("the system cannot be asked: %v", err), expected)
		case len(broken) > 0:
			v := fail("newly failed: "+strings.Join(broken, ", "), expected)
			v.next = "on the host: journalctl -b -1 -u " + broken[0]
			return v
		}
		return fail(fmt.Sprintf("the system is still %s after %s", s.State, now.Round(time.Second)), expected)
	}
}

// networkBack waits until the network is as good as before the reboot.
func (a *Agent) networkBack(ctx context.Context, o operation) verdict {
	if o.Before == nil {
		return pass("nothing to compare with")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.SettleNetwork, errTrialTime)
	defer cancel()
	for {
		net, err := a.sys.Network(ctx)
		bad := worse(o.Before.Network, net)
		if err == nil && len(bad) == 0 {
			return pass("as good as before the reboot")
		}
		if pause(ctx, lookEvery) {
			continue
		}
		if err != nil {
			return fail(fmt.Sprintf("the network cannot be looked at: %v", err), "the network as good as before the reboot")
		}
		v := fail(strings.Join(bad, "; "), "the network as good as before the reboot")
		v.evidence = "before:\n" + describe(o.Before.Network) + "now:\n" + describe(net)
		return v
	}
}

// programs runs the operator's checks.
func (t *trial) programs(ctx context.Context) {
	set, err := t.a.programs.Load()
	if err != nil {
		t.check("hooks", fleet.CauseCheck, func() verdict {
			v := fail("the operator's programs cannot be read: "+err.Error(), "files that could be read before the reboot")
			v.next = "mend the files named"
			return v
		})
		return
	}
	for _, p := range set.Of(hook.Check) {
		t.check(p.App, fleet.CauseCheck, func() verdict {
			r := t.a.programs.Run(ctx, p, t.a.env(t.o))
			if r.OK {
				return pass("exit code 0")
			}
			v := fail(r.What+lastLine(r.Output), "exit code 0 within "+p.Timeout.String())
			v.evidence, v.next = r.Output, "run it by hand: "+p.Command()
			return v
		})
	}
}

// pause waits and says whether there is still time.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
