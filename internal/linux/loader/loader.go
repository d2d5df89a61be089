// Package loader holds what the drivers of boot loaders share: what a trial is,
// what kernels are as files, and where folders are mounted. It decides nothing.
//
//	err := d.Arm(ctx, loader.Trial{Release: release, Running: running, Args: []string{"panic=30"}})
package loader

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Trial is one boot into a kernel that is not trusted yet.
type Trial struct {
	Release string   // the kernel to try
	Running string   // the kernel that a plain boot must go on running
	Args    []string // added to the kernel's command line, where they win over what is there
}

// plainArg is what may stand unquoted on a kernel's command line in every loader's configuration.
var plainArg = regexp.MustCompile(`^[A-Za-z0-9_.,:=@/+-]+$`)

// CheckArgs refuses arguments that would mean something else to a loader than to the kernel.
func CheckArgs(args []string) error {
	for _, a := range args {
		if !plainArg.MatchString(a) {
			return fmt.Errorf("%q cannot stand on a kernel command line", a)
		}
	}
	return nil
}

// SafetyArgs turn a dead trial into a reboot. They stand before what names the trial, see [StripTrial].
var SafetyArgs = []string{
	// A panic reboots, after a time in which kdump, pstore and a serial console get its text out. Debian's default is to stay.
	// initramfs-tools takes the same word for "do not wait in a shell when the root is not found".
	"panic=30",
	// What the kernel calls an oops and would survive, half broken, is a panic on a kernel that nobody trusts.
	"oops=panic",
	// systemd feeds the hardware watchdog, where there is one: a hang becomes a reset. Not less than 120 s: a healthy
	// machine that is busy has been reset by 40 s.
	"systemd.watchdog_sec=120",
}

// StripTrial takes a trial's words off a kernel command line, and says whether there were any: what copies the running
// command line into a boot entry would make every boot of that entry a trial.
func StripTrial(cmdline string) (string, bool) {
	words := strings.Fields(cmdline)
	var kept []string
	found := false
	for _, w := range words {
		if !strings.HasPrefix(w, "kernwave.") {
			kept = append(kept, w)
			continue
		}
		found = true
		if n := len(kept) - len(SafetyArgs); n >= 0 && slices.Equal(kept[n:], SafetyArgs) {
			kept = kept[:n]
		}
	}
	if !found {
		return cmdline, false
	}
	return strings.Join(kept, " "), true
}

// Problem is one thing that stands in the way of a safe trial.
type Problem struct {
	What string
	Next string // for a person
	// Mends says that the driver makes it go away by itself before a trial.
	Mends bool
}
