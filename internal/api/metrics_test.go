package api

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/kernwave/kernwave/internal/store"
)

func (w *world) get(path string) (int, string) {
	w.t.Helper()
	res := w.do(w.client(nil, ""), "GET", path, nil)
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestMetrics(t *testing.T) {
	w := serve(t, nil)
	for _, name := range []string{"web-1", "web-2"} {
		if _, err := w.agent(w.enrol(name)).CheckIn(t.Context(), connect.NewRequest(checkIn(hostIDOf(name)))); err != nil {
			t.Fatal(err)
		}
		w.clock.advance(20 * time.Second)
	}
	w.enrol("never-heard")
	if err := w.store.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.PutRollout(store.Rollout{ID: "r-1", Open: true, Status: "paused"}), tx.PutRollout(store.Rollout{ID: "r-0", Status: "done"}))
	}); err != nil {
		t.Fatal(err)
	}
	w.s.Metrics.Tick(20 * time.Millisecond)
	broken := errors.New("I/O error")
	w.breakStore(func(string) error { return broken })
	if err := w.store.Update(t.Context(), func(tx store.Tx) error { return tx.DeleteBudget("x") }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	w.breakStore(nil)
	if err := w.store.Update(t.Context(), func(store.Tx) error { return errWhy }); !errors.Is(err, errWhy) {
		t.Fatal(err) // the caller's own error is none of the store
	}
	if code, _ := w.get("/nothing"); code != 404 {
		t.Fatal(code)
	}

	code, text := w.get("/metrics")
	if code != 200 {
		t.Fatal(code)
	}
	for _, line := range []string{
		`kernwave_checkins_total 2`, `kernwave_checkin_age_seconds_bucket{le="15"} 0`, `kernwave_checkin_age_seconds_bucket{le="30"} 1`,
		`kernwave_checkin_age_seconds_bucket{le="60"} 2`, `kernwave_checkin_oldest_age_seconds 40`, `kernwave_hosts_unheard 1`,
		`kernwave_hosts 7`, `kernwave_hosts_silent 2`, `kernwave_grants_live 3`, `kernwave_incidents_open 1`, `kernwave_stopped 0`,
		`kernwave_rollouts{status="paused"} 1`, `kernwave_store_errors_total 1`, `kernwave_tick_seconds_bucket{le="0.03"} 1`,
		`kernwave_build_info{version="v-test"} 1`, `kernwave_panics_total 0`, `go_goroutines`,
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("no line %s", line)
		}
	}
	for _, secret := range []string{"web-1", "never-heard", `status="done"`} {
		if strings.Contains(text, secret) {
			t.Errorf("it says %s", secret)
		}
	}
}

func TestHealth(t *testing.T) {
	w := serve(t, nil)
	ready := func(want int, why string) {
		t.Helper()
		if code, text := w.get("/readyz"); code != want || !strings.Contains(text, why) {
			t.Errorf("/readyz: %d %q, want %d …%s…", code, text, want, why)
		}
		if code, text := w.get("/healthz"); code != 200 || text != "ok\n" {
			t.Errorf("/healthz: %d %q", code, text)
		}
	}
	ready(200, "ready")
	w.clock.advance(31 * time.Second)
	ready(503, "the control loop ticked last 31s ago")
	w.ctl.mu.Lock()
	w.ctl.lastTick = time.Time{}
	w.ctl.mu.Unlock()
	ready(503, "has not ticked yet")
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	ready(503, "read the store")
}
