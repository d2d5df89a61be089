package sim

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// started is one rollout of the scenario.
type started struct {
	Rollout
	n       int
	id      string // empty: not yet, or never
	refused string
	paused  bool // the person on call has seen it, and will do something
	pauses  []Pause
	seen    string
}

// planPeople puts what people do by the clock into the queue.
func (w *world) planPeople() {
	for i, r := range w.s.Rollouts {
		st := &started{Rollout: r, n: i + 1}
		w.rollouts = append(w.rollouts, st)
		w.pending++
		w.q.push(r.At, func() { w.startRollout(st, 0) })
	}
	for _, a := range w.s.Actions {
		w.pending++
		if a.When == "" {
			w.q.push(a.At, func() { w.act(a, 0) })
			continue
		}
		w.awaitFor(a)
	}
	w.q.push(time.Minute, w.look)
}

// patience is how often a person tries again when nobody answers, and how long after.
const (
	tries    = 40
	tryAfter = 30 * time.Second
)

// person has a person ask the control plane for something. again is called when nobody answered, done otherwise.
func (w *world) person(ask func(p *plane) error, again func(), done func(p *plane, err error)) {
	p := w.main
	if w.other != nil && w.rnd.people.yes(0.5) {
		p = w.other
	}
	if p == nil {
		w.after(tryAfter, again)
		return
	}
	if free := p.free(); free > w.now {
		w.after(free-w.now, func() { w.person(ask, again, done) })
		return
	}
	var err error
	took, alive := p.call(func() { err = ask(p) })
	if !alive {
		w.killed(p)
		w.after(tryAfter, again)
		return
	}
	if err != nil && unavailable(err) {
		w.after(tryAfter, again)
		return
	}
	w.after(took+5*time.Millisecond, func() { done(p, err) })
}

// unavailable says whether asking again may help.
func unavailable(err error) bool {
	return strings.Contains(err.Error(), "unavailable") || strings.HasPrefix(err.Error(), "internal")
}

func (w *world) startRollout(st *started, n int) {
	spec := operator.RolloutSpec{
		Kernel: kernel.ID, Selector: st.Selector, Waves: st.Waves, Soak: st.Soak, Canaries: st.Canaries,
		ReturnWithin: st.ReturnWithin, TrialDeadline: st.TrialDeadline,
	}
	var got operator.Rollout
	w.person(func(p *plane) (err error) {
		got, err = p.api.StartRollout(context.Background(), account, spec, fmt.Sprint("rollout ", st.n))
		if err == nil {
			w.acknowledged(p, got.ID, "start")
			for _, h := range w.hosts { // a new one is a person's decision to offer it again
				delete(h.truth.failed, got.ID)
			}
		}
		return err
	}, func() {
		if n+1 < tries {
			w.startRollout(st, n+1)
			return
		}
		w.pending--
		st.refused = "nobody answered"
	}, func(p *plane, err error) {
		if err != nil && n < tries && (len(w.s.Faults) > 0) && st.waits(err) {
			w.after(time.Minute, func() { w.startRollout(st, n+1) })
			return
		}
		w.pending--
		if err != nil {
			st.refused = err.Error()
			w.note(&p.ring, "ada", "is refused a rollout:", err.Error())
			return
		}
		st.id = got.ID
		w.progress = w.now
		w.note(&p.ring, "ada", "starts rollout", got.ID, fmt.Sprintf("%d hosts", len(got.Hosts)))
	})
}

// waits says whether a refused start is tried again: while everything is stopped or the like, it may work later.
func (st *started) waits(err error) bool { return strings.Contains(err.Error(), "rebuil") }

// awaitFor does an action once its condition has come about.
func (w *world) awaitFor(a Action) {
	if w.conditionMet(a) {
		w.after(a.At, func() { w.act(a, 0) })
		return
	}
	w.after(time.Second, func() { w.awaitFor(a) })
}

func (w *world) conditionMet(a Action) bool {
	row, ok := w.row(max(a.Rollout, 1))
	if !ok {
		return false
	}
	if n, ok := strings.CutPrefix(a.When, "wave "); ok {
		i, err := strconv.Atoi(n)
		return err == nil && row.state.Stage >= i
	}
	return a.When == "canaries" || a.When == row.status
}

