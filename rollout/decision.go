package rollout

import (
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// Decision is one thing that Step wants changed.
type Decision interface{ decision() }

// Want begins an operation on a host: it prepares, and then asks for a grant.
type Want struct {
	Host    fleet.HostID
	Stage   int
	Release string // the kernel to bring: the plan's, or on the way back the one the host came from
}

// Say gives an open operation its word.
type Say struct {
	Operation fleet.OperationID
	Host      fleet.HostID
	Word      fleet.Word
	Why       string
}

// Lose records that a host did not return by its deadline. Its operation stays open: the host may still come.
type Lose struct {
	Operation fleet.OperationID
	Host      fleet.HostID
	Problem   fleet.Problem
}

// Hold keeps a host from being offered the kernel again until a person says so.
type Hold struct {
	Host      fleet.HostID
	Operation fleet.OperationID
	Why       string
}

// Raise reports an anomaly: something seen that should not be. Where the rollout runs, a Pause follows.
type Raise struct{ Anomaly Anomaly }

// Pause stops the rollout until a person says how to go on.
type Pause struct{ Why string }

// Approve says that the kernel is good for a type.
type Approve struct {
	Type     fleet.HostTypeID
	Evidence string
}

// Soak says that every host of the stage is done, and until when it is watched.
type Soak struct {
	Stage int
	Until time.Time
}

// Advance ends the running stage and begins the next.
type Advance struct {
	To  int
	Why string
	// Skipped is set when the stage that begins adds nobody: it ends at once.
	Skipped string
}

// Finish ends the rollout.
type Finish struct {
	Outcome Outcome
	Why     string
}

func (Want) decision()    {}
func (Say) decision()     {}
func (Lose) decision()    {}
func (Hold) decision()    {}
func (Raise) decision()   {}
func (Pause) decision()   {}
func (Approve) decision() {}
func (Soak) decision()    {}
func (Advance) decision() {}
func (Finish) decision()  {}

// Anomaly is one thing seen that should not be.
type Anomaly struct {
	Host      fleet.HostID
	Type      fleet.HostTypeID
	Operation fleet.OperationID
	Stage     int
	Problem   fleet.Problem
}

// Apply changes s as d says, at now. Decisions about operations and approvals do not live in State: those the
// caller applies to its own rows.
func (s *State) Apply(d Decision, now time.Time) {
	switch d := d.(type) {
	case Hold:
		put(&s.Held, d.Host, d.Why)
		put(&s.Settled, d.Host, d.Operation)
	case Raise:
		put(&s.Settled, d.Anomaly.Host, d.Anomaly.Operation)
	case Pause:
		s.Paused = d.Why
	case Soak:
		s.Stages[d.Stage].SoakUntil = d.Until
	case Advance:
		s.Stages[s.Stage].EndedAt = now
		s.Stage = d.To
		s.Stages[d.To].BeganAt = now
		s.Stages[d.To].Skipped = d.Skipped
	case Finish:
		s.Outcome = d.Outcome
		s.EndedAt = now
		if d.Outcome == OutcomeDone {
			s.Stages[s.Stage].EndedAt = now
		}
	}
}

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}
