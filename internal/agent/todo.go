package agent

import (
	"github.com/kernwave/kernwave/fleet"
)

// action is the next thing to do on the host for an operation. The phase that
// announces it is in the journal before it begins, and every action may be repeated.
type action string

const (
	doNothing action = ""
	doPrepare action = "prepare" // fetch, secure the way back, install
	doDrain   action = "drain"   // the drain programs, in order
	doLook    action = "look"    // what the trial is compared with
	doArm     action = "arm"     // set the new kernel for one boot
	doAsk     action = "ask"     // the last-moment question
	doGo      action = "go"      // reboot into the trial
	doTry     action = "try"     // the trial's checks
	doCommit  action = "commit"  // make it the default
	doReturn  action = "return"  // reboot out of the trial
	doDisarm  action = "disarm"  // take back what arm set, where it was not used
	doUndrain action = "undrain" // the undrain programs, backwards
	doReady   action = "ready"   // ask the ready programs once
)

// maxReturns bounds the reboots out of one trial. A loader that boots the trial again and again cannot be outwitted
// by one reboot more.
const maxReturns = 3

// todo says what comes next in the phase. doGo is never among it: only a fresh yes to doAsk leads there.
func todo(o *operation, n now) action {
	if o.ended() {
		return doNothing
	}
	switch o.Phase {
	case fleet.PhasePreparing:
		return doPrepare
	case fleet.PhaseDraining:
		return doDrain
	case fleet.PhaseDrained, fleet.PhaseRebooting:
		switch {
		case o.leaving(n):
			return doNothing
		case o.Before == nil || o.Before.BootID != n.BootID:
			return doLook
		case !o.Armed:
			return doArm
		}
		return doAsk
	case fleet.PhaseTrial:
		return doTry
	case fleet.PhaseCommitting:
		if !o.Committed {
			return doCommit
		}
		return intoService(o)
	case fleet.PhaseReverting:
		switch {
		case !o.onTrial(n):
			return intoService(o)
		case o.leaving(n) || o.Returns >= maxReturns:
			return doNothing
		}
		return doReturn
	case fleet.PhaseUndraining:
		return intoService(o)
	}
	return doNothing // prepared and passed wait for the control plane
}

func intoService(o *operation) action {
	switch {
	case o.Arming:
		return doDisarm
	case !o.Undrained:
		return doUndrain
	}
	return doReady
}

// endOf is where a phase that takes the host back into service leads.
func endOf(o operation) fleet.Phase {
	if o.Phase == fleet.PhaseCommitting {
		return fleet.PhaseCommitted
	}
	return o.End
}
