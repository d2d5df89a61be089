package systemdboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/command"
	"github.com/kernwave/kernwave/internal/linux/durable"
	"github.com/kernwave/kernwave/internal/linux/efivar"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// Config is where a host's files are.
type Config struct {
	// Root is the folder that everything is under. Empty means /. Tests set it.
	Root string
}

// Driver changes what systemd-boot boots next. Its methods are not safe for concurrent use: a host has one boot path.
type Driver struct {
	root string
	run  command.Runner
	log  *slog.Logger
	vars efivar.Variables
	// free says how many bytes are free where a folder is. Tests replace it.
	free func(dir string) (uint64, error)
	// before is called before each write that a power cut could come before. Tests cut there.
	before func(what string)
}

// New returns a driver.
func New(cfg Config, run command.Runner, log *slog.Logger) *Driver {
	if cfg.Root == "" {
		cfg.Root = "/"
	}
	return &Driver{root: cfg.Root, run: run, log: log, vars: efivar.New(cfg.Root), free: free, before: func(string) {}}
}

// Name is the loader's word in a host's facts.
func (d *Driver) Name() string { return "systemd-boot" }

// installTimeout is for kernel-install, which copies a kernel and its initrd to a slow disk.
const installTimeout = 10 * time.Minute

// bootMargin is left free on the ESP beyond what is counted: for the trial's entry and for what hooks write.
const bootMargin = 8 << 20

// Present says whether systemd-boot booted the host, or has its files where it would be looked for.
func (d *Driver) Present() bool {
	if strings.HasPrefix(efivar.BootedBy(d.root), "systemd-boot") {
		return true
	}
	return slices.ContainsFunc(mountPoints, func(p string) bool {
		_, err := os.Stat(filepath.Join(d.root, p, loaderConf))
		return err == nil
	})
}

// Facts describes the boot loader. A host whose systemd-boot cannot be read has OneShotUnknown and the reason.
func (d *Driver) Facts() fleet.Boot {
	b := fleet.Boot{Loader: d.Name()}
	s, err := d.load()
	if err != nil {
		b.OneShotWhy = err.Error()
		if next := fleet.NextOf(err, ""); next != "" {
			b.OneShotWhy += " (" + next + ")" // whoever reads this sees nothing else
		}
		return b
	}
	b.OneShot, b.OneShotWhy = s.canForget, s.forgetWhy
	if e := s.plainDefault(); e != nil {
		b.Default = e.Release
	}
	for _, e := range s.entries {
		if e == s.stock(e.Release) && d.filesThere(e) {
			b.Installed = append(b.Installed, e.Release)
		}
	}
	slices.Sort(b.Installed)
	return b
}

// Problems lists what stands in the way of a safe trial, beside the kernel that runs.
func (d *Driver) Problems(running string) ([]loader.Problem, error) {
	s, err := d.load()
	if err != nil {
		return nil, err
	}
	var ps []loader.Problem
	for _, p := range s.problems(running) {
		ps = append(ps, loader.Problem{What: p.what, Next: p.next, Mends: p.mend != byHand})
	}
	return ps, nil
}

// HasEntry says whether release has an entry of its own, whose files are there.
func (d *Driver) HasEntry(release string) (bool, error) {
	s, err := d.load()
	if err != nil {
		return false, err
	}
	e := s.stock(release)
	return e != nil && d.filesThere(e), nil
}

// CanInstall refuses what kernel-install would only find out halfway: no room for another kernel, beside running, on
// the partition that the loader reads.
func (d *Driver) CanInstall(release, running string) error {
	refuse := func(err error, next string) error {
		return &fleet.Error{Op: "install kernel " + release, Err: err, Next: next}
	}
	s, err := d.load()
	if err != nil {
		return err
	}
	p := s.esp
	for _, q := range s.parts {
		if q.Extended {
			p = q
		}
	}
	if p.ReadOnly {
		return refuse(fmt.Errorf("%s is mounted read-only", p.Point), "run: mount -o remount,rw "+p.Point)
	}
	if e := s.stock(release); e != nil && d.filesThere(e) {
		return nil
	}
	need := uint64(bootMargin)
	if e := s.stock(running); e != nil { // the best guess at what the new one takes
		for _, f := range append([]string{e.kernel()}, e.initrds()...) {
			if fi, err := os.Stat(d.local(e.Part, f)); err == nil {
				need += uint64(fi.Size())
			}
		}
	}
	have, err := d.free(filepath.Join(d.root, p.Point))
	if err != nil {
		return err
	}
	if have < need {
		return refuse(fmt.Errorf("%s is too small: about %d MiB are needed, %d MiB are free", p.Point, (need+1<<20-1)>>20, have>>20),
			"remove kernels that are not used any more (apt-get autoremove --purge), then retry the host")
	}
	return nil
}

