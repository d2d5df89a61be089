package agent

import (
	"context"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// System is what the agent needs of the machine it runs on. internal/linux
// implements it for real Linux; tests use a fake that passes the same
// conformance test. Every method is safe to repeat: after a crash the agent
// calls it again. All may be called at the same time: a check-in looks at the machine while a kernel
// is being installed. Errors are sentences an operator can act on ([fleet.Error] with Next).
type System interface {
	// Facts finds out what the machine is, without labels and agent version.
	Facts(ctx context.Context) (fleet.Facts, error)

	// BootID and Release are those of the running kernel.
	BootID() (string, error)
	Release() (string, error)
	// Uptime reads the boot-time clock (CLOCK_BOOTTIME): it runs on in suspend and never jumps.
	Uptime() time.Duration
	// TrialBoot says which operation's trial entry was booted (from the kernel command line); empty: a plain boot.
	TrialBoot() (fleet.OperationID, error)

	// SystemState says whether the system has finished starting, and which units have failed.
	SystemState(ctx context.Context) (SystemState, error)
	// Network looks at the host's own network: what a trial is compared with.
	Network(ctx context.Context) (Network, error)

	// CanInstall refuses, with the reason, what Install could not do now: /boot or / too small, dpkg locked
	// or broken, the kernel would overwrite the running one. It changes nothing. files are in k.Packages' order.
	CanInstall(ctx context.Context, k fleet.Kernel, files []string) error
	// Install installs the packages beside the running kernel and makes sure that the boot loader has an entry for
	// k.Release. It never removes a kernel.
	Install(ctx context.Context, k fleet.Kernel, files []string) error
	// Installed says whether release has its files and a boot entry.
	Installed(ctx context.Context, release string) (bool, error)

	// SecureWayBack makes sure that a plain boot, and a boot after a failed one-shot, runs the running kernel: the
	// default entry names it explicitly and reads back. It mends what it can; else it refuses with the reason.
	SecureWayBack(ctx context.Context) error
	// ArmTrial sets release for one boot only, with the trial's command line (operation id, dead-man's deadline,
	// panic=, watchdog), and reads back that the default is still the running kernel.
	ArmTrial(ctx context.Context, t TrialBoot) error
	// Disarm takes back ArmTrial, where it has not been used. Nothing armed is no error.
	Disarm(ctx context.Context) error
	// Commit makes release, which must be running, the default, and reads back.
	Commit(ctx context.Context, release string) error
	// OneShotProven remembers that a trial on this host was booted once and the loader forgot the one-shot entry.
	// It checks the second half itself.
	OneShotProven(ctx context.Context) error
	// ChecksPassed tells the dead-man of this boot that the local checks passed.
	ChecksPassed(ctx context.Context, id fleet.OperationID) error

	// Reboot reboots through the firmware and the boot loader, never by kexec. It returns when the reboot has been
	// requested; the machine may need a while to go down.
	Reboot(ctx context.Context, why string) error

	// CrashText recovers what an earlier kernel left behind in its last moments (pstore), or says why it could not.
	// since is when the trial was armed, by the wall clock.
	CrashText(ctx context.Context, since time.Time) (text, why string)
	// DeadManFired says whether the dead-man rebooted the host out of the trial of id.
	DeadManFired(id fleet.OperationID) (bool, error)
}

// TrialBoot is one boot into a kernel that is not trusted yet.
type TrialBoot struct {
	Operation fleet.OperationID
	Release   string
	// Deadline is the dead-man's: from boot to [System.ChecksPassed].
	Deadline time.Duration
}

// SystemState is systemd's view of the machine.
type SystemState struct {
	// Up is true once nothing is left to start (running or degraded).
	Up bool
	// State is systemd's word: initializing, starting, running, degraded, maintenance, stopping.
	State string
	// FailedUnits are sorted by name.
	FailedUnits []string
}

// Network is the host's own network, as far as it can be seen without anyone's help.
type Network struct {
	Links    []Link    // with a device behind them, up by configuration; sorted by name
	Gateways []Gateway // of the default routes, sorted
}

// Link is one network interface.
type Link struct {
	Name      string
	Carrier   bool
	Addresses []string // CIDR, global scope, sorted
}

// Gateway is the next hop of a default route; it Answers if it replied on the link (ARP or neighbour discovery).
type Gateway struct {
	Address string
	Link    string
	Answers bool
}
