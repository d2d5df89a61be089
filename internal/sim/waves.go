package sim

import (
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/rollout"
)

const expectWaves = "a wave begins when everybody before it is done and that stage's soak is over, and no host gets the kernel before its wave"

// sawStage checks promise 3 when a rollout's row is written: one stage after the other, each done and soaked.
func (w *world) sawStage(p *plane, before rolloutRow, now *rolloutRow) {
	from, to := before.state.Stage, now.state.Stage
	if now.plan == nil {
		return
	}
	w.begun[now.id] = max(w.begun[now.id], to)
	if to == from {
		if began := now.soakUntil(from); !began.Equal(before.soakUntil(from)) {
			w.owes(p, now, from, "soaks in")
			now.doneAt = w.now
		}
		return
	}
	now.doneAt = 0
	if to != from+1 || to >= len(now.plan.Stages) {
		w.breaks(3, expectWaves, nil, p, "%s begins stage %d of %s after stage %d of %d", p.name, to, now.id, from, len(now.plan.Stages)-1)
		return
	}
	name := now.plan.Name(to)
	w.owes(p, now, from, "is over with")
	if soak := w.soakOf(now.id); now.plan.Stages[from].Adds > 0 && soak > 0 && (before.doneAt == 0 || w.now < before.doneAt+soak) {
		since := "never began"
		if before.doneAt != 0 {
			since = "began at " + clock(before.doneAt)
		}
		w.breaks(3, expectWaves, nil, p, "%s begins %s of %s; the soak of %s before it %s, and is asked for %s", p.name, name, now.id, now.plan.Name(from), since, soak)
	}
}

// owes checks that every host up to a stage has committed, or that a person has given it up.
func (w *world) owes(p *plane, row *rolloutRow, stage int, what string) {
	w.count(SeenChecks)
	r := p.dir.rows
	for _, h := range row.plan.Hosts {
		if h.Stage > stage || w.didCommit(h.ID, row.id) || r.status[h.ID] != fleet.StatusActive ||
			w.asked[row.id+" skip "+string(h.ID)] || w.asked[row.id+" leave-out "+string(h.Type)] {
			continue
		}
		w.breaks(3, expectWaves, w.machines(h.ID), p, "%s %s %s of %s, and %s has not committed", p.name, what, row.plan.Name(stage), row.id, h.ID)
		return
	}
}

// checkWave checks that a host that reboots into the new kernel does not come before its wave, in whichever store that began.
func (w *world) checkWave(h *host, op fleet.Operation, row rolloutRow, p *plane) {
	if at := max(op.Stage, row.stage[h.id]); op.Stage > 0 && at > w.begun[row.id] {
		w.breaks(3, expectWaves, []*host{h}, p, "%s reboots into the new kernel in stage %d of %s, which has come to stage %d",
			h.name, at, row.id, w.begun[row.id])
	}
}

// soakUntil is what a stage's row says; zero: it does not soak.
func (r rolloutRow) soakUntil(stage int) time.Time {
	if stage >= len(r.state.Stages) {
		return time.Time{}
	}
	return r.state.Stages[stage].SoakUntil
}

// soakOf is the soak that was asked for.
func (w *world) soakOf(id string) time.Duration {
	for _, st := range w.rollouts {
		if st.id == id && st.Soak != nil {
			return *st.Soak
		}
	}
	return rollout.DefaultSoak
}
