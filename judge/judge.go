// Package judge says whether hosts behave on a new kernel as they did on the
// old one: treated and control hosts of one type, before and after, any number
// of signals, looked at any number of times.
//
// The host is the unit, never the sample: what is compared is how much each host changed against the common movement
// of the controls. Verdicts hold at all looks together, and over the whole matrix of host types and signals of a
// rollout. No evidence is never a pass.
//
// It does no I/O and asks no clock: samples and times come in, verdicts go out.
package judge

import (
	"math"
	"time"
)

// Direction is which change of a signal is for the worse.
type Direction int8

const (
	Increase Direction = iota // more is worse: latency, errors
	Decrease                  // less is worse: throughput
)

func (d Direction) String() string {
	if d == Decrease {
		return "decrease"
	}
	return "increase"
}

// sign turns a change of a signal into one whose bad direction is up.
func (d Direction) sign() float64 {
	if d == Decrease {
		return -1
	}
	return 1
}

// Signal is a series that is compared.
type Signal struct {
	Name string
	Unit string
	Bad  Direction
	// Margin is the largest harmless relative change in the bad direction: 0.05 is 5 %. It must be above 0.
	Margin float64
	// Work marks the load that a host carries (requests, connections, bytes): it is not judged; a treated host that
	// carries much less of it than before is no proof of anything.
	Work bool
}

// Host is one host of a comparison.
type Host struct {
	ID      string
	Treated bool
	// Changed is when a treated host was rebooted into the new kernel; Rebooted when a control was rebooted into its
	// old one, so that both sides are equally fresh. Zero: it was not.
	Changed, Rebooted time.Time
}

// Group is hosts of one type, as they are compared.
type Group struct {
	ID      string
	Step    time.Duration // between two samples
	Start   time.Time     // of the first sample
	T0      time.Time     // when the change of this type began; what is before is "before"
	Signals []Signal
	Hosts   []Host
}

// Settle is how long after a reboot a host's samples say more about the reboot than about the kernel.
const Settle = 15 * time.Minute

// Outcome of one signal on one host type. The zero value is the safe one.
type Outcome int8

const (
	Inconclusive Outcome = iota // no proof of either; never a pass
	Pass                        // a change beyond the margin is excluded
	Regression                  // changed for the worse; final
)

func (o Outcome) String() string { return [...]string{"inconclusive", "pass", "regression"}[o] }

// Verdict is what is known of one signal on one host type at one look.
type Verdict struct {
	Group   string
	Signal  string
	Look    time.Time
	Outcome Outcome
	// Effect is the estimated relative change that the kernel caused (+0.05: 5 % more), with the bounds Low and High of
	// an interval that is right at all looks together with probability Level. NaN: no estimate; infinite: unbounded.
	Effect, Low, High, Level float64
	// MDE is the smallest relative change in the bad direction that would be called a regression now with a
	// probability of 80 %. Infinite: none would.
	MDE float64
	// P is the p-value of the signal alone, valid at all looks together.
	P float64
	// Needs is what it would take to find Margin with a probability of 80 %. Zero: not known, or no amount would do.
	Needs Needs
	Why   string // one sentence
	// Placebo says how often the method cried wolf on this signal, over all types of the rollout looked at so far, when
	// nothing had changed.
	Placebo Placebo
}

// Needs is an amount of evidence: either is enough.
type Needs struct {
	Hours float64 // after the change, with the same hosts
	Hosts int     // treated, after the same time
}

var nan = math.NaN()
