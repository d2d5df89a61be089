package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// progress is where a host stands in the direction of the rollout.
type progress int

const (
	waiting progress = iota // may be wanted
	working                 // has an open operation
	done                    // committed
	given                   // a person took it out: skipped, left out, in maintenance, retired
	blocked                 // cannot be wanted now: held, silent, out of service
)

// progress says where h stands, and why, on the way forward.
func (s *stepper) progress(h PlanHost) (progress, string) {
	op, has := s.newest(h.ID)
	if has && committedForward(op) {
		return done, "committed"
	}
	if has && !op.Phase.Ended() && s.waitedFor(op) {
		return working, string(op.Phase)
	}
	return s.offered(h)
}

// waitedFor says whether an open operation is waited for. It is not when a person has given the host up while it
// was gone: it may never come back.
func (s *stepper) waitedFor(op *fleet.Operation) bool {
	if s.v.Status(op.Host) != fleet.StatusActive {
		return false
	}
	_, skipped := s.r.State.Skipped[op.Host]
	return !skipped || op.Problem == nil && s.v.Unheard(op.Host).IsZero()
}

// offered says whether a host without an open operation may be offered one.
func (s *stepper) offered(h PlanHost) (progress, string) {
	now := s.v.Host(h.ID)
	if why, ok := s.r.State.LeftOut[h.Type]; ok {
		return given, "its type is left out: " + why
	}
	if why, ok := s.r.State.Skipped[h.ID]; ok {
		return given, "skipped: " + why
	}
	if now.Status != fleet.StatusActive {
		return given, "in " + string(now.Status)
	}
	if why := s.heldWhy(h.ID); why != "" {
		return blocked, "waits for a person (retry or skip): " + why
	}
	if now.BusyWith != "" {
		return blocked, "another operation is open on it: " + now.BusyWith
	}
	if !now.Unheard.IsZero() {
		return blocked, "silent since " + now.Unheard.UTC().Format("2006-01-02 15:04:05Z")
	}
	if now.Distrusted != "" {
		return blocked, "it " + now.Distrusted
	}
	if now.Parked != "" {
		return blocked, "its agent is parked: " + now.Parked
	}
	if h.Type != "" && now.Type != "" && now.Type != h.Type {
		return blocked, fmt.Sprintf("it is of type %s now, it was planned as %s", now.Type, h.Type)
	}
	if !now.InService {
		return blocked, "not in service: " + now.NotInServiceWhy
	}
	return waiting, ""
}

// forward wants what the running stage still lacks, and ends the stage when it lacks nothing.
func (s *stepper) forward() {
	complete := false
	if s.r.State.Stage == 0 {
		complete = s.canaries()
	} else {
		complete = s.wave()
	}
	if complete {
		s.soak()
	}
}

// canaries lets the canaries of each type try the kernel, one after another, and approves the types whose canaries
// are all committed. It reports whether every type is approved, with nothing owing, or left out.
func (s *stepper) canaries() bool {
	complete := true
	for _, t := range s.awaited() {
		if !s.canariesOf(t) {
			complete = false
		}
	}
	return complete
}

// canariesOf wants the next canary of a type, or approves the type. It reports whether the type is approved.
func (s *stepper) canariesOf(t TypePlan) bool {
	var passed []fleet.HostID
	for _, id := range s.speakers(t) {
		switch p, _ := s.progress(PlanHost{ID: id, Type: t.ID}); p {
		case done:
			passed = append(passed, id)
			continue
		case waiting:
			s.decide(Want{Host: id, Stage: 0, Release: s.r.Plan.Kernel.Release})
		}
		return false
	}
	if len(passed) == 0 {
		return false // nobody tried it: no evidence is never a pass
	}
	s.decide(Approve{Type: t.ID, Evidence: s.evidence(passed)})
	return true
}

