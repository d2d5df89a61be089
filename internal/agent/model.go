package agent

import (
	"fmt"
	"maps"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// Model is what an agent decides, without the loop, the clock, the disk and the machine around it: the newest snapshot
// of its journal, the grant it holds, and the very functions that move them (transition.go, todo.go). The simulator
// puts thousands of them on machines made of numbers. The zero value is an agent that has never had an operation.
type Model struct {
	op    *operation
	past  map[fleet.OperationID]bool
	ended past
	seen  fleet.Incarnation
	grant *heldGrant
}

// Moment is the time and place on a host.
type Moment struct {
	Uptime    time.Duration // of the boot-time clock
	BootID    string
	Release   string
	Wall      time.Time
	TrialBoot fleet.OperationID // whose trial entry was booted; empty: a plain boot
}

// LastBoot is what can be found out about a boot that did not end as it should.
type LastBoot struct {
	DeadMan bool
	NoCrash string // why there is no crash text
}

// Disk is what of m is on the disk now.
func (m *Model) Disk() Model {
	d := Model{past: maps.Clone(m.past), seen: m.seen, ended: m.ended}
	if m.op != nil {
		o := *m.op
		d.op = &o
	}
	return d
}

// Start is what a boot, or a restart of the agent, makes of what is on the disk.
func (m *Model) Start(n Moment, last LastBoot) {
	m.grant = nil
	if m.op == nil {
		return
	}
	m.grant = m.op.Grant
	m.move(resume(*m.op, now(n), lastBoot{DeadMan: last.DeadMan, NoCrash: last.NoCrash}))
}

func (m *Model) move(o operation) {
	m.op = &o
	if m.past == nil {
		m.past = map[fleet.OperationID]bool{}
	}
	m.past[o.ID] = true
	if o.ended() {
		m.grant = nil
		m.ended = m.ended.with(o)
	}
}

// Obeys says whether an answer may be obeyed, and remembers the highest.
func (m *Model) Obeys(from fleet.Incarnation) bool {
	if m.seen.Refuses(from) != "" {
		return false
	}
	m.seen = from
	return true
}

// Seen is the highest control plane that was obeyed.
func (m *Model) Seen() fleet.Incarnation { return m.seen }

// Answered obeys an answer; see [Agent].
func (m *Model) Answered(d fleet.Desired, asked time.Duration, n Moment) {
	m.grant = nil
	if op := d.Operation; op != nil && op.Grant != nil && m.op != nil && op.ID == m.op.ID {
		m.grant = &heldGrant{ID: op.Grant.ID, BootID: n.BootID, Asked: asked, Until: asked + min(op.Grant.Life, maxGrantLife)}
	}
	if !m.op.ended() {
		m.move(obey(*m.op, d.Operation, m.grant, now(n)))
		return
	}
	if d := d.Operation; d != nil && !m.past[d.ID] && d.ID != "" {
		seq := 1
		if m.op != nil {
			seq = m.op.Seq + 1
		}
		m.move(obey(begin(*d, seq, now(n)), d, nil, now(n)))
	}
}

// Lapse takes a host back into service whose grant has run out.
func (m *Model) Lapse(n Moment) {
	if m.op != nil {
		m.move(lapse(*m.op, m.grant, now(n)))
	}
}

// Todo is the next thing to do: prepare, drain, look, arm, ask, try, commit, return, disarm, undrain, ready; empty:
// nothing.
func (m *Model) Todo(n Moment) string { return string(todo(m.op, now(n))) }

// Report is what the control plane is told of the operation.
func (m *Model) Report(n Moment) *fleet.OperationReport { return m.op.report(now(n)) }

// History is what a control plane that has forgotten is told, when it asked for it with [fleet.Desired.WantHistory].
func (m *Model) History() *fleet.History { return m.ended.history() }

// Phase is empty when there never was an operation.
func (m *Model) Phase() fleet.Phase {
	if m.op == nil {
		return ""
	}
	return m.op.Phase
}

// Operation is the newest one's id, and what it brings. Empty: there is none.
func (m *Model) Operation() (id fleet.OperationID, release string, deadline time.Duration) {
	if m.op == nil {
		return "", "", 0
	}
	return m.op.ID, m.op.Kernel.Release, m.op.TrialDeadline
}

// FromRelease is the kernel that the newest operation falls back to.
func (m *Model) FromRelease() string {
	if m.op == nil {
		return ""
	}
	return m.op.FromRelease
}

// Problem is the newest operation's; nil: none.
func (m *Model) Problem() *fleet.Problem {
	if m.op == nil {
		return nil
	}
	return m.op.Problem
}

// Ended is true for no operation, too.
func (m *Model) Ended() bool { return m.op.ended() }

// Drained says whether the host has left service, or may have, for its operation.
func (m *Model) Drained() bool { return m.op.drained() }

// Leaving says whether the agent has asked this boot to end.
func (m *Model) Leaving(n Moment) bool { return m.op != nil && m.op.leaving(now(n)) }

// Grant is the one held, and until when on the boot-time clock; empty: none.
func (m *Model) Grant() (id fleet.GrantID, until time.Duration) {
	if m.grant == nil {
		return "", 0
	}
	return m.grant.ID, m.grant.Until
}

// GrantLive says whether the grant that is held is still good.
func (m *Model) GrantLive(n Moment) bool { return m.grant.liveAt(now(n)) }

// The rest is how a step ended, by its name in Todo.

// change moves a copy of the operation as f says.
func (m *Model) change(f func(*operation)) {
	o := *m.op
	f(&o)
	m.move(o)
}

// Prepared ends prepare. already: the host ran the kernel, and there is nothing to try.
func (m *Model) Prepared(already bool, n Moment) {
	m.change(func(o *operation) {
		if !already {
			o.enter(fleet.PhasePrepared, now(n))
			return
		}
		o.Committed = true
		o.Trial = &fleet.Trial{BootID: n.BootID, Release: n.Release, Checks: []fleet.Check{{Name: fleet.CheckAlreadyRunning, Passed: true}}}
		o.enter(fleet.PhaseCommitted, now(n))
	})
}

// Refused ends prepare.
func (m *Model) Refused(why string, n Moment) {
	m.change(func(o *operation) {
		o.Problem = &fleet.Problem{Cause: fleet.CauseRefused, What: why}
		o.enter(fleet.PhaseRefused, now(n))
	})
}

// DrainEnded ends drain; why is empty when it worked.
func (m *Model) DrainEnded(why string, n Moment) {
	m.change(func(o *operation) {
		if why == "" {
			o.enter(fleet.PhaseDrained, now(n))
			return
		}
		o.goBack(fleet.PhaseFailed, &fleet.Problem{Cause: fleet.CauseDrain, What: why}, now(n))
	})
}

// Looked ends look.
func (m *Model) Looked(n Moment) {
	m.change(func(o *operation) { o.Before = &before{BootID: n.BootID} })
}

// Arming comes before arm, Armed after it.
func (m *Model) Arming(n Moment) {
	m.change(func(o *operation) { o.Arming, o.ArmedAt = true, n.Wall })
}

// Armed ends arm.
func (m *Model) Armed() { m.change(func(o *operation) { o.Armed = true }) }

// Confirmed acts on the answer to the last-moment question that was asked under grant, and says whether to reboot into
// the trial now. Where it does not move the operation the question is to be put again.
func (m *Model) Confirmed(c fleet.Confirmation, asked time.Duration, grant fleet.GrantID, n Moment) (goAhead bool) {
	if !m.Obeys(c.From) {
		return false
	}
	if !c.Yes {
		m.change(func(o *operation) {
			o.goBack(fleet.PhaseCancelled, &fleet.Problem{Cause: fleet.CauseTold, What: c.WhyNot}, now(n))
		})
		return false
	}
	if n.Uptime-asked >= fleet.ConfirmLife || !m.grant.liveAt(now(n)) || m.grant.ID != grant {
		return false
	}
	m.change(func(o *operation) {
		o.Grant = m.grant
		o.Reboot = &reboot{BootID: n.BootID, Why: "trial of " + o.Kernel.Release, Asked: asked, Grant: grant, Began: n.Uptime}
		o.enter(fleet.PhaseRebooting, now(n))
	})
	return true
}

// Tried ends try: t is what was seen, cause and why are empty when every check passed.
func (m *Model) Tried(t fleet.Trial, cause fleet.Cause, why string, n Moment) {
	m.change(func(o *operation) {
		t.BootID, t.Release = n.BootID, n.Release
		o.Trial = &t
		if cause == "" {
			o.enter(fleet.PhasePassed, now(n))
			return
		}
		o.revert(fleet.PhaseReverted, &fleet.Problem{Cause: cause, What: why, Expected: fmt.Sprintf("every check passes on %s", o.Kernel.Release)}, now(n))
	})
}

// CutOff takes a passed trial back whose host is cut off by its own network.
func (m *Model) CutOff(why string, n Moment) {
	m.change(func(o *operation) {
		o.revert(fleet.PhaseReverted, &fleet.Problem{Cause: fleet.CauseNetwork, What: why}, now(n))
	})
}

// Committed ends commit.
func (m *Model) Committed() { m.change(func(o *operation) { o.Committed = true }) }

// Returning comes before the reboot of return.
func (m *Model) Returning(n Moment) {
	m.change(func(o *operation) {
		o.Returns++
		o.Reboot = &reboot{BootID: n.BootID, Why: "back to " + o.FromRelease, Began: n.Uptime}
	})
}

// Disarmed ends disarm.
func (m *Model) Disarmed() { m.change(func(o *operation) { o.Arming, o.Armed = false, false }) }

// Undrained ends undrain.
func (m *Model) Undrained() { m.change(func(o *operation) { o.Undrained = true }) }

// Ready ends ready, and with it the operation.
func (m *Model) Ready(n Moment) { m.change(func(o *operation) { o.enter(endOf(*o), now(n)) }) }
