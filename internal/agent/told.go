package agent

import (
	"strings"

	"github.com/kernwave/kernwave/fleet"
)

// What a host tells a control plane that has forgotten it: see [fleet.History].
const (
	// maxTold bounds how many operations that are over are told: a backup that is older than so many operations of one
	// host is older than it is of use.
	maxTold = 24
	// maxToldText and maxToldChecks keep all of them below 96 KiB, which is what a control plane accepts.
	maxToldText   = 800
	maxToldChecks = 16
)

// past is what a host remembers of operations that are over, oldest first.
type past []fleet.OperationReport

// with adds o, or replaces what was known of it. The newest maxTold stay.
func (p past) with(o operation) past {
	r := *o.report(now{BootID: o.BootID, Uptime: o.Since})
	r.Problem = short(r.Problem)
	if t := r.Trial; t != nil {
		few := *t
		few.Checks = nil
		for _, c := range t.Checks[:min(len(t.Checks), maxToldChecks)] {
			few.Checks = append(few.Checks, fleet.Check{Name: clip(c.Name, 64), Passed: c.Passed})
		}
		r.Trial = &few
	}
	out := make(past, 0, maxTold+1)
	for _, x := range p {
		if x.ID != r.ID {
			out = append(out, x)
		}
	}
	out = append(out, r)
	return out[max(0, len(out)-maxTold):]
}

// history is what is sent of it.
func (p past) history() *fleet.History {
	return &fleet.History{Ended: append([]fleet.OperationReport(nil), p...)}
}

// short keeps what decides, and the end of the evidence, where panics say why.
func short(p *fleet.Problem) *fleet.Problem {
	if p == nil {
		return nil
	}
	s := *p
	s.What, s.Expected, s.Next, s.NoEvidence = clip(p.What, maxToldText), clip(p.Expected, maxToldText), clip(p.Next, maxToldText), clip(p.NoEvidence, maxToldText)
	if over := len(p.Evidence) - maxToldText; over > 0 {
		s.Evidence = "…" + strings.ToValidUTF8(p.Evidence[over:], "")
	}
	return &s
}
