package control

import (
	"errors"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

// Nearly all check-ins say nothing new. Where this process knows the newest state (store.Fresh), they are answered from
// it, without a transaction. Ticks ask the store all the same: should somebody else write there in spite of its lock, the
// next one notices.
//
// Where it does not know, check-ins of hosts of which nothing is wanted, which are nearly all, are answered from the last
// state that it read or wrote. Where another control plane has taken over, that stays behind until the next tick
// notices: so no host that has an operation open is answered from it, and nothing that lets one leave service.

// errNotInMemory is for what only the store can answer.
var errNotInMemory = errors.New("not in memory")

// inMemory is a reader of the hot rows alone.
type inMemory struct {
	hot  *store.Hot
	host fleet.HostID // whose report it is
}

var _ store.Reader = inMemory{}

// memoryFor is a reader for a report, if it can be answered from memory.
func (c *Control) memoryFor(rep fleet.Report) (m inMemory, ok bool) {
	h, fresh := c.store.Fresh()
	if !fresh {
		h = c.store.Last()
	}
	if h == nil || h.Epoch != c.cfg.From || h.Rebuild.Open() || rep.Seen.Refuses(c.cfg.From) != "" {
		return m, false
	}
	if n := h.Newest.Get(rep.Host); !fresh && n != nil && !n.Row.Phase.Ended() {
		return m, false
	}
	return inMemory{h, rep.Host}, h.Hosts.Get(rep.Host) != nil
}

func (m inMemory) Hot() (*store.Hot, error)        { return m.hot, nil }
func (m inMemory) Rebuild() (store.Rebuild, error) { return m.hot.Rebuild, nil }

func (m inMemory) Host(id fleet.HostID) (h fleet.Host, err error) {
	if p := m.hot.Hosts.Get(id); p != nil {
		return *p, nil
	}
	return h, errNotInMemory
}

func (m inMemory) OperationsOn(h fleet.HostID, limit int) ([]fleet.Operation, error) {
	n := m.hot.Newest.Get(h)
	switch {
	case n == nil:
		return nil, nil
	case limit == 1:
		return []fleet.Operation{n.Row}, nil
	}
	return nil, errNotInMemory
}

// Operation finds the host's newest one, of which an idle host tells until there is another, and those that are open.
func (m inMemory) Operation(id fleet.OperationID) (op fleet.Operation, err error) {
	if n := m.hot.Newest.Get(m.host); n != nil && n.Row.ID == id {
		return n.Row, nil
	}
	if n := m.hot.Operations.Get(id); n != nil {
		return n.Row, nil
	}
	return op, errNotInMemory
}

// Rollout finds the open ones.
func (m inMemory) Rollout(id string) (r store.Rollout, err error) {
	if n := m.hot.Rollouts.Get(id); n != nil {
		return n.Row, nil
	}
	return r, errNotInMemory
}

func (m inMemory) Kernel(id fleet.KernelID) (k fleet.Kernel, err error) {
	if k := m.hot.Kernel(id); k != nil {
		return *k, nil
	}
	return k, fmt.Errorf("kernel %s: %w", id, store.ErrNotFound)
}

func (inMemory) Budgets() (v []store.Budget, err error) { return v, errNotInMemory }

func (inMemory) Epoch() (v fleet.Incarnation, err error) { return v, errNotInMemory }

func (inMemory) Hosts() (v []fleet.Host, err error) { return v, errNotInMemory }

func (inMemory) HostsByStatus(fleet.Status) (v []fleet.Host, err error) { return v, errNotInMemory }

func (inMemory) LastSeen() (v map[fleet.HostID]time.Time, err error) { return v, errNotInMemory }

func (inMemory) Kernels() (v []fleet.Kernel, err error) { return v, errNotInMemory }

func (inMemory) Rollouts() (v []store.Rollout, err error) { return v, errNotInMemory }

func (inMemory) OpenRollouts() (v []store.Rollout, err error) { return v, errNotInMemory }

func (inMemory) OpenOperations() (v []fleet.Operation, err error) { return v, errNotInMemory }

func (inMemory) OperationsOf(string) (v []fleet.Operation, err error) { return v, errNotInMemory }

func (inMemory) Grant(fleet.GrantID) (v store.Grant, err error) { return v, errNotInMemory }

func (inMemory) LiveGrants() (v []store.Grant, err error) { return v, errNotInMemory }

func (inMemory) GrantsOf(fleet.OperationID) (v []store.Grant, err error) { return v, errNotInMemory }

func (inMemory) Approvals(string) (v []store.Approval, err error) { return v, errNotInMemory }

func (inMemory) Incident(string) (v store.Incident, err error) { return v, errNotInMemory }

func (inMemory) Incidents(bool) (v []store.Incident, err error) { return v, errNotInMemory }

func (inMemory) Events(store.EventQuery) (v []store.Event, err error) { return v, errNotInMemory }

func (inMemory) EnrolToken(string) (v store.EnrolToken, err error) { return v, errNotInMemory }

func (inMemory) EnrolTokens() (v []store.EnrolToken, err error) { return v, errNotInMemory }

func (inMemory) Operator(string) (v store.Operator, err error) { return v, errNotInMemory }

func (inMemory) Operators() (v []store.Operator, err error) { return v, errNotInMemory }

func (inMemory) Certificate(string) (v store.Certificate, err error) { return v, errNotInMemory }

func (inMemory) CertificatesOf(fleet.HostID) (v []store.Certificate, err error) {
	return v, errNotInMemory
}
func (inMemory) RevokedCertificates() (v []string, err error)        { return v, errNotInMemory }
func (inMemory) IdempotencyKey(string, string) (v string, err error) { return v, errNotInMemory }
