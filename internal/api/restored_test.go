package api

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

// TestStrangersAreToldOnce: a host that was enrolled after the backup is refused, and people hear of it, once.
func TestStrangersAreToldOnce(t *testing.T) {
	w := serve(t, nil)
	m := newMachine(t, "ghost")
	cert, err := w.s.CA().SignHost("ghost", &m.key.PublicKey, t0, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	m.cert = cert.Raw
	for range 3 {
		_, err := w.agent(m).CheckIn(t.Context(), connect.NewRequest(checkIn("ghost")))
		refused(t, err, connect.CodePermissionDenied, "not known here")
	}
	w.s.background.Wait()
	var told []store.Event
	if err := w.store.View(t.Context(), func(r store.Reader) (err error) {
		told, err = r.Events(store.EventQuery{Host: "ghost"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0].Kind != "host.unknown" || !strings.Contains(told[0].Why, "enrolled after the backup") {
		t.Errorf("told: %+v", told)
	}
}

// TestLiftWaitsForTheRebuild: the stop is lifted when the control plane says so, or by force, which the record shows.
func TestLiftWaitsForTheRebuild(t *testing.T) {
	w := serve(t, nil)
	c := w.fleet(w.admin)
	if _, err := c.Stop(t.Context(), connect.NewRequest(&kwv1.StopRequest{Why: "restored"})); err != nil {
		t.Fatal(err)
	}
	w.ctl.mu.Lock()
	w.ctl.mayNotLift = operator.Refuse(operator.ErrState, errors.New("rebuilding after a restore: 1 of 2 hosts have reported"))
	w.ctl.mu.Unlock()
	_, err := c.LiftStop(t.Context(), connect.NewRequest(&kwv1.LiftStopRequest{Why: "hurry"}))
	refused(t, err, connect.CodeFailedPrecondition, "rebuilding after a restore: 1 of 2")
	if s, err := c.GetStatus(t.Context(), connect.NewRequest(&kwv1.GetStatusRequest{})); err != nil || s.Msg.GetStopped() == "" {
		t.Errorf("lifted all the same: %v", err)
	}
	if _, err := c.LiftStop(t.Context(), connect.NewRequest(&kwv1.LiftStopRequest{Why: "hurry", Force: true})); err != nil {
		t.Fatal(err)
	}
	s, err := c.GetStatus(t.Context(), connect.NewRequest(&kwv1.GetStatusRequest{}))
	if err != nil || s.Msg.GetStopped() != "" {
		t.Errorf("not lifted: %v, %v", s, err)
	}
	w.ctl.mu.Lock()
	accepted := w.ctl.mayNotLift == nil
	w.ctl.mu.Unlock()
	if !accepted {
		t.Error("the control plane was not told that a person accepts it")
	}
	events, err := c.ListEvents(t.Context(), connect.NewRequest(&kwv1.ListEventsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	last := events.Msg.GetEvents()[len(events.Msg.GetEvents())-1]
	if last.GetKind() != "fleet.stop-lifted" || !strings.Contains(last.GetWhat(), "by force, against: rebuilding after a restore") {
		t.Errorf("the record says %v", last)
	}
}

// TestFencedServerSaysSo: whoever asks a control plane that another one has replaced hears that, at once.
func TestFencedServerSaysSo(t *testing.T) {
	w := serve(t, nil)
	old := w.store.(observed).Store.(*sqlite.Store)
	young, err := sqlite.OpenUnsynced(old.Dir(), sqlite.Options{Rand: rand.Reader, Peers: old.Peers()})
	if err != nil {
		t.Fatal(err)
	}
	defer young.Close()
	if _, err := young.Begin(t.Context(), store.Place{MachineID: "m", Dir: "1:1", Instance: "another one"}); err != nil {
		t.Fatal(err)
	}
	_, err = w.fleet(w.admin).ListEvents(t.Context(), connect.NewRequest(&kwv1.ListEventsRequest{}))
	refused(t, err, connect.CodeUnavailable, "another control plane has taken over this store")
}
