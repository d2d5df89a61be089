package linux

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/fleet"
)

// disks lists whole block devices with hardware behind them. What can be plugged in and out is no part of what a host is.
func (h *Host) disks() []fleet.Disk {
	entries, err := os.ReadDir(h.path("/sys/block"))
	if err != nil {
		return nil
	}
	var ds []fleet.Disk
	for _, e := range entries {
		name, dir := e.Name(), "/sys/block/"+e.Name()
		if _, err := os.Stat(h.path(dir + "/device")); err != nil {
			continue // loop, device-mapper, md, zram
		}
		if strings.HasPrefix(name, "sr") || strings.HasPrefix(name, "fd") || h.text(dir+"/removable") == "1" || h.text(dir+"/hidden") == "1" {
			continue
		}
		if h.text(dir+"/ro") == "1" {
			continue // a seed or a rescue image: it stores nothing, and is there in one boot and gone in the next
		}
		d := fleet.Disk{Name: name, Model: h.text(dir + "/device/model"), Firmware: h.text(dir + "/device/firmware_rev"), Driver: h.driverOf(dir + "/device")}
		if d.Firmware == "" {
			d.Firmware = h.text(dir + "/device/rev") // SCSI
		}
		if d.Driver == "" && strings.HasPrefix(name, "nvme") {
			d.Driver = "nvme" // several paths to it: its device is no part of the tree of drivers
		}
		if sectors, err := strconv.ParseUint(h.text(dir+"/size"), 10, 54); err == nil {
			d.SizeBytes = sectors * 512 // whatever the device's own sectors are
		}
		ds = append(ds, d)
	}
	return ds
}

// driverOf walks up from a device to the driver of what it is attached to: for a SATA disk that is ahci, not sd,
// which every such disk has.
func (h *Host) driverOf(dir string) string {
	path, err := filepath.EvalSymlinks(h.path(dir))
	if err != nil {
		return ""
	}
	top, err := filepath.EvalSymlinks(h.path("/sys/devices"))
	if err != nil {
		return ""
	}
	driver := ""
	for ; strings.HasPrefix(path, top+"/"); path = filepath.Dir(path) {
		to, err := os.Readlink(filepath.Join(path, "driver"))
		if err != nil {
			continue
		}
		if driver = filepath.Base(to); driver != "sd" {
			return driver
		}
	}
	return driver
}

// nics lists network cards. Virtual functions are left out: they come and go with the guests that they are for.
func (h *Host) nics() []fleet.NIC {
	entries, err := os.ReadDir(h.path("/sys/class/net"))
	if err != nil {
		return nil
	}
	var ns []fleet.NIC
	for _, e := range entries {
		dir := "/sys/class/net/" + e.Name()
		to, err := os.Readlink(h.path(dir + "/device/driver"))
		if err != nil {
			continue // bridges, bonds, loopback
		}
		if _, err := os.Stat(h.path(dir + "/device/physfn")); err == nil {
			continue
		}
		n := fleet.NIC{Name: e.Name(), MAC: h.text(dir + "/address"), Driver: filepath.Base(to)}
		if h.root == "/" {
			n.Firmware = h.firmware(n.Name)
		}
		ns = append(ns, n)
	}
	return ns
}

// driverInfo is struct ethtool_drvinfo.
type driverInfo struct {
	cmd                                           uint32
	driver, version, firmware, bus, erom          [32]byte
	reserved                                      [12]byte
	privFlags, stats, testinfo, eedump, regdumper uint32
}

// nicFirmware asks the card's driver by ioctl; empty where it does not say.
func nicFirmware(link string) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	info := driverInfo{cmd: unix.ETHTOOL_GDRVINFO}
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the kernel's struct ifreq is larger
	}
	copy(req.name[:unix.IFNAMSIZ-1], link)
	req.data = unsafe.Pointer(&info)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return ""
	}
	s := strings.TrimSpace(unix.ByteSliceToString(info.firmware[:]))
	if strings.EqualFold(s, "n/a") {
		return ""
	}
	return s
}