// speakers are the hosts that try the kernel for a type, in order: its canaries, but not those that a person has
// given up. Where none is left, the next host of the type takes their place. Empty: nobody can.
func (s *stepper) speakers(t TypePlan) (ids []fleet.HostID) {
	for _, id := range t.Canaries {
		if p, _ := s.progress(PlanHost{ID: id, Type: t.ID}); p != given {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		return ids
	}
	for _, h := range s.r.Plan.Hosts {
		if h.Type != t.ID {
			continue
		}
		if p, _ := s.progress(h); p != given {
			return []fleet.HostID{h.ID}
		}
	}
	return nil
}

// awaited are the types that stage 0 still waits for: they are not approved, or a canary that this rollout planned for them
// has neither passed nor been given up. What another rollout approved meanwhile does not make up for one that failed here.
func (s *stepper) awaited() (ts []TypePlan) {
	for _, t := range s.r.Plan.Types {
		if _, out := s.r.State.LeftOut[t.ID]; out {
			continue
		}
		owing := slices.ContainsFunc(t.Canaries, func(id fleet.HostID) bool {
			p, _ := s.progress(PlanHost{ID: id, Type: t.ID})
			return p != done && p != given
		})
		if _, ok := s.v.Approved(t.ID); !ok || owing {
			ts = append(ts, t)
		}
	}
	return ts
}

// evidence says what the canaries showed, and no more: one that ran the kernel already has had no trial.
func (s *stepper) evidence(passed []fleet.HostID) string {
	var tried, ran []fleet.HostID
	for _, id := range passed {
		if op, _ := s.newest(id); op.Trial.Tried() {
			tried = append(tried, id)
		} else {
			ran = append(ran, id)
		}
	}
	var parts []string
	if len(tried) > 0 {
		parts = append(parts, "trial passed on "+joinHosts(tried, 5))
	}
	if len(ran) > 0 {
		parts = append(parts, "ran already, without a trial, on "+joinHosts(ran, 5))
	}
	return strings.Join(parts, "; ")
}

// wave wants operations for the hosts of this stage and of earlier ones that are not done (a host that came back
// from maintenance catches up), and reports whether all of them are.
func (s *stepper) wave() bool {
	ahead := 0
	for h := range s.openHosts() {
		if op, ok := s.open(h.ID); ok && op.Phase.BeforeReboot() {
			ahead++
		}
	}
	complete := true
	for h := range s.undoneHosts() {
		if h.Stage > s.r.State.Stage || !complete && ahead >= PrepareAhead {
			break // nobody else can be wanted now
		}
		switch p, _ := s.progress(h); p {
		case done, given:
		case waiting:
			complete = false
			if ahead < PrepareAhead && s.trusted(h.Type) {
				ahead++
				s.decide(Want{Host: h.ID, Stage: s.r.State.Stage, Release: s.r.Plan.Kernel.Release})
			}
		default:
			complete = false
		}
	}
	return complete
}

// trusted says whether the kernel is approved for a type at this moment: an approval can be withdrawn or run out.
func (s *stepper) trusted(t fleet.HostTypeID) bool {
	_, ok := s.v.Approved(t)
	return ok
}

// soak watches a finished stage for its time, and then begins the next one, or ends the rollout.
func (s *stepper) soak() {
	st := s.r.State
	cur := st.Stages[st.Stage]
	if cur.SoakUntil.IsZero() && cur.Skipped == "" && s.r.Plan.Stages[st.Stage].Adds > 0 {
		until := s.now.Add(s.r.Spec.Soak)
		s.decide(Soak{Stage: st.Stage, Until: until})
		s.wakeAt(until)
		return
	}
	if s.now.Before(cur.SoakUntil) {
		s.wakeAt(cur.SoakUntil)
		return
	}
	if s.unwell() != "" {
		return // a missing answer is no success; its return, or a person, ends the wait
	}
	next := st.Stage + 1
	if next == len(s.r.Plan.Stages) {
		s.decide(Finish{OutcomeDone, "every stage is done"})
		return
	}
	a := Advance{To: next, Why: s.r.Plan.Name(st.Stage) + " is done"}
	if p := s.r.Plan.Stages[next]; p.Adds == 0 {
		a.Skipped = fmt.Sprintf("adds nobody: %d %% of %d hosts are the %d that are done already",
			p.Percent, len(s.r.Plan.Hosts), p.Upto)
	}
	s.decide(a)
	s.wakeAt(s.now) // the next stage has something to say at once
}

// heardAgainWithin is how long a host may be unheard without being unwell: right after the start of a control plane
// all of them are, and what they said last still stands.
const heardAgainWithin = 2 * time.Minute

// unwell names a host that has committed and is not what it was then; empty: all are.
func (s *stepper) unwell() string {
	for _, h := range s.r.Plan.Hosts {
		if h.Stage > s.r.State.Stage {
			break
		}
		now := s.v.Host(h.ID)
		_, skipped := s.r.State.Skipped[h.ID]
		if p, _ := s.progress(h); p != done || now.Status != fleet.StatusActive || skipped {
			continue
		}
		why := ""
		switch {
		case !now.Unheard.IsZero() && s.now.Sub(now.Unheard) > heardAgainWithin:
			why = "is silent since " + now.Unheard.UTC().Format("2006-01-02 15:04:05Z")
		case !now.InService:
			why = "is not in service: " + now.NotInServiceWhy
		case now.Release != s.r.Plan.Kernel.Release:
			why = "runs " + now.Release
		default:
			continue
		}
		return fmt.Sprintf("%s committed and %s", h.ID, why)
	}
	return ""
}

func joinHosts(ids []fleet.HostID, most int) string {
	out := ""
	for i, id := range ids {
		if i == most {
			return fmt.Sprintf("%s and %d more", out, len(ids)-most)
		}
		if i > 0 {
			out += ", "
		}
		out += string(id)
	}
	return out
}
