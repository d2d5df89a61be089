package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

// machine checks in as a host, one report after another, and remembers what it sent. Its clock is its number.
type machine struct {
	h        *house
	id       fleet.HostID
	boot     string
	facts    fleet.Facts
	up       time.Time // its boot-time clock is 0 here
	answered string
	op       *fleet.OperationReport
	last     fleet.Report
}

func (h *house) machine(id fleet.HostID, boot, serial string) *machine {
	m := &machine{h: h, id: id, boot: boot, up: h.now.Add(-time.Minute)}
	m.facts = *h.hosts[0].facts()
	m.facts.MachineID, m.facts.Hardware.Serial = "machine-of-"+serial, serial
	return m
}

func (m *machine) reboot(boot string) {
	m.boot, m.answered, m.up = boot, "", m.h.now
	m.h.now = m.h.now.Add(20 * time.Second)
}

// clone is a copy of the machine's memory, echo and all.
func (m *machine) clone() *machine { c := *m; return &c }

// report is what it says now.
func (m *machine) report() fleet.Report {
	f := m.facts
	return fleet.Report{
		Host: m.id, FactsHash: f.Hash(), Facts: &f, Operation: m.op, Seq: uint64(m.h.now.Sub(m.up)), Answered: m.answered,
		Now: fleet.HostState{BootID: m.boot, Release: oldRelease, Uptime: m.h.now.Sub(m.up), InService: true},
	}
}

// say sends one report.
func (m *machine) say() fleet.Desired {
	m.h.t.Helper()
	m.last = m.report()
	d := m.h.send(m.last)
	m.answered = d.Answer
	m.h.now = m.h.now.Add(time.Second)
	return d
}

// settle is what an agent does: it asks again when told to.
func (m *machine) settle() fleet.Desired {
	m.h.t.Helper()
	d := m.say()
	for range 3 {
		if !d.Again {
			break
		}
		d = m.say()
	}
	return d
}

func (h *house) send(r fleet.Report) fleet.Desired {
	h.t.Helper()
	d, err := h.c.CheckIn(h.t.Context(), r, h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	return d
}

func (h *house) host(id fleet.HostID) operator.Host {
	h.t.Helper()
	one, _, err := h.c.Host(h.t.Context(), id, h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	return one
}

// rows is everything that a report could change.
func (h *house) rows() string {
	h.t.Helper()
	out := ""
	if err := h.st.View(h.t.Context(), func(r store.Reader) error {
		hs, _ := r.Hosts()
		ops, _ := r.OpenOperations()
		gs, _ := r.LiveGrants()
		es, err := r.Events(store.EventQuery{})
		out = fmt.Sprintf("%+v\n%+v\n%+v\n%d events", hs, ops, gs, len(es))
		return err
	}); err != nil {
		h.t.Fatal(err)
	}
	return out
}

// TestReportThatComesLateTheFirstTime: it was sent to another control plane, say, and is heard here when its host has been
// silent for long.
func TestReportThatComesLateTheFirstTime(t *testing.T) {
	for name, c := range map[string]struct {
		before func(m *machine) // the last report that comes in time
		late   time.Duration
		counts bool
	}{
		"in time":                  {func(m *machine) { m.settle() }, LateMost - 2*time.Second, true},
		"late":                     {func(m *machine) { m.settle() }, LateMost + 2*time.Second, false},
		"the proof of a new boot":  {func(m *machine) { m.reboot("boot-2"); m.say() }, LateMost + 2*time.Second, false},
		"of an agent that is new":  {func(m *machine) { m.settle(); m.answered = "" }, LateMost + 2*time.Second, false},
		"much later than the last": {func(m *machine) { m.settle(); m.h.now = m.h.now.Add(time.Hour) }, LateMost + 2*time.Second, false},
		"in time, after an hour":   {func(m *machine) { m.settle(); m.h.now = m.h.now.Add(time.Hour) }, time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, "a")
			m := h.machine("h0", "boot-1", "S1")
			m.settle()
			c.before(m)
			r := m.report()
			h.now = h.now.Add(c.late)
			rows, seen := h.rows(), h.c.lastSeen("h0")
			d := h.send(r)
			if d.Again == c.counts || (h.c.lastSeen("h0") != seen) != c.counts || h.rows() != rows {
				t.Errorf("%s late: %+v, last seen %s, before %s", c.late, d, h.c.lastSeen("h0"), seen)
			}
			if d := m.settle(); d.Again {
				t.Errorf("the host cannot prove that it is there: %+v", d)
			}
		})
	}
}

