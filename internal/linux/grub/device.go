package grub

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// writable lists the file systems on which GRUB can overwrite a file's blocks: plain ones, whose blocks neither move
// nor carry checksums. Everything that is not here is refused.
var writable = map[string]bool{"ext2": true, "ext3": true, "ext4": true, "xfs": true, "vfat": true}

// notWritable says why for those that people use.
var notWritable = map[string]string{
	"btrfs":   "btrfs checksums and moves blocks, so that GRUB cannot write its environment block there (and this driver does not use env_block)",
	"zfs":     "GRUB cannot write on ZFS",
	"overlay": "an overlay is not where GRUB reads at boot",
}

// plainDisks are the drivers' names of disks that GRUB reads and writes through the firmware.
var plainDisks = []string{"sd", "vd", "xvd", "nvme", "mmcblk", "hd"}

// place is where a folder's files are.
type place struct {
	FS       string // type of the file system
	ReadOnly bool
	Device   string // the kernel's name of the device: nvme0n1p3
	// Stacked is why the device is not a plain disk or a partition of one; empty: it is.
	Stacked string
	// UUID of the file system, where udev knows it.
	UUID string
}

// placeOf finds the file system and the device below the folder dir (an absolute path inside root).
func placeOf(root, dir string) (place, error) {
	fi, err := os.Lstat(filepath.Join(root, dir))
	if err != nil {
		return place{}, err
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		return place{}, fmt.Errorf("%s is a symbolic link", dir)
	}
	m, err := loader.MountOf(root, dir)
	if err != nil {
		return place{}, err
	}
	p := place{FS: m.FS, ReadOnly: m.ReadOnly}
	if strings.HasPrefix(m.Device, "0:") {
		p.Stacked = "the file system (" + m.FS + ") is not on a block device of its own"
		return p, nil
	}
	sys, err := filepath.EvalSymlinks(filepath.Join(root, "sys/dev/block", m.Device))
	if err != nil {
		return place{}, fmt.Errorf("find block device %s: %w", m.Device, err)
	}
	p.Device = filepath.Base(sys)
	p.UUID = uuidOf(root, p.Device)
	p.Stacked = stackedWhy(sys)
	return p, nil
}

// stackedWhy looks at a device's folder in /sys.
func stackedWhy(sys string) string {
	name := filepath.Base(sys)
	if uuid, err := os.ReadFile(filepath.Join(sys, "dm/uuid")); err == nil {
		kind, _, _ := strings.Cut(strings.TrimSpace(string(uuid)), "-")
		return "it is on a device-mapper volume (" + kind + "), where GRUB cannot write"
	}
	if _, err := os.Stat(filepath.Join(sys, "md")); err == nil || strings.HasPrefix(name, "md") {
		return "it is on software RAID, where GRUB cannot write"
	}
	if below, err := os.ReadDir(filepath.Join(sys, "slaves")); err == nil && len(below) > 0 {
		return "its device " + name + " is made of other devices"
	}
	disk := name
	if _, err := os.Stat(filepath.Join(sys, "partition")); err == nil {
		disk = filepath.Base(filepath.Dir(sys))
	}
	for _, prefix := range plainDisks {
		if strings.HasPrefix(disk, prefix) {
			return ""
		}
	}
	return "its device " + disk + " is of a kind that this driver does not know"
}

// uuidOf asks udev's links backwards.
func uuidOf(root, device string) string {
	dir := filepath.Join(root, "dev/disk/by-uuid")
	links, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, l := range links {
		if to, err := os.Readlink(filepath.Join(dir, l.Name())); err == nil && filepath.Base(to) == device {
			return l.Name()
		}
	}
	return ""
}

// oneShotByPlace is the static check: can GRUB, at boot, clear next_entry on this device?
func oneShotByPlace(p place) (fleet.OneShot, string) {
	switch {
	case !writable[p.FS]:
		why := notWritable[p.FS]
		if why == "" {
			why = "it is not known whether GRUB can write on " + p.FS
		}
		return fleet.OneShotImpossible, "/boot/grub: " + why
	case p.Stacked != "":
		return fleet.OneShotImpossible, "/boot/grub: " + p.Stacked
	}
	return fleet.OneShotAssumed, "/boot/grub is on " + p.FS + " on " + p.Device + ", a plain disk: GRUB can write there"
}
