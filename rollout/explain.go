package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// Reason says why something is where it is, and what can be done.
type Reason struct {
	Why  string // one sentence without full stop
	Next string // what a person can do; empty: nothing is needed
}

// Explain says why host id is where it is: the binding constraint, computed by the code that Step uses. waits is
// what the arbiter says about an operation that waits for its grant (grant.Explain); it may be nil.
func Explain(v View, id fleet.HostID, now time.Time, waits func(fleet.OperationID) string) Reason {
	s := newStepper(v)
	s.now = now
	h, in := s.find(id)
	if !in {
		for _, e := range s.r.Plan.Excluded {
			if e.ID == id {
				return Reason{Why: fmt.Sprintf("not part of rollout %s: %s", s.r.ID, e.Why)}
			}
		}
		return Reason{
			Why:  fmt.Sprintf("not part of rollout %s: it was not selected, or joined the fleet later", s.r.ID),
			Next: "start another rollout that selects it",
		}
	}
	if op, ok := s.open(id); ok {
		return s.explainOpen(op, waits)
	}
	if s.r.State.Goal == GoalRollback {
		return s.explainBack(h)
	}
	p, why := s.progress(h)
	switch {
	case p == done:
		return Reason{Why: "it runs " + s.r.Plan.Kernel.Release + ", committed"}
	case p == given:
		return Reason{Why: why}
	case s.r.State.Held[id] != "":
		return Reason{Why: why, Next: fmt.Sprintf("kernwave rollout retry %s %s, or kernwave rollout skip %s %s --why …", s.r.ID, id, s.r.ID, id)}
	case s.r.State.Outcome != "":
		return Reason{Why: "the rollout has ended: " + s.r.State.Status()}
	case s.v.Stopped() != "":
		return Reason{Why: "everything is stopped: " + s.v.Stopped(), Next: "kernwave stop lift"}
	case s.r.State.Paused != "":
		return Reason{Why: "the rollout is paused: " + s.r.State.Paused, Next: "kernwave incidents, then kernwave rollout resume " + string(s.r.ID)}
	case s.r.State.Goal == GoalAbort:
		return Reason{Why: "the rollout is being aborted"}
	case p == blocked:
		return Reason{Why: why, Next: s.unblock(h)}
	}
	return s.explainTurn(h)
}

// explainTurn says why it is not yet the turn of a host that could be wanted.
func (s *stepper) explainTurn(h PlanHost) Reason {
	st := s.r.State
	if st.Stage == 0 {
		if why := s.explainCanary(h); why != "" {
			return Reason{Why: why}
		}
	}
	if h.Stage > st.Stage {
		return Reason{Why: fmt.Sprintf("it is planned for %s; %s is running: %s", s.r.Plan.Name(h.Stage), s.r.Plan.Name(st.Stage), s.waitsFor())}
	}
	if !s.trusted(h.Type) {
		return Reason{
			Why:  fmt.Sprintf("the kernel is not approved for its type %s", h.Type),
			Next: fmt.Sprintf("kernwave rollout leave-out %s %s --why …, or start a new rollout with canaries", s.r.ID, h.Type),
		}
	}
	return Reason{Why: fmt.Sprintf("its turn comes as soon as fewer than %d hosts of the rollout are preparing", PrepareAhead)}
}

// explainCanary says when h tries the kernel for its type; empty: it is not chosen for that.
func (s *stepper) explainCanary(h PlanHost) string {
	for _, t := range s.awaited() {
		if t.ID != h.Type {
			continue
		}
		speakers := s.speakers(t)
		if !slices.Contains(speakers, h.ID) {
			return ""
		}
		for _, c := range speakers {
			if c == h.ID {
				return "it is next to try the kernel for its type"
			}
			if p, why := s.progress(PlanHost{ID: c, Type: t.ID}); p != done {
				return fmt.Sprintf("it tries the kernel after %s, which is not done: %s", c, why)
			}
		}
	}
	return ""
}

func (s *stepper) explainBack(h PlanHost) Reason {
	from := s.backTo(h.ID)
	if from == "" && s.movedOn(h.ID) {
		return Reason{Why: "the rollout is going back, and this host has nothing to go back from: it runs " + s.v.Host(h.ID).Release}
	}
	if from == "" {
		return Reason{Why: "the rollout is going back, and this host has nothing to go back from"}
	}
	switch p, why := s.offeredBack(h); p {
	case blocked, given:
		return Reason{Why: "it cannot go back to " + from + " now: " + why, Next: s.unblock(h)}
	}
	return Reason{Why: "it is about to go back to " + from}
}

func (s *stepper) explainOpen(op *fleet.Operation, waits func(fleet.OperationID) string) Reason {
	if op.Problem != nil {
		return Reason{Why: op.Problem.What, Next: op.Problem.Next}
	}
	if op.Word == fleet.WordCancel && op.Phase.BeforeReboot() {
		return Reason{Why: "it is being called off: " + op.WordWhy}
	}
	if u := s.v.Unheard(op.Host); !u.IsZero() && !s.rebooting(op) {
		return Reason{
			Why:  fmt.Sprintf("silent since %s, in phase %s", u.UTC().Format("2006-01-02 15:04:05Z"), op.Phase),
			Next: fmt.Sprintf("look at the host's console; if it is gone: kernwave host maintenance %s --why …", op.Host),
		}
	}
	switch op.Phase {
	case fleet.PhasePlanned:
		return Reason{Why: "it was told to prepare " + op.Release + " and has not answered yet"}
	case fleet.PhasePreparing:
		return Reason{Why: "it is fetching and installing " + op.Release}
	case fleet.PhasePrepared:
		if waits != nil {
			if why := waits(op.ID); why != "" {
				return Reason{Why: "prepared, waits for its grant: " + why}
			}
		}
		return Reason{Why: "prepared, its grant comes with the next check-in"}
	case fleet.PhaseDraining, fleet.PhaseUndraining:
		return Reason{Why: "it is " + string(op.Phase)}
	case fleet.PhaseDrained:
		if op.ConfirmedAt.IsZero() {
			return Reason{Why: "it is drained, and asks next whether it may reboot"}
		}
		return Reason{Why: "it is rebooting into " + op.Release}
	case fleet.PhaseRebooting:
		return Reason{Why: "it is rebooting into " + op.Release}
	case fleet.PhaseTrial:
		return Reason{Why: "it runs " + op.Release + " on trial, its checks are running"}
	case fleet.PhasePassed:
		return Reason{Why: "its trial of " + op.Release + " passed, it waits for the word to commit"}
	}
	return Reason{Why: "it is " + string(op.Phase)}
}

// rebooting says whether op's host is silent because it was told to reboot.
func (s *stepper) rebooting(op *fleet.Operation) bool {
	return op.Phase == fleet.PhaseRebooting || op.Phase == fleet.PhaseDrained && !op.ConfirmedAt.IsZero()
}

func (s *stepper) unblock(h PlanHost) string {
	now := s.v.Host(h.ID)
	switch {
	case now.Distrusted != "":
		return fmt.Sprintf("see kernwave host show %s and kernwave incidents", h.ID)
	case now.Parked != "":
		return "see kernwave-agent doctor on the host"
	case !now.Unheard.IsZero():
		return fmt.Sprintf("look at the host, or: kernwave host maintenance %s --why …", h.ID)
	case h.Type != "" && now.Type != "" && now.Type != h.Type:
		return fmt.Sprintf("kernwave rollout skip %s %s --why …, and start another rollout that plans it as what it is", s.r.ID, h.ID)
	}
	return ""
}
