package storetest

import (
	"encoding/json"
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

func host(id fleet.HostID) fleet.Host {
	f := fleet.Facts{
		Hardware: fleet.Hardware{Vendor: "V", Model: "Größe <1> & \"2\""}, CPU: fleet.CPU{Cores: 8}, MemoryBytes: 1<<63 + 1,
		Disks: []fleet.Disk{{Name: "sda", Driver: "ahci", SizeBytes: 1 << 40}}, OS: fleet.OS{ID: "debian", Version: "12"},
		Labels: fleet.Labels{"workload": "web", "empty": ""},
	}
	return fleet.Host{
		ID: id, Status: fleet.StatusActive, EnrolledAt: t0, Facts: f, FactsHash: f.Hash(), Type: fleet.TypeOf(f),
		Now: fleet.HostState{BootID: "b", Release: "6.1", Uptime: 90 * time.Second, InService: true, FailedUnits: []string{"x.service"}},
	}
}

func kernel(id fleet.KernelID) fleet.Kernel {
	return fleet.Kernel{
		ID: id, Version: "6.12-1", Release: string(id), Family: "debian", Arch: "amd64", Flavour: "cloud-amd64", AddedAt: t0, AddedBy: "alice",
		Packages: []fleet.Package{{Name: "linux-image", Version: "6.12-1", Arch: "amd64", SHA256: "ab", Size: 1 << 33}},
	}
}

func operation(id fleet.OperationID, h fleet.HostID, p fleet.Phase) fleet.Operation {
	return fleet.Operation{
		ID: id, Host: h, Kind: fleet.KindUpdate, Kernel: "k", Release: "6.12", Owner: "r-1", Stage: 2, Phase: p, CreatedAt: t0,
		PhaseSince: t0.Add(time.Nanosecond), Word: fleet.WordRevert, WordWhy: "why", ConfirmedAt: t0,
		Problem: &fleet.Problem{Cause: fleet.CauseCheck, What: "line 1\nline 2\x00\u2028"}, Trial: &fleet.Trial{BootSec: 17.25, Checks: []fleet.Check{{Name: "c", Passed: true}}},
	}
}

// rows are one of each kind, with every field set that could get lost.
var rows = struct {
	rollout     store.Rollout
	grant       store.Grant
	approval    store.Approval
	incident    store.Incident
	event       store.Event
	budget      store.Budget
	token       store.EnrolToken
	operator    store.Operator
	certificate store.Certificate
}{
	rollout: store.Rollout{
		ID: "r-1", Kernel: "k", Status: "running", Open: true, Spec: json.RawMessage(`{"a":1}`), Plan: json.RawMessage(`[1,2]`),
		State: json.RawMessage(`{"n":12345678901234567890}`), CreatedBy: "alice", CreatedAt: t0, UpdatedAt: t0, EndedAt: t0,
	},
	grant: store.Grant{ID: "g-1", Operation: "o-1", Host: "web-1", GivenAt: t0, ExpiresAt: t0.Add(time.Minute), ConfirmedAt: t0},
	approval: store.Approval{
		Kernel: "k", Checksum: "c1", Type: "t", TypeKeyVersion: 1, By: "rollout r-1", Evidence: "trial passed on web-1", At: t0, Until: t0,
	},
	incident: store.Incident{
		ID: "i-1", At: t0, Rollout: "r-1", Kernel: "k", Type: "t", Hosts: []fleet.HostID{"web-1"}, Saw: "s", Expected: "e", Evidence: "panic",
		NoEvidence: "n", Choices: []store.Choice{{What: "w", Command: "c"}},
	},
	event:    store.Event{At: t0, Who: "alice", Kind: "host.status", Rollout: "r-1", Host: "web-1", Operation: "o-1", What: "what", Why: "why"},
	budget:   store.Budget{By: "label:rack", Limit: 2},
	token:    store.EnrolToken{Hash: "h1", Note: "n", Uses: 3, UsesLeft: 2, CreatedBy: "alice", CreatedAt: t0, ExpiresAt: t0},
	operator: store.Operator{Account: operator.Account{Name: "alice", Role: operator.RoleAdmin, CreatedAt: t0, ExpiresAt: t0}, TokenHash: "h", CreatedBy: "bob"},
	certificate: store.Certificate{
		Serial: "0a", Host: "web-1", KeySHA256: "k", DER: []byte{0, 1, 255}, IssuedAt: t0, NotAfter: t0, How: "enrol", TokenHash: "h1",
	},
}

// fill writes one row of each kind.
func fill(tx store.Tx) error {
	_, errApproval := tx.AppendApproval(rows.approval)
	_, errEvent := tx.AppendEvent(rows.event)
	_, errID := tx.NextID("r")
	return errors.Join(errApproval, errEvent, errID,
		tx.PutHost(host("web-1")), tx.AddKernel(kernel("k")), tx.PutRollout(rows.rollout),
		tx.PutOperation(operation("o-1", "web-1", fleet.PhaseTrial)), tx.PutGrant(rows.grant), tx.PutIncident(rows.incident),
		tx.PutBudget(rows.budget), tx.PutEnrolToken(rows.token), tx.PutOperator(rows.operator), tx.PutCertificate(rows.certificate),
		tx.PutIdempotencyKey("alice", "key", "r-1", t0), tx.PutLastSeen(map[fleet.HostID]time.Time{"web-1": t0}))
}

// mustBeEmpty looks into every list.
func mustBeEmpty(t *testing.T, s store.Store) {
	t.Helper()
	view(t, s, func(r store.Reader) error {
		count := map[string]int{}
		var errs []error
		add := func(what string, n int, err error) { count[what] = n; errs = append(errs, err) }
		hosts, err := r.Hosts()
		add("hosts", len(hosts), err)
		kernels, err := r.Kernels()
		add("kernels", len(kernels), err)
		rollouts, err := r.Rollouts()
		add("rollouts", len(rollouts), err)
		operations, err := r.OperationsOf("r-1")
		add("operations", len(operations), err)
		grants, err := r.LiveGrants()
		add("grants", len(grants), err)
		approvals, err := r.Approvals("")
		add("approvals", len(approvals), err)
		incidents, err := r.Incidents(true)
		add("incidents", len(incidents), err)
		events, err := r.Events(store.EventQuery{})
		add("events", len(events), err)
		budgets, err := r.Budgets()
		add("budgets", len(budgets), err)
		tokens, err := r.EnrolTokens()
		add("tokens", len(tokens), err)
		operators, err := r.Operators()
		add("operators", len(operators), err)
		certificates, err := r.CertificatesOf("web-1")
		add("certificates", len(certificates), err)
		seen, err := r.LastSeen()
		add("last seen", len(seen), err)
		if _, err := r.IdempotencyKey("alice", "key"); !errors.Is(err, store.ErrNotFound) {
			add("idempotency keys", 1, nil)
		}
		for what, n := range count {
			if n != 0 {
				t.Errorf("%d %s are left", n, what)
			}
		}
		return errors.Join(errs...)
	})
}

func testRows(t *testing.T, open Open) {
	s := begun(t, open)
	update(t, s, fill)
	check := func(r store.Reader) error {
		var errs []error
		is := func(what string, want any) func(got any, err error) {
			return func(got any, err error) { t.Helper(); same(t, what, got, want); errs = append(errs, err) }
		}
		h, err := r.Host("web-1")
		is("host", host("web-1"))(h, err)
		k, err := r.Kernel("k")
		is("kernel", kernel("k"))(k, err)
		ro, err := r.Rollout("r-1")
		is("rollout", rows.rollout)(ro, err)
		o, err := r.Operation("o-1")
		is("operation", operation("o-1", "web-1", fleet.PhaseTrial))(o, err)
		g, err := r.Grant("g-1")
		is("grant", rows.grant)(g, err)
		as, err := r.Approvals("c1")
		a := rows.approval
		a.ID = 1
		is("approvals", []store.Approval{a})(as, err)
		i, err := r.Incident("i-1")
		is("incident", rows.incident)(i, err)
		es, err := r.Events(store.EventQuery{})
		e := rows.event
		e.Seq = 1
		is("events", []store.Event{e})(es, err)
		bs, err := r.Budgets()
		is("budgets", []store.Budget{rows.budget})(bs, err)
		tok, err := r.EnrolToken("h1")
		is("token", rows.token)(tok, err)
		op, err := r.Operator("alice")
		is("operator", rows.operator)(op, err)
		c, err := r.Certificate("0a")
		is("certificate", rows.certificate)(c, err)
		res, err := r.IdempotencyKey("alice", "key")
		is("idempotency key", "r-1")(res, err)
		seen, err := r.LastSeen()
		is("last seen", map[fleet.HostID]time.Time{"web-1": t0})(seen, err)
		return errors.Join(errs...)
	}
	view(t, s, check)
	update(t, s, func(tx store.Tx) error { return check(tx) }) // a Tx is a Reader too

	for what, f := range map[string]func(store.Tx) error{
		"kernel":          func(tx store.Tx) error { return tx.AddKernel(kernel("k")) },
		"idempotency key": func(tx store.Tx) error { return tx.PutIdempotencyKey("alice", "key", "r-2", t0) },
	} {
		if err := s.Update(t.Context(), f); !errors.Is(err, operator.ErrExists) {
			t.Errorf("the same %s again: got %v, want ErrExists", what, err)
		}
	}
	update(t, s, func(tx store.Tx) error { return tx.PutIdempotencyKey("bob", "key", "r-2", t0) }) // keys are each scope's own
}

func testNotFound(t *testing.T, open Open) {
	s := begun(t, open)
	view(t, s, func(r store.Reader) error {
		for what, f := range map[string]func() error{
			"host":            func() error { _, err := r.Host("x"); return err },
			"kernel":          func() error { _, err := r.Kernel("x"); return err },
			"rollout":         func() error { _, err := r.Rollout("x"); return err },
			"operation":       func() error { _, err := r.Operation("x"); return err },
			"grant":           func() error { _, err := r.Grant("x"); return err },
			"incident":        func() error { _, err := r.Incident("x"); return err },
			"token":           func() error { _, err := r.EnrolToken("x"); return err },
			"operator":        func() error { _, err := r.Operator("x"); return err },
			"certificate":     func() error { _, err := r.Certificate("x"); return err },
			"idempotency key": func() error { _, err := r.IdempotencyKey("x", "x"); return err },
		} {
			if err := f(); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: got %v, want ErrNotFound", what, err)
			}
		}
		return nil
	})
	for what, f := range map[string]func(store.Tx) error{
		"operator": func(tx store.Tx) error { return tx.DeleteOperator("x") },
		"approval": func(tx store.Tx) error { return tx.WithdrawApproval(7, "x", "x", t0) },
	} {
		if err := s.Update(t.Context(), f); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", what, err)
		}
	}
	update(t, s, func(tx store.Tx) error { return tx.DeleteBudget("x") })
}

