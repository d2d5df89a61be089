package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

var errDisk = errors.New("the disk is broken")

// breaker breaks a store before its nth write or commit, or after the nth commit.
type breaker struct {
	at    int // 0: never
	n     int
	where string // it broke
}

func (b *breaker) fault(point string) error {
	if b.at == 0 {
		return nil
	}
	b.n++
	if b.n == b.at {
		b.where = point
		return errDisk
	}
	return nil
}

// prepared is a moment of a rollout from which a transaction is tried again and again.
type prepared struct {
	house   house // without its store and control plane
	hosts   []simHost
	store   sqlite.Snapshot
	rollout string
}

func (h *house) keep(rolloutID string) prepared {
	p := prepared{house: *h, store: h.snapshot(), rollout: rolloutID}
	for _, s := range h.hosts {
		one := *s
		if s.op != nil {
			op := *s.op
			one.op = &op
		}
		p.hosts = append(p.hosts, one)
	}
	return p
}

// again is a house as it was, on a store of its own that b can break, with a control plane that has just started.
func (p prepared) again(t *testing.T, b *breaker) *house { t.Helper(); return p.againOn(t, b.fault) }

func (p prepared) againOn(t *testing.T, fault func(string) error) *house {
	t.Helper()
	h := p.house
	h.t, h.hosts = t, nil
	for _, s := range p.hosts {
		one := s
		if s.op != nil {
			op := *s.op
			one.op = &op
		}
		h.hosts = append(h.hosts, &one)
	}
	st, err := sqlite.OpenSnapshot(p.store, sqlite.Options{Rand: rand.New(rand.NewSource(3)), Fault: fault})
	if err != nil {
		t.Fatal(err)
	}
	h.st = st
	h.restart()
	return &h
}

