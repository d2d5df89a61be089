package linux

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kernwave/kernwave/fleet"
)

func TestFactsOfAMachine(t *testing.T) {
	m := newMachine(t, map[string]string{
		"sys/class/dmi/id/sys_vendor": "QEMU\n", "sys/class/dmi/id/product_name": "lab-small\n",
		"sys/class/dmi/id/product_serial": "Default string\n", "sys/class/dmi/id/bios_version": "1.16.2\n",
		"sys/class/dmi/id/product_uuid": "uuid\n", "etc/machine-id": "0123\n",
		"proc/cpuinfo":                  "processor\t: 0\nmodel name\t: QEMU CPU\nmicrocode\t: 0x1\n\nprocessor\t: 1\nmodel name\t: QEMU CPU\n",
		"sys/devices/system/cpu/online": "0-2,5\n",
		"proc/meminfo":                  "MemTotal:         397520 kB\nMemFree: 1 kB\n",
		"proc/sys/kernel/version":       "#1 SMP PREEMPT_DYNAMIC Debian\n",
		"sys/kernel/notes":              string(note("Linux", 0x100, []byte{1})) + string(note("GNU", 3, []byte{0xab, 0xcd, 0xef})),

		// An NVMe disk: the disk's device is the controller, whose device is on PCI.
		"sys/block/nvme0n1": "->../devices/pci0/0000:00:04.0/nvme/nvme0/nvme0n1",
		"sys/devices/pci0/0000:00:04.0/nvme/nvme0/nvme0n1/device":                   "->../../nvme0",
		"sys/devices/pci0/0000:00:04.0/nvme/nvme0/nvme0n1/size":                     "6291456\n",
		"sys/devices/pci0/0000:00:04.0/nvme/nvme0/model":                            "QEMU NVMe Ctrl                          \n",
		"sys/devices/pci0/0000:00:04.0/nvme/nvme0/firmware_rev":                     "8.0.0   \n",
		"sys/devices/pci0/0000:00:04.0/driver":                                      "->../../../bus/pci/drivers/nvme",
		"sys/block/sda":                                                             "->../devices/pci0/0000:00:05.0/ata1/host0/target0/0:0:0:0/block/sda",
		"sys/devices/pci0/0000:00:05.0/ata1/host0/target0/0:0:0:0/block/sda/device": "->../../../0:0:0:0",
		"sys/devices/pci0/0000:00:05.0/ata1/host0/target0/0:0:0:0/rev":              "1.0\n",
		"sys/devices/pci0/0000:00:05.0/ata1/host0/target0/0:0:0:0/driver":           "->../../x/drivers/sd",
		"sys/devices/pci0/0000:00:05.0/driver":                                      "->../../x/drivers/ahci",
		"sys/block/vda":                                                             "->../devices/pci0/virtio1/block/vda",
		"sys/devices/pci0/virtio1/block/vda/device":                                 "->../../../virtio1",
		"sys/devices/pci0/virtio1/driver":                                           "->../x/drivers/virtio_blk",
		"sys/block/sr0/device/x":                                                    "", // a CD drive
		"sys/block/sdb/device/x":                                                    "", // a stick
		"sys/block/sdb/removable":                                                   "1\n",
		"sys/block/loop0/size":                                                      "0\n",

		"sys/class/net/ens1/device":          "->../../../devices/pci0/virtio0",
		"sys/devices/pci0/virtio0/driver":    "->../../../x/drivers/virtio_net",
		"sys/class/net/ens1/address":         "52:54:00:12:34:56\n",
		"sys/class/net/lo/address":           "00:00:00:00:00:00\n",
		"sys/class/net/ens2v0/device":        "->../../../devices/pci0/vf0",
		"sys/devices/pci0/vf0/driver":        "->../../../x/drivers/ixgbevf",
		"sys/devices/pci0/vf0/physfn/vendor": "",
	})
	got, err := m.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := fleet.Facts{
		Hardware:    fleet.Hardware{Vendor: "QEMU", Model: "lab-small", BIOSVersion: "1.16.2"},
		CPU:         fleet.CPU{Model: "QEMU CPU", Cores: 4, Microcode: "0x1"},
		MemoryBytes: 397520 << 10,
		Disks: []fleet.Disk{
			{Name: "nvme0n1", Model: "QEMU NVMe Ctrl", Driver: "nvme", Firmware: "8.0.0", SizeBytes: 3 << 30},
			{Name: "sda", Driver: "ahci", Firmware: "1.0"},
			{Name: "vda", Driver: "virtio_blk"},
		},
		NICs: []fleet.NIC{{Name: "ens1", MAC: "52:54:00:12:34:56", Driver: "virtio_net"}},
		OS:   fleet.OS{ID: "debian", Version: "12", Codename: "bookworm", Family: "debian"},
		Arch: "amd64",
		Kernel: fleet.Running{
			Release: running, Version: "#1 SMP PREEMPT_DYNAMIC Debian", BuildID: "abcdef", Flavour: "cloud-amd64", Cmdline: "root=x quiet",
		},
		Boot:      fleet.Boot{Firmware: "bios", OneShotWhy: noLoader},
		MachineID: got.MachineID,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	m.write("etc/machine-id", "4567\n")
	again, _ := m.Facts(t.Context())
	if len(got.MachineID) != 32 || again.MachineID == got.MachineID || got.MachineID == "0123" {
		t.Errorf("machine ids %q and %q", got.MachineID, again.MachineID)
	}
}

func note(name string, kind uint32, desc []byte) []byte {
	var b []byte
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)+1))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.NativeEndian.AppendUint32(b, kind)
	for _, part := range [][]byte{append([]byte(name), 0), desc} {
		b = append(b, part...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

func TestFlavours(t *testing.T) {
	for release, want := range map[string]string{
		"6.12.117+deb12-cloud-amd64": "cloud-amd64",
		"6.1.0-56-amd64":             "amd64",
		"6.1.0-56-cloud-amd64":       "cloud-amd64",
		"6.1.0-56-rt-amd64":          "rt-amd64",
		"6.8.0-45-generic":           "generic",
		"5.15.0-1051-aws":            "aws",
		"6.1.0-0.deb11.21-amd64":     "amd64",
		"6.13-amd64":                 "amd64",
		"6.14-rc3-amd64":             "amd64",
		"6.8.12-4-pve":               "pve",
		"6.12.9":                     "",
		"6.12.9+":                    "",
		"5.14.0-427.el9.x86_64":      "",
		"":                           "",
		"custom":                     "",
	} {
		if got := flavourOf(release); got != want {
			t.Errorf("flavour of %q is %q, want %q", release, got, want)
		}
	}
}

func TestFamilies(t *testing.T) {
	for text, want := range map[string]string{
		"ID=debian\n": "debian", "ID=ubuntu\nID_LIKE=debian\n": "debian", "ID=pop\nID_LIKE=\"ubuntu debian\"\n": "debian",
		"ID=fedora\n": "", "ID=x\nID_LIKE=debianish\n": "", "# ID=debian\n": "", "": "",
	} {
		if got := parseOSRelease(text).Family; got != want {
			t.Errorf("%q: family %q, want %q", text, got, want)
		}
	}
}

func TestCountList(t *testing.T) {
	for s, want := range map[string]int{"0": 1, "0-3": 4, "0-1,4-5,7": 5, "": 0, "x": 0, "3-1": 0, "0-127": 128} {
		if got := countList(s); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}

func FuzzBuildID(f *testing.F) {
	f.Add(note("GNU", 3, []byte{1, 2, 3, 4}))
	f.Add(append(note("Linux", 1, nil), note("GNU", 3, []byte{9})...))
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, 3, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if id := buildID(b); len(id) > 2*len(b) {
			t.Fatalf("%d bytes gave %q", len(b), id)
		}
	})
}

// The machine that runs the tests is a real one: its facts must at least be read.
func TestThisMachineHasFacts(t *testing.T) {
	m := newMachine(t, nil)
	m.root = "/"
	r := m.kernelFacts()
	if r.Release == "" || m.cpu().Cores == 0 || m.memory() == 0 {
		t.Errorf("%+v, %+v, %d", r, m.cpu(), m.memory())
	}
	for _, n := range m.nics() {
		if n.Driver == "" || n.Name == "" {
			t.Errorf("%+v", n)
		}
	}
}
