package systemdboot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/efivar"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// maxCmdline is what the kernel keeps of a command line on x86 and arm64, less what the loader puts in front of it for
// the initrds. What does not fit is cut off at the end, where a trial's words are.
const maxCmdline = 2048

// Arm sets the trial's kernel for one boot only. The order is what a power cut allows: the entry is on the disk before
// the variable names it; without the variable nothing boots it, and a variable that names no entry is passed over. The
// running kernel can be armed too: a host that stays on its kernel reboots under the same watch.
func (d *Driver) Arm(_ context.Context, t loader.Trial) error {
	s, err := d.load()
	if err != nil {
		return armError(t, err, "run: kernwave-agent doctor")
	}
	if ps := s.problems(t.Running); len(ps) > 0 {
		return armError(t, errors.New("the way back is not secured: "+ps[0].what), ps[0].next)
	}
	e := s.stock(t.Release)
	if e == nil {
		return armError(t, errors.New("no entry boots it"+s.hiddenWhy(t.Release)), "run: kernel-install add "+t.Release+" /boot/vmlinuz-"+t.Release)
	}
	check := d.sound
	if t.Release == t.Running {
		check = d.checkFiles // what it runs from is good enough to run again
	}
	if err := check(e); err != nil {
		return armError(t, err, "reinstall the kernel's package")
	}
	lines, err := trialLines(e, t.Args)
	if err != nil {
		return armError(t, err, "shorten the host's kernel command line")
	}
	for _, p := range s.parts {
		if p != e.Part {
			err = errors.Join(err, d.removeEntry(p, TrialID)) // of an earlier trial: two would have one name
		}
	}
	if err == nil {
		err = d.writeEntry(e.Part, TrialID, append([]byte("# Written by kernwave-agent for one trial. It is booted when "+efivar.OneShot+" names it, and only then.\n"), lines.Bytes()...))
	}
	if err == nil {
		err = d.set(efivar.OneShot, TrialID)
	}
	if err == nil {
		err = d.verifyArmed(t)
	}
	if err != nil {
		return errors.Join(armError(t, err, "run: kernwave-agent doctor"), d.Disarm())
	}
	return nil
}

// trialLines copies a stock entry, with more on its command line. It has no sort key: without the variables of the
// loader, whatever has one comes before it.
func trialLines(e *Entry, args []string) (Lines, error) {
	if err := loader.CheckArgs(args); err != nil {
		return nil, err
	}
	options, _ := loader.StripTrial(e.Lines.options())
	own, init, hasInit := strings.Cut(options+" ", " -- ") // what follows is init's own
	words := strings.TrimSpace(own) + " " + strings.Join(args, " ")
	if hasInit {
		words += " -- " + strings.TrimSpace(init)
	}
	words = strings.TrimSpace(words)
	length := len(words) + 1
	for _, i := range e.initrds() {
		length += len("initrd= ") + len(i)
	}
	if length > maxCmdline {
		return nil, fmt.Errorf("with a trial's words the command line has %d bytes, and the kernel reads %d", length, maxCmdline)
	}
	lines := Lines{{"title", "Kernwave trial of " + e.Release}}
	return append(lines, e.Lines.without("title", "sort-key").withOptions(words)...), nil
}

// verifyArmed reads back that the next boot is the trial and the one after it is not.
func (d *Driver) verifyArmed(t loader.Trial) error {
	if err := d.verify(t.Running); err != nil {
		return err
	}
	s, err := d.load()
	if err != nil {
		return err
	}
	if s.oneShot != TrialID {
		return fmt.Errorf("%s reads back as %q", efivar.OneShot, s.oneShot)
	}
	e := s.find(TrialID)
	if e == nil || !strings.EqualFold(e.ID, TrialID) || e.Release != t.Release {
		return errors.New("the trial's entry does not read back")
	}
	words := strings.Fields(e.Lines.options())
	for _, a := range t.Args {
		if !slices.Contains(words, a) {
			return fmt.Errorf("the trial's entry does not read back: %s is not on its command line", a)
		}
	}
	return nil
}

// Disarm takes back Arm, where it has not been used. Nothing armed is no error.
func (d *Driver) Disarm() error {
	if _, err := d.vars.Usable(); err != nil {
		return fmt.Errorf("disarm: %w", err)
	}
	oneShot, err := d.vars.Text(efivar.OneShot)
	if err == nil && strings.EqualFold(oneShot, TrialID) {
		err = d.set(efivar.OneShot, "")
	}
	if err != nil {
		return fmt.Errorf("disarm: %w", err)
	}
	// The entry harms nobody without the variable: where the ESP is not mounted, it stays.
	bootedFrom, err := d.vars.Text(efivar.PartUUID)
	if err != nil {
		return fmt.Errorf("disarm: %w", err)
	}
	_, parts, err := partitions(d.root, bootedFrom)
	if err != nil {
		return nil
	}
	for _, p := range parts {
		if err := d.removeEntry(p, TrialID); err != nil {
			return fmt.Errorf("disarm: %w", err)
		}
	}
	return nil
}

// Commit makes release, which is running, the default, by name, and reads back. It mends as [Driver.SecureWayBack] does:
// the configuration may have been changed while the kernel was on trial.
func (d *Driver) Commit(ctx context.Context, release string) error {
	err := d.SecureWayBack(ctx, release)
	if err == nil {
		err = d.Disarm()
	}
	if err != nil {
		return fmt.Errorf("make kernel %s the default: %w", release, err)
	}
	return nil
}

func armError(t loader.Trial, err error, next string) error {
	return &fleet.Error{Op: "set kernel " + t.Release + " for one boot", Err: err, Next: fleet.NextOf(err, next)}
}