func testIDs(t *testing.T, open Open) {
	s := begun(t, open)
	update(t, s, func(tx store.Tx) error {
		var got []string
		for _, kind := range []string{"r", "r", "i", "r"} {
			id, err := tx.NextID(kind)
			if err != nil {
				return err
			}
			got = append(got, id)
		}
		same(t, "ids", got, []string{"r-1", "r-2", "i-1", "r-3"})
		seen := map[string]bool{}
		for range 3 {
			o, err := tx.NextOperationID()
			if err != nil {
				return err
			}
			g, err := tx.NextGrantID()
			if err != nil {
				return err
			}
			for _, id := range []string{string(o), string(g)} {
				if !regexp.MustCompile(`^[og]-[0-9]+-[0-9a-f]{8}$`).MatchString(id) || seen[id] {
					t.Errorf("id %q: want a letter, a number and eight hex digits, each once", id)
				}
				seen[id] = true
			}
		}
		return nil
	})
}

func testLists(t *testing.T, open Open) {
	s := begun(t, open)
	closed := t0
	update(t, s, func(tx store.Tx) error {
		retired := host("a")
		retired.Status = fleet.StatusRetired
		shut := rows.rollout
		shut.ID, shut.Open = "r-0", false
		third := rows.rollout
		third.ID = "r-3"
		ended, other := operation("o-2", "web-1", fleet.PhaseCommitted), operation("o-3", "web-2", fleet.PhasePlanned)
		other.Owner = "r-2"
		spent := rows.grant
		spent.ID, spent.EndedAt = "g-0", closed
		old := rows.incident
		old.ID, old.ClosedAt = "i-0", closed
		revoked := rows.certificate
		revoked.Serial, revoked.RevokedAt = "ff", closed
		return errors.Join(tx.PutHost(retired), tx.PutHost(host("c")), tx.PutHost(host("b")),
			tx.PutRollout(shut), tx.PutRollout(rows.rollout), tx.PutRollout(third),
			tx.PutOperation(ended), tx.PutOperation(operation("o-1", "web-1", fleet.PhaseTrial)), tx.PutOperation(other),
			tx.PutGrant(spent), tx.PutGrant(rows.grant), tx.PutIncident(old), tx.PutIncident(rows.incident),
			tx.PutCertificate(revoked), tx.PutCertificate(rows.certificate),
			tx.AddKernel(kernel("z")), tx.AddKernel(kernel("y")))
	})
	list := func() map[string][]string {
		got := map[string][]string{}
		view(t, s, func(r store.Reader) error {
			var errs []error
			add := func(what string, ids []string, err error) { got[what] = ids; errs = append(errs, err) }
			hs, err := r.Hosts()
			add("hosts", each(hs, func(h fleet.Host) string { return string(h.ID) }), err)
			hs, err = r.HostsByStatus(fleet.StatusActive)
			add("active", each(hs, func(h fleet.Host) string { return string(h.ID) }), err)
			ks, err := r.Kernels()
			add("kernels", each(ks, func(k fleet.Kernel) string { return string(k.ID) }), err)
			rs, err := r.Rollouts()
			add("rollouts", each(rs, func(r store.Rollout) string { return r.ID }), err)
			rs, err = r.OpenRollouts()
			add("open rollouts", each(rs, func(r store.Rollout) string { return r.ID }), err)
			os, err := r.OpenOperations()
			add("open operations", each(os, operationID), err)
			os, err = r.OperationsOn("web-1", 0)
			add("on web-1", each(os, operationID), err)
			os, err = r.OperationsOn("web-1", 1)
			add("newest on web-1", each(os, operationID), err)
			os, err = r.OperationsOf("r-1")
			add("of r-1", each(os, operationID), err)
			gs, err := r.LiveGrants()
			add("live grants", each(gs, func(g store.Grant) string { return string(g.ID) }), err)
			gs, err = r.GrantsOf("o-1")
			add("grants of o-1", each(gs, func(g store.Grant) string { return string(g.ID) }), err)
			is, err := r.Incidents(false)
			add("open incidents", each(is, func(i store.Incident) string { return i.ID }), err)
			is, err = r.Incidents(true)
			add("incidents", each(is, func(i store.Incident) string { return i.ID }), err)
			cs, err := r.CertificatesOf("web-1")
			add("certificates", each(cs, func(c store.Certificate) string { return c.Serial }), err)
			revoked, err := r.RevokedCertificates()
			add("revoked", revoked, err)
			return errors.Join(errs...)
		})
		return got
	}
	same(t, "lists", list(), map[string][]string{
		"hosts": {"a", "b", "c"}, "active": {"b", "c"}, "kernels": {"z", "y"},
		"rollouts": {"r-3", "r-1", "r-0"}, "open rollouts": {"r-1", "r-3"},
		"open operations": {"o-1", "o-3"}, "on web-1": {"o-1", "o-2"}, "newest on web-1": {"o-1"}, "of r-1": {"o-2", "o-1"},
		"live grants": {"g-1"}, "grants of o-1": {"g-0", "g-1"},
		"open incidents": {"i-1"}, "incidents": {"i-1", "i-0"}, "certificates": {"ff", "0a"}, "revoked": {"ff"},
	})

	// Putting again keeps the place in the order and moves between open and closed.
	update(t, s, func(tx store.Tx) error {
		r, g, i := rows.rollout, rows.grant, rows.incident
		r.Open, g.EndedAt, i.ClosedAt = false, closed, closed
		c := rows.certificate
		c.RevokedAt = closed
		return errors.Join(tx.PutRollout(r), tx.PutGrant(g), tx.PutIncident(i), tx.PutCertificate(c),
			tx.PutOperation(operation("o-1", "web-1", fleet.PhaseReverted)))
	})
	got := list()
	for what, want := range map[string][]string{
		"rollouts": {"r-3", "r-1", "r-0"}, "open rollouts": {"r-3"}, "open operations": {"o-3"}, "on web-1": {"o-1", "o-2"},
		"live grants": nil, "grants of o-1": {"g-0", "g-1"}, "open incidents": nil, "certificates": {"ff", "0a"}, "revoked": {"0a", "ff"},
	} {
		same(t, what+" after putting again", got[what], want)
	}
}

