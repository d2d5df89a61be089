package sqlite

import (
	"errors"
	"math/rand"
	"testing"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

func has(t *testing.T, s *Store, id fleet.HostID) bool {
	t.Helper()
	err := s.View(t.Context(), func(r store.Reader) error { _, err := r.Host(id); return err })
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func putHost(t *testing.T, s *Store, id fleet.HostID) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx store.Tx) error { return tx.PutHost(fleet.Host{ID: id}) }); err != nil {
		t.Fatal(err)
	}
}

// TestSnapshot: two stores from one snapshot hold what it held, and go their own ways.
func TestSnapshot(t *testing.T) {
	s, err := OpenTemp(Options{Rand: rand.New(rand.NewSource(1))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	begin(t, s)
	putHost(t, s, "before")
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	putHost(t, s, "after")
	for i := range 2 {
		again, err := OpenSnapshot(snap, Options{Rand: rand.New(rand.NewSource(int64(i)))})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if !has(t, again, "before") || has(t, again, "after") || has(t, again, "mine") {
			t.Errorf("snapshot %d: before %v, after %v", i, has(t, again, "before"), has(t, again, "after"))
		}
		begin(t, again)
		putHost(t, again, "mine")
	}
	if has(t, s, "mine") {
		t.Error("what was written to the copy is in the original")
	}
	if _, err := OpenSnapshot(Snapshot{}, Options{Rand: rand.New(rand.NewSource(1))}); err == nil {
		t.Error("an empty snapshot was opened")
	}
}
