package rollout

import (
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// PrepareAhead is how many operations a rollout has open before their reboot at once. Hosts prepare while others
// are out of service, so that a grant is used as soon as it is there; but a wave of 75,000 hosts must not fetch
// its packages in one minute.
const PrepareAhead = 100

// Step returns what should change in v at now, and when to ask again if nothing happens before (zero: only when
// something happens). It reads no clock, draws no random number, does no I/O and does not modify v: the same
// arguments give the same decisions in the same order. A paused, stopped or ended rollout wants nothing.
//
// An ended rollout can still have an operation open, on a host that a person gave up while it was gone: when that
// host comes back, it gets its word. The decisions are to be saved in one transaction.
func Step(v View, now time.Time) (ds []Decision, wake time.Time) {
	s := newStepper(v)
	s.now = now
	s.watch()
	if !s.halted() {
		switch s.r.State.Goal {
		case GoalForward:
			s.forward()
		case GoalAbort:
			s.abort()
		case GoalRollback:
			s.rollback()
		}
	}
	return s.ds, s.wake
}

// stepper carries one Step.
type stepper struct {
	v    View
	r    *Rollout
	x    *Index // nil: v has none
	now  time.Time
	ds   []Decision
	wake time.Time
	// Decided in this very step, and so not in State yet.
	paused string
	held   map[fleet.HostID]string
}

func (s *stepper) decide(d Decision) { s.ds = append(s.ds, d) }

func (s *stepper) wakeAt(t time.Time) {
	if s.wake.IsZero() || t.Before(s.wake) {
		s.wake = t
	}
}

// halted says whether nothing new may be wanted.
func (s *stepper) halted() bool {
	return s.r.State.Outcome != "" || s.paused != "" || s.r.State.Paused != "" || s.v.Stopped() != ""
}

// open returns the operation of h that has not ended. It is the view's: nobody may change it.
func (s *stepper) open(h fleet.HostID) (*fleet.Operation, bool) {
	op, ok := s.newest(h)
	if !ok || op.Phase.Ended() {
		return nil, false
	}
	return op, true
}

// newest returns the newest operation of h, ended or not. It is the view's: nobody may change it.
func (s *stepper) newest(h fleet.HostID) (*fleet.Operation, bool) {
	ops := s.v.Operations(h)
	if len(ops) == 0 {
		return nil, false
	}
	return &ops[len(ops)-1], true
}

// watch takes note of what became of the operations: it finds lost hosts, raises anomalies, pauses for them, and
// gives every open operation its word.
func (s *stepper) watch() {
	for h := range s.watchedHosts() {
		op, ok := s.newest(h.ID)
		if !ok {
			continue
		}
		if p, lost := s.lost(op); lost {
			s.decide(Lose{Operation: op.ID, Host: h.ID, Problem: p})
			op = withProblem(*op, p)
		}
		s.settle(h, op)
	}
	for h := range s.openHosts() {
		op, ok := s.open(h.ID)
		if !ok {
			continue
		}
		if word, why := s.word(op); word != fleet.WordNone && word != op.Word {
			s.decide(Say{Operation: op.ID, Host: h.ID, Word: word, Why: why})
		}
	}
}

func withProblem(op fleet.Operation, p fleet.Problem) *fleet.Operation {
	op.Problem = &p
	return &op
}

// lost says whether the host of op has been gone for too long in a phase in which it is out of service.
func (s *stepper) lost(op *fleet.Operation) (fleet.Problem, bool) {
	if op.Phase.Ended() || op.Problem != nil || op.ConfirmedAt.IsZero() {
		return fleet.Problem{}, false
	}
	unheard := s.v.Unheard(op.Host)
	if unheard.IsZero() {
		return fleet.Problem{}, false
	}
	since := op.ConfirmedAt
	if op.Phase != fleet.PhaseDrained && op.Phase != fleet.PhaseRebooting && unheard.After(since) {
		since = unheard // it had come back, and went silent later
	}
	deadline := since.Add(s.r.Spec.ReturnWithin)
	if s.now.Before(deadline) {
		s.wakeAt(deadline)
		return fleet.Problem{}, false
	}
	return fleet.Problem{
		Cause:      fleet.CauseLost,
		What:       fmt.Sprintf("did not return: nothing heard for %s (last phase %s)", s.now.Sub(since).Round(time.Second), op.Phase),
		Expected:   fmt.Sprintf("back within %s of being told to reboot, on %s or on %s", s.r.Spec.ReturnWithin, op.Release, op.FromRelease),
		NoEvidence: "the host cannot be asked; look at its console",
		Next:       "power cycle the host from outside: a plain boot runs " + op.FromRelease,
	}, true
}

// settle takes note of a problem, once per operation.
func (s *stepper) settle(h PlanHost, op *fleet.Operation) {
	if op.Problem == nil || s.r.State.Settled[h.ID] == op.ID {
		return
	}
	why := op.Problem.What
	switch {
	case anomalous(op.Problem.Cause):
		a := Anomaly{Host: h.ID, Type: h.Type, Operation: op.ID, Stage: op.Stage, Problem: *op.Problem}
		s.decide(Raise{a})
		s.hold(h, op, why)
		// What the new kernel did speaks for the way back, not against it.
		pauses := s.r.State.Goal == GoalForward || s.r.State.Goal == GoalRollback && op.Stage == fleet.RollbackStage
		if !s.halted() && pauses {
			s.paused = fmt.Sprintf("%s (%s): %s", h.ID, h.Type, why)
			s.decide(Pause{Why: s.paused})
		}
	case op.Phase == fleet.PhaseRefused || op.Phase == fleet.PhaseFailed:
		s.hold(h, op, why)
	}
}

func (s *stepper) hold(h PlanHost, op *fleet.Operation, why string) {
	s.decide(Hold{Host: h.ID, Operation: op.ID, Why: why})
	put(&s.held, h.ID, why)
}

// heldWhy is why h waits for a person; empty: it does not.
func (s *stepper) heldWhy(h fleet.HostID) string {
	if why, ok := s.held[h]; ok {
		return why
	}
	return s.r.State.Held[h]
}

// anomalous says whether a cause speaks against the kernel or the host, and pauses. The others (a drain that
// failed, a refusal, a grant that ran out) happened in service and hold back the one host at most.
func anomalous(c fleet.Cause) bool {
	switch c {
	case fleet.CauseRefused, fleet.CauseDrain, fleet.CauseGrant, fleet.CauseTold:
		return false
	}
	return true
}

// word is what an open operation should be told.
func (s *stepper) word(op *fleet.Operation) (fleet.Word, string) {
	st := &s.r.State
	// A rollback's own operations are not called off by the rollback.
	goingBack := st.Goal == GoalAbort || st.Goal == GoalRollback && op.Stage != fleet.RollbackStage
	if op.Phase.BeforeReboot() {
		switch {
		case goingBack || st.Outcome != "":
			return fleet.WordCancel, "the rollout is " + st.Status()
		case s.v.Stopped() != "":
			return fleet.WordCancel, "everything is stopped: " + s.v.Stopped()
		case s.paused != "":
			return fleet.WordCancel, "the rollout is paused: " + s.paused
		case st.Paused != "":
			return fleet.WordCancel, "the rollout is paused: " + st.Paused
		}
		if why := s.leftOut(op); why != "" {
			return fleet.WordCancel, why
		}
		if op.Problem != nil && anomalous(op.Problem.Cause) {
			// Its journal went backwards, say: it must not come to its reboot a second time unasked.
			return fleet.WordCancel, "it waits for a person: " + op.Problem.What
		}
		return fleet.WordNone, ""
	}
	switch {
	case goingBack && (op.Phase == fleet.PhaseRebooting || op.Phase == fleet.PhaseTrial || op.Phase == fleet.PhasePassed):
		return fleet.WordRevert, "the rollout is " + st.Status()
	case op.Phase == fleet.PhasePassed && op.Word != fleet.WordRevert:
		return fleet.WordCommit, "its trial passed"
	}
	return fleet.WordNone, ""
}

// leftOut says whether a person has taken the host of op out of the rollout since it began.
func (s *stepper) leftOut(op *fleet.Operation) string {
	if why, ok := s.r.State.Skipped[op.Host]; ok {
		return "the host is skipped: " + why
	}
	if status := s.v.Status(op.Host); status != fleet.StatusActive {
		return "the host is in " + string(status)
	}
	if h, ok := s.find(op.Host); ok {
		if why, ok := s.r.State.LeftOut[h.Type]; ok {
			return "its type is left out: " + why
		}
	}
	return ""
}

// abort ends when nothing is open any more.
func (s *stepper) abort() {
	for h := range s.openHosts() {
		if op, ok := s.open(h.ID); ok && s.waitedFor(op) {
			return
		}
	}
	s.decide(Finish{OutcomeAborted, "every operation has ended; committed hosts keep the kernel"})
}
