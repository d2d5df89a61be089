package lab

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// A Loader is the firmware of a host and what it starts.
type Loader string

const (
	// GRUBOnBIOS is what an empty Loader means.
	GRUBOnBIOS  Loader = "grub-bios"
	GRUBOnUEFI  Loader = "grub-uefi"
	SystemdBoot Loader = "systemd-boot" // on UEFI
)

// Loaders are all there are.
func Loaders() []Loader { return []Loader{GRUBOnBIOS, GRUBOnUEFI, SystemdBoot} }

// ParseLoader checks a loader's name.
func ParseLoader(s string) (Loader, error) {
	if l := Loader(s); slices.Contains(Loaders(), l) {
		return l, nil
	}
	return "", fmt.Errorf("%q is no loader: grub-bios, grub-uefi or systemd-boot", s)
}

// uefi says whether a host has UEFI's firmware instead of a BIOS.
func (l Loader) uefi() bool { return l == GRUBOnUEFI || l == SystemdBoot }

// OVMF is UEFI's firmware for QEMU: its code, which all hosts share, and the variables that a new host begins with.
const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	varsFile = "efivars.fd" // in a host's folder: its own
)

// firmwareArgs is what QEMU needs for the firmware. A BIOS is QEMU's own.
func firmwareArgs(l Loader) []string {
	if !l.uefi() {
		return nil
	}
	return []string{
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + ovmfCode,
		"-drive", "if=pflash,unit=1,format=raw,file=" + varsFile,
	}
}

// makeVars gives a host its own variables, as a new machine has them.
func (h *host) makeVars() error {
	if !h.spec.Loader.uefi() {
		return nil
	}
	return copyFile(ovmfVars, filepath.Join(h.dir, varsFile), 0o644)
}

// imageFile is the disk that a loader's hosts begin with, in an image's folder.
func imageFile(l Loader) string {
	if !l.uefi() {
		return "disk.qcow2"
	}
	return "disk-" + strings.ToLower(string(l)) + ".qcow2"
}