// rowsAll is everything that the store says, as text.
func (h *house) rowsAll() string {
	h.t.Helper()
	var all []any
	if err := h.st.View(h.t.Context(), func(r store.Reader) error {
		ask := func(v any, err error) error { all = append(all, v); return err }
		hs, err := r.Hosts()
		if err != nil {
			return err
		}
		for _, one := range hs {
			if err := ask(r.OperationsOn(one.ID, 0)); err != nil {
				return err
			}
		}
		rs, err := r.Rollouts()
		if err != nil {
			return err
		}
		seen, err := r.LastSeen()
		if err != nil {
			return err
		}
		all = append(all, hs, rs, seen)
		return errors.Join(ask(r.LiveGrants()), ask(r.Approvals("")), ask(r.Incidents(true)), ask(r.Events(store.EventQuery{})),
			ask(r.Budgets()), ask(r.Rebuild()))
	}); err != nil {
		h.t.Fatal(err)
	}
	b, err := json.Marshal(all)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

// TestStoreFaultAtEveryWrite breaks the store at every write, before every commit and after it, in each kind of
// transaction that the control plane makes. Whoever was told that it was done finds it done; else nothing of it is
// there. Then the same control plane goes on (the disk is well again), or a new one on the same rows (the process
// died): the rollout ends as it should, and the budget holds.
func TestStoreFaultAtEveryWrite(t *testing.T) {
	total := 0
	for _, c := range faultCases {
		t.Run(c.name, func(t *testing.T) {
			p := c.prepare(t)
			points := 0
			for run := 0; ; run++ {
				at, killed := run/2+1, run%2 == 1
				if testing.Short() {
					at, killed = run+1, run%2 == 1
				}
				b := &breaker{}
				h := p.again(t, b)
				for range c.heard {
					if err := checkInAll(h, p); err != nil {
						t.Fatal(err)
					}
				}
				h.c.lastSaved = h.now // that is a transaction of its own, below
				before := h.rowsAll()
				b.at = at
				err := c.do(h, p)
				b.at = 0
				if b.where == "" {
					if err != nil {
						t.Fatalf("without a fault: %v", err)
					}
					h.st.Close()
					break
				}
				points++
				after := h.rowsAll()
				checkWhole(t, c, p, b.where, err, before, after)
				if killed {
					h.restart()
				}
				c.settle(h, p)
				h.st.Close()
				if t.Failed() {
					return
				}
			}
			if points < c.least {
				t.Errorf("only %d points were tried", points)
			}
			t.Logf("%d faults", points)
			total += points
		})
	}
	t.Logf("%d faults in %d kinds of transactions", total, len(faultCases))
}

// checkWhole holds the rows after a fault against those of the same transaction without one.
func checkWhole(t *testing.T, c faultCase, p prepared, where string, err error, before, after string) {
	t.Helper()
	switch {
	case where == "committed" && after == before:
		t.Errorf("%s: broken after a commit, and nothing is there", c.name)
	case err == nil && after == before:
		t.Errorf("%s: broken at %q: it was said to be done, and is not", c.name, where)
	case where != "committed" && err != nil && after != before && !c.several:
		t.Errorf("%s: broken at %q: half of it is there", c.name, where)
	case err == nil && !c.several:
		t.Errorf("%s: broken at %q, and nobody was told", c.name, where)
	}
}

type faultCase struct {
	name    string
	prepare func(t *testing.T) prepared
	heard   int // check-ins of each host before it
	do      func(h *house, p prepared) error
	// settle goes on and proves the end; nil: the rollout becomes done.
	settle func(h *house, p prepared)
	// several says that do makes more than one transaction: a fault in a later one leaves the earlier ones.
	several bool
	least   int
}

var faultCases = []faultCase{
	{
		name: "a rollout begins", least: 5, prepare: func(t *testing.T) prepared { return quiet(t).keep("") },
		do: func(h *house, _ prepared) error {
			soak := time.Second
			_, err := h.c.StartRollout(h.t.Context(), "ada", operator.RolloutSpec{Kernel: "new", Soak: &soak}, "key", h.now)
			return err
		},
		settle: func(h *house, _ prepared) {
			soak := time.Second
			r, err := h.c.StartRollout(h.t.Context(), "ada", operator.RolloutSpec{Kernel: "new", Soak: &soak}, "key", h.now) // the same one
			if err != nil {
				h.t.Fatal(err)
			}
			if all, err := h.c.Rollouts(h.t.Context(), h.now); err != nil || len(all) != 1 {
				h.t.Errorf("%d rollouts, %v", len(all), err)
			}
			done(h, prepared{rollout: r.ID})
		},
	},
	{
		name: "a tick wants operations", least: 5, prepare: func(t *testing.T) prepared { h := quiet(t); return h.keep(begun(h)) },
		heard: 2, do: tickNow, settle: done,
	},
	{name: "a check-in says something new", least: 3, prepare: func(t *testing.T) prepared {
		h := quiet(t)
		id := begun(h)
		h.until(func(s *simHost) bool { return s.op != nil && s.op.Phase == fleet.PhasePrepared })
		return h.keep(id)
	}, heard: 1, do: func(h *house, _ prepared) error {
		for _, s := range h.hosts {
			if s.op != nil && s.op.Phase == fleet.PhasePrepared {
				s.turn(h) // one transaction
				return s.refused
			}
		}
		return errors.New("nobody has prepared")
	}, settle: done},
	{name: "a tick gives grants", least: 5, prepare: func(t *testing.T) prepared {
		h := quiet(t)
		id := begun(h)
		h.until(func(s *simHost) bool { return s.op != nil && s.op.Phase == fleet.PhasePrepared })
		return h.keep(id)
	}, heard: 3, do: tickNow, settle: done},
	{name: "the last moment", least: 4, prepare: func(t *testing.T) prepared {
		h := quiet(t)
		id := begun(h)
		h.until(func(s *simHost) bool { return s.op != nil && s.op.Phase == fleet.PhaseDrained })
		return h.keep(id)
	}, do: func(h *house, _ prepared) error {
		for _, s := range h.hosts {
			for _, g := range h.liveGrants() {
				if s.op == nil || s.op.Phase != fleet.PhaseDrained || g.Operation != s.op.ID {
					continue
				}
				_, err := h.c.ConfirmReboot(h.t.Context(), s.id, s.op.ID, g.ID, h.now)
				return err
			}
		}
		return errors.New("nobody is drained")
	}, settle: done},
	{name: "the last check-ins are kept", least: 3, prepare: inTheMiddle, heard: 2, do: func(h *house, _ prepared) error {
		return h.c.saveSeen(h.t.Context(), h.now.Add(saveSeenEvery))
	}, settle: done},
	{name: "a person pauses", least: 4, prepare: inTheMiddle, do: action("pause"), settle: func(h *house, p prepared) {
		if h.rollout(p.rollout).Status != "paused" {
			h.change(operator.Change{Rollout: p.rollout, Action: "pause"})
		}
		h.run(time.Minute, nil)
		h.change(operator.Change{Rollout: p.rollout, Action: "resume"})
		done(h, p)
	}},
	{name: "a person aborts", least: 4, prepare: inTheMiddle, do: action("abort"), settle: func(h *house, p prepared) {
		if s := h.rollout(p.rollout).Status; s != "aborting" && s != "aborted" {
			h.change(operator.Change{Rollout: p.rollout, Action: "abort"})
		}
		if !h.run(time.Hour, h.status(p.rollout, "aborted")) {
			h.t.Fatal(h.dump())
		}
	}},
	{name: "a person rolls back", least: 5, prepare: func(t *testing.T) prepared {
		h := quiet(t)
		id := begun(h)
		if !h.run(time.Hour, h.status(id, "done")) {
			t.Fatal(h.dump())
		}
		return h.keep(id)
	}, do: action("rollback"), settle: func(h *house, p prepared) {
		if s := h.rollout(p.rollout).Status; s == "done" {
			h.change(operator.Change{Rollout: p.rollout, Action: "rollback"})
		}
		if !h.run(time.Hour, h.status(p.rollout, "rolled-back")) {
			h.t.Fatal(h.dump())
		}
	}},
	{name: "a person takes a host out", least: 3, prepare: inTheMiddle, do: func(h *house, _ prepared) error {
		_, err := h.c.SetHostStatus(h.t.Context(), "ada", "h0", fleet.StatusMaintenance, "x", h.now)
		return err
	}, settle: func(h *house, p prepared) {
		if _, err := h.c.SetHostStatus(h.t.Context(), "ada", "h0", fleet.StatusActive, "x", h.now); err != nil {
			h.t.Fatal(err)
		}
		done(h, p)
	}},
	{name: "a person sets a budget", least: 3, prepare: inTheMiddle, do: func(h *house, _ prepared) error {
		return h.c.SetBudget(h.t.Context(), "ada", operator.Budget{By: "label:rack", Limit: 5}, h.now)
	}, settle: done},
	{name: "a restore settles", least: 4, prepare: func(t *testing.T) prepared {
		p := inTheMiddle(t)
		h := p.again(t, &breaker{})
		defer h.st.Close()
		if _, err := h.st.Begin(t.Context(), moved); err != nil {
			t.Fatal(err)
		}
		back := h.keep(p.rollout)
		back.house.stop.why = "restored"
		return back
	}, do: settleMove, settle: restored},
	{name: "a host tells its journal", least: 8, prepare: func(t *testing.T) prepared {
		h := quiet(t)
		for _, s := range h.hosts {
			s.panics = s.model == "b"
		}
		id := begun(h)
		h.run(5*time.Second, nil)
		backup := h.snapshot()
		h.run(time.Minute, nil)
		h.restore(backup)
		if err := settleMove(h, prepared{}); err != nil {
			t.Fatal(err)
		}
		return h.keep(id)
	}, do: func(h *house, p prepared) error {
		for range 4 { // an echo, the question, the answer
			if err := checkInAll(h, p); err != nil {
				return err
			}
		}
		return tickNow(h, p)
	}, several: true, settle: func(h *house, p prepared) {
		h.rebuilt()
		h.stop.why = ""
		for _, s := range h.hosts {
			h.truthful(s)
			s.panics = false
		}
		h.change(operator.Change{Rollout: p.rollout, Action: "resume"})
		for _, s := range h.hosts {
			_, _ = h.c.ChangeRollout(h.t.Context(), "ada", operator.Change{Rollout: p.rollout, Action: "retry", Host: s.id}, h.now)
		}
		if h.rollout(p.rollout).Status == "paused" { // for what the journals told
			h.change(operator.Change{Rollout: p.rollout, Action: "resume"})
		}
		h.run(time.Minute, nil)
		for _, s := range h.hosts {
			_, _ = h.c.ChangeRollout(h.t.Context(), "ada", operator.Change{Rollout: p.rollout, Action: "retry", Host: s.id}, h.now)
		}
		if h.rollout(p.rollout).Status == "paused" {
			h.change(operator.Change{Rollout: p.rollout, Action: "resume"})
		}
		done(h, p)
	}},
}

var moved = store.Place{MachineID: "m", Dir: "another", Instance: "moved"}

func settleMove(h *house, _ prepared) error {
	var why string
	if err := h.st.View(h.t.Context(), func(r store.Reader) error { rb, err := r.Rebuild(); why = rb.Why; return err }); err != nil {
		return err
	}
	return SettleMove(h.t.Context(), h.st, store.Start{Incarnation: h.c.cfg.From, Moved: why}, h.now)
}

func restored(h *house, p prepared) {
	// Every start finds the move until it is settled.
	start, err := h.st.Begin(h.t.Context(), store.Place{MachineID: "m", Dir: "d", Instance: fmt.Sprint("next", h.terms), At: h.now})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := SettleMove(h.t.Context(), h.st, start, h.now); err != nil {
		h.t.Fatal(err)
	}
	h.c = h.control(start)
	if again, err := h.st.Begin(h.t.Context(), store.Place{MachineID: "m", Dir: "d", Instance: "once more", At: h.now}); err != nil || again.Moved != "" {
		h.t.Errorf("it was settled, and the next start says %q, %v", again.Moved, err)
	} else {
		h.c = h.control(again)
	}
	if got := h.rollout(p.rollout).Status; got != "paused" {
		h.t.Errorf("after the restore it is %s", got)
	}
	h.rebuilt()
	h.stop.why = ""
	h.change(operator.Change{Rollout: p.rollout, Action: "resume"})
	done(h, p)
}

func quiet(t *testing.T) *house {
	h := newHouse(t, "a", "b", "a")
	h.run(15*time.Second, nil)
	return h
}

func begun(h *house) string {
	soak := time.Second
	r, err := h.c.StartRollout(h.t.Context(), "ada", operator.RolloutSpec{Kernel: "new", Soak: &soak}, "", h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	return r.ID
}

// until runs until a host is as ok says.
func (h *house) until(ok func(*simHost) bool) {
	h.t.Helper()
	if !h.run(time.Hour, func() bool {
		for _, s := range h.hosts {
			if ok(s) {
				return true
			}
		}
		return false
	}) {
		h.t.Fatal(h.dump())
	}
}

func inTheMiddle(t *testing.T) prepared {
	h := quiet(t)
	id := begun(h)
	h.until(func(s *simHost) bool { return s.op != nil && s.op.Phase == fleet.PhaseDraining })
	return h.keep(id)
}

func action(kind string) func(*house, prepared) error {
	return func(h *house, p prepared) error {
		_, err := h.c.ChangeRollout(h.t.Context(), "ada", operator.Change{Rollout: p.rollout, Action: kind, Why: "x"}, h.now)
		return err
	}
}

func tickNow(h *house, _ prepared) error {
	_, err := h.c.Tick(h.t.Context(), h.now)
	return err
}

// checkInAll lets each host say what it has to say, and ends at the first that is not answered.
func checkInAll(h *house, _ prepared) (err error) {
	for _, s := range h.hosts {
		s.refused = nil
		s.turn(h)
		if s.refused != nil {
			return s.refused
		}
	}
	return nil
}

func done(h *house, p prepared) {
	h.t.Helper()
	if !h.run(time.Hour, h.status(p.rollout, "done")) {
		h.t.Fatalf("not done: %s\n%s", h.rollout(p.rollout).Next, h.dump())
	}
	for _, s := range h.hosts {
		if s.release != newRelease || s.deflt != newRelease || s.outOfService {
			h.t.Errorf("%s runs %s, default %s", s.id, s.release, s.deflt)
		}
	}
	if n := strings.Count(h.dump(), "panicked"); n > 0 {
		h.t.Error("something panicked")
	}
}

// slow is a store whose writes at one point take d.
func (p prepared) slow(t *testing.T, point string, d time.Duration) (h *house, armed *bool) {
	armed = new(bool)
	var now *time.Time
	b := &breaker{}
	h = p.againOn(t, func(at string) error {
		if *armed && strings.HasPrefix(at, point) {
			*now = now.Add(d)
			*armed = false
		}
		return b.fault(at)
	})
	now = &h.now
	return h, armed
}

// TestSlowStore: what took long to write is as old as it is.
// TestStoreThatTakesNothingForLong: a host leaves service under its grant, and neither its reports nor the grant's renewals
// can be written until that has run out. Then the rows say that it is in service and prepared, and nothing has been heard
// that says more: its place is not free.
func TestStoreThatTakesNothingForLong(t *testing.T) {
	h := newHouse(t, "a", "a")
	r := h.start(operator.RolloutSpec{Kernel: "new", Canaries: 2})
	p, sick := h.keep(r.ID), false
	h = p.againOn(t, func(string) error {
		if sick {
			return errDisk
		}
		return nil
	})
	var left *simHost
	if !h.run(2*time.Minute, func() bool {
		for _, s := range h.hosts {
			if s.outOfService {
				left = s
			}
		}
		return left != nil
	}) {
		t.Fatal(h.dump())
	}
	sick = true
	for end := h.now.Add(h.c.cfg.GrantLife + 10*time.Second); h.now.Before(end); h.now = h.now.Add(time.Second) {
		if _, err := h.c.Tick(t.Context(), h.now); err != nil && !errors.Is(err, errDisk) {
			t.Fatal(err)
		}
		left.turn(h)
	}
	sick = false
	for range 2 { // before its next report
		if _, err := h.c.Tick(t.Context(), h.now); err != nil {
			t.Fatal(err)
		}
	}
	if ended := h.events("grant.ended"); len(ended) > 0 {
		t.Errorf("%s left service and was not heard since: %+v\n%s", left.id, ended, h.dump())
	}
	done(h, p)
}

func TestSlowStore(t *testing.T) {
	prepare := func(p fleet.Phase) prepared {
		h := quiet(t)
		id := begun(h)
		h.until(func(s *simHost) bool { return s.op != nil && s.op.Phase == p })
		return h.keep(id)
	}
	heard := func(h *house) {
		for range 3 {
			if err := checkInAll(h, prepared{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("a grant that took longer to write than it lives", func(t *testing.T) {
		p := prepare(fleet.PhasePrepared)
		h, armed := p.slow(t, "put grant", 40*time.Second)
		heard(h)
		*armed = true
		if err := tickNow(h, p); err != nil || *armed {
			t.Fatal(err, *armed)
		}
		for _, g := range h.liveGrants() {
			if h.now.Before(g.ExpiresAt) {
				t.Errorf("%+v is live at %s: it was given 40 s ago, for 30 s", g, h.now)
			}
		}
		for _, s := range h.hosts {
			d, err := h.c.CheckIn(t.Context(), s.report(), h.now)
			if err != nil || d.Operation != nil && d.Operation.Grant != nil {
				t.Errorf("%s is told of a grant that has run out: %+v, %v", s.id, d.Operation, err)
			}
		}
		done(h, p)
	})
	t.Run("an answer that took longer than it is good for", func(t *testing.T) {
		p := prepare(fleet.PhaseDrained)
		h, armed := p.slow(t, "commit", 6*time.Second)
		heard(h)
		for _, s := range h.hosts {
			if s.op == nil || s.op.Phase != fleet.PhaseDrained {
				continue
			}
			asked := h.now
			*armed = true
			before := len(s.reboots)
			a, err := h.c.ConfirmReboot(t.Context(), s.id, s.op.ID, h.liveGrants()[0].ID, asked)
			if err != nil || !a.Yes || h.now.Sub(asked) < fleet.ConfirmLife {
				t.Fatalf("%+v, %v after %s", a, err, h.now.Sub(asked))
			}
			ops, _ := h.rowsOn(s.id)
			if !ops[0].ConfirmedAt.Equal(asked) {
				t.Errorf("confirmed at %s, asked at %s: a host may not use it for longer than it counts", ops[0].ConfirmedAt, asked)
			}
			*armed = true
			s.next = h.now
			s.turn(h) // the host counts from its asking, and does not go
			if len(s.reboots) != before {
				t.Errorf("%s rebooted on an answer older than %s", s.id, fleet.ConfirmLife)
			}
		}
		done(h, p)
	})
	t.Run("a tick that had to wait for its turn", func(t *testing.T) {
		p := prepare(fleet.PhasePrepared)
		h := p.again(t, &breaker{})
		heard(h)
		asked := h.now
		h.now = h.now.Add(h.c.cfg.SilentAfter + time.Minute)
		if _, err := h.c.Tick(t.Context(), asked); err != nil { // it began two minutes ago
			t.Fatal(err)
		}
		if gs := h.liveGrants(); len(gs) > 0 {
			t.Errorf("given to hosts that have gone silent meanwhile: %+v", gs)
		}
		done(h, p)
	})
}
