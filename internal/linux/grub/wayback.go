package grub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/durable"
)

const dropInText = `# Written by kernwave-agent. A kernel on trial is booted once; every other boot must run the kernel that
# GRUB's environment block names, and no boot may change that by itself.
GRUB_DEFAULT=saved
GRUB_SAVEDEFAULT=false
`

// SecureWayBack makes sure that a plain boot, and a boot after a failed one-shot, runs the kernel running: the default
// names it explicitly and reads back. It mends what it can; else it refuses, and leaves the configuration as it was.
func (d *Driver) SecureWayBack(ctx context.Context, running string) error {
	s, err := d.load()
	if err != nil {
		return refused(err, "mend GRUB: reinstall grub-pc, then run update-grub")
	}
	ps := s.problems(running)
	if err := firstByHand(ps); err != nil {
		return err
	}
	undo := func() error { return nil }
	if slices.ContainsFunc(ps, func(p problem) bool { return p.mend != bySettings }) {
		for _, p := range ps {
			d.log.WarnContext(ctx, "mending the boot loader's configuration", "what", p.what)
		}
		if undo, err = d.regenerate(ctx, s, running, ps); err != nil {
			return refused(err, "look at the disk of /boot, then retry the host")
		}
		if s, err = d.load(); err != nil {
			return errors.Join(refused(err, "run update-grub by hand"), undo())
		}
		if ps = s.problems(running); slices.ContainsFunc(ps, func(p problem) bool { return p.mend != bySettings }) {
			for i := range ps {
				ps[i].mend = byHand // mending it did not help
			}
			return errors.Join(firstByHand(ps), undo())
		}
	}
	if err := d.setDefault(s, running); err != nil {
		return errors.Join(refused(err, "look at "+envFile), undo())
	}
	return nil
}

// setDefault makes running's entry the default and takes back what else could decide, then reads everything back.
func (d *Driver) setDefault(s state, running string) error {
	e := stock(s.cfg.Menu, running)
	if e == nil {
		return fmt.Errorf("no menu entry names kernel %s", running)
	}
	if err := d.checkFiles(e); err != nil {
		return err
	}
	env, err := s.env.Set("saved_entry", e.Path)
	if err != nil {
		return err
	}
	env = env.Unset("prev_saved_entry")
	if env.Get("next_entry") == TrialID {
		env = env.Unset("next_entry")
	}
	if string(env.buf) != string(s.env.buf) || !d.hasEnv() {
		if err := d.writeEnv(env); err != nil {
			return err
		}
	}
	return d.verify(running)
}

func (d *Driver) hasEnv() bool {
	_, err := os.Lstat(d.path(envFile))
	return err == nil
}

// verify reads everything anew and says why a plain boot would not run the kernel.
func (d *Driver) verify(release string) error {
	s, err := d.load()
	if err != nil {
		return err
	}
	if ps := s.problems(release); len(ps) > 0 {
		return &fleet.Error{Op: "read back the default entry", Err: errors.New(ps[0].what), Next: ps[0].next}
	}
	if e := s.plainDefault(); e == nil || e.Release != release {
		return fmt.Errorf("a plain boot would not run %s", release)
	}
	return nil
}

// regenerate writes our two files and a new grub.cfg. undo puts everything back.
func (d *Driver) regenerate(ctx context.Context, s state, running string, ps []problem) (undo func() error, err error) {
	keep := []string{scriptFile, cfgFile}
	if slices.ContainsFunc(ps, func(p problem) bool { return p.mend == byConfig }) {
		keep = append(keep, dropIn)
	}
	before := map[string][]byte{}
	modes := map[string]fs.FileMode{}
	for _, f := range keep {
		b, err := os.ReadFile(d.path(f))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		fi, err := os.Stat(d.path(f))
		if err != nil {
			return nil, err
		}
		before[f], modes[f] = b, fi.Mode().Perm()
	}
	undo = func() error {
		d.log.WarnContext(ctx, "putting the boot loader's configuration back")
		var errs []error
		for _, f := range keep {
			if b, ok := before[f]; ok {
				errs = append(errs, durable.Write(d.path(f), b, modes[f]))
			} else {
				errs = append(errs, durable.Remove(d.path(f)))
			}
		}
		return errors.Join(append(errs, d.settleBoot())...)
	}
	// The default first: between a grub.cfg that honours it and one that names a kernel there must be no moment.
	if e := stock(s.cfg.Menu, running); e != nil {
		env, err := s.env.Set("saved_entry", e.Path)
		if err == nil {
			err = d.writeEnv(env)
		}
		if err != nil {
			return nil, err
		}
	}
	err = durable.Write(d.path(scriptFile), []byte(trialScript), 0o755)
	if err == nil && slices.Contains(keep, dropIn) {
		err = durable.Write(d.path(dropIn), []byte(dropInText), 0o644)
	}
	if err == nil {
		err = d.updateGrub(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	return undo, nil
}

func firstByHand(ps []problem) error {
	for _, p := range ps {
		if p.mend == byHand {
			return refused(errors.New(p.what), p.next)
		}
	}
	return nil
}

func refused(err error, next string) error {
	return &fleet.Error{Op: "secure the way back", Err: err, Next: fleet.NextOf(err, next)}
}
