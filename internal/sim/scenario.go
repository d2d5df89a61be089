package sim

import "time"

// Scenario is everything that a simulation is told. Zero values mean what the comments name; durations are written
// as in 90s, 15m or 36h. Times count from the beginning of the simulation, unless a comment says otherwise.
type Scenario struct {
	// Name, for people: letters, digits, '-'.
	Name string `yaml:"name"`
	// About says in a sentence or two what the scenario shows.
	About string `yaml:"about,omitempty"`
	// For is how long the simulated world runs at most. It ends earlier when every rollout has ended, or waits for
	// a person who never comes, and nothing is left to happen. Zero means 72h.
	For time.Duration `yaml:"for,omitempty"`

	Fleet    Fleet     `yaml:"fleet"`
	Budgets  []Budget  `yaml:"budgets,omitempty"` // none: at most 1 host out of service per type
	Rollouts []Rollout `yaml:"rollouts"`
	// Actions are what people do at given times.
	Actions []Action `yaml:"actions,omitempty"`
	// Operator is what the person on call does when a rollout pauses.
	Operator Operator `yaml:"operator,omitempty"`
	Control  Control  `yaml:"control,omitempty"`
	Faults   []Fault  `yaml:"faults,omitempty"`
}

// Fleet is the simulated machines.
type Fleet struct {
	// Datacenters is over how many the hosts of each type are spread: label datacenter=dc-1 … Zero means 1.
	Datacenters int `yaml:"datacenters,omitempty"`
	// Racks is how many each datacenter has: label rack=dc-1-r1 … Zero means 10.
	Racks int    `yaml:"racks,omitempty"`
	Types []Type `yaml:"types"`
}

// Type is hosts of one hardware model and workload: one host type of the control plane.
type Type struct {
	// Name becomes the hardware model, and host names: NAME-0001 …
	Name string `yaml:"name"`
	// Hosts is how many there are: 1 to 20,000.
	Hosts int `yaml:"hosts"`
	// Workload is the label. Empty means web.
	Workload string `yaml:"workload,omitempty"`
	// Kernel is how the new kernel behaves on this type. The zero value is a good one.
	Kernel KernelFault `yaml:"kernel,omitempty"`
	// Boot is how long a boot takes until the agent runs, on average. Zero means 40s. Each boot differs by up to a third.
	Boot time.Duration `yaml:"boot,omitempty"`
	// Prepare is how long fetching and installing takes, on average. Zero means 30s.
	Prepare time.Duration `yaml:"prepare,omitempty"`
	// Drain is how long the drain takes, on average. Zero means 5s.
	Drain time.Duration `yaml:"drain,omitempty"`
	// Checks is how long the trial's checks take, on average. Zero means 15s.
	Checks time.Duration `yaml:"checks,omitempty"`
	// Watchdog is how long a hanging machine takes until its hardware watchdog resets it. Zero means 2m; negative
	// means that it has none: it hangs until somebody power cycles it (see Operator.PowerCycleAfter).
	Watchdog time.Duration `yaml:"watchdog,omitempty"`
	// Unable is how many of the hosts have a boot loader that cannot boot a kernel just once: they must be left out.
	Unable int `yaml:"unable,omitempty"`
}

// KernelFault is what is wrong with the new kernel on a type. Faults may be combined.
type KernelFault struct {
	// Boots says what a trial boot does: "" or always; panic or hang: never boots.
	Boots string `yaml:"boots,omitempty"`
	// BootsOneIn: it boots one time in so many, and panics else. Zero means always.
	BootsOneIn int `yaml:"boots_one_in,omitempty"`
	// CrashEvery is the mean time between panics of one host while it runs the kernel. Zero means never.
	CrashEvery time.Duration `yaml:"crash_every,omitempty"`
	// HangAfter is the mean time until a host that runs the kernel hangs. Zero means never.
	HangAfter time.Duration `yaml:"hang_after,omitempty"`
	// NetworkLostAfter is how long after boot the host's network is gone for as long as the kernel runs, "0s" meaning
	// at once. Absent means never.
	NetworkLostAfter *time.Duration `yaml:"network_lost_after,omitempty"`
	// FailChecks is the share of trials, 0 to 1, whose checks fail.
	FailChecks float64 `yaml:"fail_checks,omitempty"`
	// SlowBoot is how much longer a boot takes with it.
	SlowBoot time.Duration `yaml:"slow_boot,omitempty"`
	// WrongRelease: it shows another uname -r than was promised.
	WrongRelease bool `yaml:"wrong_release,omitempty"`
}

// Budget is as operators set them: By is type or label:KEY.
type Budget struct {
	By    string `yaml:"by"`
	Limit int    `yaml:"limit"`
}

// Rollout is one that a person starts.
type Rollout struct {
	// At is when. Zero means 2m: every host has checked in by then.
	At time.Duration `yaml:"at,omitempty"`
	// Selector, Waves … are as for kernwave rollout start, with its defaults.
	Selector      string         `yaml:"selector,omitempty"`
	Waves         []int          `yaml:"waves,omitempty"`
	Soak          *time.Duration `yaml:"soak,omitempty"` // absent: 1h
	Canaries      int            `yaml:"canaries,omitempty"`
	ReturnWithin  time.Duration  `yaml:"return_within,omitempty"`
	TrialDeadline time.Duration  `yaml:"trial_deadline,omitempty"`
}

