// Package fleet holds the words of Kernwave as plain types: hosts and their
// facts, host types, kernels, operations and the errors that explain
// themselves. It imports nothing of ours, opens nothing and decides nothing;
// every other room speaks in these types.
//
//	t := fleet.TypeOf(host.Facts)
//	if !fleet.PhaseTrial.CanBecome(fleet.PhaseCommitting) { … }
package fleet

import "time"

// HostID names one machine with an agent. It is chosen at enrolment, is unique
// in a fleet, and is what the host's certificate speaks for.
// 1 to 63 characters: letters, digits, '-', '.', '_'; see [ParseHostID].
type HostID string

// Status is what people decided about a host. It never changes by a timeout.
type Status string

const (
	StatusActive      Status = "active"      // takes part, counts against budgets when it is out
	StatusMaintenance Status = "maintenance" // a person has it: not touched, not counted
	StatusRetired     Status = "retired"     // gone for good: not touched, not counted, may not check in
)

// Host is one machine as the control plane knows it.
type Host struct {
	ID         HostID    `json:"id"`
	Status     Status    `json:"status"`
	StatusWhy  string    `json:"status_why,omitempty"`
	EnrolledAt time.Time `json:"enrolled_at"`
	// Revoked is set when a person revoked the host's certificates: nothing that holds its key gets in
	// until it is enrolled again.
	Revoked bool `json:"revoked,omitempty"`

	// JournalTold is the incarnation of the control plane that has taken over the host's whole journal. A control plane
	// that was restored counts a host as out as long as this is lower than its own: nobody knows what it does.
	JournalTold uint64 `json:"journal_told,omitempty"`

	// What the host said last. The zero Facts mean that it never said anything.
	Facts     Facts     `json:"facts"`
	FactsHash string    `json:"facts_hash,omitempty"`
	Type      HostType  `json:"type"`
	Now       HostState `json:"now"`

	// Frozen is why two machines seem to share the host's certificate; empty: they do not. A frozen host is granted
	// nothing, begins nothing and counts as out of service, until it is enrolled anew or a person says otherwise.
	Frozen   string    `json:"frozen,omitempty"`
	FrozenAt time.Time `json:"frozen_at,omitzero"`
	// Copied is what a machine said that found a copy of this host's state on its disk, and so keeps away. Empty: none.
	Copied string `json:"copied,omitempty"`
	// Lineage is how the control plane tells late messages and second machines; for nobody else.
	Lineage Lineage `json:"lineage,omitzero"`
}

// Lineage is what the control plane remembers of who checked in as one host.
type Lineage struct {
	// Lines are the last few, oldest first; the last one is the one that counts now.
	Lines []Line `json:"lines,omitempty"`
	// Returns counts how often a line that was left was heard again, alive, and ReturnedAt is when it was last.
	Returns    int       `json:"returns,omitempty"`
	ReturnedAt time.Time `json:"returned_at,omitzero"`
}

// Line is an unbroken run of check-ins: each report continued the one before it. A reboot begins another.
type Line struct {
	ID      string    `json:"id"`
	BootID  string    `json:"boot_id"`
	Machine string    `json:"machine,omitempty"` // Facts.MachineID, where it is known
	Serial  string    `json:"serial,omitempty"`  // of the hardware, for people
	Since   time.Time `json:"since"`
	// LastSeq is the highest Report.Seq that is known of it.
	LastSeq uint64 `json:"last_seq,omitempty"`
}

// HostState is what a host reports about itself at each check-in, and what
// the control plane keeps of it.
type HostState struct {
	BootID  string `json:"boot_id,omitempty"`
	Release string `json:"release,omitempty"` // uname -r
	// Uptime is the time since boot on the host's boot-time clock, which runs on in suspend.
	Uptime time.Duration `json:"uptime_ns,omitempty"`
	// InService is the host's own word: undrained, and the operator's ready programs agree.
	InService bool `json:"in_service"`
	// NotInServiceWhy says why InService is false.
	NotInServiceWhy string   `json:"not_in_service_why,omitempty"`
	FailedUnits     []string `json:"failed_units,omitempty"`
	// Parked is why the agent refuses every operation (a damaged journal, an unknown version). Empty: it does not.
	Parked string `json:"parked,omitempty"`
}

// Labels are what the operator says about a host: workload, datacenter, rack
// and whatever else. Keys and values are 1 to 63 characters.
type Labels map[string]string

// LabelWorkload is the label that is part of the type key.
const LabelWorkload = "workload"
