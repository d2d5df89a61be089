package agent

import (
	"context"
	"fmt"

	"github.com/kernwave/kernwave/fleet"
)

// park refuses every operation from now on. The host goes back into service first, in case it was out of it.
//
// A boot that was a trial, and was not committed, is no place to be parked in: the dead-man would reboot the host while
// it serves, and the kernel may be what damaged the journal. It has failed its trial, like one on which the disk cannot
// be written, and the host, which is drained there, leaves it as it would leave any. Only where the boot loader has not
// forgotten the trial it stays: nothing would count the reboots.
func (a *Agent) park(ctx context.Context, err error) {
	next := afterDamage(err)
	a.parked = fmt.Sprintf("%v; next: %s", err, next)
	a.log.Error("parked: no operation is begun or gone on with", "err", err, "next", next)
	a.grant = nil
	o := operation{ID: a.trialBoot, FromRelease: a.release, FromBootID: a.bootID, End: fleet.PhaseFailed, Arming: true}
	o.enter(fleet.PhaseUndraining, a.now())
	if a.trialBoot != "" {
		facts, err := a.sys.Facts(ctx)
		switch {
		case err != nil:
			a.log.Error("whether this trial was committed cannot be found out; the host stays on it", "err", err, "next", "see what the error names")
		case facts.Boot.Default == a.release:
			// Committed, or a reboot into the same kernel: it is at home here.
			if err := a.sys.ChecksPassed(ctx, a.trialBoot); err != nil {
				a.log.Error("the dead-man cannot be told to stand down", "err", err, "next", "on the host: systemctl stop kernwave-deadman")
			}
		default:
			if err := a.sys.OneShotProven(ctx); err != nil {
				a.log.Error("the trial cannot be left by a reboot", "err", err, "next", "look at the boot loader's one-shot entry")
				break
			}
			o.FromRelease = facts.Boot.Default
			o.revert(fleet.PhaseReverted, &fleet.Problem{Cause: fleet.CauseBroken, What: "the journal cannot be believed on " + a.release}, a.now())
		}
	}
	a.op = &o
}
