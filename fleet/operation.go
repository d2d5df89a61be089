package fleet

import (
	"slices"
	"time"
)

// OperationID is unique for ever, also across a restored store.
type OperationID string

// Kind of an operation.
type Kind string

const (
	KindUpdate Kind = "update" // a trial, then commit or revert
	KindReboot Kind = "reboot" // a control: same kernel
)

// Phase is where one host's operation stands. The agent moves it, and says so;
// the control plane only says what it wants (see [Word]).
type Phase string

const (
	PhasePlanned    Phase = "planned"    // the control plane wants it; the agent has not said that it began
	PhasePreparing  Phase = "preparing"  // fetch, verify, install beside; in service
	PhasePrepared   Phase = "prepared"   // waits for a grant; in service
	PhaseDraining   Phase = "draining"   // a grant is held; leaving service
	PhaseDrained    Phase = "drained"    // out of service; asks whether it may reboot, at the last moment
	PhaseRebooting  Phase = "rebooting"  // the new kernel is set for one boot; on its way
	PhaseTrial      Phase = "trial"      // runs the new kernel; checks are running
	PhasePassed     Phase = "passed"     // local checks passed; waits for commit or revert
	PhaseCommitting Phase = "committing" // being made the default; then undrain and ready
	PhaseReverting  Phase = "reverting"  // going back to, or back on, the old kernel; then undrain and ready
	PhaseUndraining Phase = "undraining" // back into service without having rebooted

	// The rest are ends. In all of them the host is in service.

	PhaseCommitted Phase = "committed" // runs the kernel, it is the default, the host is ready
	PhaseReverted  Phase = "reverted"  // back on the old kernel because it was told to, or its trial failed
	PhaseFellBack  Phase = "fell-back" // came back on the old kernel without having been told: panic, hang, dead-man
	PhaseRefused   Phase = "refused"   // could not prepare; nothing was changed that matters
	PhaseFailed    Phase = "failed"    // a step before the reboot failed (drain): undrained
	PhaseCancelled Phase = "cancelled" // told to stop, or the grant ran out, before the reboot: undrained
)

// phaseNext is the one state machine of an operation. What the agent reports
// may skip phases (check-ins are lost), so the control plane asks [Phase.CanBecome], which follows paths.
var phaseNext = map[Phase][]Phase{
	PhasePlanned:    {PhasePreparing, PhaseCancelled},
	PhasePreparing:  {PhasePrepared, PhaseRefused, PhaseCancelled},
	PhasePrepared:   {PhaseDraining, PhaseRefused, PhaseCancelled},
	PhaseDraining:   {PhaseDrained, PhaseUndraining},
	PhaseDrained:    {PhaseRebooting, PhaseUndraining},
	PhaseRebooting:  {PhaseTrial, PhaseReverting, PhaseUndraining},
	PhaseTrial:      {PhasePassed, PhaseReverting},
	PhasePassed:     {PhaseCommitting, PhaseReverting},
	PhaseCommitting: {PhaseCommitted, PhaseReverting},
	PhaseReverting:  {PhaseReverted, PhaseFellBack},
	// Undraining, and drained, become reverting by a power cut while the trial is armed: the next boot is the trial.
	PhaseUndraining: {PhaseFailed, PhaseCancelled, PhaseReverting},
}

// Phases lists all phases in the order in which an operation can meet them.
func Phases() []Phase {
	return []Phase{
		PhasePlanned, PhasePreparing, PhasePrepared, PhaseDraining, PhaseDrained, PhaseRebooting, PhaseTrial,
		PhasePassed, PhaseCommitting, PhaseReverting, PhaseUndraining,
		PhaseCommitted, PhaseReverted, PhaseFellBack, PhaseRefused, PhaseFailed, PhaseCancelled,
	}
}

// Next lists the phases that can follow directly.
func (p Phase) Next() []Phase { return slices.Clone(phaseNext[p]) }

// Ended says whether p is an end: nothing follows, and the host is in service.
func (p Phase) Ended() bool {
	switch p { // it is asked of every operation in every tick
	case PhaseCommitted, PhaseReverted, PhaseFellBack, PhaseRefused, PhaseFailed, PhaseCancelled:
		return true
	}
	return false
}

// Known says whether p is one of ours.
func (p Phase) Known() bool { return slices.Contains(Phases(), p) }

// BeforeReboot says whether the operation can still be called off without a reboot.
func (p Phase) BeforeReboot() bool {
	switch p {
	case PhasePlanned, PhasePreparing, PhasePrepared, PhaseDraining, PhaseDrained:
		return true
	}
	return false
}

// OnNewKernel says whether a host in this phase runs the kernel on trial.
func (p Phase) OnNewKernel() bool {
	return p == PhaseTrial || p == PhasePassed || p == PhaseCommitting
}

// CanBecome says whether an operation in phase p can later be seen in phase q. p itself counts.
func (p Phase) CanBecome(q Phase) bool {
	if p == q {
		return p.Known()
	}
	for _, n := range phaseNext[p] {
		if n.CanBecome(q) {
			return true
		}
	}
	return false
}

