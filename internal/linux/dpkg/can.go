package dpkg

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/command"
)

var errOverwrites = errors.New("it is the running kernel's release, in another version of its packages: installing it would overwrite the files that the host runs from")

const nextOverwrites = "use a kernel with a release of its own"

// CanInstall refuses, with the reason, what Install could not do now. It changes nothing.
func (d *Driver) CanInstall(ctx context.Context, k fleet.Kernel, files []string, running string) error {
	if len(files) != len(k.Packages) || len(files) == 0 {
		return installError(k, fmt.Errorf("%d files for %d packages", len(files), len(k.Packages)), "report this as a bug")
	}
	if err := d.unlocked(); err != nil {
		return installError(k, err, "let it finish, then retry the host")
	}
	ps, err := d.packages(ctx)
	if err != nil {
		return installError(k, err, "run: dpkg --audit")
	}
	if broken := ps.brokenBut(k, d.leftover(ps, k, running)); len(broken) > 0 {
		return installError(k, fmt.Errorf("dpkg stopped halfway with %s", strings.Join(broken, ", ")), "run: dpkg --configure -a; apt-get -f install")
	}
	if ps.has(k) && !d.unfinished(k) {
		return nil
	}
	if k.Release == running {
		return installError(k, errOverwrites, nextOverwrites)
	}
	as, err := d.checkArchives(ctx, k, files, running)
	if err != nil {
		return err
	}
	after := ps // as dpkg sees it once all are unpacked
	for _, a := range as {
		after = append(after, installed{Name: a.Name, Version: a.Version, Arch: a.Arch, State: "installed"})
	}
	for _, a := range as {
		if missing := after.missing(a.Needs); len(missing) > 0 {
			return installError(k, fmt.Errorf("%s needs %s", a.Name, strings.Join(missing, ", ")), "install what is missing on the host, or add its packages to the kernel")
		}
	}
	if err := d.simulate(ctx, files); err != nil {
		return installError(k, err, "mend what dpkg says on the host")
	}
	if err := d.roomFor(as, running); err != nil {
		return installError(k, err, "free space there, for example by removing kernels that are not used any more, then retry the host")
	}
	return nil
}

// checkArchives compares the files with what the kernel is said to be.
func (d *Driver) checkArchives(ctx context.Context, k fleet.Kernel, files []string, running string) ([]archive, error) {
	arch, err := d.Arch(ctx)
	if err != nil {
		return nil, installError(k, err, "look why dpkg does not run")
	}
	var as []archive
	ships := false
	for i, path := range files {
		want := k.Packages[i]
		a, err := d.read(ctx, path)
		if err != nil {
			return nil, installError(k, err, "add the kernel anew with kernwave kernel add")
		}
		switch {
		case a.Name != want.Name || a.Version != want.Version || a.Arch != want.Arch:
			err = fmt.Errorf("the file is %s %s %s, not %s %s %s", a.Name, a.Version, a.Arch, want.Name, want.Version, want.Arch)
		case a.Arch != arch && a.Arch != "all":
			err = fmt.Errorf("%s is for %s, the host is %s", a.Name, a.Arch, arch)
		}
		if err != nil {
			return nil, installError(k, err, "add the kernel anew with kernwave kernel add")
		}
		if f, ok := a.fileOf(running); ok {
			return nil, installError(k, fmt.Errorf("%s brings %s, which belongs to the running kernel", a.Name, f), nextOverwrites)
		}
		ships = ships || a.ships(k.Release)
		as = append(as, a)
	}
	if !ships {
		return nil, installError(k, fmt.Errorf("none of its packages brings /boot/vmlinuz-%s", k.Release), "correct the kernel's release with kernwave kernel add")
	}
	return as, nil
}

// removes is what dpkg says when a package would push others out.
var removes = regexp.MustCompile(`(?m)^dpkg: .*will (remove|deconfigure) .*$`)

// simulate has dpkg look for conflicts. It does not check dependencies then, nor unpack anything.
func (d *Driver) simulate(ctx context.Context, files []string) error {
	out, err := d.run.Run(ctx, command.Cmd{Name: "dpkg", Args: append(d.args("--no-act", "--force-confold", "--install"), files...), Both: true})
	if err != nil {
		return err
	}
	if line := removes.FindString(out); line != "" {
		return fmt.Errorf("installing it would take another package away: %s", strings.TrimPrefix(line, "dpkg: "))
	}
	return nil
}

// Healthy says why no kernel at all could be installed now.
func (d *Driver) Healthy(ctx context.Context) error {
	if err := d.unlocked(); err != nil {
		return err
	}
	ps, err := d.packages(ctx)
	if err != nil {
		return err
	}
	if broken := ps.brokenBut(); len(broken) > 0 {
		return fmt.Errorf("dpkg stopped halfway with %s", strings.Join(broken, ", "))
	}
	return nil
}
