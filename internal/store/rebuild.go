package store

import (
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// Rebuild says that a store was restored or cloned, and how far its control plane has come in learning from the hosts
// what it forgot. It begins in the transaction in which [Store.Begin] finds out.
type Rebuild struct {
	// Incarnation is the one that began with it. A host whose fleet.Host.JournalTold is lower may be doing anything.
	Incarnation uint64    `json:"incarnation"`
	Why         string    `json:"why"`
	At          time.Time `json:"at"`
	// DoneAt is when every active host had told its journal. Zero: not yet. A host that is taken back from maintenance
	// later still has to.
	DoneAt time.Time `json:"done_at,omitzero"`
}

// Open says whether hosts are still waited for.
func (r Rebuild) Open() bool { return r.Incarnation != 0 && r.DoneAt.IsZero() }

// Missing says whether nobody knows what h is doing: its journal has not been taken over since the store was restored.
func (r Rebuild) Missing(h fleet.Host) bool {
	return h.Status == fleet.StatusActive && h.JournalTold < r.Incarnation
}
