package store

import (
	"cmp"
	"slices"

	"github.com/kernwave/kernwave/fleet"
)

// Hot is what every tick and every check-in looks at, decoded, as it was at one moment: hosts, what is open, and what
// is decided with. It never changes, may be kept, and shares what did not change with the ones before and after it,
// so that [Table.Since] finds what did. Nobody may change what its rows point to.
type Hot struct {
	Epoch fleet.Incarnation
	// Writes counts the transactions that changed anything, from the store's first day. Two Hots of one store with the
	// same Epoch and Writes say the same.
	Writes int64

	Hosts Table[fleet.HostID, fleet.Host]
	// Operations are the open ones, and all of open rollouts.
	Operations Table[fleet.OperationID, Numbered[fleet.Operation]]
	// Newest is each host's newest operation, open or not.
	Newest    Table[fleet.HostID, Numbered[fleet.Operation]]
	Grants    Table[fleet.GrantID, Numbered[Grant]] // live
	Rollouts  Table[string, Numbered[Rollout]]      // open
	Incidents Table[string, Numbered[Incident]]     // open

	// These change rarely and are copied whole.
	Kernels   []fleet.Kernel // in the order in which they were added
	Approvals []Approval     // those not withdrawn, oldest first
	Budgets   []Budget       // by By
	Rebuild   Rebuild
}

// Numbered is a row with its place in the order in which rows of its kind were first put.
type Numbered[V any] struct {
	Seq int64
	Row V
}

// Sorted are the rows of t that keep chooses, oldest first.
func Sorted[K ~string, V any](t Table[K, Numbered[V]], keep func(*V) bool) []V {
	var ns []*Numbered[V]
	for _, n := range t.All() {
		if keep == nil || keep(&n.Row) {
			ns = append(ns, n)
		}
	}
	slices.SortFunc(ns, func(a, b *Numbered[V]) int { return cmp.Compare(a.Seq, b.Seq) })
	vs := make([]V, len(ns))
	for i, n := range ns {
		vs[i] = n.Row
	}
	return vs
}

// Kernel returns the kernel with an id; nil: there is none.
func (h *Hot) Kernel(id fleet.KernelID) *fleet.Kernel {
	for i := range h.Kernels {
		if h.Kernels[i].ID == id {
			return &h.Kernels[i]
		}
	}
	return nil
}
