package grub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/command"
	"github.com/kernwave/kernwave/internal/linux/durable"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// Config is where a host's files are.
type Config struct {
	// Root is the folder that everything is under. Empty means /. Tests set it.
	Root string
}

// Driver changes what GRUB boots next. Its methods are not safe for concurrent use: a host has one boot path.
type Driver struct {
	root string
	run  command.Runner
	log  *slog.Logger
	// settle puts a folder's file system where GRUB sees it. Tests over folders that are no file systems replace it.
	settle func(dir string) error
}

// New returns a driver and ends a freeze that an earlier one did not live to end.
func New(cfg Config, run command.Runner, log *slog.Logger) (*Driver, error) {
	if cfg.Root == "" {
		cfg.Root = "/"
	}
	d := &Driver{root: cfg.Root, run: run, log: log}
	mark := d.path("/run/kernwave/frozen")
	d.settle = func(dir string) error { return settle(dir, mark) }
	if err := thawLeftover(mark); err != nil {
		return nil, err
	}
	return d, nil
}

// Name is the loader's word in a host's facts.
func (d *Driver) Name() string { return "grub" }

const (
	grubDir     = "/boot/grub"
	cfgFile     = grubDir + "/grub.cfg"
	envFile     = grubDir + "/grubenv"
	trialPath   = grubDir + "/" + trialFile
	dropIn      = "/etc/default/grub.d/zz-kernwave.cfg"
	scriptFile  = "/etc/grub.d/42_kernwave"
	oneShotFile = "/var/lib/kernwave/one-shot.json"
)

// updateTimeout is for update-grub, which takes 14 s on an emulated machine with three kernels and probes every disk
// where os-prober is on.
const updateTimeout = 10 * time.Minute

func (d *Driver) path(p string) string { return filepath.Join(d.root, p) }

// Present says whether the host has GRUB's configuration.
func (d *Driver) Present() bool {
	_, err := os.Stat(d.path(cfgFile))
	return err == nil
}

// load reads everything anew.
func (d *Driver) load() (state, error) {
	var s state
	src, err := os.ReadFile(d.path(cfgFile))
	if err != nil {
		return s, err
	}
	if s.cfg, err = parseConfig(string(src)); err != nil {
		return s, err
	}
	if s.env, err = d.readEnv(); err != nil {
		return s, err
	}
	p, err := placeOf(d.root, grubDir)
	if err != nil {
		s.oneShot, s.oneShotWhy = fleet.OneShotImpossible, "cannot tell where /boot/grub is: "+err.Error()
		return s, nil
	}
	s.readOnly = p.ReadOnly
	s.strayCore = d.strayCore(p.UUID)
	s.oneShot, s.oneShotWhy = d.rememberedOneShot(p)
	return s, nil
}

// readEnv reads the block; a host without one has an empty one.
func (d *Driver) readEnv() (Env, error) {
	b, err := readDirect(d.path(envFile))
	if errors.Is(err, fs.ErrNotExist) {
		return NewEnv(), nil
	}
	if err != nil {
		return Env{}, err
	}
	e, err := ParseEnv(b)
	if err != nil {
		return Env{}, &fleet.Error{Op: "read " + envFile, Err: err, Next: "run: grub-editenv " + envFile + " create; then grub-set-default"}
	}
	return e, nil
}

// writeEnv overwrites the block, or makes it where there is none, and reads it back from the disk.
func (d *Driver) writeEnv(e Env) error {
	path := d.path(envFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := durable.Write(path, NewEnv().Bytes(), 0o644); err != nil {
			return err
		}
	}
	if err := overwrite(path, e); err != nil {
		return fmt.Errorf("write %s: %w", envFile, err)
	}
	if err := d.settle(d.path(grubDir)); err != nil {
		return err
	}
	back, err := readDirect(path)
	if err != nil {
		return fmt.Errorf("read back %s: %w", envFile, err)
	}
	if string(back) != string(e.buf) {
		return fmt.Errorf("%s does not read back as it was written", envFile)
	}
	return nil
}

// Facts describes the boot loader. A host whose GRUB cannot be read has OneShotUnknown and the reason.
func (d *Driver) Facts() fleet.Boot {
	b := fleet.Boot{Loader: d.Name()}
	s, err := d.load()
	if err != nil {
		b.OneShotWhy = err.Error()
		return b
	}
	b.OneShot, b.OneShotWhy = s.oneShot, s.oneShotWhy
	if e := s.plainDefault(); e != nil {
		b.Default = e.Release
	}
	for _, r := range releases(s.cfg.Menu) {
		if d.filesThere(stock(s.cfg.Menu, r)) {
			b.Installed = append(b.Installed, r)
		}
	}
	return b
}

// CanInstall refuses nothing: GRUB reads kernels from /boot, where the packages put them.
func (d *Driver) CanInstall(string, string) error { return nil }

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

// HasEntry says whether release has a menu entry of its own, whose files are there.
func (d *Driver) HasEntry(release string) (bool, error) {
	s, err := d.load()
	if err != nil {
		return false, err
	}
	e := stock(s.cfg.Menu, release)
	return e != nil && d.filesThere(e), nil
}

// EnsureEntry makes a new menu where release has no entry, and puts the kernel's files where GRUB sees them.
func (d *Driver) EnsureEntry(ctx context.Context, release string) error {
	s, err := d.load()
	if err != nil {
		return err
	}
	if stock(s.cfg.Menu, release) == nil {
		if err := d.updateGrub(ctx); err != nil {
			return err
		}
		if s, err = d.load(); err != nil {
			return err
		}
	}
	e := stock(s.cfg.Menu, release)
	if e == nil {
		return &fleet.Error{Op: "find the menu entry of " + release, Err: errors.New("update-grub made none that names it"), Next: "look at /boot and /etc/grub.d/10_linux"}
	}
	if err := d.checkFiles(e); err != nil {
		return err
	}
	return d.settleBoot()
}

// settleBoot settles /boot/grub and, where that is another file system, /boot.
func (d *Driver) settleBoot() error {
	grub, err := os.Stat(d.path(grubDir))
	if err != nil {
		return err
	}
	boot, err := os.Stat(d.path("/boot"))
	if err != nil {
		return err
	}
	if deviceOf(grub) != deviceOf(boot) {
		if err := d.settle(d.path("/boot")); err != nil {
			return err
		}
	}
	return d.settle(d.path(grubDir))
}

func (d *Driver) updateGrub(ctx context.Context) error {
	if _, err := d.run.Run(ctx, command.Cmd{Name: "update-grub", Timeout: updateTimeout, Finish: true}); err != nil {
		return &fleet.Error{Op: "make a new grub.cfg", Err: err, Next: "run update-grub by hand and mend what it says"}
	}
	return d.settleBoot()
}
