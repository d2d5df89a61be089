package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/kernwave/kernwave/internal/store"
)

// ready says whether the control plane does its work: the store can be read, and the control loop ticked lately. A
// stopped one is ready: it answers, and hosts in trial finish.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), 3*time.Second, errors.New("the store does not answer"))
	defer cancel()
	var why []string
	if err := s.Store.View(ctx, func(r store.Reader) error { _, err := r.Epoch(); return err }); err != nil {
		why = append(why, err.Error())
	}
	now := s.Now()
	switch tick := s.Control.Status(now).LastTick; {
	case tick.IsZero():
		why = append(why, "the control loop has not ticked yet")
	case now.Sub(tick) > s.cfg.TickWithin:
		why = append(why, fmt.Sprintf("the control loop ticked last %s ago", now.Sub(tick).Round(time.Second)))
	}
	if len(why) == 0 {
		_, _ = w.Write([]byte("ready\n"))
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	for _, line := range why {
		fmt.Fprintln(w, line)
	}
}