// EnsureEntry makes the entry of release where it has none, or one whose files are not what was installed, and puts all
// of it on the disk.
func (d *Driver) EnsureEntry(ctx context.Context, release string) error {
	s, err := d.load()
	if err != nil {
		return err
	}
	if e := s.stock(release); e == nil || d.sound(e) != nil {
		if err := d.kernelInstall(ctx, release); err != nil {
			return err
		}
		if s, err = d.load(); err != nil {
			return err
		}
	}
	e := s.stock(release)
	if e == nil {
		return &fleet.Error{
			Op: "find the boot entry of " + release, Err: fmt.Errorf("kernel-install made none that boots it%s", s.hiddenWhy(release)),
			Next: "run: kernel-install inspect; its layout must be bls, and its boot root where the ESP is mounted",
		}
	}
	if err := d.sound(e); err != nil {
		return err
	}
	if err := d.stripTrial(ctx, e); err != nil {
		return err
	}
	return settle(filepath.Join(d.root, e.Part.Point))
}

// sound says what is wrong with an entry's files.
func (d *Driver) sound(e *Entry) error {
	if err := d.checkFiles(e); err != nil {
		return err
	}
	if err := d.sameAsInstalled(e); err != nil {
		return &fleet.Error{Op: "check the files of kernel " + e.Release, Err: err, Next: "run: kernel-install add " + e.Release + " /boot/vmlinuz-" + e.Release}
	}
	return nil
}

func (d *Driver) kernelInstall(ctx context.Context, release string) error {
	args := []string{"add", release, "/boot/vmlinuz-" + release}
	if initrd := "/boot/initrd.img-" + release; d.exists(initrd) {
		args = append(args, initrd)
	}
	if _, err := d.run.Run(ctx, command.Cmd{Name: "kernel-install", Args: args, Timeout: installTimeout, Finish: true, Both: true}); err != nil {
		return &fleet.Error{Op: "make a boot entry for " + release, Err: err, Next: "run kernel-install --verbose by hand and mend what it says"}
	}
	return nil
}

func (d *Driver) exists(path string) bool {
	_, err := os.Stat(filepath.Join(d.root, path))
	return err == nil
}

// stripTrial takes a trial's words off an entry's command line, where kernel-install copied them from the running one.
func (d *Driver) stripTrial(ctx context.Context, e *Entry) error {
	options, has := loader.StripTrial(e.Lines.options())
	if !has {
		return nil
	}
	d.log.WarnContext(ctx, "taking a trial's words off a boot entry", "entry", e.ID)
	if err := d.writeEntry(e.Part, e.ID, e.Lines.withOptions(options).Bytes()); err != nil {
		return fmt.Errorf("take a trial's words off %s: %w", e.ID, err)
	}
	return nil
}

// writeEntry replaces an entry whole: the new content is on the disk before its name is, and the name of an entry that
// is there is turned to the new content by one sector.
func (d *Driver) writeEntry(p *Partition, id string, content []byte) error {
	d.before("write " + id)
	if err := durable.Write(d.local(p, entriesDir+"/"+id), content, 0o600); err != nil {
		return err
	}
	return settle(filepath.Join(d.root, p.Point))
}

func (d *Driver) removeEntry(p *Partition, id string) error {
	path := d.local(p, entriesDir+"/"+id)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	d.before("remove " + id)
	if err := durable.Remove(path); err != nil {
		return err
	}
	return settle(filepath.Join(d.root, p.Point))
}

// set writes a variable of the loader.
func (d *Driver) set(name, text string) error {
	d.before("set " + name)
	return d.vars.Set(name, text)
}
