package control

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

func (h *house) snapshot() sqlite.Snapshot {
	h.t.Helper()
	s, err := h.st.Snapshot(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// restore puts a snapshot in the place of what there is, as an operator puts a backup back.
func (h *house) restore(s sqlite.Snapshot) {
	h.t.Helper()
	h.st.Close()
	st, err := sqlite.OpenSnapshot(s, sqlite.Options{Rand: rand.New(rand.NewSource(int64(h.terms) + 100))})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { st.Close() })
	h.st = st
	h.terms++
	start, err := st.Begin(h.t.Context(), store.Place{MachineID: "m", Dir: "d", Instance: fmt.Sprint("i", h.terms), At: h.now, Raise: true})
	if err != nil {
		h.t.Fatal(err)
	}
	h.stop.why = start.Moved
	if err := SettleMove(h.t.Context(), st, start, h.now); err != nil {
		h.t.Fatal(err)
	}
	h.c = h.control(start)
}

func (h *house) control(start store.Start) *Control {
	h.t.Helper()
	c, err := New(Config{From: start.Incarnation, Now: func() time.Time { return h.now }}, h.st, &h.stop,
		slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *house) rowsOn(id fleet.HostID) (ops []fleet.Operation, host fleet.Host) {
	h.t.Helper()
	if err := h.st.View(h.t.Context(), func(r store.Reader) (err error) {
		if host, err = r.Host(id); err != nil {
			return err
		}
		ops, err = r.OperationsOn(id, 0)
		return err
	}); err != nil {
		h.t.Fatal(err)
	}
	return ops, host
}

func (h *house) reboots() (n int) {
	for _, s := range h.hosts {
		n += len(s.reboots)
	}
	return n
}

// rebuilt waits until every host has told its journal, and checks that nobody begins a reboot meanwhile.
func (h *house) rebuilt() {
	h.t.Helper()
	before := h.reboots()
	if !h.run(5*time.Minute, func() bool { return h.c.Status(h.now).Rebuild == nil }) {
		h.t.Fatalf("never rebuilt: %s\n%s", h.c.Status(h.now).Rebuild, h.dump())
	}
	h.run(2*time.Minute, nil) // what was on its way ends
	if n := h.reboots(); n != before {
		h.t.Errorf("%d hosts began a reboot into the new kernel while everything was stopped", n-before)
	}
}

// TestRestoredBackupAtAnyInstant: a rollout with a type that panics, a backup at one instant, put back at a later one.
// The budget holds all the time (house.run checks it), nothing leaves service until a person says so, no host that went
// back from the kernel gets it again, and in the end rows and hosts say the same.
func TestRestoredBackupAtAnyInstant(t *testing.T) {
	backups, rounds := []int{0, 3, 6, 9, 14, 25, 40, 60}, 0
	gaps := []int{1, 2, 4, 7, 12, 20, 33, 50, 80, 150}
	if testing.Short() {
		backups, gaps = []int{0, 9, 40}, []int{2, 12, 50}
	}
	adopted := map[fleet.Phase]int{}
	for _, at := range backups {
		for _, gap := range gaps {
			rounds++
			t.Run(fmt.Sprintf("at %ds, back %ds later", at, gap), func(t *testing.T) { restoredBackup(t, at, gap, adopted) })
		}
	}
	t.Logf("%d pairs of instants; journals told the rows that an operation was %v", rounds, adopted)
	for _, p := range []fleet.Phase{fleet.PhaseTrial, fleet.PhaseCancelled, fleet.PhaseCommitted} {
		if adopted[p] == 0 {
			t.Errorf("no operation was taken over in phase %s: this test looked at too little", p)
		}
	}
}

func restoredBackup(t *testing.T, at, gap int, adopted map[fleet.Phase]int) {
	h := newHouse(t, "a", "b", "a", "b", "a")
	for _, s := range h.hosts {
		s.panics = s.model == "b"
	}
	r := h.start(operator.RolloutSpec{Waves: []int{50, 100}})
	h.run(time.Duration(at)*time.Second, nil)
	backup := h.snapshot()
	h.run(time.Duration(gap)*time.Second, nil)
	var failed []*simHost
	offered := map[fleet.HostID]int{}
	h.restore(backup)
	if got := h.rollout(r.ID); got.Status != "paused" && got.EndedAt.IsZero() {
		t.Errorf("after the restore %s is %s", r.ID, got.Status)
	} else if got.EndedAt.IsZero() && !strings.Contains(got.Next, "rebuilding after a restore: 0 of 5 hosts have reported; waiting for h0") {
		t.Errorf("it waits for %q", got.Next)
	}
	if err := h.c.MayLift(t.Context(), h.now); err == nil || !errors.Is(err, operator.ErrState) || !strings.Contains(err.Error(), "0 of 5 hosts") {
		t.Errorf("the stop may be lifted: %v", err)
	}
	h.rebuilt()
	for _, e := range h.events("operation.adopted") {
		adopted[fleet.Phase(e.What[strings.LastIndex(e.What, " ")+1:])]++
	}
	if err := h.c.MayLift(t.Context(), h.now); err != nil {
		t.Errorf("the stop may not be lifted: %v", err)
	}
	for _, s := range h.hosts {
		if s.op != nil && s.op.Phase == fleet.PhaseFellBack {
			failed = append(failed, s)
			offered[s.id] = s.prepared
		}
		h.truthful(s)
	}
	h.stop.why = ""
	if h.rollout(r.ID).Status == "paused" {
		h.change(operator.Change{Rollout: r.ID, Action: "resume"})
	}
	// The type that panics stops it again at its canary, if it has not yet.
	h.run(5*time.Minute, nil)
	for _, s := range failed {
		if s.prepared != offered[s.id] {
			t.Errorf("%s went back from the kernel, and was offered it again", s.id)
		}
	}
	b := h.hosts[1]
	h.change(operator.Change{Rollout: r.ID, Action: "leave-out", Type: h.typeOf(b.id), Why: "panics there"})
	if h.rollout(r.ID).Status == "paused" {
		h.change(operator.Change{Rollout: r.ID, Action: "resume"})
	}
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("not done: %s\n%s", h.rollout(r.ID).Next, h.dump())
	}
	for _, s := range h.hosts {
		h.truthful(s)
		if want := map[string]string{"a": newRelease, "b": oldRelease}[s.model]; s.release != want || s.deflt != want {
			t.Errorf("%s runs %s, default %s", s.id, s.release, s.deflt)
		}
		if n := len(s.reboots); n > 2 {
			t.Errorf("%s was rebooted into the kernel %d times", s.id, n)
		}
	}
}

func (h *house) typeOf(id fleet.HostID) fleet.HostTypeID {
	_, host := h.rowsOn(id)
	return host.Type.ID
}

// truthful compares a host's journal with the rows.
func (h *house) truthful(s *simHost) {
	h.t.Helper()
	ops, host := h.rowsOn(s.id)
	if host.JournalTold != h.c.cfg.From.Incarnation {
		h.t.Errorf("%s: journal told to incarnation %d", s.id, host.JournalTold)
	}
	rows := map[fleet.OperationID]fleet.Operation{}
	for _, op := range ops {
		rows[op.ID] = op
		if !op.Phase.Ended() {
			h.t.Errorf("%s: %s is %s in the rows", s.id, op.ID, op.Phase)
		}
	}
	for _, said := range s.ended {
		if op, ok := rows[said.ID]; !ok || op.Phase != said.Phase {
			h.t.Errorf("%s: %s ended %s, the rows say %q", s.id, said.ID, said.Phase, op.Phase)
		}
	}
	if s.outOfService {
		h.t.Errorf("%s is out of service, %s", s.id, s.op.Phase)
	}
}

// TestForcedLiftCountsTheMissing: a host that was in its trial when the backup was made, and says nothing since, may be
// out of service; whoever lifts the stop by force does not get its budget.
func TestForcedLiftCountsTheMissing(t *testing.T) {
	h := newHouse(t, "a", "a", "a")
	r := h.start(operator.RolloutSpec{})
	backup := h.snapshot() // before anybody left service
	if !h.run(time.Hour, func() bool { return h.rollout(r.ID).Stage > 0 }) {
		t.Fatal(h.dump())
	}
	for _, s := range h.hosts {
		s.hangs = s.release == oldRelease
	}
	var gone *simHost
	if !h.run(time.Hour, func() bool {
		for _, s := range h.hosts {
			if s.down {
				gone = s
			}
		}
		return gone != nil
	}) {
		t.Fatal(h.dump())
	}
	h.restore(backup)
	h.run(time.Minute, nil)
	err := h.c.MayLift(t.Context(), h.now)
	if err == nil || !strings.Contains(err.Error(), "2 of 3 hosts have reported; waiting for "+string(gone.id)+" (silent since the restore)") {
		t.Fatalf("may it be lifted? %v", err)
	}
	h.stop.why = ""
	h.c.Accept()
	h.change(operator.Change{Rollout: r.ID, Action: "resume"})
	before := h.reboots()
	h.run(10*time.Minute, nil)
	if n := h.reboots(); n != before {
		t.Errorf("%d hosts left service while %s may be out\n%s", n-before, gone.id, h.dump())
	}
	for _, s := range h.hosts {
		why, err := h.c.WhyHost(t.Context(), s.id, h.now)
		if err != nil || !strings.Contains(why.Why, "journal") && s == gone {
			t.Errorf("why %s: %+v, %v", s.id, why, err)
		}
	}
	// A person decides on the missing one: that ends the rebuild, and the others go on.
	if _, err := h.c.SetHostStatus(t.Context(), "ada", gone.id, fleet.StatusMaintenance, "dead", h.now); err != nil {
		t.Fatal(err)
	}
	for _, s := range h.hosts {
		s.hangs = false
	}
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
	if n := len(h.events("control.rebuilt")); n != 1 {
		t.Errorf("the rebuild ended %d times", n)
	}
	// It is mended and taken back: it still has to tell what it did before anything is wanted of it.
	gone.down, gone.upAt = false, h.now
	if _, err := h.c.SetHostStatus(t.Context(), "ada", gone.id, fleet.StatusActive, "mended", h.now); err != nil {
		t.Fatal(err)
	}
	h.run(5*time.Minute, nil)
	h.truthful(gone)
}

// TestLostRollouts: a rollout that was started after the backup is gone, but not what its hosts learned from it.
func TestLostRollouts(t *testing.T) {
	h := newHouse(t, "a", "a", "b")
	first := h.start(operator.RolloutSpec{Selector: "", Note: "the one that is in the backup"})
	h.change(operator.Change{Rollout: first.ID, Action: "pause"})
	h.run(time.Minute, nil)
	backup := h.snapshot()
	h.change(operator.Change{Rollout: first.ID, Action: "abort"})
	if !h.run(time.Minute, h.status(first.ID, "aborted")) {
		t.Fatal(h.dump())
	}
	for _, s := range h.hosts {
		s.panics = s.model == "a"
	}
	lost := h.start(operator.RolloutSpec{})
	if !h.run(time.Hour, h.status(lost.ID, "paused")) {
		t.Fatal(h.dump())
	}
	h.run(2*time.Minute, nil)
	var failed *simHost
	for _, s := range h.hosts {
		if s.op != nil && s.op.Phase == fleet.PhaseFellBack {
			failed = s
		}
	}
	if failed == nil {
		t.Fatal(h.dump())
	}
	prepared := failed.prepared
	h.restore(backup)
	h.rebuilt()
	h.stop.why = ""
	h.change(operator.Change{Rollout: first.ID, Action: "resume"})
	for _, s := range h.hosts {
		s.panics = false // it would go well this time, and must not be tried unasked
	}
	h.run(10*time.Minute, nil)
	if failed.prepared != prepared {
		t.Errorf("%s was offered the kernel again", failed.id)
	}
	why, err := h.c.WhyHost(t.Context(), failed.id, h.now)
	if err != nil || !strings.Contains(why.Why, "came back on "+oldRelease) || !strings.Contains(why.Next, "retry") {
		t.Errorf("why %s: %+v, %v", failed.id, why, err)
	}
	h.change(operator.Change{Rollout: first.ID, Action: "retry", Host: failed.id})
	if !h.run(time.Hour, h.status(first.ID, "done")) {
		t.Fatalf("%s\n%s", h.rollout(first.ID).Next, h.dump())
	}
	next, err := h.c.PlanRollout(t.Context(), "ada", operator.RolloutSpec{Kernel: "new"}, h.now)
	if err == nil {
		t.Errorf("planned %+v: everybody has it", next)
	}
	h.addKernel("newer", "6.12.200-cloud-amd64")
	again, err := h.c.StartRollout(t.Context(), "ada", operator.RolloutSpec{Kernel: "newer"}, "", h.now)
	if err != nil || again.ID == lost.ID || !strings.HasPrefix(again.ID, "r-2-") {
		t.Errorf("the next rollout is %s, %v: %s was another one", again.ID, err, lost.ID)
	}
}

// TestSuperseded: whoever hears from a host that it obeys a newer control plane stops, says so, and stays so; a person
// can go on in spite of it, but not with that host.
func TestSuperseded(t *testing.T) {
	h := newHouse(t, "a", "a", "a")
	halted := ""
	h.c.cfg.Halt = func(_, why string, _ time.Time) error { halted = why; return nil }
	r := h.start(operator.RolloutSpec{})
	other := fleet.Incarnation{Incarnation: h.c.cfg.From.Incarnation + 1, Term: 9, Instance: "other"}
	if !h.run(time.Hour, func() bool { return h.rollout(r.ID).Stage > 0 }) {
		t.Fatal(h.dump())
	}
	taken := h.hosts[0]
	taken.seen = other
	before := h.reboots()
	h.run(10*time.Minute, nil)
	if n := h.reboots(); n > before+1 { // one may have asked already
		t.Errorf("%d hosts began a reboot", n-before)
	}
	st := h.c.Status(h.now)
	if !strings.Contains(st.Superseded, "host h0 has obeyed another control plane: incarnation 2, term 9, instance other") || halted != st.Superseded {
		t.Errorf("status: %q, halted: %q", st.Superseded, halted)
	}
	if n := len(h.events("control.superseded")); n != 1 {
		t.Errorf("it was said %d times", n)
	}
	if err := h.c.MayLift(t.Context(), h.now); err == nil || !strings.Contains(fmt.Sprint(err), "another control plane") {
		t.Errorf("may it be lifted? %v", err)
	}
	if why, err := h.c.WhyHost(t.Context(), "h0", h.now); err != nil || !strings.Contains(why.Why, "obeys another control plane") {
		t.Errorf("why h0: %+v, %v", why, err)
	}
	// Forced: h0 counts as out, so nobody of its type leaves service.
	h.c.Accept()
	before = h.reboots()
	h.run(5*time.Minute, nil)
	if n := h.reboots(); n != before {
		t.Errorf("%d hosts left service while h0 obeys another", n-before)
	}
	if n := len(h.events("control.superseded")); n != 1 {
		t.Errorf("it was said again: %d", n)
	}
	// This one takes over, above all others.
	start, err := h.st.Begin(t.Context(), store.Place{MachineID: "m", Dir: "d", Instance: "again", At: h.now, Raise: true})
	if err != nil || start.Incarnation.Incarnation != 3 {
		t.Fatalf("raised to %+v, %v", start, err)
	}
	if err := SettleMove(t.Context(), h.st, start, h.now); err != nil {
		t.Fatal(err)
	}
	h.c = h.control(start)
	h.run(2*time.Minute, func() bool { return h.c.Status(h.now).Rebuild == nil })
	h.change(operator.Change{Rollout: r.ID, Action: "resume"})
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
}

// TestFencedControlPlane: whoever is fenced says nothing any more, not even what it knows.
func TestFencedControlPlane(t *testing.T) {
	h := newHouse(t, "a", "a")
	r := h.start(operator.RolloutSpec{})
	if !h.run(time.Minute, func() bool { return len(h.liveGrants()) > 0 }) {
		t.Fatal(h.dump())
	}
	h.run(5*time.Second, nil)
	s := h.hosts[0]
	for _, x := range h.hosts {
		if x.op != nil {
			s = x
		}
	}
	old, oldStore := h.c, h.st
	// Another process on the same rows.
	h.terms++
	young, err := sqlite.OpenUnsynced(h.st.Dir(), sqlite.Options{Rand: rand.New(rand.NewSource(7)), Peers: h.st.Peers()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { young.Close() })
	start, err := young.Begin(t.Context(), store.Place{MachineID: "m", Dir: "d", Instance: "young", At: h.now})
	if err != nil || start.Moved != "" {
		t.Fatal(start, err)
	}
	h.st = young
	h.c = h.control(start)
	rep := fleet.Report{Host: s.id, Operation: s.op, Now: fleet.HostState{BootID: "x", Release: s.release, InService: true}}
	for what, f := range map[string]func() error{
		"check-in": func() error { _, err := old.CheckIn(t.Context(), rep, h.now); return err },
		"confirm":  func() error { _, err := old.ConfirmReboot(t.Context(), s.id, s.op.ID, "g", h.now); return err },
		"tick":     func() error { _, err := old.Tick(t.Context(), h.now); return err },
		"rollout":  func() error { _, err := old.Rollout(t.Context(), r.ID, h.now); return err },
		"hosts":    func() error { _, err := old.Hosts(t.Context(), "", h.now); return err },
		"why":      func() error { _, err := old.WhyHost(t.Context(), s.id, h.now); return err },
		"budgets":  func() error { _, _, err := old.Budgets(t.Context(), h.now); return err },
		"lift":     func() error { return old.MayLift(t.Context(), h.now) },
		"change": func() error {
			_, err := old.ChangeRollout(t.Context(), "ada", operator.Change{Rollout: r.ID, Action: "pause"}, h.now)
			return err
		},
		"view": func() error { return oldStore.View(t.Context(), func(store.Reader) error { return nil }) },
	} {
		if err := f(); !errors.Is(err, store.ErrFenced) {
			t.Errorf("%s of the fenced one: %v", what, err)
		}
	}
	if err := old.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another control plane has taken over this store") {
		t.Errorf("it goes on running: %v", err)
	}
	if !h.run(time.Hour, h.status(r.ID, "done")) {
		t.Fatalf("%s\n%s", h.rollout(r.ID).Next, h.dump())
	}
}
