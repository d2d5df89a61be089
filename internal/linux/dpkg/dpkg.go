// Package dpkg installs kernels on Debian and its relatives, beside the one
// that runs. It asks dpkg itself, reads no private files of it but the locks,
// and refuses beforehand what dpkg would only find out halfway: dpkg leaves a
// package without its dependencies unpacked, and a full /boot leaves no initrd.
//
//	d := dpkg.New(dpkg.Config{Root: "/"}, command.Exec{}, log)
//	err := d.CanInstall(ctx, kernel, files, running)
//	err = d.Install(ctx, kernel, files, running)
package dpkg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/command"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// Config is where a host's files are.
type Config struct {
	// Root is the folder that everything is under. Empty means /. dpkg itself is told of another one.
	Root string
	// LockWait is how long Install waits for someone else's apt or dpkg. Zero means 10 minutes: an unattended upgrade
	// of a large machine takes several.
	LockWait time.Duration
}

// Driver is safe for one caller at a time; dpkg's own lock keeps others out.
type Driver struct {
	root     string
	lockWait time.Duration
	run      command.Runner
	log      *slog.Logger
	space    func(path string) (volume, error)
}

// installTimeout is for one dpkg --install of a kernel: making an initrd on a busy emulated machine took 5 minutes.
const installTimeout = 30 * time.Minute

// New returns a driver.
func New(cfg Config, run command.Runner, log *slog.Logger) *Driver {
	if cfg.Root == "" {
		cfg.Root = "/"
	}
	if cfg.LockWait == 0 {
		cfg.LockWait = 10 * time.Minute
	}
	return &Driver{root: cfg.Root, lockWait: cfg.LockWait, run: run, log: log, space: volumeOf}
}

// Family is the OS family that the driver serves.
func (d *Driver) Family() string { return "debian" }

// Arch is dpkg's name of the machine: amd64, arm64.
func (d *Driver) Arch(ctx context.Context) (string, error) {
	out, err := d.run.Run(ctx, command.Cmd{Name: "dpkg", Args: []string{"--print-architecture"}})
	return strings.TrimSpace(out), err
}

func (d *Driver) path(p string) string { return filepath.Join(d.root, p) }

// args puts the root in front, where it is not the machine's own.
func (d *Driver) args(args ...string) []string {
	if d.root == "/" {
		return args
	}
	return append([]string{"--root=" + d.root}, args...)
}

// Install installs k's packages from files, which are in k.Packages' order. Installed and configured already: nothing
// is done, unless a power cut may have caught that installation halfway (see unfinished). dpkg runs to its end also when
// the agent is stopped; what fails is taken off again, unless the host had it before.
func (d *Driver) Install(ctx context.Context, k fleet.Kernel, files []string, running string) error {
	ps, err := d.packages(ctx)
	if err != nil {
		return err
	}
	if err := d.keepFromAutoremove(running, k.Release); err != nil {
		return err
	}
	if ps.has(k) && !d.unfinished(k) {
		d.log.InfoContext(ctx, "the kernel's packages are installed already", "kernel", k.ID)
		return nil
	}
	if k.Release == running {
		return installError(k, errOverwrites, nextOverwrites)
	}
	if err := d.waitUnlocked(ctx); err != nil {
		return installError(k, err, "let it finish, then retry the host")
	}
	if old := d.leftover(ps, k, running); len(old.Packages) > 0 {
		if err := d.takeOff(ctx, old, nil); err != nil {
			return installError(k, fmt.Errorf("a kernel was left half installed: %w", err), "run: dpkg --configure -a; apt-get -f install")
		}
	}
	if err := d.begin(k); err != nil {
		return installError(k, err, "make /var/lib/kernwave writable")
	}
	// --force-confold: nobody is there to answer. No --refuse-downgrade: a rollback may go to an older package of the name.
	_, err = d.run.Run(ctx, command.Cmd{
		Name: "dpkg", Args: append(d.args("--force-confold", "--install"), files...),
		Env:     []string{"DEBIAN_FRONTEND=noninteractive", "DEBIAN_PRIORITY=critical", "UCF_FORCE_CONFFOLD=1"},
		Timeout: installTimeout, Finish: true, Both: true,
	})
	if err != nil {
		next := "mend what dpkg says, then retry the host"
		return installError(k, errors.Join(err, d.takeOff(context.WithoutCancel(ctx), k, ps)), next)
	}
	now, err := d.packages(ctx)
	if err != nil {
		return err
	}
	if !now.has(k) {
		return installError(k, errors.New("dpkg ended well, but does not list the packages as installed"), "run: dpkg --audit")
	}
	if err := d.checkImage(k); err != nil {
		return installError(k, errors.Join(err, d.takeOff(context.WithoutCancel(ctx), k, ps)), "build the kernel's package anew and add it with kernwave kernel add")
	}
	return d.finish()
}

// checkImage refuses a kernel whose file a boot loader would start in vain.
func (d *Driver) checkImage(k fleet.Kernel) error {
	image := "/boot/vmlinuz-" + k.Release
	if err := loader.CheckImage(d.path(image), k.Release); err != nil && !errors.Is(err, fs.ErrNotExist) { // its name is another one, on some architectures
		return fmt.Errorf("check %s: %w", image, err)
	}
	return nil
}

// takeOff removes what a failed installation left, of packages that the host did not have before.
func (d *Driver) takeOff(ctx context.Context, k fleet.Kernel, before status) error {
	now, err := d.packages(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, p := range k.Packages {
		if q, had := before.find(p.Name, p.Arch); had && !q.broken() {
			continue
		}
		if q, there := now.find(p.Name, p.Arch); there && q.State != "config-files" {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	d.log.WarnContext(ctx, "taking off a kernel that did not install", "kernel", k.ID, "packages", names)
	_, err = d.run.Run(ctx, command.Cmd{
		Name: "dpkg", Args: append(d.args("--force-depends", "--force-remove-reinstreq", "--purge"), names...),
		Env: []string{"DEBIAN_FRONTEND=noninteractive"}, Timeout: installTimeout, Finish: true, Both: true,
	})
	if err != nil {
		return fmt.Errorf("take it off again: %w", err)
	}
	return nil
}

func installError(k fleet.Kernel, err error, next string) error {
	return &fleet.Error{Op: "install kernel " + k.Release, Err: err, Next: next}
}
