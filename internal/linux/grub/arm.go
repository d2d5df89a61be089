package grub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/command"
	"github.com/kernwave/kernwave/internal/linux/durable"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// Arm sets the trial's kernel for one boot only. The order is what a power cut allows: the menu entry goes to the
// disk, as GRUB reads it, before next_entry names it. The running kernel can be armed too: a host that stays on its
// kernel reboots under the same watch.
func (d *Driver) Arm(ctx context.Context, t loader.Trial) error {
	s, err := d.load()
	if err != nil {
		return armError(t, err, "run: kernwave-agent doctor")
	}
	if ps := s.problems(t.Running); len(ps) > 0 {
		return armError(t, errors.New("the way back is not secured: "+ps[0].what), ps[0].next)
	}
	e := stock(s.cfg.Menu, t.Release)
	if e == nil {
		return armError(t, errors.New("no menu entry names it"), "run update-grub, then look at /boot")
	}
	if err := d.checkFiles(e); err != nil {
		return armError(t, err, "reinstall the kernel's package")
	}
	text, err := trialEntry(e, t.Args)
	if err != nil {
		return armError(t, err, "make the entry one that grub-mkconfig writes")
	}
	if err := d.writeTrial(ctx, text); err != nil {
		return armError(t, err, "free space in /boot, then retry the host")
	}
	env, err := s.env.Set("next_entry", TrialID)
	if err == nil {
		err = d.writeEnv(env)
	}
	if err == nil {
		err = d.verifyArmed(t)
	}
	if err != nil {
		return errors.Join(armError(t, err, "run: kernwave-agent doctor"), d.Disarm())
	}
	return nil
}

func (d *Driver) writeTrial(ctx context.Context, text string) error {
	if err := durable.Write(d.path(trialPath), []byte(text), 0o600); err != nil {
		return err
	}
	// GRUB's own opinion, where its tools are installed without which update-grub would not work either.
	if _, err := d.run.Run(ctx, command.Cmd{Name: "grub-script-check", Args: []string{d.path(trialPath)}}); err != nil && !errors.Is(err, exec.ErrNotFound) {
		return errors.Join(fmt.Errorf("GRUB cannot read the trial's entry: %w", err), durable.Remove(d.path(trialPath)))
	}
	return d.settleBoot()
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
	if next := s.env.Get("next_entry"); next != TrialID {
		return fmt.Errorf("next_entry reads back as %q", next)
	}
	text, err := os.ReadFile(d.path(trialPath))
	if err != nil {
		return err
	}
	cs, err := parseScript(string(text))
	if err != nil {
		return err
	}
	if e := resolve(append(s.cfg.Menu, menuOf(cs, "")...), TrialID); e == nil || e.ID != TrialID || e.Release != t.Release {
		return errors.New("the trial's entry does not read back")
	}
	return nil
}

// Disarm takes back Arm, where it has not been used. Nothing armed is no error.
func (d *Driver) Disarm() error {
	env, err := d.readEnv()
	if err != nil {
		return err
	}
	if env.Get("next_entry") == TrialID {
		if err := d.writeEnv(env.Unset("next_entry")); err != nil {
			return fmt.Errorf("disarm: %w", err)
		}
	}
	if err := durable.Remove(d.path(trialPath)); err != nil {
		return fmt.Errorf("disarm: %w", err)
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
