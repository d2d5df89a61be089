package main

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

// rows is what the control plane remembers, read from its store once it is gone.
type rows struct {
	hosts  map[fleet.HostID]fleet.Host
	ops    map[fleet.HostID][]fleet.Operation // oldest first
	grants map[fleet.OperationID][]store.Grant
	live   []store.Grant
}

// stopAndRead ends the server in an orderly way and reads its rows.
func (r *rig) stopAndRead() rows {
	r.t.Helper()
	r.endServer()
	forks.Lock()
	defer forks.Unlock()
	s, err := sqlite.Open(filepath.Join(r.dir, "data"), sqlite.Options{Rand: rand.Reader})
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	out := rows{map[fleet.HostID]fleet.Host{}, map[fleet.HostID][]fleet.Operation{}, map[fleet.OperationID][]store.Grant{}, nil}
	err = s.View(r.t.Context(), func(tx store.Reader) error {
		hs, err := tx.Hosts()
		if err != nil {
			return err
		}
		for _, h := range hs {
			ops, err := tx.OperationsOn(h.ID, 0)
			if err != nil {
				return err
			}
			slices.Reverse(ops)
			out.hosts[h.ID], out.ops[h.ID] = h, ops
			for _, op := range ops {
				if out.grants[op.ID], err = tx.GrantsOf(op.ID); err != nil {
					return err
				}
			}
		}
		out.live, err = tx.LiveGrants()
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) endServer() {
	if r.kept != nil {
		r.kept.end()
		return
	}
	r.server.kill(syscall.SIGTERM)
}

// end is a host's operation at rest: what it came to, and what the machine then is.
type end struct {
	phases  []fleet.Phase // what may have come of it
	release map[fleet.Phase]string
	boots   int // at most
	power   bool
}

// prove checks one host whose operation has ended against its own machine, its journal and the server's rows.
// It returns what is wrong, and when the host was out of service.
func (f *fake) prove(x rows, want end) (wrong []string, out span) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	id, m := fleet.HostID(f.name), f.machine()
	records, journals := f.records(), map[fleet.OperationID]bool{}
	for _, r := range records {
		journals[r.Operation] = true
	}
	ops := x.ops[id]
	if len(ops) != 1 || len(journals) != 1 || !journals[ops[0].ID] {
		bad("one operation was wanted; the server has %d, the host's journals are of %d", len(ops), len(journals))
		return wrong, out
	}
	op, last := ops[0], records[len(records)-1]
	// Truthful: journal, rows and machine say the same.
	if !slices.Contains(want.phases, last.Phase) {
		bad("ended %s, %+v; want one of %v", last.Phase, last.Problem, want.phases)
	}
	if op.Phase != last.Phase {
		bad("the server says %s, the journal %s", op.Phase, last.Phase)
	}
	release := want.release[last.Phase]
	h := x.hosts[id]
	if m.Running != release || m.Default != release || h.Now.Release != release {
		bad("after %s it should run %s: it runs %s, its default is %s, the server says %s", last.Phase, release, m.Running, m.Default, h.Now.Release)
	}
	if m.OneShot != nil {
		bad("a trial is still armed: %+v", *m.OneShot)
	}
	if last.Phase != fleet.PhaseCommitted && last.Problem == nil {
		bad("ended %s without a reason", last.Phase)
	}
	// In service, undrained, nothing parked.
	if s := f.service(); s != "" && !strings.HasSuffix(s, "undrain") || !h.Now.InService || h.Now.Parked != "" {
		bad("in service %v (%s), parked %q, drained and undrained: %s", h.Now.InService, h.Now.NotInServiceWhy, h.Now.Parked, s)
	}
	for _, g := range x.live {
		if g.Host == id {
			bad("grant %s is still live", g.ID)
		}
	}
	wrong = append(wrong, f.proveBoots(records, op, want)...)
	for i := 1; i < len(records); i++ {
		if a, b := records[i-1].Phase, records[i].Phase; !a.CanBecome(b) {
			bad("its journal says %s after %s", b, a)
		}
	}
	return wrong, outOfService(records, len(x.grants[op.ID]) > 0, &wrong)
}

// proveBoots: one boot of the trial at most, each under a live grant and a fresh confirmation, or by a power cut.
func (f *fake) proveBoots(records []agent.Record, op fleet.Operation, want end) (wrong []string) {
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	allowed := map[string]bool{} // boots that the agent ended for a trial
	for _, r := range records {
		if r.ConfirmAsked == 0 {
			continue
		}
		allowed[r.RebootBootID] = true
		if r.RebootBegan-r.ConfirmAsked >= fleet.ConfirmLife || r.GrantBootID != r.RebootBootID || r.RebootBegan >= r.GrantUntil {
			bad("it rebooted without a live grant, or on an old answer: %+v", r)
		}
	}
	m := f.machine()
	trials := 0
	for i, b := range m.Boots {
		if b.Trial == "" {
			continue
		}
		trials++
		powerCut := want.power && b.Why == "power cut"
		if b.Trial != op.ID || i == 0 || !allowed[m.Boots[i-1].BootID] && !powerCut {
			bad("boot %s is a trial that nobody allowed", b.BootID)
		}
		if op.ConfirmedAt.IsZero() && !powerCut {
			bad("boot %s is a trial, and the server confirmed none", b.BootID)
		}
	}
	if trials > 1 {
		bad("its trial was booted %d times", trials)
	}
	if len(m.Boots) > want.boots {
		bad("%d boots, at most %d are needed: %+v", len(m.Boots), want.boots, m.Boots)
	}
	return wrong
}

// span is a time out of service.
type span struct{ from, to time.Time }

func outOfService(records []agent.Record, granted bool, wrong *[]string) (s span) {
	for _, r := range records {
		switch {
		case s.from.IsZero() && !r.Phase.BeforeReboot() && !r.Phase.Ended(), s.from.IsZero() && r.Phase == fleet.PhaseDraining:
			s.from = r.At
			if r.Grant == "" || !granted {
				*wrong = append(*wrong, "it left service without a grant")
			}
		case !s.from.IsZero() && r.Phase.Ended():
			s.to = r.At
		}
	}
	return s
}

// most is how many spans overlap at the busiest moment.
func most(spans []span) (n int) {
	type edge struct {
		at time.Time
		d  int
	}
	var es []edge
	for _, s := range spans {
		if !s.from.IsZero() {
			es = append(es, edge{s.from, 1}, edge{s.to, -1})
		}
	}
	slices.SortFunc(es, func(a, b edge) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.d, b.d)) })
	now := 0
	for _, e := range es {
		now += e.d
		n = max(n, now)
	}
	return n
}

func TestMost(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	if n := most([]span{{at(0), at(10)}, {at(2), at(4)}, {at(4), at(6)}, {at(5), at(7)}, {}}); n != 3 {
		t.Errorf("got %d, want 3", n)
	}
}