func operationID(o fleet.Operation) string { return string(o.ID) }

func each[T any](vs []T, f func(T) string) (ids []string) {
	for _, v := range vs {
		ids = append(ids, f(v))
	}
	return ids
}

func testEvents(t *testing.T, open Open) {
	s := begun(t, open)
	update(t, s, func(tx store.Tx) error {
		for i, e := range []store.Event{
			{Host: "a"}, {Host: "b", Rollout: "r-1"}, {Rollout: "r-1"}, {Operation: "o-1", Host: "a"}, {Host: "a", Rollout: "r-1", Seq: 99},
		} {
			e.At, e.Who, e.Kind, e.What = t0, "control", "k", "w"
			seq, err := tx.AppendEvent(e)
			if err != nil {
				return err
			}
			same(t, "seq", seq, int64(i+1))
		}
		return nil
	})
	for _, c := range []struct {
		name string
		q    store.EventQuery
		want []int64
	}{
		{"all", store.EventQuery{}, []int64{1, 2, 3, 4, 5}},
		{"after", store.EventQuery{After: 3}, []int64{4, 5}},
		{"the first", store.EventQuery{Limit: 2}, []int64{1, 2}},
		{"the newest, still rising", store.EventQuery{Limit: 2, Newest: true}, []int64{4, 5}},
		{"of a host", store.EventQuery{Host: "a"}, []int64{1, 4, 5}},
		{"of a rollout", store.EventQuery{Rollout: "r-1"}, []int64{2, 3, 5}},
		{"of an operation", store.EventQuery{Operation: "o-1"}, []int64{4}},
		{"of both", store.EventQuery{Host: "a", Rollout: "r-1"}, []int64{5}},
		{"newest of a host", store.EventQuery{Host: "a", Limit: 1, Newest: true}, []int64{5}},
		{"none", store.EventQuery{Host: "c"}, nil},
	} {
		view(t, s, func(r store.Reader) error {
			es, err := r.Events(c.q)
			var got []int64
			for _, e := range es {
				got = append(got, e.Seq)
			}
			same(t, c.name, got, c.want)
			return err
		})
	}
}

