// Package grant decides who may leave service now. Every wish to leave service
// is a Request; one pure step over all of them is the only producer of grants,
// so that a limit cannot be checked by one and used by another. It does no
// I/O, reads no clock and draws no random number.
//
//	ds, wake := grant.Step(view, now)       // save ds in the transaction that loaded the view
//	why := grant.Explain(view, "op-12", now) // why a request waits
//
// A grant expires for its holder, who then stays in service or returns to it.
// It never expires for the budget: a host counts as out until it was seen
// healthy, or a person put it into maintenance or retired it.
//
// This package may still change before Kernwave 1.0.
package grant

import (
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// View is everything that Step looks at: all requests, all grants that have not ended, and all hosts that are out.
type View struct {
	// Stopped says why nothing is granted at all; empty: grants are given.
	Stopped string
	// Life of a grant. It is renewed at half of it, as long as it is wanted.
	Life time.Duration
	// Budgets: every one must have room.
	Budgets []Budget
	// Requests in any order: the oldest wish is served first.
	Requests []Request
	Grants   []Grant
	Out      []Out
}

// Budget limits how many hosts that share the value of By may be out of service at once, whatever the cause.
type Budget struct {
	By    string // "type" or "label:KEY"; also the key of Groups
	Limit int
}

// Groups says to which group of each budget a host belongs: Groups["type"] = "lab-small.web.3f9a1c".
// A host without a value is in the group "".
type Groups map[string]string

// Request is one operation's wish to leave service.
type Request struct {
	Operation fleet.OperationID
	Host      fleet.HostID
	Groups    Groups
	Since     time.Time
	// Unfit is why the host may not leave service whatever the budgets say (silent, not in service); empty: fit.
	Unfit string
}

// Grant is one that has not ended.
type Grant struct {
	ID        fleet.GrantID
	Operation fleet.OperationID
	Host      fleet.HostID
	ExpiresAt time.Time
	// Used is set when the host was told that it may reboot: from then on the way back needs no grant.
	Used bool
	// Over is why the grant is not needed any more (its operation has ended and the host was seen in service, it ran
	// out before the host left service, or a person took the host out); empty: it is.
	Over string
}

// Out is one host that is out of service, or must be taken for it, with why. A host may be listed more than once.
type Out struct {
	Host   fleet.HostID
	Groups Groups
	Why    string
}

// Decision is one thing that Step wants changed.
type Decision interface{ decision() }

// Give lets one host leave service.
type Give struct {
	Operation fleet.OperationID
	Host      fleet.HostID
	ExpiresAt time.Time
}

// Renew extends a grant that is still wanted, not yet used and has not run out.
type Renew struct {
	Grant     fleet.GrantID
	ExpiresAt time.Time
}

// End takes a grant off the books.
type End struct {
	Grant fleet.GrantID
	Host  fleet.HostID
	Why   string
}

func (Give) decision()  {}
func (Renew) decision() {}
func (End) decision()   {}