// Word is what the control plane wants of an operation.
type Word string

const (
	WordNone   Word = ""       // prepare and wait; with a grant: go on
	WordCommit Word = "commit" // make the kernel the default
	WordRevert Word = "revert" // boot the old one
	WordCancel Word = "cancel" // do not leave service; undrain if drained. After the reboot it means nothing
)

// Operation is one host's change.
type Operation struct {
	ID     OperationID `json:"id"`
	Host   HostID      `json:"host"`
	Kind   Kind        `json:"kind"`
	Kernel KernelID    `json:"kernel"`
	// Release is the uname -r that the trial must show.
	Release string `json:"release"`
	// Owner is who wants it: a rollout's id.
	Owner string `json:"owner"`
	// Stage of the rollout that wants it: 0 canaries, 1… waves, RollbackStage for the way back.
	Stage int   `json:"stage"`
	Phase Phase `json:"phase"`
	// FromRelease is the kernel that the host ran when the operation began: where it falls back to.
	FromRelease string    `json:"from_release,omitempty"`
	FromBootID  string    `json:"from_boot_id,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	PhaseSince  time.Time `json:"phase_since"`
	Word        Word      `json:"word,omitempty"`
	WordWhy     string    `json:"word_why,omitempty"`
	// ConfirmedAt is when the host was last told that it may reboot. Zero: never.
	ConfirmedAt time.Time `json:"confirmed_at,omitzero"`
	// Problem is why it did not end in committed; also set while it is on its way back.
	Problem *Problem `json:"problem,omitempty"`
	// Trial is what the host saw on the new kernel.
	Trial *Trial `json:"trial,omitempty"`
}

// NotGone says whether the host, whose boot is bootID, has not left that boot for the operation yet: it can still be
// called off without a reboot. An agent that was restarted between its yes and its reboot says rebooting, and asks
// again on the boot that it began on.
func (o Operation) NotGone(bootID string) bool {
	return o.Phase.BeforeReboot() || o.Phase == PhaseRebooting && bootID != "" && o.FromBootID == bootID
}

// RollbackStage is the stage of operations that bring the previous kernel back.
const RollbackStage = -1

// Cause says in one word what went wrong, for counting and for deciding; people read Problem.What.
type Cause string

const (
	CauseRefused      Cause = "refused"       // prepare refused
	CauseDrain        Cause = "drain"         // a drain program failed or timed out
	CauseGrant        Cause = "grant"         // no live grant at the last moment
	CauseTold         Cause = "told"          // the control plane said so
	CauseNotBooted    Cause = "not-booted"    // came back on the old kernel: the new one was not booted, panicked or hung
	CauseDeadMan      Cause = "dead-man"      // the agent did not say in time that the checks passed
	CauseWrongKernel  Cause = "wrong-kernel"  // booted, with another uname -r
	CauseUnits        Cause = "units"         // system not up, or more failed units than before
	CauseNetwork      Cause = "network"       // the host's own network is worse than before the reboot
	CauseCheck        Cause = "check"         // an operator's check failed
	CauseLost         Cause = "lost"          // did not return by its deadline
	CauseBroken       Cause = "broken"        // an unexpected error on the host
	CauseInterrupted  Cause = "interrupted"   // the host rebooted or lost power in the middle, before the trial
	CauseClone        Cause = "clone"         // two machines use the host's certificate
	CauseUnknownPhase Cause = "unknown-phase" // reported a phase that cannot follow: a bug or a restored disk
)

// Problem says what was seen, against which expectation.
type Problem struct {
	Cause Cause  `json:"cause"`
	What  string `json:"what"` // one sentence: what was seen
	// Expected is what should have been seen. Empty when What says it all.
	Expected string `json:"expected,omitempty"`
	// Evidence is text such as a panic's, or the end of a program's output. At most 16 KiB.
	Evidence string `json:"evidence,omitempty"`
	// NoEvidence is why there is none (no pstore, pstore empty), when some could be expected.
	NoEvidence string `json:"no_evidence,omitempty"`
	Next       string `json:"next,omitempty"`
}

// Trial is what a host saw on the kernel that it tried.
type Trial struct {
	BootID  string  `json:"boot_id"`
	Release string  `json:"release"`
	BootSec float64 `json:"boot_sec,omitempty"` // boot-time clock when the system was up
	Checks  []Check `json:"checks,omitempty"`
}

// CheckAlreadyRunning is the one check of an operation whose host ran the kernel already: there was no trial.
const CheckAlreadyRunning = "already-running"

// Tried says whether there was a trial at all.
func (t *Trial) Tried() bool {
	return t != nil && !(len(t.Checks) == 1 && t.Checks[0].Name == CheckAlreadyRunning)
}

// Check is one thing that a trial looks at, built in or an operator's program.
type Check struct {
	Name   string  `json:"name"`
	Passed bool    `json:"passed"`
	Detail string  `json:"detail,omitempty"`
	Sec    float64 `json:"sec,omitempty"`
}
