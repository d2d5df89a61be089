package lab

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

const espSizeMB = 160

// adjustRoot makes of the guest's tree, which boots with GRUB on BIOS, one that boots with another loader, and fills
// esp with what the ESP will hold.
func adjustRoot(root, esp string, l Loader, base Kernel, ids diskIDs) error {
	if !l.uefi() {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(root, "boot/efi"), 0o700); err != nil {
		return err
	}
	fstab := "# root comes from the kernel command line, read-write\nPARTUUID=" + ids.ESP + " /boot/efi vfat umask=0077 0 0\n"
	if err := os.WriteFile(filepath.Join(root, "etc/fstab"), []byte(fstab), 0o644); err != nil {
		return err
	}
	if l == GRUBOnUEFI {
		return adjustGRUB(root, esp, ids)
	}
	return adjustSystemdBoot(root, esp, base, ids)
}

// adjustGRUB does what grub-install does for UEFI: a core on the ESP that finds grub.cfg by the file system's UUID.
func adjustGRUB(root, esp string, ids diskIDs) error {
	if err := os.RemoveAll(filepath.Join(root, "boot/grub/i386-pc")); err != nil {
		return err
	}
	find := "search.fs_uuid " + ids.FS + " root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
	if err := putFile(filepath.Join(esp, "EFI/debian/grub.cfg"), find); err != nil {
		return err
	}
	// Where the firmware looks on a disk that it knows nothing of, as after grub-install --force-extra-removable.
	return moveFile(filepath.Join(root, "boot/grub/core.efi"), filepath.Join(esp, "EFI/BOOT/BOOTX64.EFI"))
}

// adjustSystemdBoot does what bootctl install and kernel-install do. There is no /etc/kernel/cmdline, as where Debian's
// package was installed by hand, and no default: the traps that the agent has to mend.
func adjustSystemdBoot(root, esp string, base Kernel, ids diskIDs) error {
	for _, gone := range []string{"boot/grub", "etc/kernel/postinst.d/zz-update-grub", "etc/kernel/postrm.d/zz-update-grub", "etc/default/grub", "etc/default/grub.d"} {
		if err := os.RemoveAll(filepath.Join(root, gone)); err != nil {
			return err
		}
	}
	// The kernel says its version on the console, for nobody else says what was loaded.
	options := "root=PARTUUID=" + ids.Partition + " rw console=ttyS0 rootfstype=ext4 mitigations=off audit=0 no_timer_check loglevel=6 systemd.show_status=false"
	dir := "/debian/" + base.Release
	for path, text := range map[string]string{
		"loader/loader.conf":  "timeout 0\nconsole-mode keep\n",
		"loader/entries.srel": "type1\n",
		"loader/entries/debian-" + base.Release + ".conf": "title      Debian GNU/Linux\nversion    " + base.Release + "\nsort-key   debian\n" +
			"options    " + options + "\nlinux      " + dir + "/linux\n",
	} {
		if err := putFile(filepath.Join(esp, path), text); err != nil {
			return err
		}
	}
	const program = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
	for from, to := range map[string]string{
		"boot/vmlinuz-" + base.Release: dir + "/linux",
		program:                        "EFI/systemd/systemd-bootx64.efi",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(esp, to)), 0o755); err != nil {
			return err
		}
		if err := copyFile(filepath.Join(root, from), filepath.Join(esp, to), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(esp, "EFI/BOOT"), 0o755); err != nil {
		return err
	}
	return copyFile(filepath.Join(root, program), filepath.Join(esp, "EFI/BOOT/BOOTX64.EFI"), 0o644)
}

func putFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func moveFile(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// writeESP makes the ESP's file system and puts it in its place on the disk, without mounting it: the build machine's
// kernel may know no VFAT.
func writeESP(ctx context.Context, raw, esp string, ids diskIDs) error {
	image := esp + ".img"
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(image)
	if err := f.Truncate(espSizeMB << 20); err != nil {
		return err
	}
	if _, err := run(ctx, exec.Command(tool("mkfs.vfat"), "-F", "32", "-s", "1", "-n", "ESP", "-i", ids.ESP[:8], image)); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(esp, "*"))
	if err != nil {
		return err
	}
	if _, err := run(ctx, exec.Command(tool("mcopy"), append(append([]string{"-s", "-Q", "-i", image}, names...), "::/")...)); err != nil {
		return err
	}
	disk, err := os.OpenFile(raw, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.NewOffsetWriter(disk, espStart*sectorSize), f); err != nil {
		disk.Close()
		return err
	}
	return disk.Close()
}
