package wire

import (
	"maps"
	"slices"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
)

// FactsToProto converts what an agent found out about its machine.
func FactsToProto(f fleet.Facts) *kwv1.Facts {
	return &kwv1.Facts{
		Hardware: &kwv1.Hardware{
			Vendor: f.Hardware.Vendor, Model: f.Hardware.Model,
			Serial: f.Hardware.Serial, BiosVersion: f.Hardware.BIOSVersion,
		},
		Cpu:         &kwv1.CPU{Model: f.CPU.Model, Cores: int32(f.CPU.Cores), Microcode: f.CPU.Microcode},
		MemoryBytes: f.MemoryBytes,
		Disks: list(f.Disks, func(d fleet.Disk) *kwv1.Disk {
			return &kwv1.Disk{Name: d.Name, Model: d.Model, Driver: d.Driver, Firmware: d.Firmware, SizeBytes: d.SizeBytes}
		}),
		Nics: list(f.NICs, func(n fleet.NIC) *kwv1.NIC {
			return &kwv1.NIC{Name: n.Name, Mac: n.MAC, Driver: n.Driver, Firmware: n.Firmware}
		}),
		Os:   &kwv1.OS{Id: f.OS.ID, Version: f.OS.Version, Codename: f.OS.Codename, Family: f.OS.Family},
		Arch: f.Arch,
		Kernel: &kwv1.Running{
			Release: f.Kernel.Release, Version: f.Kernel.Version, BuildId: f.Kernel.BuildID,
			Flavour: f.Kernel.Flavour, Cmdline: f.Kernel.Cmdline,
		},
		Boot: &kwv1.Boot{
			Loader: f.Boot.Loader, Firmware: f.Boot.Firmware, OneShot: string(f.Boot.OneShot), OneShotWhy: f.Boot.OneShotWhy,
			Default: f.Boot.Default, Installed: slices.Clone(f.Boot.Installed),
		},
		MachineId:    f.MachineID,
		AgentVersion: f.AgentVersion,
		Labels:       maps.Clone(map[string]string(f.Labels)),
	}
}

// FactsFromProto converts what a host said about its machine.
func FactsFromProto(p *kwv1.Facts) fleet.Facts {
	hw, cpu, os, run, boot := p.GetHardware(), p.GetCpu(), p.GetOs(), p.GetKernel(), p.GetBoot()
	return fleet.Facts{
		Hardware: fleet.Hardware{
			Vendor: hw.GetVendor(), Model: hw.GetModel(),
			Serial: hw.GetSerial(), BIOSVersion: hw.GetBiosVersion(),
		},
		CPU:         fleet.CPU{Model: cpu.GetModel(), Cores: int(cpu.GetCores()), Microcode: cpu.GetMicrocode()},
		MemoryBytes: p.GetMemoryBytes(),
		Disks: list(p.GetDisks(), func(d *kwv1.Disk) fleet.Disk {
			return fleet.Disk{
				Name: d.GetName(), Model: d.GetModel(), Driver: d.GetDriver(),
				Firmware: d.GetFirmware(), SizeBytes: d.GetSizeBytes(),
			}
		}),
		NICs: list(p.GetNics(), func(n *kwv1.NIC) fleet.NIC {
			return fleet.NIC{Name: n.GetName(), MAC: n.GetMac(), Driver: n.GetDriver(), Firmware: n.GetFirmware()}
		}),
		OS:   fleet.OS{ID: os.GetId(), Version: os.GetVersion(), Codename: os.GetCodename(), Family: os.GetFamily()},
		Arch: p.GetArch(),
		Kernel: fleet.Running{
			Release: run.GetRelease(), Version: run.GetVersion(), BuildID: run.GetBuildId(),
			Flavour: run.GetFlavour(), Cmdline: run.GetCmdline(),
		},
		Boot: fleet.Boot{
			Loader: boot.GetLoader(), Firmware: boot.GetFirmware(), OneShot: fleet.OneShot(boot.GetOneShot()),
			OneShotWhy: boot.GetOneShotWhy(), Default: boot.GetDefault(), Installed: list(boot.GetInstalled(), same[string]),
		},
		MachineID:    p.GetMachineId(),
		AgentVersion: p.GetAgentVersion(),
		Labels:       labelsFromProto(p.GetLabels()),
	}
}

func labelsFromProto(m map[string]string) fleet.Labels {
	if len(m) == 0 {
		return nil
	}
	return fleet.Labels(maps.Clone(m))
}

func same[T any](v T) T { return v }

