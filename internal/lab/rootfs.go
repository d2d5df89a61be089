package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/kernwave/kernwave/fleet"
)

// guestPackages is what a guest consists of, beyond Debian's essential packages.
var guestPackages = []string{
	"systemd", "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "procps", "apt", "util-linux", "e2fsprogs",
	"grub-pc-bin", "grub-efi-amd64-bin", "grub2-common", "systemd-boot", "linux-base", "initramfs-tools", "busybox-static", "zstd",
	"qemu-guest-agent", "ca-certificates",
}

// notInGuest is left out of every package: nobody reads manuals in the lab, and unpacking them takes time.
var notInGuest = []string{"/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*"}

// bootstrap writes a Debian of the archive's suite to tmp/root.tar.
func bootstrap(ctx context.Context, a *archive, tmp string) error {
	network, err := a.network(ctx)
	if err != nil {
		return err
	}
	conf := filepath.Join(tmp, "network.conf")
	if err := os.WriteFile(conf, []byte(network), 0o644); err != nil {
		return err
	}
	args := []string{
		"--mode=root", "--variant=minbase", "--include=" + strings.Join(guestPackages, ","),
		"--aptopt=" + conf, `--aptopt=APT::Install-Recommends "false"`, `--aptopt=APT::Sandbox::User "root"`,
	}
	for _, p := range notInGuest {
		args = append(args, "--dpkgopt=path-exclude="+p)
	}
	args = append(args,
		"--customize-hook=rm -rf \"$1\"/etc/apt/sources.list.d/* \"$1\"/etc/apt/apt.conf.d/99mmdebstrap", // guests see the fleet's repository only
		a.suite, filepath.Join(tmp, "root.tar"), filepath.Join(a.dir, "sources.list"))
	cmd := jailed(exec.Command("mmdebstrap", args...))
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "TMPDIR="+tmp,
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	if _, err := run(ctx, cmd); err != nil {
		return &fleet.Error{Op: "bootstrap " + a.suite, Err: err, Next: "check that apt-get update works on this machine, and that there is 3 GB free in " + filepath.Dir(tmp)}
	}
	return nil
}
