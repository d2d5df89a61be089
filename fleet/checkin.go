package fleet

import "time"

// Report is what a host says at a check-in: what is.
type Report struct {
	Host      HostID
	Now       HostState
	FactsHash string
	Facts     *Facts           // only when they changed since the last answer, or it asked for them
	Operation *OperationReport // the newest one in the journal; nil: none
	Seen      Incarnation      // the highest that this host obeyed

	// Seq rises from report to report within a boot, also over restarts of the agent: it is the boot-time clock in
	// nanoseconds. Zero: an agent that does not count; its reports are believed in the order in which they come.
	Seq uint64
	// Copied is why this agent's state belongs to another machine, as it found out by itself: it speaks for the host only
	// to say so. Empty: it does not.
	Copied string
	// Answered is the [Desired.Answer] that this agent received last; empty: none since it started. It proves that the
	// report was made after that answer.
	Answered string
	History  *History // only when the last answer asked for it
}

// History is what a host's journals say of operations that are over, oldest first, without long evidence. A control
// plane that was restored from a backup learns from it what happened since. The open operation is not in it.
type History struct {
	Ended []OperationReport
}

// OperationReport is what a host's journal says of an operation.
type OperationReport struct {
	ID          OperationID
	Kind        Kind
	Kernel      KernelID
	Release     string
	Phase       Phase
	FromRelease string
	FromBootID  string
	Problem     *Problem
	Trial       *Trial
	// PhaseAge is how long the phase has lasted on the host's boot-time clock; after a reboot, less than the truth.
	PhaseAge time.Duration
	// Owner and Stage are as they came with the operation.
	Owner string
	Stage int
}

// Desired is the answer: what should be.
type Desired struct {
	From         Incarnation
	ServerTime   time.Time
	CheckInAfter time.Duration
	WantFacts    bool
	// Operation is what is wanted of the host. Nil: nothing. An agent that has no open operation begins this one;
	// one that has another open finishes that one first, as cancelled where it still can be.
	Operation        *DesiredOperation
	RenewCertificate bool

	// Answer names this answer; the next report gives it back in [Report.Answered]. Empty: an older control plane.
	Answer string
	// Again says that the report could have been an old one, so nothing was learned from it, and the rest of the answer
	// says nothing: go on as before, and check in again with Answer, which proves that the host is there.
	Again bool
	// WantHistory asks the host to bring its History with the next check-in, which is to follow soon.
	WantHistory bool
}

// DesiredOperation is one operation as it should go.
type DesiredOperation struct {
	ID      OperationID
	Kind    Kind
	Kernel  Kernel
	Word    Word
	WordWhy string
	Grant   *Grant // nil: stay in service
	// TrialDeadline is the dead-man's: from boot to local checks passed.
	TrialDeadline time.Duration
	// Owner (a rollout's id) and Stage mean nothing to a host. It keeps them for a control plane that has forgotten.
	Owner string
	Stage int
}

// GrantID names one grant.
type GrantID string

// Grant is a time-limited permission for one host to leave service.
type Grant struct {
	ID GrantID
	// Life is what is left of it, counted by the host, on its boot-time clock, from the moment it asked.
	Life time.Duration
}

// ConfirmLife is how long an answer to the last-moment question is good, from the moment of asking.
const ConfirmLife = 5 * time.Second

// Confirmation answers the last-moment question: may this host reboot into its trial now?
type Confirmation struct {
	Yes    bool
	WhyNot string
	From   Incarnation
}

// Incarnation orders control planes. A host refuses a lower (Incarnation, Term), and an equal one from another
// instance. The zero value is lower than any.
type Incarnation struct {
	Incarnation uint64 // raised when a store was restored or cloned
	Term        uint64 // raised at each start
	Instance    string // drawn at each start
}

// Refuses says why a host that has obeyed i must not obey j; empty: it may.
func (i Incarnation) Refuses(j Incarnation) (why string) {
	switch {
	case j.Incarnation < i.Incarnation || j.Incarnation == i.Incarnation && j.Term < i.Term:
		return "an older control plane answered: a newer one has been obeyed already"
	case j.Incarnation == i.Incarnation && j.Term == i.Term && i.Instance != "" && j.Instance != i.Instance:
		return "another control plane answered under the same term: two of them run on copies of one store"
	}
	return ""
}
