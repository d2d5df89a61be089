package agent

import (
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// operation is everything that the agent knows of its newest operation: the
// snapshot that each journal record holds. What is not in here is forgotten
// by a restart.
type operation struct {
	// Seq orders a host's operations; clocks jump.
	Seq    int               `json:"seq"`
	ID     fleet.OperationID `json:"id"`
	Kind   fleet.Kind        `json:"kind"`
	Kernel fleet.Kernel      `json:"kernel"`
	// TrialDeadline is the dead-man's: from boot to local checks passed.
	TrialDeadline time.Duration `json:"trial_deadline_ns"`
	// Owner and Stage are the control plane's, which asks for them when it has forgotten.
	Owner string `json:"owner,omitempty"`
	Stage int    `json:"stage,omitempty"`

	Phase fleet.Phase `json:"phase"`
	// At and Since are when the phase began, by the wall clock (for people) and on the boot-time clock of boot BootID.
	At     time.Time     `json:"at"`
	BootID string        `json:"boot_id"`
	Since  time.Duration `json:"since_ns"`

	// FromRelease and FromBootID are the kernel and boot that it began on, and falls back to.
	FromRelease string `json:"from_release"`
	FromBootID  string `json:"from_boot_id"`
	// Grant is the one under which the host left service, as it was last written; Before is what it left behind.
	Grant  *heldGrant `json:"grant,omitempty"`
	Before *before    `json:"before,omitempty"`
	// Arming is written before the boot entry is set for one boot, and taken back when it certainly is not any more:
	// meanwhile every boot may be the trial. Armed says that it is set; ArmedAt is the wall clock then, to tell old
	// crash text from new.
	Arming  bool      `json:"arming,omitempty"`
	Armed   bool      `json:"armed,omitempty"`
	ArmedAt time.Time `json:"armed_at,omitzero"`
	// Reboot is the newest one that the agent asked for itself; Returns counts those on the way back.
	Reboot  *reboot `json:"reboot,omitempty"`
	Returns int     `json:"returns,omitempty"`
	// Resumed says that an agent was restarted while it prepared: the package manager that the last one started may
	// still be at work.
	Resumed bool `json:"resumed,omitempty"`
	// Committed says that the kernel is the default: what is left is undrain and ready.
	Committed bool `json:"committed,omitempty"`
	// Undrained says that every undrain program has succeeded since the drain.
	Undrained bool `json:"undrained,omitempty"`

	// End is where reverting and undraining lead.
	End     fleet.Phase    `json:"end,omitempty"`
	Problem *fleet.Problem `json:"problem,omitempty"`
	Trial   *fleet.Trial   `json:"trial,omitempty"`
}

// heldGrant is a grant counted on the boot-time clock of boot BootID.
type heldGrant struct {
	ID     fleet.GrantID `json:"id"`
	BootID string        `json:"boot_id"`
	Asked  time.Duration `json:"asked_ns"`
	Until  time.Duration `json:"until_ns"`
}

// liveAt is false for nil, in another boot, and when the life is over.
func (g *heldGrant) liveAt(n now) bool {
	return g != nil && g.BootID == n.BootID && n.Uptime < g.Until
}

// before is what the machine looked like right before it rebooted, drained.
type before struct {
	BootID      string   `json:"boot_id"`
	Network     Network  `json:"network"`
	FailedUnits []string `json:"failed_units,omitempty"`
}

// reboot is one that the agent asked for.
type reboot struct {
	BootID string `json:"boot_id"` // the boot that it ended
	Why    string `json:"why"`
	// Asked is when the last-moment question was put, on that boot's clock. Zero: a way back, which needs no answer.
	Asked time.Duration `json:"asked_ns,omitempty"`
	Grant fleet.GrantID `json:"grant,omitempty"`
	// Began is when the agent went ahead, on that boot's clock: less than [fleet.ConfirmLife] after Asked.
	Began time.Duration `json:"began_ns"`
}

// now is what the deciding code knows of the time and place.
type now struct {
	Uptime  time.Duration // boot-time clock
	BootID  string
	Release string
	Wall    time.Time
	// TrialBoot is the operation whose trial entry was booted; empty: a plain boot.
	TrialBoot fleet.OperationID
}

// ended is true for no operation, too.
func (o *operation) ended() bool { return o == nil || o.Phase.Ended() }

// drained says whether the host has left service, or may have, for this operation.
func (o *operation) drained() bool {
	if o.ended() {
		return false
	}
	switch o.Phase {
	case fleet.PhasePreparing, fleet.PhasePrepared:
		return false
	}
	return true
}

// leaving says whether the agent has asked this boot to end.
func (o *operation) leaving(n now) bool { return o.Reboot != nil && o.Reboot.BootID == n.BootID }

// onTrial says whether this boot is the operation's trial of the new kernel.
func (o *operation) onTrial(n now) bool { return n.TrialBoot != "" && n.TrialBoot == o.ID }

// enter moves to the phase.
func (o *operation) enter(p fleet.Phase, n now) {
	o.Phase, o.At, o.BootID, o.Since = p, n.Wall.UTC(), n.BootID, n.Uptime
}

// goBack calls the operation off before the reboot: at once while the host is in service, else by undraining.
func (o *operation) goBack(end fleet.Phase, why *fleet.Problem, n now) {
	o.Problem = why
	if !o.drained() {
		o.enter(end, n)
		return
	}
	o.End = end
	o.enter(fleet.PhaseUndraining, n)
}

// revert goes back to the old kernel, or on with going back.
func (o *operation) revert(end fleet.Phase, why *fleet.Problem, n now) {
	o.Problem, o.End = why, end
	o.enter(fleet.PhaseReverting, n)
}

// age is how long the phase has lasted on the boot-time clock; after a reboot, since that.
func (o *operation) age(n now) time.Duration {
	if o.BootID == n.BootID {
		return n.Uptime - o.Since
	}
	return n.Uptime
}

// report is what the control plane is told.
func (o *operation) report(n now) *fleet.OperationReport {
	if o == nil {
		return nil
	}
	return &fleet.OperationReport{
		ID: o.ID, Kind: o.Kind, Kernel: o.Kernel.ID, Release: o.Kernel.Release, Phase: o.Phase,
		FromRelease: o.FromRelease, FromBootID: o.FromBootID, Problem: o.Problem, Trial: o.Trial, PhaseAge: o.age(n),
		Owner: o.Owner, Stage: o.Stage,
	}
}
