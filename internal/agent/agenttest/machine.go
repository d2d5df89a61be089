package agenttest

import (
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
)

// Machine is everything about a simulated host that outlives its processes. It can be read and changed between
// events with [Host.Look] and [Host.Change]; written as JSON it is a fake host's disk.
type Machine struct {
	Facts fleet.Facts `json:"facts"` // the kernel and boot parts are filled in when asked

	// What the boot loader has.
	Installed []string         `json:"installed"`          // releases with files and an entry, oldest first
	Default   string           `json:"default"`            // the saved default; empty: the newest is booted
	OneShot   *agent.TrialBoot `json:"one_shot,omitempty"` // set for one boot

	// This boot.
	Running      string            `json:"running"`
	BootID       string            `json:"boot_id"`
	BootedAt     time.Time         `json:"booted_at"`
	Trial        *agent.TrialBoot  `json:"trial,omitempty"` // when the one-shot entry was booted
	ChecksPassed fleet.OperationID `json:"checks_passed,omitempty"`
	Down         bool              `json:"down,omitempty"`     // between two boots
	EndedBy      string            `json:"ended_by,omitempty"` // why the last boot ended

	DeadManFired []fleet.OperationID `json:"dead_man_fired,omitempty"`
	Crash        string              `json:"crash,omitempty"` // what pstore holds

	// How the machine and its kernels behave.
	Network   agent.Network        `json:"network"`
	BootTime  time.Duration        `json:"boot_time"` // until the agent starts
	Kernels   map[string]Behaviour `json:"kernels,omitempty"`
	Fail      map[string]string    `json:"fail,omitempty"`       // method of System: the error that it returns
	Takes     map[string]Duration  `json:"takes,omitempty"`      // method of System: how long it takes
	KeepsOnce bool                 `json:"keeps_once,omitempty"` // the loader does not forget a one-shot entry

	// Boots is the machine's own record, oldest first.
	Boots []Boot `json:"boots"`
}

// Duration is a time.Duration.
type Duration = time.Duration

// Behaviour is how one kernel behaves on this machine. The zero value is a good one.
type Behaviour struct {
	Panic     string   `json:"panic,omitempty"`      // panics at boot, leaving this text in pstore ("-": leaving none)
	Hang      bool     `json:"hang,omitempty"`       // hangs at boot; in a trial the watchdog ends it
	NoAgent   bool     `json:"no_agent,omitempty"`   // boots, and the agent is missing on it
	NoNetwork bool     `json:"no_network,omitempty"` // no carrier, no addresses, no route
	FailUnits []string `json:"fail_units,omitempty"`
	NeverUp   bool     `json:"never_up,omitempty"` // systemd stays in starting
	Uname     string   `json:"uname,omitempty"`    // shows another release than it is booted by
	ReadOnly  bool     `json:"read_only,omitempty"`
	// DiesAfter reboots the machine by itself so long after boot (a late panic). Zero: never.
	DiesAfter time.Duration `json:"dies_after,omitempty"`
}

// Boot is one boot in the machine's own record.
type Boot struct {
	BootID  string            `json:"boot_id"`
	Release string            `json:"release"`
	Trial   fleet.OperationID `json:"trial,omitempty"`
	At      time.Time         `json:"at"`
	// Why the boot before it ended: power on, power cut, requested: …, panic, watchdog, dead-man.
	Why string `json:"why"`
}

// NewMachine is a healthy machine that runs release, in the default of its boot loader.
func NewMachine(release string) Machine {
	return Machine{
		Facts: fleet.Facts{
			Hardware: fleet.Hardware{Vendor: "Kernwave", Model: "fake-small", Serial: "1"},
			CPU:      fleet.CPU{Model: "fake", Cores: 2}, MemoryBytes: 1 << 30,
			Disks: []fleet.Disk{{Name: "vda", Driver: "virtio_blk", SizeBytes: 4 << 30}},
			NICs:  []fleet.NIC{{Name: "eth0", MAC: "52:54:00:00:00:01", Driver: "virtio_net"}},
			OS:    fleet.OS{ID: "debian", Version: "12", Codename: "bookworm", Family: "debian"},
			Arch:  "amd64", Kernel: fleet.Running{Flavour: "cloud-amd64"},
			Boot:      fleet.Boot{Loader: "grub", Firmware: "bios", OneShot: fleet.OneShotAssumed},
			MachineID: "fake",
		},
		Installed: []string{release}, Default: release, BootTime: 20 * time.Second,
		Network: agent.Network{
			Links:    []agent.Link{{Name: "eth0", Carrier: true, Addresses: []string{"10.0.0.2/24"}}},
			Gateways: []agent.Gateway{{Address: "10.0.0.1", Link: "eth0", Answers: true}},
		},
	}
}

// pick says what the boot loader boots next, and forgets a one-shot entry.
func (m *Machine) pick() (release string, trial *agent.TrialBoot) {
	if m.OneShot != nil {
		trial = m.OneShot
		if !m.KeepsOnce {
			m.OneShot = nil
		}
		return trial.Release, trial
	}
	if m.Default != "" {
		return m.Default, nil
	}
	return m.Installed[len(m.Installed)-1], nil // GRUB's trap: the newest
}

func (m *Machine) clone() Machine {
	c := *m
	c.Installed, c.Boots, c.DeadManFired = slices.Clone(m.Installed), slices.Clone(m.Boots), slices.Clone(m.DeadManFired)
	return c
}