func TestClockThatJumpsCostsOneProof(t *testing.T) {
	h := newHouse(t, "a")
	m := h.machine("h0", "boot-1", "S1")
	m.settle()
	for _, by := range []time.Duration{time.Hour, -2 * time.Hour, 400 * 24 * time.Hour} {
		h.now, m.up = h.now.Add(by), m.up.Add(by) // the control plane's clock alone
		if d := m.settle(); d.Again {
			t.Errorf("by %s: the host is not believed: %+v", by, d)
		}
		if d := m.say(); d.Again {
			t.Errorf("by %s: it has to prove itself again and again: %+v", by, d)
		}
	}
}

func TestLateAndRepeatedReportsChangeNothing(t *testing.T) {
	h := newHouse(t, "a")
	m := h.machine("h0", "boot-1", "S1")
	m.settle()
	first := m.last
	m.settle()
	second := m.last
	m.reboot("boot-2")
	if d := m.say(); !d.Again {
		t.Fatal("the first report of a boot is believed without an echo: it could be a late one of any boot")
	}
	unproven := m.last
	m.say()
	m.say()
	for _, restart := range []bool{false, true} {
		if restart {
			h.restart()
		}
		for name, r := range map[string]fleet.Report{
			"earlier boot": first, "end of the earlier boot": second, "repeated": m.last, "its boot's first": unproven,
		} {
			t.Run(fmt.Sprintf("%s, restarted %v", name, restart), func(t *testing.T) {
				before, seen := h.rows(), h.c.lastSeen("h0")
				r.Now.InService, r.Now.Parked = false, "what is not so any more"
				d := h.send(r)
				if !d.Again || d.Operation != nil || d.WantFacts {
					t.Errorf("answered %+v", d)
				}
				if after := h.rows(); after != before {
					t.Errorf("rows were\n%s\nand are\n%s", before, after)
				}
				if h.c.lastSeen("h0") != seen {
					t.Error("a late report counts as a sign of life")
				}
			})
		}
	}
	if d := m.settle(); d.Again {
		t.Error("the host itself is not believed any more")
	}
	if got := h.host("h0"); got.Now.BootID != "boot-2" || got.Frozen != "" || len(h.events("host.returned")) > 0 {
		t.Errorf("host %+v", got)
	}
}

func TestOutOfOrderInOneBoot(t *testing.T) {
	h := newHouse(t, "a")
	m := h.machine("h0", "boot-1", "S1")
	m.settle()
	m.answered = "" // its agent restarts
	if d := m.say(); d.Again {
		t.Error("a restart of the agent in the same boot must prove itself")
	}
	// A report that the host gave up on arrives after the next one.
	late := m.last
	late.Seq += uint64(500 * time.Millisecond)
	late.Now.Release = "of-the-late-one"
	m.say()
	if d := h.send(late); !d.Again || h.host("h0").Now.Release != oldRelease {
		t.Errorf("answered %+v, host %+v", d, h.host("h0").Now)
	}
	if d := m.say(); d.Again {
		t.Error("the host has to prove itself for a late message of its own")
	}
	// Answers are lost: the host echoes an older one, and goes on.
	lost := m.answered
	m.say()
	m.answered = lost
	m.say()
	if d := m.say(); d.Again {
		t.Error("lost answers make the host prove itself")
	}
}

func TestOldAgentsAreBelievedAsTheyCome(t *testing.T) {
	h := newHouse(t, "a", "b", "a")
	for _, s := range h.hosts {
		s.old = true
	}
	r := h.start(operator.RolloutSpec{})
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("not done: %s\n%s", h.rollout(r.ID).Next, h.dump())
	}
	d := h.send(fleet.Report{Host: "h0", Now: fleet.HostState{BootID: "x", Release: newRelease, InService: true}})
	if d.Again || d.Answer != "" {
		t.Errorf("an agent that does not number its reports was answered %+v", d)
	}
}

