// Package operator holds what operators see and ask for, as plain types: hosts
// as they look from the control plane, rollouts with their stages, budgets and
// their use, events, incidents and approvals. It decides nothing and opens
// nothing. The control plane fills these types, internal/wire carries them, the
// command line and the console print them.
package operator

import (
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// Host is one host as the control plane sees it now.
type Host struct {
	fleet.Host
	// LastSeen is zero when the host was not heard since the control plane started and never before it.
	LastSeen time.Time `json:"last_seen,omitzero"`
	Silent   bool      `json:"silent,omitempty"`
	// Operation is the open one; nil: none.
	Operation *fleet.Operation `json:"operation,omitempty"`
}

// Why says in one sentence why a host is where it is, and what can be done.
type Why struct {
	Host fleet.HostID `json:"host"`
	Why  string       `json:"why"`
	Next string       `json:"next,omitempty"` // may be empty
}

// Status is the control plane at a glance.
type Status struct {
	Hosts         int       `json:"hosts"` // retired ones not counted
	Silent        int       `json:"silent"`
	Frozen        int       `json:"frozen,omitempty"` // two machines under one certificate
	LiveGrants    int       `json:"live_grants"`
	OpenIncidents int       `json:"open_incidents"`
	LastTick      time.Time `json:"last_tick,omitzero"`
	// StoreError is why the last read or write of the store failed; empty when it did not.
	StoreError string `json:"store_error,omitempty"`
	// Rebuild is how far a restored control plane has come; nil: the state is whole.
	Rebuild *Rebuild `json:"rebuild,omitempty"`
	// Superseded says which host has obeyed which newer control plane than this one; empty: none has.
	Superseded string `json:"superseded,omitempty"`
}

// Budget is the most hosts that may be out of service at once in each group of hosts that share the value of By.
type Budget struct {
	By    string `json:"by"`    // BudgetByType or "label:KEY"
	Limit int    `json:"limit"` // at least 1
}

// BudgetByType is the budget that always exists: one group for each host type.
const BudgetByType = "type"

// BudgetByLabel begins the By of a budget over the values of one label.
const BudgetByLabel = "label:"

// GroupUse is how much of one group's budget is used, and by whom.
type GroupUse struct {
	Group string `json:"group"` // type=lab-small.web.3f9a1c
	Limit int    `json:"limit"`
	Out   []Out  `json:"out,omitempty"`
}

// Out is one host that counts as out of service, and why it does.
type Out struct {
	Host fleet.HostID `json:"host"`
	Why  string       `json:"why"`
}

// Event is one line of the record: a decision, a result or something an operator did.
type Event struct {
	Seq       int64             `json:"seq"` // given by the store, increasing, from 1
	At        time.Time         `json:"at"`
	Who       string            `json:"who"`  // an operator's name, "control", or "host NAME"
	Kind      string            `json:"kind"` // host.enrolled, rollout.paused, grant.given …
	Rollout   string            `json:"rollout,omitempty"`
	Host      fleet.HostID      `json:"host,omitempty"`
	Operation fleet.OperationID `json:"operation,omitempty"`
	What      string            `json:"what"` // one sentence
	Why       string            `json:"why,omitempty"`
}

// Incident is something that stopped a rollout: what was seen, on which hosts, and what can be done.
type Incident struct {
	ID       string           `json:"id"`
	At       time.Time        `json:"at"`
	Rollout  string           `json:"rollout,omitempty"`
	Kernel   fleet.KernelID   `json:"kernel,omitempty"`
	Type     fleet.HostTypeID `json:"type,omitempty"`
	Hosts    []fleet.HostID   `json:"hosts,omitempty"`
	Saw      string           `json:"saw"`
	Expected string           `json:"expected,omitempty"`
	Evidence string           `json:"evidence,omitempty"`
	// NoEvidence is why there is none, when some could be expected.
	NoEvidence string    `json:"no_evidence,omitempty"`
	Choices    []Choice  `json:"choices,omitempty"`
	ClosedAt   time.Time `json:"closed_at,omitzero"` // zero: open
	ClosedWhy  string    `json:"closed_why,omitempty"`
}

// Choice is one thing that an operator can do about an incident.
type Choice struct {
	What    string `json:"what"`
	Command string `json:"command"`
}

// Approval says that a kernel is good for one host type. It is never changed; see store.Tx.WithdrawApproval.
type Approval struct {
	ID             int64            `json:"id,omitempty"` // given by the store
	Kernel         fleet.KernelID   `json:"kernel"`
	Checksum       string           `json:"checksum"` // fleet.Kernel.Checksum: what it really speaks for
	Type           fleet.HostTypeID `json:"type"`
	TypeKeyVersion int              `json:"type_key_version"`
	By             string           `json:"by"`       // "rollout r-3"
	Evidence       string           `json:"evidence"` // "trial passed on web-1"
	At             time.Time        `json:"at"`
	Until          time.Time        `json:"until,omitzero"` // zero: without end
}

// Role is what an operator may do. A higher one may do all that a lower one may.
type Role string

const (
	RoleNone     Role = ""         // may do nothing
	RoleViewer   Role = "viewer"   // read everything
	RoleOperator Role = "operator" // roll, stop, and take hosts in and out
	RoleAdmin    Role = "admin"    // let machines and people in, and throw them out
)

// May says whether someone with role r may do what needs role need. An unknown role may do nothing, and nobody
// may do what needs an unknown role.
func (r Role) May(need Role) bool { return need.rank() > 0 && r.rank() >= need.rank() }

// Known says whether r is viewer, operator or admin.
func (r Role) Known() bool { return r.rank() > 0 }

func (r Role) rank() int {
	switch r {
	case RoleViewer:
		return 1
	case RoleOperator:
		return 2
	case RoleAdmin:
		return 3
	}
	return 0
}

// Account is an operator's name and role, without the token.
type Account struct {
	Name      string    `json:"name"`
	Role      Role      `json:"role"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: never
}
