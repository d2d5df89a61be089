package lab

import (
	"embed"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// guestFiles is copied over the guest's root.
//
//go:embed all:guest
var guestFiles embed.FS

// enabledUnits of the lab itself and of Debian.
var enabledUnits = []string{
	"kernwave-lab-marker.service", "kernwave-lab-exec.service", "kernwave-lab-payload.service", "systemd-networkd.service",
}

// maskedUnits brought a boot under emulation from 37 s to 17 s. None of them matters to what the lab tests; logind is
// not among them, because without it `systemctl reboot` complains.
var maskedUnits = []string{
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer",
	"e2scrub_reap.service", "grub-common.service", "kmod-static-nodes.service", "ldconfig.service",
	"modprobe@configfs.service", "modprobe@dm_mod.service", "modprobe@drm.service", "modprobe@efi_pstore.service",
	"modprobe@fuse.service", "modprobe@loop.service",
	"dev-hugepages.mount", "dev-mqueue.mount", "sys-fs-fuse-connections.mount", "sys-kernel-debug.mount",
	"sys-kernel-tracing.mount", "proc-sys-fs-binfmt_misc.automount",
	"getty@tty1.service", "serial-getty@ttyS0.service", "qemu-guest-agent.service",
	"systemd-binfmt.service", "systemd-boot-update.service", "systemd-firstboot.service", "systemd-hwdb-update.service",
	"systemd-journal-catalog-update.service", "systemd-machine-id-commit.service", "systemd-network-generator.service",
	"systemd-networkd-wait-online.service", "systemd-pcrphase.service", "systemd-pcrphase-initrd.service",
	"systemd-pcrphase-sysinit.service", "systemd-timesyncd.service", "systemd-update-utmp.service",
	"systemd-update-utmp-runlevel.service",
}

// guestHash changes when a file of the guest does.
func guestHash() string {
	var parts []string
	_ = fs.WalkDir(guestFiles, "guest", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			data, _ := guestFiles.ReadFile(path)
			parts = append(parts, path, string(data))
		}
		return nil
	})
	return hashOf(append(parts, strings.Join(enabledUnits, " "), strings.Join(maskedUnits, " "))...)
}

// copyGuestFiles copies the embedded tree into root. Programs under usr/lib are executable, the rest is not.
func copyGuestFiles(root string) error {
	return fs.WalkDir(guestFiles, "guest", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("guest", path)
		if err != nil {
			return err
		}
		to := filepath.Join(root, rel)
		if d.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		data, err := guestFiles.ReadFile(path)
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(rel, "usr/lib/kernwave-lab/") {
			mode = 0o755
		}
		return os.WriteFile(to, data, mode)
	})
}

// maskUnits links the units to /dev/null, as `systemctl mask` does.
func maskUnits(root string) error {
	for _, u := range maskedUnits {
		link := filepath.Join(root, "etc/systemd/system", u)
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return err
		}
		if err := os.Symlink("/dev/null", link); err != nil {
			return err
		}
	}
	return nil
}
