package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

const (
	oldRelease = "6.12.111+deb12-cloud-amd64"
	newRelease = "6.12.117+deb12-cloud-amd64"
)

// house is a control plane over a real store, with hosts that obey the protocol, on virtual time.
type house struct {
	t     *testing.T
	st    *sqlite.Store
	c     *Control
	now   time.Time
	stop  stopFlag
	terms int
	hosts []*simHost
	limit int // hosts out of service at once per type
}

type stopFlag struct{ why string }

func (s *stopFlag) Stopped() (string, bool) { return s.why, s.why != "" }

// simHost does what an agent does, one phase a second. Faults are set by tests.
type simHost struct {
	id             fleet.HostID
	model          string
	boot           int
	release, deflt string
	op             *fleet.OperationReport
	grantUntil     time.Time
	next           time.Time // of the next check-in
	upAt           time.Time // when rebooting
	down           bool      // says nothing, for ever
	panics         bool      // with the new kernel
	hangs          bool      // with the new kernel: never comes back
	fails          bool      // a check, with the new kernel
	noDrain        bool      // its drain program fails
	parked         string    // its agent refuses every operation
	reboots        []time.Time
	prepared       int
	outOfService   bool
	seen           fleet.Incarnation // the highest control plane that it obeyed
	loses          func() bool       // says that an answer got lost
	refused        error             // the broken store's
	asked          bool              // the last answer wanted its history
	ended          []fleet.OperationReport
	seq            uint64
	answered       string // since its last boot
	old            bool   // its agent does not number its reports
}

