package systemdboot

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// Types of partitions by their GPT type.
const (
	typeESP      = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	typeXBOOTLDR = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
)

// mountPoints are where the specification has the ESP and the extended boot loader partition, the better ones first.
var mountPoints = []string{"/efi", "/boot/efi", "/boot"}

// Partition is one that the loader reads entries from.
type Partition struct {
	Point    string // where it is mounted
	Extended bool   // XBOOTLDR, not the ESP
	ReadOnly bool
	UUID     string // of the partition; empty where udev does not know
}

// partitions finds the ESP and, where there is one, the extended boot loader partition, through what is mounted.
// bootedFrom is the UUID of the partition that the loader was started from, where it says.
func partitions(root, bootedFrom string) (esp *Partition, all []*Partition, err error) {
	for _, p := range mountPoints { // wakes what is mounted on demand
		_, _ = os.ReadDir(filepath.Join(root, p, "loader"))
	}
	ms, err := loader.Mounts(root)
	if err != nil {
		return nil, nil, err
	}
	seen := map[string]bool{}
	for _, point := range mountPoints {
		m, ok := mountedAt(ms, point)
		if !ok || m.FS != "vfat" || seen[m.Device] {
			continue
		}
		seen[m.Device] = true
		kind, uuid := udevOf(root, m.Device)
		p := &Partition{Point: point, ReadOnly: m.ReadOnly, UUID: uuid}
		switch {
		case kind == typeXBOOTLDR:
			p.Extended = true
		case kind == typeESP, uuid != "" && strings.EqualFold(uuid, bootedFrom):
		case kind != "":
			continue // a vfat of another kind: the loader does not look there
		default:
			p.Extended = point == "/boot" && esp != nil // nobody says: by custom
		}
		all = append(all, p)
		if !p.Extended && (esp == nil || strings.EqualFold(p.UUID, bootedFrom)) {
			esp = p
		}
	}
	if esp == nil {
		return nil, nil, &fleet.Error{
			Op: "find the EFI system partition", Err: fmt.Errorf("no vfat is mounted as ESP at %s", strings.Join(mountPoints, ", ")),
			Next: "mount it (bootctl status says which one it is) and let /etc/fstab do so at boot",
		}
	}
	if bootedFrom != "" && esp.UUID != "" && !strings.EqualFold(esp.UUID, bootedFrom) {
		return nil, nil, &fleet.Error{
			Op: "find the EFI system partition", Err: fmt.Errorf("systemd-boot was started from partition %s, but %s is mounted at %s", bootedFrom, esp.UUID, esp.Point),
			Next: "mount the one that the machine boots from: ls -l /dev/disk/by-partuuid",
		}
	}
	kept := all[:0]
	for _, p := range all { // of several ESPs the loader reads its own
		if p == esp || p.Extended {
			kept = append(kept, p)
		}
	}
	return esp, kept, nil
}

// mountedAt returns what is mounted at a point: the last, which covers the others.
func mountedAt(ms []loader.Mount, point string) (loader.Mount, bool) {
	for i := len(ms) - 1; i >= 0; i-- {
		if ms[i].Point == point {
			return ms[i], true
		}
	}
	return loader.Mount{}, false
}

// udevOf reads what udev found out about a device: its GPT type and its UUID, in lower case; empty where it did not.
func udevOf(root, device string) (kind, uuid string) {
	f, err := os.Open(filepath.Join(root, "run/udev/data/b"+device))
	if err != nil {
		return "", ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), "E:ID_PART_ENTRY_TYPE="); ok {
			kind = strings.ToLower(v)
		}
		if v, ok := strings.CutPrefix(lines.Text(), "E:ID_PART_ENTRY_UUID="); ok {
			uuid = strings.ToLower(v)
		}
	}
	return kind, uuid
}

// settle puts everything of a partition on the disk. VFAT has no journal: what is synced is there, what is not may be
// there in any part.
func settle(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = unix.Syncfs(int(d.Fd()))
	if err != nil {
		err = fmt.Errorf("sync the file system of %s: %w", dir, err)
	}
	return errors.Join(err, d.Close())
}

// free is how many bytes are free where dir is.
func free(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("look how full %s is: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
