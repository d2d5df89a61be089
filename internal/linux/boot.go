package linux

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// operationID is what may stand on a kernel command line and in a file's name.
var operationID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// maxDeadline bounds the dead-man's deadline: its script counts up to seven digits, and nobody waits a day for a boot.
const maxDeadline = 24 * time.Hour

// trialArgs is what a trial's kernel gets on its command line, after everything that the host's own configuration has.
func trialArgs(t agent.TrialBoot) ([]string, error) {
	if !operationID.MatchString(string(t.Operation)) {
		return nil, fmt.Errorf("operation id %q cannot stand on a kernel command line", t.Operation)
	}
	if t.Deadline < time.Second || t.Deadline > maxDeadline {
		return nil, fmt.Errorf("dead-man's deadline %s: must be between 1s and %s", t.Deadline, maxDeadline)
	}
	return []string{
		// A panic reboots, after a time in which kdump, pstore and a serial console get its text out. Debian's default is to stay.
		// initramfs-tools takes the same word for "do not wait in a shell when the root is not found".
		"panic=30",
		// What the kernel calls an oops and would survive, half broken, is a panic on a kernel that nobody trusts.
		"oops=panic",
		// systemd feeds the hardware watchdog, where there is one: a hang becomes a reset. Not less than 120 s: a healthy
		// machine that is busy has been reset by 40 s.
		"systemd.watchdog_sec=120",
		// For the dead-man, and for the agent to know what it is in.
		"kernwave.trial=" + string(t.Operation),
		"kernwave.deadman=" + strconv.Itoa(int(math.Ceil(t.Deadline.Seconds()))),
	}, nil
}

// TrialBoot says which operation's trial entry was booted.
func (h *Host) TrialBoot() (fleet.OperationID, error) {
	line, err := os.ReadFile(h.path("/proc/cmdline"))
	if err != nil {
		return "", fmt.Errorf("read the kernel command line: %w", err)
	}
	id := ""
	for word := range strings.FieldsSeq(string(line)) {
		if v, ok := strings.CutPrefix(word, "kernwave.trial="); ok {
			id = v
		}
	}
	return fleet.OperationID(id), nil
}

// SecureWayBack makes sure that a plain boot runs the running kernel.
func (h *Host) SecureWayBack(ctx context.Context) error {
	if err := h.supported(); err != nil {
		return err
	}
	running, err := h.Release()
	if err != nil {
		return err
	}
	// Part of the way back: a kernel that boots and does nothing more is the dead-man's.
	if err := h.deadManReady(); err != nil {
		return &fleet.Error{Op: "secure the way back", Err: err, Next: "run: kernwave-agent install"}
	}
	return h.boot.SecureWayBack(ctx, running)
}

// ArmTrial sets t.Release for one boot.
func (h *Host) ArmTrial(ctx context.Context, t agent.TrialBoot) error {
	running, err := h.Release()
	if err != nil {
		return err
	}
	args, err := trialArgs(t)
	if err != nil {
		return &fleet.Error{Op: "set kernel " + t.Release + " for one boot", Err: err, Next: "report this as a bug"}
	}
	if err := h.deadManReady(); err != nil {
		return &fleet.Error{Op: "set kernel " + t.Release + " for one boot", Err: err, Next: "run: kernwave-agent install"}
	}
	return h.boot.Arm(ctx, loader.Trial{Release: t.Release, Running: running, Args: args})
}

// Disarm takes back ArmTrial.
func (h *Host) Disarm(context.Context) error {
	if !h.boot.Present() {
		return nil // nothing can have been armed
	}
	return h.boot.Disarm()
}

// Commit makes release, which must be running, the default.
func (h *Host) Commit(ctx context.Context, release string) error {
	running, err := h.Release()
	if err != nil {
		return err
	}
	if running != release {
		return &fleet.Error{Op: "make kernel " + release + " the default", Err: fmt.Errorf("the host runs %s", running), Next: "only a kernel that runs can be trusted: start a new operation"}
	}
	return h.boot.Commit(ctx, release)
}

// OneShotProven remembers that the boot loader forgot the one-shot entry that this boot came from.
func (h *Host) OneShotProven(context.Context) error {
	id, err := h.TrialBoot()
	if err != nil {
		return err
	}
	if id == "" {
		return errors.New("this boot did not come from a one-shot entry: it shows nothing")
	}
	return h.boot.OneShotProven()
}

// bootFacts describes firmware and boot loader.
func (h *Host) bootFacts() fleet.Boot {
	b := fleet.Boot{}
	if name := h.foreignLoader(); name != "" {
		b = fleet.Boot{Loader: name, OneShotWhy: "there is no driver for " + name}
	} else if h.boot.Present() {
		b = h.boot.Facts()
	} else {
		b.OneShotWhy = "no boot loader that is known here: there is no /boot/grub/grub.cfg"
	}
	b.Firmware = "bios"
	if _, err := os.Stat(h.path("/sys/firmware/efi")); err == nil {
		b.Firmware = "uefi"
	}
	return b
}

// foreignLoader names the loader that booted this machine where it says so and is none of ours.
func (h *Host) foreignLoader() string {
	b, err := os.ReadFile(h.path("/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"))
	if err != nil || len(b) < 6 {
		return ""
	}
	var units []uint16
	for i := 4; i+1 < len(b); i += 2 { // after four bytes of attributes, UTF-16
		units = append(units, uint16(b[i])|uint16(b[i+1])<<8)
	}
	name, _, _ := strings.Cut(strings.ToLower(strings.TrimRight(string(utf16.Decode(units)), "\x00")), " ")
	if strings.HasPrefix(name, "grub") {
		return ""
	}
	return name
}
