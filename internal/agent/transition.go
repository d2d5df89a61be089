package agent

import (
	"fmt"

	"github.com/kernwave/kernwave/fleet"
)

// begin is the first snapshot of an operation that the control plane wants.
func begin(d fleet.DesiredOperation, seq int, n now) operation {
	o := operation{
		Seq: seq, ID: d.ID, Kind: d.Kind, Kernel: d.Kernel, TrialDeadline: d.TrialDeadline,
		Owner: d.Owner, Stage: d.Stage,
		FromRelease: n.Release, FromBootID: n.BootID,
	}
	if o.TrialDeadline <= 0 {
		o.TrialDeadline = defaultTrialDeadline
	}
	o.enter(fleet.PhasePreparing, n)
	return o
}

// obey says what a fresh answer makes of an operation. d is what the control plane wants of the host, whether or not
// it is this operation; g is the grant that came with it, nil for none.
func obey(o operation, d *fleet.DesiredOperation, g *heldGrant, n now) operation {
	var word fleet.Word
	why := "the control plane no longer wants the operation"
	switch {
	case d == nil:
	case d.ID == o.ID:
		word, why = d.Word, d.WordWhy
	default:
		// After the reboot, too: nobody will say commit any more. Nil says nothing there; a trial waits.
		word, why, d = fleet.WordRevert, "the control plane wants operation "+string(d.ID)+" instead", nil
	}
	told := func() *fleet.Problem {
		if why == "" {
			why = "the control plane said " + string(word)
		}
		return &fleet.Problem{Cause: fleet.CauseTold, What: why}
	}
	switch o.Phase {
	case fleet.PhasePreparing, fleet.PhasePrepared:
		switch {
		case d == nil || word == fleet.WordCancel || word == fleet.WordRevert:
			o.goBack(fleet.PhaseCancelled, told(), n)
		case o.Phase == fleet.PhasePrepared && g.liveAt(n):
			o.Grant = g
			o.enter(fleet.PhaseDraining, n)
		}
	case fleet.PhaseDraining, fleet.PhaseDrained, fleet.PhaseRebooting:
		switch {
		case o.leaving(n): // the machine goes down; nobody can call it back
		case d == nil || word == fleet.WordCancel || word == fleet.WordRevert:
			o.goBack(fleet.PhaseCancelled, told(), n)
		case g == nil:
			o.goBack(fleet.PhaseCancelled, &fleet.Problem{
				Cause: fleet.CauseGrant, What: "the control plane took the grant back before the reboot",
			}, n)
		case o.Grant == nil || g.ID != o.Grant.ID || g.Until-o.Grant.Until > (g.Until-g.Asked)/2:
			o.Grant = g // written, so that a restarted agent knows that it may go on
		}
	case fleet.PhaseTrial:
		if word == fleet.WordRevert {
			o.revert(fleet.PhaseReverted, told(), n)
		}
	case fleet.PhasePassed:
		switch word {
		case fleet.WordRevert:
			o.revert(fleet.PhaseReverted, told(), n)
		case fleet.WordCommit:
			o.enter(fleet.PhaseCommitting, n)
		}
	}
	return o
}

// lapse takes a host back into service whose grant has run out before the reboot.
func lapse(o operation, g *heldGrant, n now) operation {
	switch o.Phase {
	case fleet.PhaseDraining, fleet.PhaseDrained, fleet.PhaseRebooting:
		if !g.liveAt(n) && !o.leaving(n) {
			o.goBack(fleet.PhaseCancelled, &fleet.Problem{
				Cause: fleet.CauseGrant, What: "the grant ran out before the reboot",
				Expected: "a grant that lives until the reboot: the control plane renews it at each check-in",
				Next:     "see whether the host can reach the control plane; it asks for a grant again by itself",
			}, n)
		}
	}
	return o
}

// lastBoot is what can be found out about a boot that did not end as it should.
type lastBoot struct {
	DeadMan   bool
	CrashText string
	NoCrash   string // why there is no crash text
}

