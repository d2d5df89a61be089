package rollout

import (
	"fmt"

	"github.com/kernwave/kernwave/fleet"
)

// Wishes are the operations that wish to leave service now, in plan order: prepared, or already holding a grant
// and not yet rebooted. They are the view's: nobody may change them. A halted or aborted rollout wishes nothing. The
// arbiter decides who may.
func Wishes(v View) []*fleet.Operation {
	s := newStepper(v)
	if s.halted() {
		return nil
	}
	var ws []*fleet.Operation
	for h := range s.openHosts() {
		if op, ok := s.open(h.ID); ok && s.wishes(op) {
			ws = append(ws, op)
		}
	}
	return ws
}

// wishes says whether an open operation of a rollout that is not halted wishes to leave service, or to stay out.
func (s *stepper) wishes(op *fleet.Operation) bool {
	switch op.Phase {
	case fleet.PhasePrepared, fleet.PhaseDraining, fleet.PhaseDrained:
		word, _ := s.word(op)
		return word == fleet.WordNone && op.Word == fleet.WordNone
	}
	return false
}

// MayReboot answers the last-moment question for an operation of this rollout: empty means yes.
func MayReboot(v View, id fleet.OperationID, host fleet.HostID) (whyNot string) {
	return mayReboot(v, id, host, false)
}

// MayRebootAgain is MayReboot for a host that had its yes, said that it was rebooting, and has not: its agent was
// restarted in between, and asks again on the same boot.
func MayRebootAgain(v View, id fleet.OperationID, host fleet.HostID) (whyNot string) {
	return mayReboot(v, id, host, true)
}

func mayReboot(v View, id fleet.OperationID, host fleet.HostID, again bool) (whyNot string) {
	s := newStepper(v)
	op, ok := s.open(host)
	if again && ok && op.Phase == fleet.PhaseRebooting {
		still := *op
		still.Phase = fleet.PhaseDrained // which it still is
		op = &still
	}
	switch {
	case ok && op.ID == id && s.has(host) && !s.halted() && s.wishes(op):
		return ""
	case v.Stopped() != "":
		return "everything is stopped: " + v.Stopped()
	case s.r.State.Outcome != "" || s.r.State.Paused != "":
		return "the rollout is " + s.r.State.Status() + ": " + s.r.State.Paused
	case !ok || op.ID != id:
		return "no such operation is open on this host"
	default:
		if word, why := s.word(op); word != fleet.WordNone {
			return why
		}
		if op.Word != fleet.WordNone {
			return op.WordWhy
		}
		return fmt.Sprintf("the operation is in phase %s", op.Phase)
	}
}
