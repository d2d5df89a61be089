package fleet

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// Facts are what an agent finds out about its machine. They change rarely and
// are sent only when they do. Lists are sorted by name, so that equal machines
// have equal facts.
type Facts struct {
	Hardware    Hardware `json:"hardware"`
	CPU         CPU      `json:"cpu"`
	MemoryBytes uint64   `json:"memory_bytes"`
	Disks       []Disk   `json:"disks,omitempty"`
	NICs        []NIC    `json:"nics,omitempty"`
	OS          OS       `json:"os"`
	Arch        string   `json:"arch"` // as the packages name it: amd64, arm64
	Kernel      Running  `json:"kernel"`
	Boot        Boot     `json:"boot"`
	// MachineID is a hash of the machine's ids, to notice clones; never the raw /etc/machine-id.
	MachineID    string `json:"machine_id,omitempty"`
	AgentVersion string `json:"agent_version,omitempty"`
	Labels       Labels `json:"labels,omitempty"`
}

// Hardware is what the firmware says (DMI). Empty where it says nothing.
type Hardware struct {
	Vendor      string `json:"vendor,omitempty"`
	Model       string `json:"model,omitempty"` // DMI product_name
	Serial      string `json:"serial,omitempty"`
	BIOSVersion string `json:"bios_version,omitempty"`
}

// CPU describes the processors; Cores counts the logical ones that are online.
type CPU struct {
	Model     string `json:"model,omitempty"`
	Cores     int    `json:"cores,omitempty"`
	Microcode string `json:"microcode,omitempty"`
}

// Disk is one whole block device that stores data (no partitions, loops or device-mapper volumes).
type Disk struct {
	Name      string `json:"name"`
	Model     string `json:"model,omitempty"`
	Driver    string `json:"driver,omitempty"`
	Firmware  string `json:"firmware,omitempty"`
	SizeBytes uint64 `json:"size_bytes,omitempty"`
}

// NIC is one network card with a device behind it (no bridges, bonds or loopback).
type NIC struct {
	Name     string `json:"name"`
	MAC      string `json:"mac,omitempty"`
	Driver   string `json:"driver,omitempty"`
	Firmware string `json:"firmware,omitempty"`
}

// OS is the distribution: /etc/os-release.
type OS struct {
	ID       string `json:"id,omitempty"`       // debian
	Version  string `json:"version,omitempty"`  // 12
	Codename string `json:"codename,omitempty"` // bookworm
	// Family says which package driver serves the host: "debian" for dpkg. Empty: none does.
	Family string `json:"family,omitempty"`
}

// Running is the kernel that runs now.
type Running struct {
	Release string `json:"release"`            // uname -r
	Version string `json:"version,omitempty"`  // uname -v
	BuildID string `json:"build_id,omitempty"` // of /sys/kernel/notes, hex
	Flavour string `json:"flavour,omitempty"`  // cloud-amd64, amd64, rt-amd64
	Cmdline string `json:"cmdline,omitempty"`
}

// OneShot says whether the boot loader really forgets a one-shot entry by itself.
type OneShot string

const (
	OneShotUnknown    OneShot = ""           // not looked at: refused like impossible
	OneShotImpossible OneShot = "impossible" // refused: a panicking kernel would loop for ever
	OneShotAssumed    OneShot = "assumed"    // a sound static check; the first trial proves it
	OneShotProven     OneShot = "proven"     // a trial on this host showed it
)

// Boot is what the boot loader driver found.
type Boot struct {
	Loader     string   `json:"loader,omitempty"`   // grub
	Firmware   string   `json:"firmware,omitempty"` // bios, uefi
	OneShot    OneShot  `json:"one_shot,omitempty"`
	OneShotWhy string   `json:"one_shot_why,omitempty"`
	Default    string   `json:"default,omitempty"`   // release that the next plain boot runs; empty: cannot tell
	Installed  []string `json:"installed,omitempty"` // releases with a boot entry, sorted
}

// MachineName is how a machine is called by its id ([Facts.MachineID]) and serial number where people tell it from another.
func MachineName(id, serial string) string {
	if serial != "" {
		return fmt.Sprintf("serial %s (machine %.8s)", serial, id)
	}
	return fmt.Sprintf("machine %.8s", id)
}

// Hash identifies the facts: equal facts have equal hashes.
func (f Facts) Hash() string {
	b, err := json.Marshal(f)
	if err != nil {
		panic(err) // Facts hold strings and numbers only
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// Normalize sorts the lists, so that equal machines have equal facts.
func (f *Facts) Normalize() {
	slices.SortFunc(f.Disks, func(a, b Disk) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(f.NICs, func(a, b NIC) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(f.Boot.Installed)
}