// HostStateToProto converts what a host reports about itself.
func HostStateToProto(s fleet.HostState) *kwv1.HostState {
	return &kwv1.HostState{
		BootId: s.BootID, Release: s.Release, Uptime: DurationToProto(s.Uptime), InService: s.InService,
		NotInServiceWhy: s.NotInServiceWhy, FailedUnits: slices.Clone(s.FailedUnits), Parked: s.Parked,
	}
}

// HostStateFromProto converts what a host reports about itself.
func HostStateFromProto(p *kwv1.HostState) fleet.HostState {
	return fleet.HostState{
		BootID: p.GetBootId(), Release: p.GetRelease(), Uptime: DurationFromProto(p.GetUptime()), InService: p.GetInService(),
		NotInServiceWhy: p.GetNotInServiceWhy(), FailedUnits: list(p.GetFailedUnits(), same[string]), Parked: p.GetParked(),
	}
}

// HostToProto converts a host. Whether it is silent, when it was last seen and its open operation are not the host's
// own and are left unset; so is FactsHash, which the wire does not carry.
func HostToProto(h fleet.Host) *kwv1.Host {
	return &kwv1.Host{
		Id: string(h.ID), Status: string(h.Status), StatusWhy: h.StatusWhy, EnrolledAt: TimeToProto(h.EnrolledAt),
		Revoked: h.Revoked, Facts: FactsToProto(h.Facts), Type: HostTypeToProto(h.Type), Now: HostStateToProto(h.Now),
		JournalTold: h.JournalTold,
		Frozen:      h.Frozen, FrozenAt: TimeToProto(h.FrozenAt), Copied: h.Copied,
	}
}

// HostFromProto is the way back of [HostToProto].
func HostFromProto(p *kwv1.Host) fleet.Host {
	return fleet.Host{
		ID: fleet.HostID(p.GetId()), Status: fleet.Status(p.GetStatus()), StatusWhy: p.GetStatusWhy(),
		EnrolledAt: TimeFromProto(p.GetEnrolledAt()), Revoked: p.GetRevoked(), Facts: FactsFromProto(p.GetFacts()),
		Type: HostTypeFromProto(p.GetType()), Now: HostStateFromProto(p.GetNow()), JournalTold: p.GetJournalTold(),
		Frozen: p.GetFrozen(), FrozenAt: TimeFromProto(p.GetFrozenAt()), Copied: p.GetCopied(),
	}
}

// HostTypeToProto converts a host type.
func HostTypeToProto(t fleet.HostType) *kwv1.HostType {
	return &kwv1.HostType{Id: string(t.ID), Values: list(t.Values, func(v fleet.TypeValue) *kwv1.TypeValue {
		return &kwv1.TypeValue{Key: v.Key, Value: v.Value}
	})}
}

// HostTypeFromProto converts a host type.
func HostTypeFromProto(p *kwv1.HostType) fleet.HostType {
	return fleet.HostType{ID: fleet.HostTypeID(p.GetId()), Values: list(p.GetValues(), func(v *kwv1.TypeValue) fleet.TypeValue {
		return fleet.TypeValue{Key: v.GetKey(), Value: v.GetValue()}
	})}
}

// KernelToProto converts a kernel.
func KernelToProto(k fleet.Kernel) *kwv1.Kernel {
	return &kwv1.Kernel{
		Id: string(k.ID), Version: k.Version, Release: k.Release, Family: k.Family, Arch: k.Arch, Flavour: k.Flavour,
		Packages: list(k.Packages, func(p fleet.Package) *kwv1.Package {
			return &kwv1.Package{Name: p.Name, Version: p.Version, Arch: p.Arch, Sha256: p.SHA256, Size: p.Size}
		}),
		AddedAt: TimeToProto(k.AddedAt), AddedBy: k.AddedBy,
	}
}

// KernelFromProto converts a kernel.
func KernelFromProto(p *kwv1.Kernel) fleet.Kernel {
	return fleet.Kernel{
		ID: fleet.KernelID(p.GetId()), Version: p.GetVersion(), Release: p.GetRelease(), Family: p.GetFamily(),
		Arch: p.GetArch(), Flavour: p.GetFlavour(),
		Packages: list(p.GetPackages(), func(p *kwv1.Package) fleet.Package {
			return fleet.Package{
				Name: p.GetName(), Version: p.GetVersion(), Arch: p.GetArch(),
				SHA256: p.GetSha256(), Size: p.GetSize(),
			}
		}),
		AddedAt: TimeFromProto(p.GetAddedAt()), AddedBy: p.GetAddedBy(),
	}
}
