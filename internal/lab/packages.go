package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/kernwave/kernwave/fleet"
)

// Packages lists the Debian packages that the lab needs on the build machine, beyond what every Debian has. Install
// them without recommended packages.
func Packages() []string {
	seen := map[string]bool{}
	var names []string
	for _, t := range tools {
		if !seen[t.pkg] {
			seen[t.pkg] = true
			names = append(names, t.pkg)
		}
	}
	return names
}

// tools are the programs that the lab starts, each with the package that has it.
var tools = []struct{ program, pkg string }{
	{"qemu-system-x86_64", "qemu-system-x86"},
	{"qemu-img", "qemu-utils"},
	{"/usr/share/seabios/bios-256k.bin", "seabios"},
	{ovmfCode, "ovmf"},
	{"mkfs.vfat", "dosfstools"},
	{"mcopy", "mtools"},
	{"mmdebstrap", "mmdebstrap"},
	{"/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"},
	{"sfdisk", "fdisk"},
	{"mke2fs", "e2fsprogs"},
	{"dpkg-deb", "dpkg"},
	{"apt-get", "apt"},
	{"socat", "socat"},
	{"tar", "tar"},
	{"zstd", "zstd"},
}

// checkTools names every missing package at once.
func checkTools() error {
	var missing []string
	for _, t := range tools {
		if !haveTool(t.program) {
			missing = append(missing, t.pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &fleet.Error{
		Op:   "check tools",
		Err:  fmt.Errorf("missing packages: %s", strings.Join(missing, ", ")),
		Next: "apt-get install --no-install-recommends " + strings.Join(missing, " "),
	}
}

func haveTool(program string) bool {
	if strings.HasPrefix(program, "/") {
		_, err := os.Stat(program)
		return err == nil
	}
	if _, err := exec.LookPath(program); !errors.Is(err, exec.ErrNotFound) {
		return err == nil
	}
	_, err := os.Stat("/usr/sbin/" + program) // a user's PATH often lacks it
	return err == nil
}

// tool finds a program that checkTools has seen.
func tool(program string) string {
	if p, err := exec.LookPath(program); err == nil {
		return p
	}
	return "/usr/sbin/" + program
}
