package linux

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

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
	return append(slices.Clone(loader.SafetyArgs),
		// For the dead-man, and for the agent to know what it is in.
		"kernwave.trial="+string(t.Operation),
		"kernwave.deadman="+strconv.Itoa(int(math.Ceil(t.Deadline.Seconds()))),
	), nil
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
	if err := h.nextBootIsTheLoaders(); err != nil {
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
	if err := h.nextBootIsTheLoaders(); err != nil {
		return err
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
		b.OneShotWhy = noLoader
	}
	b.Firmware = "bios"
	if _, err := os.Stat(h.path("/sys/firmware/efi")); err == nil {
		b.Firmware = "uefi"
	}
	return b
}