func TestCloneIsFrozen(t *testing.T) {
	h := newHouse(t, "a")
	one, two := h.machine("h0", "boot-1", "S1"), h.machine("h0", "boot-2", "S2")
	one.settle()
	two.settle()
	if h.host("h0").Frozen != "" {
		t.Fatal("a reboot is called a clone")
	}
	one.settle()
	if got := h.host("h0"); got.Frozen != "" || len(h.events("host.returned")) != 1 {
		t.Fatalf("one return is no proof yet, but is one for the record: %q, %v", got.Frozen, h.events("host.returned"))
	}
	if use := h.out(); !slices.Contains(use, "h0") {
		t.Errorf("a host in doubt does not count as out: %v", use)
	}
	h.restart() // the proof survives
	two.settle()
	got := h.host("h0")
	for _, want := range []string{"two machines", "boot-1", "boot-2", "S1", "S2"} {
		if !strings.Contains(got.Frozen, want) {
			t.Errorf("frozen %q does not say %q", got.Frozen, want)
		}
	}
	_, is := h.incidents()
	if len(is) != 1 || len(is[0].Choices) < 3 || !strings.Contains(is[0].Evidence, "S1") {
		t.Errorf("incidents %+v", is)
	}
	h.restart()
	for _, m := range []*machine{one, two} {
		if d := m.settle(); d.Operation != nil || d.Again || h.host("h0").Frozen == "" {
			t.Errorf("answered %+v", d)
		}
	}
	if use := h.out(); !slices.Contains(use, "h0") {
		t.Errorf("a frozen host does not count as out: %v", use)
	}
	if _, err := h.c.PlanRollout(t.Context(), "ada", operator.RolloutSpec{Kernel: "new"}, h.now); err == nil || !strings.Contains(err.Error(), "frozen") {
		t.Errorf("a rollout that selects it: %v", err)
	}
	why, err := h.c.WhyHost(t.Context(), "h0", h.now)
	if err != nil || !strings.Contains(why.Why, "frozen") || !strings.Contains(why.Next, "enrol") {
		t.Errorf("why: %+v, %v", why, err)
	}
}

