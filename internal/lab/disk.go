package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	diskSizeMB = 3072
	rootSizeMB = diskSizeMB - 4                        // the start of the disk and the second partition table at its end
	espStart   = rootStart + rootSizeMB<<20/sectorSize // on UEFI, whose disks are longer by the ESP
)

// diskIDs are chosen from the image's key, so that the same recipe makes the same boot entries.
type diskIDs struct{ FS, Partition, ESP string }

func newDiskIDs(key string) diskIDs {
	uuid := func(what string) string {
		h := hashOf(key, what) + hashOf(what, key)
		return fmt.Sprintf("%s-%s-4%s-8%s-%s", h[:8], h[8:12], h[12:15], h[15:18], h[18:30])
	}
	return diskIDs{FS: uuid("file system"), Partition: uuid("partition"), ESP: uuid("esp")}
}

// buildDisk makes a disk for each loader in tmp from root.tar and a kernel: partitions, file system, boot loader. Everything is done
// on plain files; nothing is mounted but a /proc that only the chrooted commands see.
func buildDisk(ctx context.Context, rootTar string, base Kernel, ids diskIDs, tmp string) error {
	root := filepath.Join(tmp, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if _, err := run(ctx, exec.Command("tar", "-C", root, "--numeric-owner", "--xattrs", "-xpf", rootTar)); err != nil {
		return err
	}
	if err := fillRoot(ctx, root, base, ids); err != nil {
		return err
	}
	for from, to := range map[string]string{
		"usr/bin/busybox":              "busybox",
		"boot/vmlinuz-" + base.Release: "vmlinuz",
	} {
		if err := copyFile(filepath.Join(root, from), filepath.Join(tmp, to), 0o755); err != nil {
			return err
		}
	}
	for _, l := range Loaders() { // each goes on with what the one before made of the tree
		if err := buildVariant(ctx, root, l, base, ids, tmp); err != nil {
			return fmt.Errorf("disk of %s: %w", l, err)
		}
	}
	return os.RemoveAll(root)
}

// buildVariant makes the disk of one loader's hosts.
func buildVariant(ctx context.Context, root string, l Loader, base Kernel, ids diskIDs, tmp string) error {
	esp := filepath.Join(tmp, "esp-"+string(l))
	if err := os.Mkdir(esp, 0o755); err != nil {
		return err
	}
	if err := adjustRoot(root, esp, l, base, ids); err != nil {
		return err
	}
	raw := filepath.Join(tmp, "disk.raw")
	if err := partition(ctx, raw, l, ids); err != nil {
		return err
	}
	if _, err := run(ctx, exec.Command(tool("mke2fs"), "-q", "-t", "ext4", "-L", "root", "-U", ids.FS,
		"-O", "^metadata_csum_seed,^orphan_file", // GRUB of this suite may not know them
		"-E", fmt.Sprintf("offset=%d,lazy_itable_init=1", rootStart*sectorSize), "-d", root, raw, fmt.Sprintf("%dM", rootSizeMB))); err != nil {
		return err
	}
	if l.uefi() {
		if err := writeESP(ctx, raw, esp, ids); err != nil {
			return err
		}
	} else {
		grub := filepath.Join(root, "boot/grub/i386-pc")
		if err := installGRUB(raw, filepath.Join(grub, "boot.img"), filepath.Join(grub, "core.img")); err != nil {
			return fmt.Errorf("install GRUB: %w", err)
		}
	}
	if _, err := run(ctx, exec.Command(tool("qemu-img"), "convert", "-O", "qcow2", raw, filepath.Join(tmp, imageFile(l)))); err != nil {
		return err
	}
	return errors.Join(os.Remove(raw), os.RemoveAll(esp))
}

func partition(ctx context.Context, raw string, l Loader, ids diskIDs) error {
	size := int64(diskSizeMB)
	table := fmt.Sprintf("label: gpt\n"+
		"start=%d, size=%d, type=21686148-6449-6E6F-744E-656564454649, name=grub\n"+
		"start=%d, size=%d, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709, name=root, uuid=%s\n",
		biosBootStart, biosBootSize, rootStart, rootSizeMB<<20/sectorSize, ids.Partition)
	if l.uefi() {
		size += espSizeMB
		table += fmt.Sprintf("start=%d, size=%d, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name=esp, uuid=%s\n", espStart, espSizeMB<<20/sectorSize, ids.ESP)
	}
	f, err := os.Create(raw)
	if err != nil {
		return err
	}
	if err := f.Truncate(size << 20); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	cmd := exec.Command(tool("sfdisk"), "-q", raw)
	cmd.Stdin = strings.NewReader(table)
	_, err = run(ctx, cmd)
	return err
}

// fillRoot configures the guest and installs its first kernel as its own package manager would.
func fillRoot(ctx context.Context, root string, base Kernel, ids diskIDs) error {
	if err := copyGuestFiles(root); err != nil {
		return err
	}
	if err := maskUnits(root); err != nil {
		return err
	}
	for path, text := range map[string]string{
		"etc/apt/sources.list": "deb [trusted=yes] http://" + GuestAddr + "/ ./\n",
		"etc/apt/apt.conf.d/90lab": "APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n" +
			"Acquire::PDiffs \"false\";\n",
		"etc/fstab":      "# root comes from the kernel command line, read-write\n",
		"etc/hostname":   "lab\n",
		"etc/hosts":      "127.0.0.1 localhost\n" + GuestAddr + " " + GuestName + "\n",
		"etc/machine-id": "", // each host draws its own; \"uninitialized\" would also reset every unit to its preset
	} {
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o644); err != nil {
			return err
		}
	}
	// The guest has no initramfs, and a repacked kernel brings its own: nothing may write one over it.
	for _, hook := range []string{"etc/kernel/postinst.d/initramfs-tools", "etc/kernel/postrm.d/initramfs-tools"} {
		if err := os.Chmod(filepath.Join(root, hook), 0o644); err != nil {
			return err
		}
	}
	if err := copyFile(base.Path, filepath.Join(root, "kernel.deb"), 0o644); err != nil {
		return err
	}
	cmd := jailed(exec.Command("/bin/sh", "-e", "-c", installInChroot, "install", ids.FS, ids.Partition, strings.Join(enabledUnits, " ")))
	cmd.SysProcAttr.Chroot = root
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "HOME=/root"}
	if _, err := run(ctx, cmd); err != nil {
		return fmt.Errorf("install kernel %s in the image: %w", base.Release, err)
	}
	return nil
}