// row is what is committed of the n-th rollout of the scenario.
func (w *world) row(n int) (rolloutRow, bool) {
	if n > len(w.rollouts) || w.main == nil {
		return rolloutRow{}, false
	}
	row, ok := w.main.dir.rows.rollouts[w.rollouts[n-1].id]
	return row, ok
}

// act does one action of the scenario.
func (w *world) act(a Action, n int) {
	over := func() { w.pending-- }
	again := func() {
		if n+1 < tries {
			w.act(a, n+1)
			return
		}
		over()
	}
	done := func(p *plane, err error) {
		over()
		w.note(&p.ring, "ada", a.Do, a.Host+a.Type, result(err))
	}
	ctx := context.Background()
	switch a.Do {
	case DoStop:
		w.person(func(p *plane) error {
			warnings, err := p.api.Stop(ctx, account, "the scenario says so")
			if len(warnings) > 0 { // such as that another control plane has taken over: ask that one
				return errors.New("unavailable: " + warnings[0])
			}
			if err == nil && !p.dying {
				w.stopped(p)
			}
			return err
		}, again, done)
	case DoLift:
		w.lift(again, done)
	case DoMaintenance, DoActivate, DoRetire:
		status := map[string]fleet.Status{DoMaintenance: fleet.StatusMaintenance, DoActivate: fleet.StatusActive, DoRetire: fleet.StatusRetired}[a.Do]
		w.person(func(p *plane) error {
			id := fleet.HostID(a.Host)
			err := p.api.SetHostStatus(ctx, account, id, status, "the scenario says so")
			if got := p.dir.rows.status[id]; err == nil && got != status {
				w.breaks(6, "what is acknowledged is written", w.machines(id), p, "%s was acknowledged by %s as %s, and the store has it as %s", id, p.name, status, got)
			}
			return err
		}, again, done)
	case DoPowerCycle:
		over()
		if h := w.byID[fleet.HostID(a.Host)]; h != nil {
			h.powerCycle()
		}
	case DoBudget:
		w.person(func(p *plane) error {
			err := p.api.SetBudget(ctx, account, operator.Budget{By: a.Budget.By, Limit: a.Budget.Limit})
			if got := p.dir.rows.budgets[a.Budget.By]; err == nil && got != a.Budget.Limit {
				w.breaks(6, "what is acknowledged is written", nil, p, "a budget of %d by %s was acknowledged by %s, and the store has %d", a.Budget.Limit, a.Budget.By, p.name, got)
			}
			return err
		}, again, done)
	default:
		st := w.rollouts[max(a.Rollout, 1)-1]
		if st.id == "" {
			if st.refused != "" {
				over()
				return
			}
			w.after(tryAfter, again)
			return
		}
		c := operator.Change{Rollout: st.id, Action: a.Do, Host: fleet.HostID(a.Host), Why: "the scenario says so"}
		for _, t := range w.types {
			if a.Type != "" && t.Name == a.Type {
				c.Type = t.id
			}
		}
		w.change(c, again, done)
	}
}

func (w *world) lift(again func(), done func(*plane, error)) {
	w.person(func(p *plane) error {
		w.lifting(p)
		return p.api.LiftStop(context.Background(), account, "all is well")
	}, again, done)
}

// change asks for a change of a rollout.
func (w *world) change(c operator.Change, again func(), done func(*plane, error)) {
	w.person(func(p *plane) error {
		w.asks(p, c)
		_, err := p.api.ChangeRollout(context.Background(), account, c)
		if err == nil {
			w.acknowledged(p, c.Rollout, c.Action)
		}
		return err
	}, again, done)
}

func result(err error) string {
	if err != nil {
		return "refused: " + err.Error()
	}
	return "done"
}

// stuckAfter is how long a rollout may wait for held hosts until the person on call looks after it, paused or not.
const stuckAfter = 15 * time.Minute

// lookEvery is how often the person on call looks, and the world asks itself whether anything is left to happen.
const lookEvery = time.Minute
