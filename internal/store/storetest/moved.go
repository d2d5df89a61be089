package storetest

import (
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

var elsewhere = store.Place{MachineID: "m2", Dir: "1:2", Instance: "b", At: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)}

func rebuild(t testing.TB, s store.Store) (rb store.Rebuild) {
	t.Helper()
	view(t, s, func(r store.Reader) (err error) { rb, err = r.Rebuild(); return err })
	return rb
}

// testRebuild: what must be learned anew is known from the first instant in the new incarnation on, and stays known.
func testRebuild(t *testing.T, open Open) {
	s := begun(t, open)
	if rb := rebuild(t, s); rb != (store.Rebuild{}) || rb.Open() || rb.Missing(fleet.Host{Status: fleet.StatusActive}) {
		t.Errorf("a new store: %+v", rb)
	}
	st, err := s.Begin(t.Context(), elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	want := store.Rebuild{Incarnation: 2, Why: st.Moved, At: elsewhere.At}
	same(t, "after the move", rebuild(t, s), want)
	for _, c := range []struct {
		h       fleet.Host
		missing bool
	}{
		{fleet.Host{Status: fleet.StatusActive, JournalTold: 1}, true},
		{fleet.Host{Status: fleet.StatusActive, JournalTold: 2}, false},
		{fleet.Host{Status: fleet.StatusMaintenance, JournalTold: 1}, false},
		{fleet.Host{Status: fleet.StatusRetired}, false},
	} {
		if got := want.Missing(c.h); got != c.missing {
			t.Errorf("%+v missing: %v", c.h, got)
		}
	}
	want.DoneAt = elsewhere.At.Add(time.Hour)
	update(t, s, func(tx store.Tx) error {
		if err := tx.PutRebuild(want); err != nil {
			return err
		}
		got, err := tx.Rebuild()
		same(t, "in the update", got, want)
		return err
	})
	if rb := rebuild(t, open(t)); rb.Open() || rb != want {
		t.Errorf("in another process: %+v", rb)
	}
}

// testBranches: two copies of one store and the original never count to the same id.
func testBranches(t *testing.T, open Open) {
	s := begun(t, open)
	draw := func() (id string) {
		update(t, s, func(tx store.Tx) (err error) { id, err = tx.NextID("r"); return err })
		return id
	}
	if id := draw(); id != "r-1" {
		t.Errorf("in a new store: %s", id)
	}
	ends := map[string]bool{}
	for i := range 3 {
		p := elsewhere
		p.Dir += strings.Repeat("x", i)
		if _, err := s.Begin(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		one, two := draw(), draw()
		end, again := one[strings.LastIndex(one, "-"):], two[strings.LastIndex(two, "-"):]
		if len(end) != 7 || end != again || ends[end] || !strings.HasPrefix(one, "r-") || one == two {
			t.Errorf("copy %d draws %s and %s", i, one, two)
		}
		ends[end] = true
	}
}

func testObeyed(t *testing.T, open Open) {
	s := begun(t, open)
	for _, i := range []fleet.Incarnation{{Incarnation: 7, Term: 2}, {Incarnation: 3, Term: 99}} {
		update(t, s, func(tx store.Tx) error { return tx.PutObeyed(i) })
	}
	st, err := s.Begin(t.Context(), here)
	if err != nil || st.Incarnation.Incarnation != 1 {
		t.Errorf("in its place: %+v, %v: nobody asked for more", st, err)
	}
	p := here
	p.Raise = true
	if st, err = s.Begin(t.Context(), p); err != nil || st.Incarnation.Incarnation != 8 {
		t.Errorf("raised: %+v, %v, want incarnation 8", st, err)
	}
	update(t, s, func(tx store.Tx) error { return tx.SettleMove() })
	// A later term of its own: it is older than it thinks.
	update(t, s, func(tx store.Tx) error {
		return tx.PutObeyed(fleet.Incarnation{Incarnation: 8, Term: st.Incarnation.Term + 5, Instance: "lost"})
	})
	if st, err = s.Begin(t.Context(), here); err != nil || st.Incarnation.Incarnation != 9 || !strings.Contains(st.Moved, "put back to an older state") {
		t.Errorf("put back: %+v, %v, want incarnation 9", st, err)
	}
}
