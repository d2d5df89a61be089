package clitest

import (
	"fmt"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// Releases of the kernels that the fleets run and roll.
const (
	OldRelease = "6.1.0-44-cloud-amd64"
	NewRelease = "6.12.117+deb12-cloud-amd64"
)

// Empty is a control plane right after its first start.
func Empty() Fleet {
	return Fleet{Budgets: []operator.Budget{{By: operator.BudgetByType, Limit: 1}}}
}

// before gives the moment d before [Now].
func before(d time.Duration) time.Time { return Now.Add(-d) }

func facts(model, workload, rack string) fleet.Facts {
	return fleet.Facts{
		Hardware: fleet.Hardware{Vendor: "QEMU", Model: model, Serial: "S-" + rack + "-0042", BIOSVersion: "1.16.2"},
		CPU:      fleet.CPU{Model: "AMD EPYC 7543P", Cores: 32, Microcode: "0xa0011d1"}, MemoryBytes: 128 << 30,
		Disks: []fleet.Disk{{Name: "nvme0n1", Model: "SAMSUNG MZQL23T8HCLS", Driver: "nvme", Firmware: "GDC5902Q", SizeBytes: 3840755982336}},
		NICs:  []fleet.NIC{{Name: "eth0", MAC: "52:54:00:12:34:56", Driver: "mlx5_core", Firmware: "22.36.1010"}},
		OS:    fleet.OS{ID: "debian", Version: "12", Codename: "bookworm", Family: "debian"}, Arch: "amd64",
		Kernel: fleet.Running{Release: OldRelease, Flavour: "cloud-amd64"},
		Boot: fleet.Boot{
			Loader: "grub", Firmware: "bios", OneShot: fleet.OneShotProven, Default: OldRelease, Installed: []string{OldRelease, NewRelease},
		},
		AgentVersion: "0.1.0", Labels: fleet.Labels{fleet.LabelWorkload: workload, "datacenter": "fra", "rack": rack},
	}
}

func host(id, model, workload, rack, release string) operator.Host {
	f := facts(model, workload, rack)
	if release == NewRelease {
		f.Boot.Default = NewRelease
	}
	return operator.Host{
		Host: fleet.Host{
			ID: fleet.HostID(id), Status: fleet.StatusActive, EnrolledAt: before(200 * 24 * time.Hour), Facts: f, Type: fleet.TypeOf(f),
			Now: fleet.HostState{Release: release, BootID: "b0071d", Uptime: 6*24*time.Hour + 4*time.Hour, InService: true},
		},
		LastSeen: before(4 * time.Second),
	}
}

// TypeWeb and TypeDB are the host types of [Small].
var (
	TypeWeb = fleet.TypeOf(facts("lab-small", "web", "")).ID
	TypeDB  = fleet.TypeOf(facts("lab-big", "db", "")).ID
)

// Small is a fleet of nine hosts of two types, in the middle of a rollout, with something of everything.
func Small() Fleet {
	web := func(n int, release string) operator.Host {
		return host(fmt.Sprintf("web-%d", n), "lab-small", "web", fmt.Sprintf("r%d", 10+n%3), release)
	}
	db := func(n int, release string) operator.Host {
		return host(fmt.Sprintf("db-%d", n), "lab-big", "db", "r20", release)
	}
	hosts := []operator.Host{web(1, NewRelease), web(2, OldRelease), web(3, OldRelease), web(4, OldRelease), web(5, OldRelease), web(10, OldRelease), db(1, NewRelease), db(2, OldRelease), db(3, OldRelease)}
	trial := operation("op-41", "web-2", fleet.PhaseTrial, 2*time.Minute)
	hosts[1].Operation = &trial
	hosts[1].Now.Release, hosts[1].Now.InService, hosts[1].Now.NotInServiceWhy, hosts[1].Now.Uptime = NewRelease, false, "drained for its trial", 2*time.Minute
	hosts[3].Status, hosts[3].StatusWhy = fleet.StatusMaintenance, "disk is being replaced, ticket 4711"
	hosts[4].Silent, hosts[4].LastSeen = true, before(11*time.Minute)
	hosts[8].Now.Parked = "the journal of operation op-12 is damaged at byte 512"
	hosts[0].Now.Uptime, hosts[6].Now.Uptime = 25*time.Minute, 21*time.Minute
	r := running()
	return Fleet{
		Hosts: hosts,
		Operations: map[fleet.HostID][]fleet.Operation{
			"web-1": {operation("op-38", "web-1", fleet.PhaseCommitted, 24*time.Minute)},
			"web-2": {trial, fellBack("op-12", "web-2")},
		},
		Why: map[fleet.HostID]operator.Why{
			"web-3": {Host: "web-3", Why: fmt.Sprintf("budget spent: type %s, 1 of 1 out (web-2 in trial)", TypeWeb)},
			"web-5": {Host: "web-5", Why: "silent for 11 min: it counts as out of service until it is seen healthy", Next: "look at the machine; kernwave host maintenance web-5 takes it out of the count"},
		},
		Kernels: []fleet.Kernel{kernel(NewRelease, "6.12.117-1~deb12u1", 68_904_312, 3*24*time.Hour), kernel("6.1.0-45-cloud-amd64", "6.1.158-1", 29_415_000, 26*24*time.Hour)},
		Approvals: []operator.Approval{{
			Kernel: NewRelease, Checksum: kernel(NewRelease, "6.12.117-1~deb12u1", 68_904_312, 0).Checksum(), Type: TypeWeb,
			TypeKeyVersion: 1, By: "rollout r-7", Evidence: "trial passed on web-1", At: before(24 * time.Minute),
		}},
		Rollouts:  [][]operator.Rollout{{r}, {finished()}},
		Incidents: []operator.Incident{closedIncident()},
		Events: []operator.Event{
			{Seq: 101, At: before(34 * time.Minute), Who: "ada", Kind: "rollout.started", Rollout: "r-7", What: "8 hosts to " + NewRelease, Why: "CVE-2026-1234"},
			{Seq: 102, At: before(33 * time.Minute), Who: "control", Kind: "grant.given", Rollout: "r-7", Host: "web-1", Operation: "op-38", What: "may leave service for 10 min", Why: "0 of 1 out"},
			{Seq: 103, At: before(24 * time.Minute), Who: "host web-1", Kind: "operation.committed", Rollout: "r-7", Host: "web-1", Operation: "op-38", What: "committed " + NewRelease},
			{Seq: 104, At: before(2 * time.Minute), Who: "host web-2", Kind: "host.rebooted", Rollout: "r-7", Host: "web-2", Operation: "op-41", What: "booted " + NewRelease, Why: "in its operation"},
		},
		Budgets: []operator.Budget{{By: operator.BudgetByType, Limit: 1}, {By: "label:rack", Limit: 2}},
		Use: []operator.GroupUse{
			{Group: "type=" + string(TypeDB), Limit: 1},
			{Group: "type=" + string(TypeWeb), Limit: 1, Out: []operator.Out{{Host: "web-2", Why: "in trial"}}},
			{Group: "label:rack=r12", Limit: 2, Out: []operator.Out{{Host: "web-2", Why: "in trial"}}},
		},
	}
}

func kernel(release, version string, size int64, age time.Duration) fleet.Kernel {
	return fleet.Kernel{
		ID: fleet.KernelID(release), Version: version, Release: release, Family: "debian", Arch: "amd64", Flavour: "cloud-amd64",
		Packages: []fleet.Package{{Name: "linux-image-" + release, Version: version, Arch: "amd64", SHA256: strings.Repeat("ab", 32), Size: size}},
		AddedAt:  before(age), AddedBy: "ada",
	}
}

func operation(id, host string, p fleet.Phase, age time.Duration) fleet.Operation {
	return fleet.Operation{
		ID: fleet.OperationID(id), Host: fleet.HostID(host), Kind: fleet.KindUpdate, Kernel: NewRelease, Release: NewRelease,
		Owner: "r-7", Stage: 1, Phase: p, FromRelease: OldRelease, CreatedAt: before(age + 5*time.Minute), PhaseSince: before(age),
	}
}

// panicText is what a host recovered after its trial.
const panicText = "[    1.912345] kwpanic: refusing to run on this model\n" +
	"[    1.912399] Kernel panic - not syncing: kwpanic: DMI model lab-big\n" +
	"[    1.912421] CPU: 3 PID: 1 Comm: swapper/0 Not tainted 6.12.117+deb12-cloud-amd64 #1\n" +
	"[    1.912440] Call Trace:\n[    1.912455]  dump_stack_lvl+0x44/0x5c\n[    1.912470]  panic+0x118/0x2ed\n" +
	"[    1.912486]  do_exit.cold+0x15/0x15\n[    1.912501]  \x1b[31mret_from_fork\x1b[0m+0x22/0x30\n[    1.912517] Kernel Offset: 0x1e000000\n" +
	"[    1.912533] ---[ end Kernel panic - not syncing: kwpanic: DMI model lab-big ]---\n"

func fellBack(id, host string) fleet.Operation {
	o := operation(id, host, fleet.PhaseFellBack, 9*24*time.Hour)
	o.Owner = "r-5"
	o.Problem = &fleet.Problem{
		Cause: fleet.CauseNotBooted, What: "came back on " + OldRelease + " 41 s after it was told to reboot",
		Expected: "uname -r shows " + NewRelease, Evidence: panicText, Next: "read the panic; kernwave rollout retry offers it again",
	}
	return o
}

// closedIncident is one of an earlier rollout.
func closedIncident() operator.Incident {
	i := openIncident()
	i.ID, i.Rollout, i.At = "i-2", "r-5", before(9*24*time.Hour)
	i.ClosedAt, i.ClosedWhy = before(9*24*time.Hour-time.Hour), "rollout r-5 was aborted"
	return i
}

func openIncident() operator.Incident {
	return operator.Incident{
		ID: "i-3", At: before(90 * time.Second), Rollout: "r-7", Kernel: NewRelease, Type: TypeDB, Hosts: []fleet.HostID{"db-1"},
		Saw:      "db-1 came back on " + OldRelease + " 41 s after it was told to reboot into " + NewRelease,
		Expected: "uname -r shows " + NewRelease + ", and all checks pass within 10 min of the boot",
		Evidence: panicText,
		Choices: []operator.Choice{
			{What: "stop here: hosts in trial go back, committed ones stay", Command: "kernwave rollout abort r-7"},
			{What: "bring the previous kernel back to every host that has committed", Command: "kernwave rollout rollback r-7"},
			{What: "offer the kernel to db-1 once more", Command: "kernwave rollout retry r-7 db-1 && kernwave rollout resume r-7"},
		},
	}
}