func (h *house) out() (out []string) {
	h.t.Helper()
	_, use, err := h.c.Budgets(h.t.Context(), h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, u := range use {
		for _, o := range u.Out {
			out = append(out, string(o.Host))
		}
	}
	return out
}

// What looks like a second machine and is none.
func TestNoCloneWithoutProof(t *testing.T) {
	frozen := func(t *testing.T, h *house) {
		t.Helper()
		if got := h.host("h0"); got.Frozen != "" {
			t.Errorf("called a clone: %s\n%s", got.Frozen, h.dump())
		}
	}
	t.Run("reboots all the time, with late reports from each boot", func(t *testing.T) {
		h := newHouse(t, "a")
		m := h.machine("h0", "boot-0", "S1")
		var late []fleet.Report
		for i := range 30 {
			m.settle()
			late = append(late, m.last)
			m.reboot(fmt.Sprint("boot-", i+1))
			m.say()
			for _, r := range late {
				h.send(r)
			}
			if m.settle().Again {
				t.Fatal("not believed")
			}
		}
		frozen(t, h)
	})
	t.Run("disk restored from a snapshot: the agent's state is old, the boot new", func(t *testing.T) {
		h := newHouse(t, "a")
		m := h.machine("h0", "boot-0", "S1")
		for i := range 10 {
			m.settle()
			m.reboot(fmt.Sprint("boot-", i+1))
		}
		frozen(t, h)
	})
	t.Run("memory put back to a snapshot, before and after a reboot, weekly", func(t *testing.T) {
		h := newHouse(t, "a")
		m := h.machine("h0", "boot-0", "S1")
		m.settle()
		snapshot := m.clone()
		age := h.now.Sub(m.up)
		for i := range 10 {
			m.settle()
			m.settle()
			if i%2 == 0 {
				m.reboot(fmt.Sprint("boot-", i+1))
				m.settle()
			}
			h.now = h.now.Add(7 * 24 * time.Hour)
			*m = *snapshot
			m.up = h.now.Add(-age)
			if m.settle().Again {
				t.Fatal("a machine that was put back is never heard again")
			}
			m.settle()
		}
		frozen(t, h)
		if len(h.events("host.put-back")) == 0 {
			t.Error("that the machine was put back is not said")
		}
	})
	t.Run("put back once over a reboot, at the very moment of the last report", func(t *testing.T) {
		h := newHouse(t, "a")
		m := h.machine("h0", "boot-0", "S1")
		m.settle()
		snapshot := m.clone()
		m.reboot("boot-1")
		m.settle()
		*m = *snapshot
		m.settle()
		h.now = h.now.Add(10 * time.Minute)
		if m.settle().Again {
			t.Error("still in doubt ten minutes later, though nobody else was heard")
		}
		frozen(t, h)
	})
	t.Run("a mainboard is replaced", func(t *testing.T) {
		h := newHouse(t, "a")
		m := h.machine("h0", "boot-0", "S1")
		m.settle()
		m.reboot("boot-1")
		m.facts.MachineID, m.facts.Hardware.Serial = "other", "S2"
		for range 5 {
			m.settle()
		}
		frozen(t, h)
	})
	t.Run("a kernel that cannot read the serial number", func(t *testing.T) {
		h := newHouse(t, "a")
		m := h.machine("h0", "boot-0", "S1")
		for i := range 6 {
			m.settle()
			m.reboot(fmt.Sprint("boot-", i+1))
			m.facts.MachineID, m.facts.Hardware.Serial = "blind", ""
			if i%2 == 1 {
				m.facts.MachineID, m.facts.Hardware.Serial = "machine-of-S1", "S1"
			}
		}
		frozen(t, h)
	})
	t.Run("restored store", func(t *testing.T) {
		h := newHouse(t, "a")
		m := h.machine("h0", "boot-0", "S1")
		for i := range 5 {
			m.settle()
			h.restart()
			m.settle()
			m.reboot(fmt.Sprint("boot-", i+1))
		}
		frozen(t, h)
	})
}

func TestEveryKindOfCloneIsFrozen(t *testing.T) {
	until := func(t *testing.T, h *house, turns int, turn func(i int)) {
		t.Helper()
		for i := range turns {
			if turn(i); h.host("h0").Frozen != "" {
				return
			}
			h.now = h.now.Add(28 * time.Second)
		}
		t.Errorf("not frozen after %d turns\n%s", turns, h.dump())
	}
	t.Run("copied memory, both resumed at once", func(t *testing.T) {
		h := newHouse(t, "a")
		one := h.machine("h0", "boot-1", "")
		one.settle()
		two := one.clone()
		until(t, h, 6, func(int) { one.settle(); two.settle() })
	})
	t.Run("copied memory, resumed a day later", func(t *testing.T) {
		h := newHouse(t, "a")
		one := h.machine("h0", "boot-1", "")
		one.settle()
		two := one.clone()
		two.up = two.up.Add(24 * time.Hour)
		h.now = h.now.Add(24 * time.Hour)
		until(t, h, 6, func(int) { one.settle(); two.settle() })
	})
	t.Run("one of them reboots between any two of its reports", func(t *testing.T) {
		h := newHouse(t, "a")
		one, two := h.machine("h0", "boot-1", ""), h.machine("h0", "x", "")
		until(t, h, 6, func(i int) { one.settle(); two.reboot(fmt.Sprint("x", i)); two.settle() })
	})
	t.Run("both reboot between any two of their reports, on hardware of their own", func(t *testing.T) {
		h := newHouse(t, "a")
		one, two := h.machine("h0", "a", "S1"), h.machine("h0", "x", "S2")
		until(t, h, 6, func(i int) {
			one.reboot(fmt.Sprint("a", i))
			one.settle()
			two.reboot(fmt.Sprint("x", i))
			two.settle()
		})
	})
	t.Run("three", func(t *testing.T) {
		h := newHouse(t, "a")
		ms := []*machine{h.machine("h0", "a", ""), h.machine("h0", "b", ""), h.machine("h0", "c", "")}
		until(t, h, 9, func(i int) { ms[i%3].settle() })
	})
	t.Run("with restarts of the control plane", func(t *testing.T) {
		h := newHouse(t, "a")
		ms := []*machine{h.machine("h0", "a", ""), h.machine("h0", "b", "")}
		until(t, h, 12, func(i int) { ms[i%2].settle(); h.restart() })
	})
}

func TestFrozenInTheMiddleOfAnOperation(t *testing.T) {
	for _, phase := range []fleet.Phase{fleet.PhasePreparing, fleet.PhasePrepared, fleet.PhaseDraining, fleet.PhaseDrained, fleet.PhasePassed} {
		t.Run(string(phase), func(t *testing.T) {
			h := newHouse(t, "a")
			r := h.start(operator.RolloutSpec{})
			s := h.hosts[0]
			if !h.run(time.Hour, func() bool { return s.op != nil && s.op.Phase == phase }) {
				t.Fatalf("never %s", phase)
			}
			one := h.machine("h0", fmt.Sprint("h0-", s.boot), "S1")
			one.op, one.up, one.answered = s.op, h.now.Add(-time.Hour), s.answered
			one.settle()
			two := h.machine("h0", "copy", "S2")
			grant := ""
			for _, g := range h.liveGrants() {
				grant = string(g.ID)
			}
			two.settle()
			one.settle()
			two.settle()
			d := one.settle()
			if h.host("h0").Frozen == "" {
				t.Fatal(h.dump())
			}
			if d.Operation == nil || d.Operation.Grant != nil || phase.BeforeReboot() != (d.Operation.Word == fleet.WordCancel) {
				t.Errorf("answered %+v", d.Operation)
			}
			if d := two.settle(); d.Operation != nil {
				t.Errorf("the copy, which has no operation, was answered %+v", d.Operation)
			}
			c, err := h.c.ConfirmReboot(t.Context(), "h0", s.op.ID, fleet.GrantID(grant), h.now)
			if err != nil || c.Yes {
				t.Errorf("confirmed: %+v, %v", c, err)
			}
			h.run(2*time.Second, func() bool { return h.rollout(r.ID).Status == "paused" })
			_, is := h.incidents()
			if !slices.ContainsFunc(is, func(in store.Incident) bool { return strings.Contains(in.Saw, "two machines") && len(in.Choices) > 0 }) {
				t.Errorf("incidents %+v", is)
			}
			if got := h.rollout(r.ID); got.Status != "paused" {
				t.Errorf("the rollout is %s", got.Status)
			}
			if phase.BeforeReboot() {
				one.op = &fleet.OperationReport{ID: s.op.ID, Phase: fleet.PhaseCancelled, Release: newRelease}
				one.settle()
				if op := h.host("h0").Operation; op != nil {
					t.Errorf("the operation was called off and is %s", op.Phase)
				}
			}
			if use := h.out(); !slices.Contains(use, "h0") {
				t.Errorf("a frozen host does not count as out: %v", use)
			}
		})
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add(answer{mark{1, 2, 3}, mark{1, 1, 9}.String(), 77}.String())
	f.Add("1.2.3/1.2.3/")
	f.Add("01.2.3/1.2.3/4")
	f.Add("1.2.3/1.2.3/18446744073709551616")
	f.Fuzz(func(t *testing.T, s string) {
		if a := parseAnswer(s); (a != answer{}) && a.String() != s {
			t.Errorf("%q reads as %q", s, a)
		}
	})
}

func TestUnfrozenAndFrozenAgain(t *testing.T) {
	h := newHouse(t, "a")
	one, two := h.machine("h0", "boot-1", "S1"), h.machine("h0", "boot-2", "S1")
	for i := 0; i < 6 && h.host("h0").Frozen == ""; i++ {
		one.settle()
		two.settle()
	}
	if _, err := h.c.UnfreezeHost(t.Context(), "ada", "h0", "gone", h.now); err != nil {
		t.Fatal(err)
	}
	if _, is := h.incidents(); h.host("h0").Frozen != "" || len(is) != 0 {
		t.Fatalf("still frozen, or its incident is open: %+v", is)
	}
	if _, err := h.c.UnfreezeHost(t.Context(), "ada", "h0", "gone", h.now); err == nil {
		t.Error("a host that is not frozen was unfrozen")
	}
	for range 5 {
		if d := one.settle(); d.Again {
			t.Error("the one that is left is not believed")
		}
	}
	three := h.machine("h0", "boot-3", "S1")
	for i := 0; i < 6 && h.host("h0").Frozen == ""; i++ {
		one.settle()
		three.settle()
	}
	if h.host("h0").Frozen == "" {
		t.Errorf("not frozen again\n%s", h.dump())
	}
}
