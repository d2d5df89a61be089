package rollout

import (
	"fmt"

	"github.com/kernwave/kernwave/fleet"
)

// Wishes are the operations that wish to leave service now, in plan order: prepared, or already holding a grant
// and not yet rebooted. A halted or aborted rollout wishes nothing. The arbiter decides who may.
func Wishes(v View) []fleet.Operation {
	s := &stepper{v: v, r: v.Rollout()}
	if s.halted() {
		return nil
	}
	var ws []fleet.Operation
	for _, h := range s.r.Plan.Hosts {
		op, ok := s.open(h.ID)
		if !ok {
			continue
		}
		if word, _ := s.word(op); word != fleet.WordNone || op.Word != fleet.WordNone {
			continue
		}
		switch op.Phase {
		case fleet.PhasePrepared, fleet.PhaseDraining, fleet.PhaseDrained:
			ws = append(ws, op)
		}
	}
	return ws
}

// MayReboot answers the last-moment question for an operation of this rollout: empty means yes.
func MayReboot(v View, id fleet.OperationID, host fleet.HostID) (whyNot string) {
	for _, op := range Wishes(v) {
		if op.ID == id && op.Host == host {
			return ""
		}
	}
	s := &stepper{v: v, r: v.Rollout()}
	switch op, ok := s.open(host); {
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
