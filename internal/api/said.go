package api

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kernwave/kernwave/internal/store"
)

// said is the latest time that this control plane, or the one before it on this store, may have told its hosts.
type said struct {
	mu sync.Mutex
	at time.Time
}

func (s *said) tell(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.After(s.at) {
		s.at = t
	}
}

func (s *said) latest() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// load finds it in the record: whoever checked in was told the time, and left a trace within some minutes.
func (s *said) load(ctx context.Context, st store.Store) error {
	err := st.View(ctx, func(r store.Reader) error {
		es, err := r.Events(store.EventQuery{Newest: true, Limit: 1000})
		if err != nil {
			return err
		}
		for _, e := range es {
			s.tell(e.At)
		}
		seen, err := r.LastSeen()
		for _, at := range seen {
			s.tell(at)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("find the latest time in the record: %w", err)
	}
	return nil
}
