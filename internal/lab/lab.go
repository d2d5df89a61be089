// Package lab runs real virtual machines: QEMU, real Debian, real kernels, real reboots. Integration tests and the
// demo use it for what a simulation can only assume: that a panicking kernel really panics, that GRUB really forgets
// a one-shot entry, that a host without a network really comes back.
//
// [Prepare] builds and caches a guest image from the build machine's own Debian mirrors and finds kernels in their
// index; [Start] boots hosts from it; a [Fleet] runs commands in them, cuts their network and their power, and reads
// what they wrote on their serial consoles. [Repack] turns a real kernel package into one that panics, hangs or has no
// network driver.
//
//	im, err := lab.Prepare(ctx, lab.Config{})
//	update := im.Kernels()[1]
//	f, err := lab.Start(ctx, im, lab.FleetConfig{Dir: dir, Serve: []lab.Kernel{update}}, lab.HostSpec{Name: "web-1", Model: "R650"})
//	defer f.Down()
//	res, err := f.Exec(ctx, "web-1", "apt-get update && apt-get install -y "+update.Package)
//	err = f.Reboot(ctx, "web-1")
//
// # What a host is
//
// One virtual CPU, an NVMe disk (the kernel has NVMe and ext4 built in, so there is no initramfs), GRUB on BIOS with
// Debian's own update-grub and grub-probe, systemd, a persistent journal, an i6300esb watchdog that nobody has armed.
// The disk is an overlay on the cached image; the power can be cut at any time. The kernel command line has no panic=,
// as in a stock Debian: whoever tries a kernel has to ask for a reboot on panic.
//
// GRUB_DEFAULT is "saved" and nothing is saved yet, as after an installation: GRUB then boots the newest kernel. For a
// host that does not even use the saved entry, change /etc/default/grub over Exec and run update-grub there (14 s).
//
// A host sees one address, [GuestAddr] (also as [GuestName]): port 80 is the fleet's package repository, and each port
// in FleetConfig.Forward leads to an address of the build machine, where it may stop and start again. It reaches
// nothing else. Commands do not use the network, so Exec works on a host that has none.
//
// Emulation is used where KVM does not really work, which Prepare finds out by booting a kernel, not by looking for
// /dev/kvm.
//
// # What stays behind
//
// Nothing of a fleet runs on after the process that called Start: the kernel kills its QEMUs even when it dies by SIGKILL. The
// image build mounts in a private namespace of a process that dies with its parent, so no mount and no loop device
// survives either. The cache folder is safe against interrupted builds and concurrent use.
//
// The package never installs anything on the build machine: [Packages] lists what must be there.
package lab

import (
	"os"
	"path/filepath"
	"time"
)

const (
	// GuestAddr is the only address that a host can reach, and GuestName its name there.
	GuestAddr = "10.0.2.100"
	GuestName = "kernwave.lab"

	// BootLimit is how long a boot may take before it is called slow. An idle two-core machine needs 20 s for one
	// emulated host; a machine that also compiles has needed 120.
	BootLimit = 180 * time.Second
	// InstallLimit is the same for installing one kernel package: 45 s on an idle machine.
	InstallLimit = 400 * time.Second
	// KernelsNeeded is how many kernels of one series the archive must have, KernelsWanted how many are taken.
	KernelsNeeded = 4
	KernelsWanted = 6
	// DefaultMemoryMB boots Debian and installs a kernel. Below 384 the kernel's unpacking gets slow.
	DefaultMemoryMB = 512
)

// Config is what Prepare needs.
type Config struct {
	// CacheDir holds the image, kernels and the answer of the KVM probe. Empty means DefaultCacheDir.
	CacheDir string
	// Progress, if not nil, is called for each step of the work. Calls do not overlap.
	Progress func(Event)
	// Accel forces "kvm" or "tcg". Empty means KVM where it works.
	Accel string
}

// DefaultCacheDir is kernwave/lab under the user's cache folder.
func DefaultCacheDir() string {
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	return filepath.Join(base, "kernwave", "lab")
}