func testApprovals(t *testing.T, open Open) {
	s := begun(t, open)
	ids := func() (got []int64) {
		view(t, s, func(r store.Reader) error {
			as, err := r.Approvals("c1")
			for _, a := range as {
				got = append(got, a.ID)
			}
			return err
		})
		return got
	}
	update(t, s, func(tx store.Tx) error {
		other := rows.approval
		other.Checksum = "c2"
		for _, a := range []store.Approval{rows.approval, other, rows.approval} {
			if _, err := tx.AppendApproval(a); err != nil {
				return err
			}
		}
		return nil
	})
	same(t, "before", ids(), []int64{1, 3})
	for range 2 {
		update(t, s, func(tx store.Tx) error { return tx.WithdrawApproval(1, "alice", "bad luck", t0) })
	}
	same(t, "after", ids(), []int64{3})
}

func testLastSeen(t *testing.T, open Open) {
	s := begun(t, open)
	for _, d := range []time.Duration{0, time.Hour, time.Minute} {
		update(t, s, func(tx store.Tx) error { return tx.PutLastSeen(map[fleet.HostID]time.Time{"a": t0.Add(d)}) })
	}
	view(t, s, func(r store.Reader) error {
		seen, err := r.LastSeen()
		same(t, "last seen", seen, map[fleet.HostID]time.Time{"a": t0.Add(time.Hour)})
		return err
	})
}