// What an action does. Those about a rollout are as on the command line.
const (
	DoPause       = "pause"
	DoResume      = "resume"
	DoAbort       = "abort"
	DoRollback    = "rollback"
	DoRetry       = "retry"       // Host
	DoSkip        = "skip"        // Host
	DoLeaveOut    = "leave-out"   // Type
	DoStop        = "stop"        // everything
	DoLift        = "lift"        // the stop
	DoMaintenance = "maintenance" // Host
	DoActivate    = "activate"    // Host
	DoRetire      = "retire"      // Host
	DoPowerCycle  = "power-cycle" // Host, from outside
	DoBudget      = "budget"      // Budget
)

// Action is something that a person does.
type Action struct {
	At time.Duration `yaml:"at"`
	// When delays it further, until this is so: "canaries" or "wave N" has begun, or a status of the rollout such as
	// paused. The action is then done once, At after that. Empty: At counts from the beginning.
	When string `yaml:"when,omitempty"`
	Do   string `yaml:"do"`
	// Rollout counts from 1, in the order of Scenario.Rollouts. Zero means 1.
	Rollout int    `yaml:"rollout,omitempty"`
	Host    string `yaml:"host,omitempty"`
	Type    string `yaml:"type,omitempty"` // Type.Name
	Budget  Budget `yaml:"budget,omitempty"`
}

// What the operator may do on a pause.
const (
	OnPauseNothing  = "nothing"
	OnPauseResume   = "resume"    // held hosts stay held
	OnPauseRetry    = "retry"     // every held host, and resume
	OnPauseSkip     = "skip"      // every held host, and resume
	OnPauseLeaveOut = "leave-out" // the type of every held host, and resume
	OnPauseAbort    = "abort"
	OnPauseRollback = "rollback"
	OnPauseRandom   = "random" // one of the above each time
)

// Operator is what the person on call does by rule.
type Operator struct {
	// OnPause is one of the constants above. Empty means nothing.
	OnPause string `yaml:"on_pause,omitempty"`
	// After is how long the person needs. Zero means 10m.
	After time.Duration `yaml:"after,omitempty"`
	// PowerCycleAfter is how long a host may be dead until somebody power cycles it. Zero means never.
	PowerCycleAfter time.Duration `yaml:"power_cycle_after,omitempty"`
	// ResumeRestored: after a restore or a clone, rollouts that wait for a person because of it are resumed after After.
	ResumeRestored bool `yaml:"resume_restored,omitempty"`
}

// Control is the settings of the control plane. Zero values mean its own defaults.
type Control struct {
	GrantLife     time.Duration `yaml:"grant_life,omitempty"`
	IdlePace      time.Duration `yaml:"idle_pace,omitempty"`
	OperationPace time.Duration `yaml:"operation_pace,omitempty"`
	SilentAfter   time.Duration `yaml:"silent_after,omitempty"`
}

// Kinds of faults. The comment says which fields of Fault they use besides At, Every and For.
const (
	// Of the network, on messages between hosts and the control plane; they last For (zero: to the end).
	FaultLose   = "lose"   // Share of messages and answers that are lost
	FaultDelay  = "delay"  // Share of messages and answers that are late, by By at most
	FaultRepeat = "repeat" // Share of messages that arrive a second time, By at most later: late, out of order, with old state

	// Of hosts; each time Hosts of them, drawn among those that Types names (empty: all).
	FaultSilent     = "silent"      // cut off from the control plane for For
	FaultPowerCut   = "power-cut"   // loses its power, and boots again
	FaultCrash      = "crash"       // panics, whatever kernel it runs, and boots again
	FaultHang       = "hang"        // hangs, whatever kernel it runs
	FaultDie        = "die"         // off for good, or until it is power cycled
	FaultKillAgent  = "kill-agent"  // the agent's process ends and starts again; its journal stays
	FaultUnready    = "unready"     // not in service for reasons of its own, for For
	FaultDrainFails = "drain-fails" // its drain fails, for For (zero: to the end)
	FaultClock      = "clock"       // its wall clock jumps by By (back when negative)
	FaultCloneImage = "clone-image" // a second machine starts from its disk image: the same certificate and state
	FaultOldDisk    = "old-disk"    // its disk is restored to what it was By ago, and it boots

	// Of the control plane.
	FaultKill         = "kill"          // killed at its next write, before or after it; back after For
	FaultSlowStore    = "slow-store"    // each write takes By, for For
	FaultFailingStore = "failing-store" // Share of the writes fail, for For
	FaultTwoLeaders   = "two-leaders"   // a second process begins on the same store; the first answers half of the hosts for For
	FaultRestore      = "restore"       // killed, and restored from a backup By old, after For
	FaultCloneData    = "clone-data"    // a copy of the data directory, By old, is started elsewhere, and answers half of the hosts for For
)

// Fault is something that goes wrong.
type Fault struct {
	What string `yaml:"what"`
	// At is when it happens first.
	At time.Duration `yaml:"at,omitempty"`
	// Every is the mean time between this one and the next. Zero means that it happens once.
	Every time.Duration `yaml:"every,omitempty"`
	// For is how long it lasts.
	For time.Duration `yaml:"for,omitempty"`
	// By is how much: see the kinds.
	By time.Duration `yaml:"by,omitempty"`
	// Share of what could be hit that is, 0 to 1.
	Share float64 `yaml:"share,omitempty"`
	// Hosts is how many hosts at a time. Zero means 1.
	Hosts int `yaml:"hosts,omitempty"`
	// Types limits it to hosts of these types (Type.Name).
	Types []string `yaml:"types,omitempty"`
	// Host names the one host that it hits, such as web-0001.
	Host string `yaml:"host,omitempty"`
}
