package rollout

import (
	"slices"

	"github.com/kernwave/kernwave/fleet"
)

// rollback brings the previous kernel to every host that this rollout committed, the latest first, with trial and
// commit like any update. It ends when all of them are back or a person gave up on them.
func (s *stepper) rollback() {
	ahead, complete := 0, true
	for h := range s.openHosts() {
		if op, ok := s.open(h.ID); ok && s.waitedFor(op) {
			complete = false
			if op.Phase.BeforeReboot() {
				ahead++
			}
		}
	}
	for _, h := range slices.Backward(s.r.Plan.Hosts) {
		if !complete && ahead >= PrepareAhead {
			break // nobody else can be wanted now
		}
		from := s.backTo(h.ID)
		if from == "" {
			continue
		}
		// On the way back a type that was left out is still brought back: leaving out means "no new kernel".
		switch p, _ := s.offeredBack(h); p {
		case waiting:
			complete = false
			if ahead < PrepareAhead {
				ahead++
				s.decide(Want{Host: h.ID, Stage: fleet.RollbackStage, Release: from})
			}
		case blocked, working:
			complete = false
		}
	}
	if complete {
		s.decide(Finish{OutcomeRolledBack, "every host that had committed is back on its previous kernel, has got another one since, or was given up by a person"})
	}
}

// backTo is the release that h has to be brought back to; empty: it has not committed, is back already, or has got
// yet another kernel since, which is not this rollout's to take away.
func (s *stepper) backTo(h fleet.HostID) string {
	if s.movedOn(h) {
		return ""
	}
	from := ""
	for _, op := range s.v.Operations(h) {
		if op.Phase != fleet.PhaseCommitted {
			continue
		}
		if op.Stage == fleet.RollbackStage {
			from = ""
		} else {
			from = op.FromRelease
		}
	}
	return from
}

// GoesBack says whether a rollback would have any host to bring back.
func GoesBack(v View) bool {
	s := newStepper(v)
	return slices.ContainsFunc(s.r.Plan.Hosts, func(h PlanHost) bool { return s.backTo(h.ID) != "" })
}

// movedOn says whether h neither runs the rollout's kernel nor will at its next plain boot.
func (s *stepper) movedOn(h fleet.HostID) bool {
	k, now := s.r.Plan.Kernel.Release, s.v.Host(h)
	return now.Release != k && now.Default != k && now.Default != ""
}

func (s *stepper) offeredBack(h PlanHost) (progress, string) {
	if op, ok := s.open(h.ID); ok && s.waitedFor(op) {
		return working, string(op.Phase)
	}
	p, why := s.offered(PlanHost{ID: h.ID, Stage: h.Stage}) // without its type: see rollback
	return p, why
}
