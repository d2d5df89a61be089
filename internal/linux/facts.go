package linux

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/kernwave/kernwave/fleet"
)

// maxFile bounds what is read of a file of the machine: facts are small.
const maxFile = 1 << 20

// raw reads a file as it is, or its first MiB; empty where there is none.
func (h *Host) raw(p string) string {
	b, err := os.ReadFile(h.path(p))
	if err != nil {
		return ""
	}
	return string(b[:min(len(b), maxFile)])
}

// Facts finds out what the machine is. What the machine does not say stays empty; only a machine whose kernel cannot
// be told is an error.
func (h *Host) Facts(ctx context.Context) (fleet.Facts, error) {
	if _, err := h.Release(); err != nil {
		return fleet.Facts{}, err
	}
	f := fleet.Facts{
		Hardware: fleet.Hardware{
			Vendor: h.dmi("sys_vendor"), Model: h.dmi("product_name"),
			Serial: h.dmi("product_serial"), BIOSVersion: h.dmi("bios_version"),
		},
		CPU: h.cpu(), MemoryBytes: h.memory(), Disks: h.disks(), NICs: h.nics(),
		OS:   parseOSRelease(h.text("/etc/os-release")),
		Arch: h.arch(ctx), Kernel: h.kernelFacts(), Boot: h.bootFacts(), MachineID: h.machineID(),
	}
	f.Normalize()
	return f, nil
}

// dmi reads what the firmware says, without the phrases of vendors who did not fill it in.
func (h *Host) dmi(name string) string {
	s := h.text("/sys/class/dmi/id/" + name)
	switch strings.ToLower(s) {
	case "to be filled by o.e.m.", "default string", "not specified", "system serial number", "none", "n/a":
		return ""
	}
	return s
}

// machineID tells machines apart, and clones from each other, without giving away /etc/machine-id, which is not for
// other machines' eyes (machine-id(5)).
func (h *Host) machineID() string {
	id, uuid := h.text("/etc/machine-id"), h.text("/sys/class/dmi/id/product_uuid")
	if id == "" && uuid == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("kernwave machine\x00" + id + "\x00" + uuid))
	return hex.EncodeToString(sum[:16])
}

func (h *Host) cpu() fleet.CPU {
	c := fleet.CPU{Microcode: h.text("/sys/devices/system/cpu/cpu0/microcode/version"), Cores: countList(h.text("/sys/devices/system/cpu/online"))}
	info := h.raw("/proc/cpuinfo")
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "model name", "cpu model", "Processor":
			if c.Model == "" {
				c.Model = strings.TrimSpace(value)
			}
		case "microcode":
			if c.Microcode == "" {
				c.Microcode = strings.TrimSpace(value)
			}
		}
	}
	if c.Cores == 0 {
		c.Cores = strings.Count("\n"+info, "\nprocessor\t")
	}
	return c
}

// countList counts a list such as 0-3,5.
func countList(s string) int {
	n := 0
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		a, err := strconv.Atoi(from)
		if err != nil {
			continue
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(to); err != nil || b < a {
				continue
			}
		}
		n += b - a + 1
	}
	return n
}

func (h *Host) memory() uint64 {
	for line := range strings.Lines(h.raw("/proc/meminfo")) {
		var kib uint64
		if _, err := fmt.Sscanf(line, "MemTotal: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}

// arch asks the packages, once; without them the agent's own architecture has to do.
func (h *Host) arch(ctx context.Context) string {
	if a := h.archAsked.Load(); a != nil {
		return *a
	}
	if a, err := h.packages.Arch(ctx); err == nil && a != "" {
		h.archAsked.Store(&a)
		return a
	}
	switch runtime.GOARCH {
	case "386":
		return "i386"
	case "arm":
		return "armhf"
	}
	return runtime.GOARCH
}

// parseOSRelease reads os-release(5).
func parseOSRelease(text string) fleet.OS {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(k, "#") {
			values[k] = strings.Trim(v, `"'`)
		}
	}
	o := fleet.OS{ID: values["ID"], Version: values["VERSION_ID"], Codename: values["VERSION_CODENAME"]}
	for like := range strings.FieldsSeq(values["ID"] + " " + values["ID_LIKE"]) {
		if like == "debian" {
			o.Family = "debian"
		}
	}
	return o
}