// resume says what a boot, or a restart of the agent in the same boot, makes of an operation.
func resume(o operation, n now, last lastBoot) operation {
	sameBoot := o.BootID == n.BootID
	if !sameBoot && !o.ended() {
		o.Undrained = false // by a boot that is over
	}
	target := o.Kernel.Release
	switch o.Phase {
	case fleet.PhasePreparing:
		o.Resumed = o.Resumed || sameBoot
		o.FromRelease, o.FromBootID = n.Release, n.BootID
	case fleet.PhasePrepared:
		if n.Release != o.FromRelease {
			o.Problem = &fleet.Problem{
				Cause: fleet.CauseInterrupted,
				What:  fmt.Sprintf("the host was rebooted from %s into %s while it waited for a grant", o.FromRelease, n.Release),
			}
			o.enter(fleet.PhaseRefused, n)
			break
		}
		o.FromBootID = n.BootID
	case fleet.PhaseDraining, fleet.PhaseDrained, fleet.PhaseUndraining:
		switch {
		case sameBoot:
		case o.Arming || o.onTrial(n):
			// The entry that was set for one boot was booted: now, or before it led back here.
			end := fleet.PhaseFellBack
			if o.onTrial(n) {
				end = fleet.PhaseReverted
			}
			o.revert(end, &fleet.Problem{
				Cause:    fleet.CauseInterrupted,
				What:     "the host rebooted by itself, or lost power, after the trial had been set and before it was allowed",
				Expected: "a trial that the control plane has confirmed",
				Evidence: last.CrashText, NoEvidence: last.NoCrash,
			}, n)
		case o.Phase == fleet.PhaseUndraining:
		default:
			o.goBack(fleet.PhaseFailed, &fleet.Problem{
				Cause: fleet.CauseInterrupted,
				What:  fmt.Sprintf("the host rebooted by itself, or lost power, while it was %s", o.Phase),
			}, n)
		}
	case fleet.PhaseRebooting:
		switch {
		case sameBoot:
			o.Reboot = nil // it never happened: ask again
		case o.onTrial(n):
			o.Arming = false // the loader has forgotten it; a check will tell
			o.Trial = &fleet.Trial{BootID: n.BootID, Release: n.Release}
			o.enter(fleet.PhaseTrial, n)
		default:
			o.revert(fleet.PhaseFellBack, fellBack(o, n, last), n)
		}
	case fleet.PhaseTrial, fleet.PhasePassed, fleet.PhaseCommitting:
		switch {
		case o.Trial != nil && o.Trial.BootID == n.BootID:
		case o.onTrial(n):
			o.revert(fleet.PhaseReverted, &fleet.Problem{
				Cause:    fleet.CauseBroken,
				What:     "the trial entry was booted a second time",
				Expected: "a boot loader that forgets a one-shot entry by itself",
				Next:     "look at GRUB's next_entry or systemd-boot's LoaderEntryOneShot; do not use this host until it is understood",
			}, n)
		case o.Phase == fleet.PhaseCommitting && n.Release == target:
			o.Committed = true // a plain boot runs it: it is the default
		default:
			o.revert(fleet.PhaseFellBack, fellBack(o, n, last), n)
		}
	case fleet.PhaseReverting:
		if o.leaving(n) { // the way back was asked for and did not happen
			o.Reboot, o.Returns = nil, o.Returns-1
		}
	}
	return o
}

// fellBack is the problem of a host that is on its old kernel without having been told.
func fellBack(o operation, n now, last lastBoot) *fleet.Problem {
	p := &fleet.Problem{
		Cause:      fleet.CauseNotBooted,
		Expected:   fmt.Sprintf("uname -r shows %s until commit or revert", o.Kernel.Release),
		Evidence:   last.CrashText,
		NoEvidence: last.NoCrash,
	}
	if p.Evidence != "" {
		p.NoEvidence = ""
	}
	if p.Evidence == "" {
		p.Next = "look at the host's console of that boot before it gets the kernel again"
	}
	switch {
	case last.DeadMan:
		p.Cause = fleet.CauseDeadMan
		p.What = fmt.Sprintf("the dead-man rebooted the host: nobody told it within %s that the checks on %s had passed",
			o.TrialDeadline, o.Kernel.Release)
		p.Next = "see on the console or in the journal of that boot whether the agent was started"
	case o.Phase != fleet.PhaseRebooting:
		p.What = fmt.Sprintf("the host left %s by itself in phase %s, and came back on %s", o.Kernel.Release, o.Phase, n.Release)
	case last.CrashText != "":
		p.What = fmt.Sprintf("%s crashed at boot; the host came back on %s", o.Kernel.Release, n.Release)
	default:
		p.What = fmt.Sprintf("the host came back on %s: %s was not booted, panicked or hung", n.Release, o.Kernel.Release)
	}
	return p
}

// needsLastBoot says whether resume wants to know how the last boot ended: asking costs, and may clear the evidence.
func needsLastBoot(o operation, n now) bool {
	switch o.Phase {
	case fleet.PhaseDrained, fleet.PhaseUndraining:
		return o.BootID != n.BootID && o.Arming && !o.onTrial(n)
	case fleet.PhaseRebooting, fleet.PhaseTrial, fleet.PhasePassed, fleet.PhaseCommitting:
		return o.BootID != n.BootID && !o.onTrial(n) && !(o.Phase == fleet.PhaseCommitting && n.Release == o.Kernel.Release)
	}
	return false
}
