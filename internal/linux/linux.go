// Package linux is the only room that touches a real Linux. [Host] does for the
// agent what agent.System asks for: it finds out what the machine is, installs
// kernels, sets what boots next, reboots, and looks at what came of it. It
// decides nothing about operations.
//
// Boot loaders and package formats are drivers behind [BootLoader] and
// [Packages]; grub, systemdboot and dpkg are there so far. Every path is below a root and
// every program runs through a command.Runner, so that tests can build a machine
// out of files.
//
//	h, err := linux.New(linux.Config{}, command.Exec{}, log)
//	facts, err := h.Facts(ctx)
package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/command"
	"github.com/kernwave/kernwave/internal/linux/dpkg"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// Config is where the machine's files are.
type Config struct {
	// Root is the folder that everything is under. Empty means /. Tests set it.
	Root string
}

// BootLoader says what boots next.
type BootLoader interface {
	// Name is the loader's word in a host's facts.
	Name() string
	// Present says whether the host has it.
	Present() bool
	// Facts describes it, without the firmware.
	Facts() fleet.Boot
	// HasEntry says whether release has its files and a boot entry. EnsureEntry makes one where it can.
	HasEntry(release string) (bool, error)
	EnsureEntry(ctx context.Context, release string) error
	// CanInstall refuses release where the loader's own partition has no room for it, beside running.
	CanInstall(release, running string) error
	// Problems lists what stands in the way of a safe trial, for a person who looks.
	Problems(running string) ([]loader.Problem, error)
	// SecureWayBack makes every plain boot run the kernel running, by name, or refuses.
	SecureWayBack(ctx context.Context, running string) error
	// Arm sets one boot into another kernel; Disarm takes that back; Commit makes a release the default.
	Arm(ctx context.Context, t loader.Trial) error
	Disarm() error
	Commit(ctx context.Context, release string) error
	// OneShotProven remembers that this boot came from Arm and that the loader has forgotten it, which it checks.
	OneShotProven() error
}

// Packages installs kernels.
type Packages interface {
	// Family is the OS family that it serves.
	Family() string
	// Arch is the machine's architecture as the packages name it.
	Arch(ctx context.Context) (string, error)
	// CanInstall refuses what Install could not do now. running is the kernel that must not be touched.
	CanInstall(ctx context.Context, k fleet.Kernel, files []string, running string) error
	Install(ctx context.Context, k fleet.Kernel, files []string, running string) error
	// Healthy says why no kernel could be installed now.
	Healthy(ctx context.Context) error
}

// Host is the machine. Its methods may be called again after a crash; only one at a time may change the machine.
type Host struct {
	root     string
	run      command.Runner
	log      *slog.Logger
	boot     BootLoader
	packages Packages
	// archAsked is what the packages said of the architecture, which does not change.
	archAsked atomic.Pointer[string]
	// What a folder cannot stand for. Tests replace them.
	addresses func(link string) ([]string, error)
	answers   func(ctx context.Context, g route) (bool, error)
	firmware  func(link string) string
	kexec     func() error
}

// New returns the machine that cfg names. It fails only where an earlier agent left something that must not stay:
// everything else is said when it is asked for.
func New(cfg Config, run command.Runner, log *slog.Logger) (*Host, error) {
	if cfg.Root == "" {
		cfg.Root = "/"
	}
	boot, err := chooseLoader(cfg.Root, run, log)
	if err != nil {
		return nil, fmt.Errorf("look after the boot loader: %w", err)
	}
	return &Host{
		root: cfg.Root, run: run, log: log, boot: boot,
		packages:  dpkg.New(dpkg.Config{Root: cfg.Root}, run, log),
		addresses: addresses4, answers: probe, firmware: nicFirmware, kexec: unloadKexec,
	}, nil
}

func (h *Host) path(p string) string { return filepath.Join(h.root, p) }

// text reads a small file of /sys or /proc without the newline; empty where there is none.
func (h *Host) text(p string) string {
	b, err := os.ReadFile(h.path(p))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// BootID is the kernel's id of this boot.
func (h *Host) BootID() (string, error) {
	return h.needed("/proc/sys/kernel/random/boot_id", "read the boot id")
}

// Release is uname -r of the running kernel.
func (h *Host) Release() (string, error) {
	return h.needed("/proc/sys/kernel/osrelease", "read the running kernel's release")
}

func (h *Host) needed(path, doing string) (string, error) {
	b, err := os.ReadFile(h.path(path))
	if err != nil {
		return "", fmt.Errorf("%s: %w", doing, err)
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", fmt.Errorf("%s: %s is empty", doing, path)
	}
	return s, nil
}

// Uptime reads the boot-time clock, which runs on in suspend and never jumps.
func (h *Host) Uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("CLOCK_BOOTTIME: %v", err)) // every kernel since 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}

// supported says why the host cannot be updated at all.
func (h *Host) supported() error {
	osr := parseOSRelease(h.text("/etc/os-release"))
	switch {
	case h.packages == nil || osr.Family != h.packages.Family():
		return &fleet.Error{Op: "use this host", Err: fmt.Errorf("there is no package driver for %s", orUnknown(osr.ID)), Next: "leave the host out of the selection"}
	case h.foreignLoader() != "":
		return &fleet.Error{Op: "use this host", Err: fmt.Errorf("it boots with %s, for which there is no driver", h.foreignLoader()), Next: "leave the host out of the selection"}
	case !h.boot.Present():
		return &fleet.Error{Op: "use this host", Err: errors.New(noLoader), Next: "install GRUB or systemd-boot, mount the ESP, or leave the host out of the selection"}
	}
	return nil
}

func orUnknown(s string) string {
	if s == "" {
		return "an unknown system"
	}
	return s
}
