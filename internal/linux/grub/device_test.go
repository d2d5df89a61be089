package grub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/fleet"
)

// tree makes a fake root: a path ending in / is a folder, a value beginning with -> is a link.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		} else if to, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestWhereGRUBCanClearAOneShotEntry(t *testing.T) {
	const rootfs = "20 1 259:3 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p3 rw\n21 20 0:5 / /proc rw - proc proc rw\n"
	nvme := map[string]string{
		"sys/dev/block/259:3": "->../../devices/pci0/nvme/nvme0/nvme0n1/nvme0n1p3",
		"sys/devices/pci0/nvme/nvme0/nvme0n1/nvme0n1p3/partition": "3\n",
	}
	dm := func(uuid string) map[string]string {
		return map[string]string{"sys/dev/block/254:0": "->../../devices/virtual/block/dm-0", "sys/devices/virtual/block/dm-0/dm/uuid": uuid + "\n"}
	}
	mountAt := func(dev, fs string) string {
		return rootfs + "30 20 " + dev + " / /boot rw - " + fs + " /dev/x rw\n"
	}
	for _, c := range []struct {
		name, mounts string
		sys          map[string]string
		want         fleet.OneShot
		why          string
	}{
		{"ext4 on a partition", rootfs, nvme, fleet.OneShotAssumed, "ext4 on nvme0n1p3"},
		{"a disk without partitions", mountAt("252:0", "xfs"), map[string]string{"sys/dev/block/252:0": "->../../devices/x/vda", "sys/devices/x/vda/size": "1"}, fleet.OneShotAssumed, "xfs on vda"},
		{"logical volume", mountAt("254:0", "ext4"), dm("LVM-abc"), fleet.OneShotImpossible, "device-mapper volume (LVM)"},
		{"encrypted", mountAt("254:0", "ext4"), dm("CRYPT-LUKS2-abc"), fleet.OneShotImpossible, "device-mapper volume (CRYPT)"},
		{"RAID", mountAt("9:0", "ext4"), map[string]string{"sys/dev/block/9:0": "->../../devices/virtual/block/md0", "sys/devices/virtual/block/md0/md/level": "raid1"}, fleet.OneShotImpossible, "software RAID"},
		{"partition of a RAID", mountAt("259:9", "ext4"), map[string]string{"sys/dev/block/259:9": "->../../devices/virtual/block/md0/md0p1", "sys/devices/virtual/block/md0/md0p1/partition": "1"}, fleet.OneShotImpossible, "software RAID"},
		{"bcache", mountAt("250:0", "ext4"), map[string]string{"sys/dev/block/250:0": "->../../devices/virtual/block/bcache0", "sys/devices/virtual/block/bcache0/slaves/sda/": ""}, fleet.OneShotImpossible, "made of other devices"},
		{"network disk", mountAt("43:0", "ext4"), map[string]string{"sys/dev/block/43:0": "->../../devices/virtual/block/nbd0", "sys/devices/virtual/block/nbd0/": ""}, fleet.OneShotImpossible, "does not know"},
		{"btrfs", mountAt("0:30", "btrfs"), nvme, fleet.OneShotImpossible, "btrfs"},
		{"zfs", mountAt("0:30", "zfs"), nvme, fleet.OneShotImpossible, "ZFS"},
		{"something new", mountAt("259:3", "bcachefs"), nvme, fleet.OneShotImpossible, "not known whether GRUB can write on bcachefs"},
		{"a later mount hides an earlier one", rootfs + "31 20 0:40 / /boot rw - tmpfs tmpfs rw\n", nvme, fleet.OneShotImpossible, "tmpfs"},
		{"a mount beside it does not", rootfs + "31 20 0:40 / /boot2 rw - tmpfs tmpfs rw\n", nvme, fleet.OneShotAssumed, "ext4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := map[string]string{"proc/self/mountinfo": c.mounts, "boot/grub/": ""}
			for k, v := range c.sys {
				files[k] = v
			}
			p, err := placeOf(tree(t, files), "/boot/grub")
			if err != nil {
				t.Fatal(err)
			}
			if got, why := oneShotByPlace(p); got != c.want || !strings.Contains(why, c.why) {
				t.Errorf("got %s (%s), want %s (%s)", got, why, c.want, c.why)
			}
		})
	}
}

func TestPlaceThatCannotBeFound(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no folder":       {"proc/self/mountinfo": ""},
		"a link":          {"proc/self/mountinfo": "", "boot/grub": "->/elsewhere"},
		"no mounts":       {"proc/self/mountinfo": "", "boot/grub/": ""},
		"garbage":         {"proc/self/mountinfo": "hello\n", "boot/grub/": ""},
		"unknown device":  {"proc/self/mountinfo": "1 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "boot/grub/": ""},
		"no mountinfo":    {"boot/grub/": ""},
		"short mountinfo": {"proc/self/mountinfo": "1 1 8:1 / / rw - ext4\n", "boot/grub/": ""},
	} {
		if p, err := placeOf(tree(t, files), "/boot/grub"); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
