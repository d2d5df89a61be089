package systemdboot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/durable"
	"github.com/kernwave/kernwave/internal/linux/efivar"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// SecureWayBack makes sure that a plain boot, and a boot after a failed one-shot, runs the kernel running: the default
// names its entry and reads back. It mends what it can; else it refuses.
//
// The default comes first, and each step after it leaves an entry that it names: at whatever write the power is cut, the
// next boot is of running.
func (d *Driver) SecureWayBack(ctx context.Context, running string) error {
	s, err := d.load()
	if err != nil {
		return refused(err, "run: kernwave-agent doctor")
	}
	ps := s.problems(running)
	if err := firstByHand(ps); err != nil {
		return err
	}
	if mended(ps, byInstall) {
		d.log.WarnContext(ctx, "mending the boot loader's entries", "what", ps[0].what)
		if err := d.EnsureEntry(ctx, running); err != nil {
			return refused(err, ps[0].next)
		}
		if s, err = d.load(); err != nil {
			return refused(err, "run: kernwave-agent doctor")
		}
		if ps = s.problems(running); mended(ps, byInstall) {
			return refused(errors.New(ps[0].what), ps[0].next)
		}
		if err := firstByHand(ps); err != nil {
			return err
		}
	}
	e := s.stock(running)
	if err := d.checkFiles(e); err != nil {
		return refused(err, "reinstall the kernel's package")
	}
	if err := d.setDefault(ctx, s, e, ps); err != nil {
		return refused(err, "run: kernwave-agent doctor")
	}
	return d.verify(running)
}

func (d *Driver) setDefault(ctx context.Context, s state, e *Entry, ps []problem) error {
	if !strings.EqualFold(s.byDefault, e.ID) {
		if err := d.set(efivar.Default, e.ID); err != nil {
			return err
		}
	}
	if s.oneShot != "" {
		if err := d.set(efivar.OneShot, ""); err != nil { // a trial of ours that was not used
			return err
		}
	}
	for _, p := range ps {
		if p.mend != bySettings {
			d.log.WarnContext(ctx, "mending the boot loader's configuration", "what", p.what)
		}
	}
	if mended(ps, byCmdline) {
		options, _ := loader.StripTrial(e.Lines.options())
		d.before("write " + cmdlineFile)
		if err := durable.Write(filepath.Join(d.root, cmdlineFile), []byte(options+"\n"), 0o644); err != nil {
			return err
		}
	}
	if err := d.stripTrial(ctx, e); err != nil {
		return err
	}
	if mended(ps, byBlessing) {
		return d.bless(e)
	}
	return nil
}

// bless takes the boot counter off an entry's name. A copy with the new name comes first, then the default, and the old
// name goes last.
func (d *Driver) bless(e *Entry) error {
	b, err := os.ReadFile(d.local(e.Part, entriesDir+"/"+e.ID))
	if err != nil {
		return err
	}
	if err := d.writeEntry(e.Part, e.base(), b); err != nil {
		return err
	}
	if err := d.set(efivar.Default, e.base()); err != nil {
		return err
	}
	return d.removeEntry(e.Part, e.ID)
}

// verify reads everything anew and says why a plain boot would not run the kernel.
func (d *Driver) verify(release string) error {
	s, err := d.load()
	if err != nil {
		return refused(err, "run: kernwave-agent doctor")
	}
	if ps := s.problems(release); len(ps) > 0 {
		return refused(fmt.Errorf("read back: %s", ps[0].what), ps[0].next)
	}
	if e := s.plainDefault(); e == nil || e.Release != release {
		return refused(fmt.Errorf("a plain boot would not run %s", release), "run: bootctl list")
	}
	return nil
}

func mended(ps []problem, by mending) bool {
	return slices.ContainsFunc(ps, func(p problem) bool { return p.mend == by })
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
