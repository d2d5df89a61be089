package sim

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/rollout"
)

// look is the person on call.
func (w *world) look() {
	if w.over() {
		w.ended = true
		return
	}
	w.after(lookEvery, w.look)
	if w.rnd.faults.yes(0.02) {
		w.impostor()
	}
	p := w.main
	if p == nil {
		return
	}
	if w.s.Operator.OnPause != OnPauseNothing {
		w.lookAtFrozen(p)
	}
	for _, st := range w.rollouts {
		row, ok := p.dir.rows.rollouts[st.id]
		stuck := row.status == "running" && len(row.state.Held) > 0 && w.now-w.progress > stuckAfter
		if !ok || st.paused || row.status != "paused" && !stuck {
			continue
		}
		what := w.s.Operator.OnPause
		if what == OnPauseNothing {
			continue
		}
		if what == OnPauseRandom {
			words := []string{OnPauseResume, OnPauseRetry, OnPauseSkip, OnPauseSkip, OnPauseLeaveOut, OnPauseAbort, OnPauseRollback}
			what = words[w.rnd.people.IntN(len(words))]
		}
		if stuck && what == OnPauseResume { // nothing is paused: the held hosts are what it waits for
			what = OnPauseSkip
		}
		st.paused = true
		w.after(w.rnd.people.about(w.s.Operator.After), func() { w.decide(st, what) })
	}
	if _, stopped := p.stop.Stopped(); stopped && w.s.Operator.ResumeRestored && w.liftAt == 0 {
		w.liftAt = w.now
		w.after(w.rnd.people.about(w.s.Operator.After), func() {
			again := func() { w.liftAt = 0 }
			w.lift(again, func(p *plane, err error) { w.note(&p.ring, "ada", "lifts the stop:", result(err)); w.liftAt = 0 })
		})
	}
}

// lookAtFrozen takes hosts out whose certificate two machines use.
func (w *world) lookAtFrozen(p *plane) {
	for _, id := range slices.Sorted(maps.Keys(p.dir.rows.frozen)) {
		if !p.dir.rows.frozen[id] || w.asked["frozen "+string(id)] || p.dir.rows.status[id] != fleet.StatusActive {
			continue
		}
		w.asked["frozen "+string(id)] = true
		again := func() { delete(w.asked, "frozen "+string(id)) }
		w.after(w.rnd.people.about(w.s.Operator.After), func() {
			w.person(func(p *plane) error {
				return p.api.SetHostStatus(context.Background(), account, id, fleet.StatusMaintenance, "two machines use its certificate")
			}, again, func(p *plane, err error) { w.note(&p.ring, "ada", "takes out "+string(id)+":", result(err)) })
		})
	}
}

// decide does what the person on call has decided about a pause.
func (w *world) decide(st *started, what string) {
	p := w.main
	over := func() { st.paused = false }
	if p == nil {
		over()
		return
	}
	row, ok := p.dir.rows.rollouts[st.id]
	if !ok || row.status != "paused" && row.status != "running" {
		over()
		return
	}
	w.progress = w.now
	var cs []operator.Change
	why := "ada looked at it"
	held := heldHosts(row.state)
	switch what {
	case OnPauseRetry:
		for _, h := range held {
			cs = append(cs, operator.Change{Rollout: st.id, Action: operator.ActionRetry, Host: h, Why: why})
		}
	case OnPauseSkip:
		for _, h := range held {
			cs = append(cs, operator.Change{Rollout: st.id, Action: operator.ActionSkip, Host: h, Why: why})
		}
	case OnPauseLeaveOut:
		var types []fleet.HostTypeID
		for _, h := range held {
			if one := w.byID[h]; one != nil && !slices.Contains(types, one.typ.id) {
				types = append(types, one.typ.id)
				cs = append(cs, operator.Change{Rollout: st.id, Action: operator.ActionLeaveOut, Type: one.typ.id, Why: why})
			}
		}
	case OnPauseAbort, OnPauseRollback:
		cs = append(cs, operator.Change{Rollout: st.id, Action: what, Why: why})
	}
	if what != OnPauseAbort && what != OnPauseRollback && row.status == "paused" {
		cs = append(cs, operator.Change{Rollout: st.id, Action: operator.ActionResume, Why: why})
	}
	w.one(cs, over)
}

// one does the first of several changes, and then the others.
func (w *world) one(cs []operator.Change, over func()) {
	if len(cs) == 0 {
		over()
		return
	}
	next := func() { w.one(cs[1:], over) }
	w.change(cs[0], next, func(p *plane, err error) {
		w.note(&p.ring, "ada", cs[0].Action, string(cs[0].Host)+string(cs[0].Type), result(err))
		next()
	})
}

// heldHosts are those that wait for a person, by name.
func heldHosts(s rollout.State) []fleet.HostID {
	var ids []fleet.HostID
	for id := range s.Held {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// over says whether nothing is left to happen that anybody waits for.
func (w *world) over() bool {
	if w.pending > 0 || w.main == nil || w.other != nil {
		return false
	}
	longest := 30 * time.Minute
	for _, st := range w.rollouts {
		row, ok := w.main.dir.rows.rollouts[st.id]
		if !ok {
			continue
		}
		soak := rollout.DefaultSoak
		if st.Soak != nil {
			soak = *st.Soak
		}
		if row.state.Outcome == "" {
			longest = max(longest, soak+10*time.Minute, 2*max(st.ReturnWithin, 15*time.Minute), 2*w.s.Operator.PowerCycleAfter)
			if w.s.Operator.OnPause != OnPauseNothing {
				longest += 2*w.s.Operator.After + stuckAfter
			}
			if st.paused {
				return false
			}
		}
	}
	done := true
	for _, st := range w.rollouts {
		row, ok := w.main.dir.rows.rollouts[st.id]
		done = done && (st.refused != "" || ok && row.state.Outcome != "")
	}
	if done && len(w.main.dir.rows.open) == 0 {
		longest = 5 * time.Minute
	}
	return w.now-w.progress > longest
}
