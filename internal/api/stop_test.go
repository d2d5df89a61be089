package api

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/stop"
)

func (w *world) stopAll(token string) (*kwv1.StopResponse, error) {
	res, err := w.fleet(token).Stop(w.t.Context(), connect.NewRequest(&kwv1.StopRequest{Why: "smoke"}))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

func TestStopAndLift(t *testing.T) {
	w := serve(t, nil)
	otto := w.operatorToken("otto", operator.RoleOperator)
	res, err := w.stopAll(otto)
	if err != nil || len(res.GetWarnings()) != 0 {
		t.Fatalf("stop: %v (%v)", res, err)
	}
	const want = "stopped by otto at 2031-05-01T08:00:00Z: smoke"
	if why, is := w.stop.Stopped(); !is || why != want {
		t.Errorf("stopped %v, %q; want %q", is, why, want)
	}
	status, err := w.fleet(otto).GetStatus(t.Context(), connect.NewRequest(&kwv1.GetStatusRequest{}))
	if err != nil || status.Msg.GetStopped() != want {
		t.Errorf("status says %q (%v)", status.Msg.GetStopped(), err)
	}
	if why, is := stop.Open(w.dir).Stopped(); !is || why != want {
		t.Errorf("after a restart: stopped %v, %q", is, why)
	}
	if w.ctl.pokes == 0 {
		t.Error("control was not poked")
	}
	for range 2 { // lifting what is lifted changes nothing
		if _, err := w.fleet(otto).LiftStop(t.Context(), connect.NewRequest(&kwv1.LiftStopRequest{Why: "it was toast"})); err != nil {
			t.Fatal(err)
		}
	}
	if _, is := w.stop.Stopped(); is {
		t.Error("still stopped")
	}
	if _, is := stop.Open(w.dir).Stopped(); is {
		t.Error("still stopped after a restart")
	}
	if got := w.events("")[1:]; !slices.Equal(got, []string{"operator.created", "fleet.stopped", "fleet.stop-lifted"}) {
		t.Errorf("events %v", got)
	}
}

// TestStopWorksWhenTheStoreIsSick: broken, then hanging.
func TestStopWorksWhenTheStoreIsSick(t *testing.T) {
	w := serve(t, nil)
	w.breakStore(func(string) error { return errors.New("I/O error") })
	res, err := w.stopAll(w.admin)
	if err != nil {
		t.Fatal(err)
	}
	if _, is := w.stop.Stopped(); !is || len(res.GetWarnings()) != 1 || !strings.Contains(res.GetWarnings()[0], "I/O error") {
		t.Errorf("stopped %v, warnings %v; want one about the record", is, res.GetWarnings())
	}
	_, err = w.fleet(w.admin).LiftStop(t.Context(), connect.NewRequest(&kwv1.LiftStopRequest{}))
	refused(t, err, connect.CodeUnavailable, "I/O error")
	if _, is := w.stop.Stopped(); !is {
		t.Error("the stop was lifted without a record")
	}

	w.breakStore(nil)
	if err := w.stop.Lift(); err != nil {
		t.Fatal(err)
	}
	hung := make(chan struct{})
	w.breakStore(func(string) error { <-hung; return nil })
	began := time.Now()
	res, err = w.stopAll(w.admin)
	close(hung)
	if err != nil || time.Since(began) > 20*time.Second {
		t.Fatalf("stop took %s (%v)", time.Since(began), err)
	}
	if _, is := w.stop.Stopped(); !is || len(res.GetWarnings()) != 1 || !strings.Contains(res.GetWarnings()[0], "not in the record yet") {
		t.Errorf("stopped %v, warnings %v; want one about the record", is, res.GetWarnings())
	}
}

func TestStopWithoutAFile(t *testing.T) {
	w := serve(t, nil)
	// A directory cannot be replaced by a file.
	if err := os.MkdirAll(filepath.Join(w.dir, "stop", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	res, err := w.stopAll(w.admin)
	if err != nil {
		t.Fatal(err)
	}
	if _, is := w.stop.Stopped(); !is || len(res.GetWarnings()) != 1 || !strings.Contains(res.GetWarnings()[0], "would not survive a restart") {
		t.Errorf("stopped %v, warnings %v; want one about the file", is, res.GetWarnings())
	}
	if _, err := w.fleet(w.admin).LiftStop(t.Context(), connect.NewRequest(&kwv1.LiftStopRequest{})); err == nil {
		t.Error("it was lifted, though its file could not be removed")
	}
}
