package sim

import (
	"fmt"
	"strings"
	"time"
)

// Result is what happened. Its JSON is the same for the same scenario and seed, but for the fields real_….
type Result struct {
	Scenario string `json:"scenario"`
	Seed     uint64 `json:"seed"`
	// Broken is the promise that was broken; nil: all were kept.
	Broken *Broken `json:"broken"`

	Hosts    int           `json:"hosts"`
	Rollouts []RolloutEnd  `json:"rollouts"`
	Harmed   []Harm        `json:"harmed"` // by time
	Outage   Outage        `json:"longest_outage"`
	Virtual  time.Duration `json:"virtual_ns"` // that the simulation lasted
	// Faults counts what was done to the fleet and the control plane, by kind (see the constants Fault…, and
	// kernel-panic, kernel-hang … for what kernels did).
	Faults map[string]int `json:"faults"`
	// Seen counts what followed: operations, grants, reboots, trials, commits, reverts, fallbacks, pauses, ticks,
	// check-ins, refusals, checks of promises …
	Seen map[string]int `json:"seen"`

	RealSec float64 `json:"real_sec"` // on the wall clock
}

// RolloutEnd is how one rollout stands at the end.
type RolloutEnd struct {
	ID       string        `json:"id"` // empty: it could not be started
	Refused  string        `json:"refused,omitempty"`
	Status   string        `json:"status"`
	Why      string        `json:"why,omitempty"`
	Lasted   time.Duration `json:"lasted_ns,omitempty"`
	Stages   []StageEnd    `json:"stages,omitempty"`
	Types    []TypeEnd     `json:"types,omitempty"`
	Excluded int           `json:"excluded,omitempty"` // hosts that were selected and could not take part
	// Pauses are those that the control plane decided, oldest first.
	Pauses []Pause `json:"pauses,omitempty"`
}

// StageEnd is the canary run or a wave.
type StageEnd struct {
	Name      string        `json:"name"` // canaries, wave 1 (5 %)
	Hosts     int           `json:"hosts"`
	Committed int           `json:"committed"`
	Harmed    int           `json:"harmed"`             // hosts that were harmed in it
	Began     time.Duration `json:"began_ns"`           // since the beginning of the simulation
	Ended     time.Duration `json:"ended_ns,omitempty"` // zero: it has not
}

// TypeEnd is one host type.
type TypeEnd struct {
	Name      string `json:"name"` // Type.Name
	Hosts     int    `json:"hosts"`
	Committed int    `json:"committed"`
	Harmed    int    `json:"harmed"`
	Approved  bool   `json:"approved"`
	LeftOut   bool   `json:"left_out,omitempty"`
}

// Pause is one that the control plane decided on.
type Pause struct {
	At  time.Duration `json:"at_ns"`
	Why string        `json:"why"`
	// After is how long after the first harm that nobody had paused for yet: the time to stop.
	After time.Duration `json:"after_ns,omitempty"`
}

// Harm is one host that the new kernel hurt: it did not come up, crashed, hung, lost its network or failed its checks.
type Harm struct {
	Host   string        `json:"host"`
	Type   string        `json:"type"`
	At     time.Duration `json:"at_ns"`
	How    string        `json:"how"`    // panic, hang, network, checks …
	Caught string        `json:"caught"` // where it was: canaries, wave 2 (25 %), after its wave, or never (see the reference)
	// Back is whether the host was in service again at the end; Out how long it was not.
	Back bool          `json:"back"`
	Out  time.Duration `json:"out_ns"`
	Runs string        `json:"runs"` // which kernel at the end: old or new
}

// Outage is the longest time that one host was out of service.
type Outage struct {
	Host string        `json:"host,omitempty"`
	For  time.Duration `json:"for_ns"`
	Why  string        `json:"why,omitempty"`
	Open bool          `json:"open,omitempty"` // it still was at the end
}

// Broken is a promise of docs/design.md that was broken.
type Broken struct {
	// Promise is its number there.
	Promise int `json:"promise"`
	// What was seen, on which hosts, against which expectation.
	What     string        `json:"what"`
	Expected string        `json:"expected"`
	At       time.Duration `json:"at_ns"`
	Hosts    []string      `json:"hosts,omitempty"`
	// Trace is the last events of the hosts concerned and of the control plane, oldest first, each with its time.
	Trace []string `json:"trace"`
	// Replay is the command that shows it again.
	Replay string `json:"replay"`
}

// String is the whole report, for people.
func (b *Broken) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "promise %d broken at %s: %s\n", b.Promise, clock(b.At), b.What)
	if b.Expected != "" {
		fmt.Fprintf(&s, "expected: %s\n", b.Expected)
	}
	for _, l := range b.Trace {
		s.WriteString("  " + l + "\n")
	}
	if b.Replay != "" {
		fmt.Fprintf(&s, "replay: %s\n", b.Replay)
	}
	return s.String()
}

// clock prints a virtual time: 1d 02:03:04.567.
func clock(d time.Duration) string {
	days := ""
	if n := d / (24 * time.Hour); n > 0 {
		days = fmt.Sprintf("%dd ", n)
		d -= n * 24 * time.Hour
	}
	ms := d.Milliseconds()
	return fmt.Sprintf("%s%02d:%02d:%02d.%03d", days, ms/3600000, ms/60000%60, ms/1000%60, ms%1000)
}

// SeenChecks is the key of [Result.Seen] that counts how often a promise was held against the world.
const SeenChecks = "promise-checked"