func newHouse(t *testing.T, models ...string) *house {
	t.Helper()
	st, err := sqlite.OpenTemp(sqlite.Options{Rand: rand.New(rand.NewSource(1))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	h := &house{t: t, st: st, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), limit: 1}
	h.restart()
	err = st.Update(t.Context(), func(tx store.Tx) error {
		for i, m := range models {
			id := fleet.HostID(fmt.Sprintf("h%d", i))
			h.hosts = append(h.hosts, &simHost{id: id, model: m, boot: 1, release: oldRelease, deflt: oldRelease})
			if err := tx.PutHost(fleet.Host{ID: id, Status: fleet.StatusActive, EnrolledAt: h.now}); err != nil {
				return err
			}
		}
		return tx.AddKernel(fleet.Kernel{
			ID: "new", Version: "6.12.117-1", Release: newRelease, Family: "debian", Arch: "amd64",
			Flavour: "cloud-amd64", Packages: []fleet.Package{{Name: "linux-image", SHA256: "ab", Size: 1}},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// restart is a kill -9 and a new start: memory is gone, the rows are there.
func (h *house) restart() {
	h.t.Helper()
	h.terms++
	start, err := h.st.Begin(h.t.Context(), store.Place{MachineID: "m", Dir: "d", Instance: fmt.Sprint("i", h.terms), At: h.now})
	if err != nil {
		h.t.Fatal(err)
	}
	h.c, err = New(Config{From: start.Incarnation, Now: func() time.Time { return h.now }}, h.st, &h.stop,
		slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		h.t.Fatal(err)
	}
}

// run lets a second pass at a time: ticks, and every host whose turn it is. It checks the budget all the time.
func (h *house) run(d time.Duration, until func() bool) bool {
	h.t.Helper()
	for end := h.now.Add(d); h.now.Before(end); h.now = h.now.Add(time.Second) {
		if _, err := h.c.Tick(h.t.Context(), h.now); err != nil {
			h.t.Fatal(err)
		}
		for _, s := range h.hosts {
			if !s.next.After(h.now) {
				s.turn(h)
			}
		}
		if _, yes := h.c.Poked(); yes {
			if _, err := h.c.Tick(h.t.Context(), h.now); err != nil {
				h.t.Fatal(err)
			}
		}
		h.checkBudget()
		h.checkIndex()
		if until != nil && until() {
			return true
		}
	}
	return until == nil
}

func (h *house) checkBudget() {
	h.t.Helper()
	out := map[string][]fleet.HostID{}
	for _, s := range h.hosts {
		if s.outOfService && !s.down {
			out[s.model] = append(out[s.model], s.id)
		}
	}
	for m, ids := range out {
		if len(ids) > h.limit {
			h.t.Fatalf("%s: %v are out of service at once, the budget is %d", m, ids, h.limit)
		}
	}
}

func (s *simHost) facts() *fleet.Facts {
	f := fleet.Facts{Arch: "amd64", OS: fleet.OS{ID: "debian", Version: "12", Family: "debian"}}
	f.Hardware.Model, f.Kernel = s.model, fleet.Running{Release: s.release, Flavour: "cloud-amd64"}
	f.Boot = fleet.Boot{OneShot: fleet.OneShotAssumed, Default: s.deflt}
	return &f
}

// turn is one check-in and what follows from its answer.
func (s *simHost) turn(h *house) {
	h.t.Helper()
	s.next = h.now.Add(2 * time.Second)
	if s.down || !s.upAt.IsZero() && h.now.Before(s.upAt) {
		return
	}
	if !s.upAt.IsZero() { // just booted
		s.upAt = time.Time{}
		s.boot++
		s.seq, s.answered = 0, ""
		s.release = s.deflt
		if s.op.Phase == fleet.PhaseRebooting && !s.panics {
			s.release = s.op.Release
		}
		switch {
		case s.op.Phase == fleet.PhaseRebooting && s.release == s.op.Release:
			s.op.Phase = fleet.PhaseTrial
		case s.op.Phase == fleet.PhaseRebooting:
			s.op.Phase = fleet.PhaseReverting
			s.op.Problem = &fleet.Problem{Cause: fleet.CauseNotBooted, What: "came back on " + s.release, Expected: s.op.Release, NoEvidence: "no pstore"}
		}
	}
	r := s.report()
	asked := h.now
	d, err := h.c.CheckIn(context.Background(), r, h.now)
	if errors.Is(err, errDisk) {
		s.refused, s.next = err, h.now.Add(2*time.Second)
		return
	}
	if err != nil {
		h.t.Fatal(err)
	}
	if s.loses != nil && s.loses() {
		s.next = h.now.Add(2 * time.Second)
		return
	}
	if s.seen.Refuses(d.From) != "" {
		return
	}
	s.seen, s.asked = d.From, d.WantHistory
	s.next, s.answered = h.now.Add(d.CheckInAfter), d.Answer
	if d.Again {
		return
	}
	if d.Operation != nil && (s.op == nil || s.op.Phase.Ended() && s.op.ID != d.Operation.ID) {
		s.op = &fleet.OperationReport{
			ID: d.Operation.ID, Kind: d.Operation.Kind, Kernel: d.Operation.Kernel.ID,
			Release: d.Operation.Kernel.Release, Phase: fleet.PhasePreparing, FromRelease: s.release,
		}
		if why := d.Operation.Kernel.Fits(*s.facts()); why != "" {
			s.op.Phase, s.op.Problem = fleet.PhaseRefused, &fleet.Problem{Cause: fleet.CauseRefused, What: why}
		}
		s.op.Owner, s.op.Stage = d.Operation.Owner, d.Operation.Stage
		s.prepared++
		return
	}
	if d.Operation == nil && s.op != nil && s.op.Phase.BeforeReboot() {
		s.act(h, fleet.DesiredOperation{ID: s.op.ID, Word: fleet.WordCancel}, asked) // not wanted any more
		return
	}
	if d.Operation == nil || s.op == nil || s.op.ID != d.Operation.ID {
		return
	}
	s.act(h, *d.Operation, asked)
}

// report is what it says next.
func (s *simHost) report() fleet.Report {
	f := s.facts()
	r := fleet.Report{Host: s.id, FactsHash: f.Hash(), Facts: f, Operation: s.op, Seen: s.seen, Now: fleet.HostState{
		BootID: fmt.Sprint(s.id, "-", s.boot), Release: s.release, InService: !s.outOfService, Parked: s.parked,
	}}
	if s.outOfService {
		r.Now.NotInServiceWhy = "in an operation"
	}
	if s.asked {
		r.History = &fleet.History{Ended: slices.Clone(s.ended)}
	}
	if !s.old {
		s.seq++
		r.Seq, r.Answered = s.seq, s.answered
	}
	return r
}

func (s *simHost) act(h *house, d fleet.DesiredOperation, asked time.Time) {
	if d.Grant != nil {
		s.grantUntil = asked.Add(d.Grant.Life)
	}
	live := d.Grant != nil && h.now.Before(s.grantUntil)
	end := func(p fleet.Phase, c fleet.Cause) {
		s.op.Phase, s.outOfService = p, false
		if s.op.Problem == nil && c != "" {
			s.op.Problem = &fleet.Problem{Cause: c, What: string(c)}
		}
		s.ended = append(s.ended, *s.op)
	}
	switch s.op.Phase {
	case fleet.PhasePreparing:
		s.op.Phase = fleet.PhasePrepared
		if d.Word == fleet.WordCancel {
			end(fleet.PhaseCancelled, fleet.CauseTold)
		}
	case fleet.PhasePrepared:
		if d.Word == fleet.WordCancel {
			end(fleet.PhaseCancelled, fleet.CauseTold)
		} else if live {
			s.op.Phase, s.outOfService = fleet.PhaseDraining, true
		}
	case fleet.PhaseDraining:
		switch {
		case s.noDrain:
			end(fleet.PhaseFailed, fleet.CauseDrain)
		case !live:
			end(fleet.PhaseCancelled, fleet.CauseGrant)
		default:
			s.op.Phase = fleet.PhaseDrained
		}
	case fleet.PhaseDrained:
		if !live {
			end(fleet.PhaseCancelled, fleet.CauseGrant)
			return
		}
		asked := h.now
		a, err := h.c.ConfirmReboot(context.Background(), s.id, s.op.ID, d.Grant.ID, asked)
		if err != nil {
			h.t.Fatal(err)
		}
		if a.Yes && h.now.Sub(asked) < fleet.ConfirmLife {
			s.reboots = append(s.reboots, h.now)
			s.op.Phase, s.upAt = fleet.PhaseRebooting, h.now.Add(30*time.Second)
			s.down = s.hangs
		}
	case fleet.PhaseTrial:
		s.op.Trial = &fleet.Trial{Release: s.release}
		if s.fails {
			s.op.Problem = &fleet.Problem{Cause: fleet.CauseCheck, What: "check http failed", Expected: "exit code 0"}
			s.op.Phase, s.upAt = fleet.PhaseReverting, h.now.Add(30*time.Second)
			return
		}
		s.op.Phase = fleet.PhasePassed
	case fleet.PhasePassed:
		switch d.Word {
		case fleet.WordCommit:
			s.deflt, s.op.Phase = s.release, fleet.PhaseCommitting
		case fleet.WordRevert:
			s.op.Phase, s.upAt = fleet.PhaseReverting, h.now.Add(30*time.Second)
			s.op.Problem = &fleet.Problem{Cause: fleet.CauseTold, What: "told to"}
		}
	case fleet.PhaseCommitting:
		end(fleet.PhaseCommitted, "")
	case fleet.PhaseReverting:
		if s.op.Problem.Cause == fleet.CauseNotBooted {
			end(fleet.PhaseFellBack, "")
		} else {
			end(fleet.PhaseReverted, "")
		}
	}
}

func (h *house) start(spec operator.RolloutSpec) operator.Rollout {
	h.t.Helper()
	h.run(5*time.Second, nil) // everybody has been heard
	soak := 10 * time.Second
	spec.Kernel = "new"
	if spec.Soak == nil {
		spec.Soak = &soak
	}
	if spec.ReturnWithin == 0 {
		spec.ReturnWithin = 2 * time.Minute
	}
	r, err := h.c.StartRollout(h.t.Context(), "ada", spec, "", h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *house) rollout(id string) operator.Rollout {
	h.t.Helper()
	r, err := h.c.Rollout(h.t.Context(), id, h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *house) status(id, want string) func() bool {
	return func() bool { return h.rollout(id).Status == want }
}

func (h *house) change(c operator.Change) {
	h.t.Helper()
	if _, err := h.c.ChangeRollout(h.t.Context(), "ada", c, h.now); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) events(kind string) []store.Event {
	h.t.Helper()
	var out []store.Event
	err := h.st.View(h.t.Context(), func(r store.Reader) error {
		es, err := r.Events(store.EventQuery{})
		out = slices.DeleteFunc(es, func(e store.Event) bool { return kind != "" && e.Kind != kind })
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *house) dump() string {
	out := ""
	for _, e := range h.events("") {
		out += fmt.Sprintf("%s %-8s %-20s %s; %s\n", e.At.Format("15:04:05"), e.Who, e.Kind, e.What, e.Why)
	}
	return out
}