// installInChroot answers for grub-probe, which cannot see through a folder to the disk that it will be on. In the
// guest, Debian's own grub-probe works and is back in its place.
const installInChroot = `
mount -t proc proc /proc
mv /usr/sbin/grub-probe /usr/sbin/grub-probe.debian
cat >/usr/sbin/grub-probe <<PROBE
#!/bin/sh
case "\$*" in
*target=device*) echo /dev/nvme0n1p2 ;;
*target=fs_uuid*) echo $1 ;;
*target=partuuid*) echo $2 ;;
*target=fs*) echo ext2 ;;
*target=partmap*) echo gpt ;;
*target=compatibility_hint*) echo hd0,gpt2 ;;
*target=disk*) echo /dev/nvme0n1 ;;
esac
PROBE
chmod 755 /usr/sbin/grub-probe
mkdir -p /boot/grub/i386-pc
cp /usr/lib/grub/i386-pc/*.mod /usr/lib/grub/i386-pc/*.lst /usr/lib/grub/i386-pc/boot.img /boot/grub/i386-pc/
grub-mkimage -O i386-pc -p '(,gpt2)/boot/grub' -o /boot/grub/i386-pc/core.img \
	biosdisk part_gpt ext2 linux normal loadenv serial terminal search search_fs_uuid search_label gzio test echo
mkdir -p /boot/grub/x86_64-efi
cp /usr/lib/grub/x86_64-efi/*.mod /usr/lib/grub/x86_64-efi/*.lst /boot/grub/x86_64-efi/
grub-mkimage -O x86_64-efi -p /EFI/debian -o /boot/grub/core.efi part_gpt fat ext2 normal configfile search search_fs_uuid
grub-editenv /boot/grub/grubenv create
dpkg -i /kernel.deb
rm /kernel.deb
update-grub
mv /usr/sbin/grub-probe.debian /usr/sbin/grub-probe
systemctl enable $3
apt-get clean
rm -rf /var/lib/apt/lists/*
umount /proc
`
