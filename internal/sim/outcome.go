package sim

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// afterItsWave is where a host is harmed that had committed: it was not caught by what it tried itself.
const afterItsWave = "after its wave"

// pausedSince says whether the control plane has decided on a pause since then.
func (w *world) pausedSince(at time.Duration) bool {
	return slices.ContainsFunc(w.rollouts, func(st *started) bool {
		return slices.ContainsFunc(st.pauses, func(p Pause) bool { return p.At >= at })
	})
}

// harm notes that the new kernel hurt h. Only the first time counts: it is the same host all along.
func (h *host) harm(how string) {
	w := h.w
	h.w.count("harm-" + how)
	if h.truth.harmed != nil {
		return
	}
	h.truth.harmed = &Harm{Host: h.name, Type: h.typ.Name, At: w.now, How: how, Caught: afterItsWave}
	if w.unstopped < 0 {
		w.unstopped = w.now
	}
	h.note("is harmed by the new kernel:", how)
	if h.a.Ended() || w.main == nil {
		return
	}
	r := w.main.dir.rows
	if op, ok := r.ops[h.opID()]; ok {
		if row := r.rollouts[op.Owner]; row.plan != nil && op.Stage >= 0 && op.Stage < len(row.plan.Stages) {
			h.truth.harmed.Caught = row.plan.Name(op.Stage)
		}
	}
}

// sawPause notes a pause that the control plane decided on.
func (w *world) sawPause(id, why string) {
	if strings.HasPrefix(why, "paused by") {
		return
	}
	w.count("pause")
	one := Pause{At: w.now, Why: why}
	if w.unstopped >= 0 {
		one.After = w.now - w.unstopped
	}
	w.unstopped = -1
	for _, st := range w.rollouts {
		if st.id == id {
			st.pauses = append(st.pauses, one)
		}
	}
}

// outcome is the result, from what is true at the end.
func (w *world) outcome() {
	res := &w.res
	res.Hosts = len(w.byID)
	res.Broken = w.fail
	if w.fail != nil {
		w.fail.Replay = fmt.Sprintf("kernwave sim run %s --seed %d", w.s.Name, w.opt.Seed)
	}
	for _, h := range w.hosts {
		t := &h.truth
		if t.out && w.now-t.outSince > t.longest.For {
			t.longest = Outage{Host: h.name, For: w.now - t.outSince, Why: t.outWhy, Open: true}
		}
		if t.longest.For > res.Outage.For {
			res.Outage = t.longest
		}
		if t.harmed == nil {
			continue
		}
		one := *t.harmed
		one.Back = !t.out
		end := t.harmEnds
		if end == 0 {
			end = w.now
		}
		one.Out = end - one.At
		if one.Caught == afterItsWave && !w.pausedSince(one.At) {
			one.Caught = "never" // nothing that the control plane watches has shown it
		}
		one.Runs = "old"
		if h.newKernel() {
			one.Runs = "new"
		}
		res.Harmed = append(res.Harmed, one)
	}
	slices.SortStableFunc(res.Harmed, func(a, b Harm) int { return cmp.Compare(a.At, b.At) })
	for _, st := range w.rollouts {
		res.Rollouts = append(res.Rollouts, w.rolloutEnd(st))
	}
}

// rows are those of the control plane that answers at the end, or answered last.
func (w *world) rows() *rows {
	if w.main != nil {
		return w.main.dir.rows
	}
	return w.lastRows
}

func (w *world) rolloutEnd(st *started) RolloutEnd {
	end := RolloutEnd{ID: st.id, Refused: st.refused, Pauses: st.pauses}
	row, ok := w.rows().rollouts[st.id]
	if !ok || row.plan == nil {
		if st.id != "" {
			end.Status, end.Why = "unknown", "the store of the control plane that answers at the end does not have it"
		}
		return end
	}
	s := row.state
	end.Status, end.Why, end.Excluded = row.status, s.Paused, len(row.plan.Excluded)
	since := func(t time.Time) time.Duration {
		if t.IsZero() {
			return 0
		}
		return t.Sub(epoch)
	}
	if s.Outcome == "" && end.Why == "" && w.main != nil {
		w.main.killIn, w.main.sickTo = 0, 0
		if r, err := w.main.api.GetRollout(context.Background(), account, st.id); err == nil {
			end.Why = r.Next
		}
	}
	began := since(s.Stages[0].BeganAt)
	end.Lasted = w.now - began
	if !s.EndedAt.IsZero() {
		end.Lasted = since(s.EndedAt) - began
	}
	harmed := map[string]int{}
	byType := map[string]int{}
	for _, h := range w.res.Harmed {
		harmed[h.Caught]++
		byType[h.Type]++
	}
	for i, sp := range row.plan.Stages {
		end.Stages = append(end.Stages, StageEnd{
			Name: row.plan.Name(i), Hosts: sp.Adds, Harmed: harmed[row.plan.Name(i)],
			Began: since(s.Stages[i].BeganAt), Ended: since(s.Stages[i].EndedAt),
		})
	}
	types := map[fleet.HostTypeID]int{}
	for _, t := range row.plan.Types {
		one := TypeEnd{Name: w.typeName(t.ID), Hosts: t.Hosts, LeftOut: s.LeftOut[t.ID] != ""}
		one.Harmed = byType[one.Name]
		types[t.ID] = len(end.Types)
		end.Types = append(end.Types, one)
	}
	for _, h := range row.plan.Hosts {
		if w.didCommit(h.ID, st.id) {
			end.Stages[h.Stage].Committed++
			end.Types[types[h.Type]].Committed++
		}
	}
	for i, t := range row.plan.Types {
		end.Types[i].Approved = len(t.Canaries) == 0 || slices.ContainsFunc(t.Canaries, func(c fleet.HostID) bool { return w.didCommit(c, st.id) })
	}
	return end
}

// typeName is the scenario's name of a host type.
func (w *world) typeName(id fleet.HostTypeID) string {
	for _, t := range w.types {
		if t.id == id {
			return t.Name
		}
	}
	return string(id)
}
