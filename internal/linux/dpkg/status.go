package dpkg

import (
	"context"
	"fmt"
	"strings"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/command"
)

// installed is one package as dpkg lists it.
type installed struct {
	Name, Version, Arch string
	State               string // installed, unpacked, half-configured, half-installed, config-files, triggers-…
	Reinstall           bool   // dpkg wants it installed anew
	Provides            []relation
}

// broken says whether dpkg stopped halfway with it.
func (p installed) broken() bool {
	switch p.State {
	case "half-installed", "unpacked", "half-configured":
		return true
	}
	return p.Reinstall
}

// usable says whether other packages' dependencies can count on it. Pending triggers do no harm.
func (p installed) usable() bool {
	return p.State == "installed" || strings.HasPrefix(p.State, "triggers-")
}

// status is everything that dpkg lists.
type status []installed

const statusFormat = `${Package}\t${Version}\t${Architecture}\t${db:Status-Status}\t${db:Status-Eflag}\t${Provides}\n`

// packages asks dpkg-query. dpkg --audit is not asked: it also finds fault with packages that only lack checksums.
func (d *Driver) packages(ctx context.Context) (status, error) {
	out, err := d.run.Run(ctx, command.Cmd{Name: "dpkg-query", Args: d.args("--show", "--showformat="+statusFormat)})
	if err != nil {
		return nil, fmt.Errorf("list the installed packages: %w", err)
	}
	return parseStatus(out)
}

func parseStatus(out string) (status, error) {
	var s status
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 6 || f[0] == "" {
			return nil, fmt.Errorf("a line of dpkg-query that is none: %.80q", line)
		}
		provides, err := parseRelations(f[5])
		if err != nil {
			provides = nil // some third party's mistake; nothing is provided then
		}
		p := installed{Name: f[0], Version: f[1], Arch: f[2], State: f[3], Reinstall: f[4] == "reinstreq"}
		for _, alternatives := range provides {
			p.Provides = append(p.Provides, alternatives...)
		}
		s = append(s, p)
	}
	return s, nil
}

// find returns a package that is there at all. Packages of another architecture with the name are other ones.
func (s status) find(name, arch string) (installed, bool) {
	for _, p := range s {
		if p.Name == name && (p.Arch == arch || p.Arch == "all" || arch == "all") && p.State != "not-installed" {
			return p, true
		}
	}
	return installed{}, false
}

// has says whether all packages of k are installed and configured, in exactly its versions.
func (s status) has(k fleet.Kernel) bool {
	for _, want := range k.Packages {
		if p, ok := s.find(want.Name, want.Arch); !ok || !p.usable() || p.Reinstall || p.Version != want.Version {
			return false
		}
	}
	return len(k.Packages) > 0
}

// brokenBut lists what dpkg has stopped halfway with, apart from packages of ks: of the kernel to install, which Install
// takes up again, and of one that was left halfway, which it takes off.
func (s status) brokenBut(ks ...fleet.Kernel) []string {
	var names []string
	for _, p := range s {
		own := false
		for _, k := range ks {
			for _, q := range k.Packages {
				own = own || q.Name == p.Name && q.Arch == p.Arch
			}
		}
		if p.broken() && !own {
			state := p.State
			if p.Reinstall {
				state += ", must be reinstalled"
			}
			names = append(names, p.Name+" ("+state+")")
		}
	}
	return names
}
