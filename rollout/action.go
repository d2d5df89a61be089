package rollout

import (
	"errors"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// Action is what a person can do to a rollout.
type Action struct {
	Kind ActionKind
	Host fleet.HostID     // Retry, Skip
	Type fleet.HostTypeID // LeaveOut
	Who  string
	Why  string
}

// ActionKind names an action, as the CLI does.
type ActionKind string

const (
	ActPause    ActionKind = "pause"     // want nothing until resumed
	ActResume   ActionKind = "resume"    // go on; what was held stays held
	ActAbort    ActionKind = "abort"     // drained hosts undrain, hosts in trial revert, committed ones stay
	ActRollback ActionKind = "rollback"  // as abort, then the previous kernel to the committed hosts
	ActRetry    ActionKind = "retry"     // offer the kernel again to a held host
	ActSkip     ActionKind = "skip"      // give up on a host in this rollout
	ActLeaveOut ActionKind = "leave-out" // give up on a type in this rollout
)

// Act changes the rollout as a person wants it, or says why that cannot be; then nothing has changed.
func (r *Rollout) Act(a Action, now time.Time) error {
	if err := r.act(a, now); err != nil {
		return &fleet.Error{
			Op: fmt.Sprintf("%s rollout %s", a.Kind, r.ID), Host: a.Host, Err: err,
			Next: fmt.Sprintf("see kernwave rollout status %s", r.ID),
		}
	}
	return nil
}

func (r *Rollout) act(a Action, now time.Time) error {
	st := &r.State
	reopen := a.Kind == ActRollback && st.Outcome == OutcomeDone || a.Kind == ActRollback && st.Outcome == OutcomeAborted
	if st.Outcome != "" && !reopen {
		return fmt.Errorf("it has ended: %s", st.Status())
	}
	by := a.Who
	if a.Why != "" {
		by += ": " + a.Why
	}
	switch a.Kind {
	case ActPause:
		if st.Goal == GoalAbort {
			return errors.New("it is being aborted, which leaves nothing to pause")
		}
		if st.Paused != "" {
			return fmt.Errorf("it is paused already: %s", st.Paused)
		}
		st.Paused = "paused by " + by
	case ActResume:
		if st.Paused == "" {
			return errors.New("it is not paused")
		}
		st.Paused = ""
	case ActAbort:
		switch st.Goal {
		case GoalAbort:
			return errors.New("it is being aborted already")
		case GoalRollback:
			return errors.New("it is being rolled back already")
		}
		st.Goal, st.Paused = GoalAbort, ""
	case ActRollback:
		if st.Goal == GoalRollback {
			return errors.New("it is being rolled back already")
		}
		st.Goal, st.Paused, st.Outcome, st.EndedAt = GoalRollback, "", "", time.Time{}
	case ActRetry:
		if _, ok := st.Held[a.Host]; !ok {
			return errors.New("the host is not held")
		}
		delete(st.Held, a.Host)
	case ActSkip:
		if !r.has(a.Host) {
			return errors.New("the host is not part of it")
		}
		put(&st.Skipped, a.Host, by)
		delete(st.Held, a.Host)
	case ActLeaveOut:
		if !r.Plan.HasType(a.Type) {
			return fmt.Errorf("type %q is not part of it", a.Type)
		}
		put(&st.LeftOut, a.Type, by)
	default:
		return fmt.Errorf("there is no action %q", a.Kind)
	}
	return nil
}

func (r *Rollout) has(id fleet.HostID) bool {
	for _, h := range r.Plan.Hosts {
		if h.ID == id {
			return true
		}
	}
	return false
}

// Begin is the state of a rollout that starts now. Types that the spec leaves out are left out by who.
func Begin(spec Spec, p Plan, who string, now time.Time) State {
	st := State{Goal: GoalForward, Stages: make([]StageState, len(p.Stages))}
	st.Stages[0].BeganAt = now
	for _, t := range spec.LeaveOut {
		put(&st.LeftOut, t, who+": left out at the start")
	}
	return st
}
