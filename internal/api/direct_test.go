package api

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/control"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/stop"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

// TestDirect takes every call of the direct API through its handler: a part of the server that NewDirect leaves out
// would show here, and not first in a simulation.
func TestDirect(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	st, err := sqlite.OpenTemp(sqlite.Options{Rand: cryptoRand})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	start, err := st.Begin(t.Context(), store.Place{MachineID: "m", Dir: "d", Instance: "i"})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(tx.PutHost(fleet.Host{ID: "a", Status: fleet.StatusActive}), tx.PutHost(fleet.Host{ID: "b", Status: fleet.StatusActive}))
	}); err != nil {
		t.Fatal(err)
	}
	halt := stop.Open(t.TempDir())
	clock := func() time.Time { return now }
	log := slog.New(slog.DiscardHandler)
	ctl, err := control.New(control.Config{From: start.Incarnation, Now: clock}, st, halt, log)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDirect(t.Context(), Config{}, Parts{Store: st, Epoch: start.Incarnation, Control: ctl, Stop: halt, Metrics: NewMetrics("test"), Log: log, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	a := NewClient("a", 1, now, now.AddDate(0, 3, 0))
	ada := operator.Account{Name: "ada", Role: operator.RoleOperator}
	ctx := t.Context()
	if got, err := d.CheckIn(ctx, a, fleet.Report{Host: "a", Now: fleet.HostState{BootID: "1", InService: true}}); err != nil || got.From != start.Incarnation {
		t.Errorf("check-in: %+v, %v", got, err)
	}
	if _, err := d.CheckIn(ctx, a, fleet.Report{Host: "b", Now: fleet.HostState{BootID: "1"}}); err == nil {
		t.Error("a spoke for b")
	}
	if _, err := d.CheckIn(ctx, NewClient("c", 3, now, now.AddDate(0, 3, 0)), fleet.Report{Host: "c"}); err == nil {
		t.Error("an unknown host was let in")
	}
	if got, err := d.ConfirmReboot(ctx, a, "a", "o", "g"); err != nil || got.Yes {
		t.Errorf("last moment: %+v, %v", got, err)
	}
	if err := d.SetHostStatus(ctx, ada, "b", fleet.StatusMaintenance, "a test"); err != nil {
		t.Error(err)
	}
	if err := d.SetHostStatus(ctx, operator.Account{Name: "eve", Role: operator.RoleViewer}, "b", fleet.StatusActive, "a test"); err == nil {
		t.Error("a viewer changed a host")
	}
	if err := d.SetBudget(ctx, ada, operator.Budget{By: operator.BudgetByType, Limit: 2}); err != nil {
		t.Error(err)
	}
	if _, err := d.Stop(ctx, ada, "a test"); err != nil { // it warns of a disk that is busy
		t.Error(err)
	}
	if err := d.LiftStop(ctx, ada, "a test"); err != nil {
		t.Error(err)
	}
	if _, err := d.StartRollout(ctx, ada, operator.RolloutSpec{Kernel: "none"}, ""); err == nil {
		t.Error("a rollout of no kernel began")
	}
	if _, err := d.ChangeRollout(ctx, ada, operator.Change{Rollout: "r-1", Action: operator.ActionPause}); err == nil {
		t.Error("no rollout was paused")
	}
	if _, err := d.GetRollout(ctx, ada, "r-1"); err == nil {
		t.Error("there is no rollout, and it was shown")
	}
}
