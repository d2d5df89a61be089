package sqlite

import (
	"fmt"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

func (r *reader) Kernel(id fleet.KernelID) (fleet.Kernel, error) {
	return one[fleet.Kernel](r, "kernel "+string(id), "SELECT body FROM kernel WHERE id = ?", id)
}

func (r *reader) Kernels() ([]fleet.Kernel, error) {
	return many[fleet.Kernel](r, "kernels", "SELECT body FROM kernel ORDER BY seq")
}

func (w *writer) AddKernel(k fleet.Kernel) error {
	found, err := w.scan("kernel", []any{new(int64)}, "SELECT seq FROM kernel WHERE id = ?", k.ID)
	if err != nil {
		return err
	}
	if found {
		return fmt.Errorf("kernel %s: %w", k.ID, operator.ErrExists)
	}
	return w.put("add kernel "+string(k.ID), "INSERT INTO kernel (id, body) VALUES (?, ?)", k, k.ID)
}

func (r *reader) Rollout(id string) (store.Rollout, error) {
	return one[store.Rollout](r, "rollout "+id, "SELECT body FROM rollout WHERE id = ?", id)
}

func (r *reader) Rollouts() ([]store.Rollout, error) {
	return many[store.Rollout](r, "rollouts", "SELECT body FROM rollout ORDER BY seq DESC")
}

func (r *reader) OpenRollouts() ([]store.Rollout, error) {
	return many[store.Rollout](r, "open rollouts", "SELECT body FROM rollout WHERE open = 1 ORDER BY seq")
}

func (w *writer) PutRollout(r store.Rollout) error {
	return w.put("put rollout "+r.ID,
		"INSERT INTO rollout (id, open, body) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET open = excluded.open, body = excluded.body",
		r, r.ID, r.Open)
}

func (r *reader) Operation(id fleet.OperationID) (fleet.Operation, error) {
	return one[fleet.Operation](r, "operation "+string(id), "SELECT body FROM operation WHERE id = ?", id)
}

func (r *reader) OpenOperations() ([]fleet.Operation, error) {
	return manyKnown(r, r.ops, "open operations", "SELECT id, body FROM operation WHERE open = 1 ORDER BY seq")
}

func (r *reader) OperationsOn(h fleet.HostID, limit int) ([]fleet.Operation, error) {
	return many[fleet.Operation](r, "operations of a host",
		"SELECT body FROM operation WHERE host = ? ORDER BY seq DESC LIMIT ?", h, orAll(limit))
}

func (r *reader) OperationsOf(owner string) ([]fleet.Operation, error) {
	return manyKnown(r, r.ops, "operations of an owner", "SELECT id, body FROM operation WHERE owner = ? ORDER BY seq", owner)
}

func (w *writer) PutOperation(o fleet.Operation) error {
	return w.put("put operation "+string(o.ID),
		`INSERT INTO operation (id, host, owner, open, body) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET host = excluded.host, owner = excluded.owner, open = excluded.open, body = excluded.body`,
		o, o.ID, o.Host, o.Owner, !o.Phase.Ended())
}

func (r *reader) Grant(id fleet.GrantID) (store.Grant, error) {
	return one[store.Grant](r, "grant "+string(id), "SELECT body FROM grants WHERE id = ?", id)
}

func (r *reader) LiveGrants() ([]store.Grant, error) {
	return many[store.Grant](r, "live grants", "SELECT body FROM grants WHERE live = 1 ORDER BY seq")
}

func (r *reader) GrantsOf(op fleet.OperationID) ([]store.Grant, error) {
	return many[store.Grant](r, "grants of an operation", "SELECT body FROM grants WHERE operation = ? ORDER BY seq", op)
}

func (w *writer) PutGrant(g store.Grant) error {
	return w.put("put grant "+string(g.ID),
		`INSERT INTO grants (id, operation, live, body) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET operation = excluded.operation, live = excluded.live, body = excluded.body`,
		g, g.ID, g.Operation, g.EndedAt.IsZero())
}

// orAll turns "0: all" into SQLite's way of saying it.
func orAll(limit int) int {
	if limit <= 0 {
		return -1
	}
	return limit
}
