package lab

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// qemuArgs is one host's machine. Paths are relative to the host's folder, which is QEMU's working directory.
func qemuArgs(spec HostSpec, accel string, forward map[int]string) []string {
	// The build machine's own disk stays out of it; a cut of the host's power still loses what the host did not write.
	disk := "file=disk.qcow2,format=qcow2,cache=unsafe"
	if spec.FlushCounts {
		disk = "file=nbd+unix:///?socket=disk.sock,format=raw,cache=writeback"
	}
	a := []string{
		"-name", spec.Name, "-uuid", uuidOf(spec.Name),
		"-nodefaults", "-no-user-config", "-display", "none",
		"-m", strconv.Itoa(spec.MemoryMB), "-smp", strconv.Itoa(spec.CPUs),
		"-rtc", "base=utc,clock=host",
		"-smbios", "type=1,manufacturer=Kernwave,product=" + comma(spec.Model) + ",serial=" + comma(spec.Name),
		"-chardev", "file,id=serial,path=serial.log,append=on", "-serial", "chardev:serial",
		"-qmp", "unix:qmp.sock,server=on,wait=off",
		"-drive", "if=none,id=root,discard=unmap," + disk,
		"-device", "nvme,drive=root,serial=" + comma(spec.Name) + ",bootindex=1",
		"-drive", "if=none,id=payload,file=payload.tar,format=raw,readonly=on",
		"-device", "virtio-blk-pci,drive=payload,serial=payload",
		"-netdev", "user,id=net,restrict=on" + guestForwards(forward),
		"-device", "virtio-net-pci,id=nic,netdev=net,romfile=",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=agent,path=agent.sock,server=on,wait=off",
		"-device", "virtserialport,nr=1,chardev=agent,name=org.qemu.guest_agent.0",
		"-device", "virtio-rng-pci",
		"-device", "i6300esb", "-action", "watchdog=reset,panic=none",
	}
	if endsWithReset(spec, accel) {
		a = append(a, endWithReset...)
	}
	a = append(a, firmwareArgs(spec.Loader)...)
	if accel == "kvm" {
		return append(a, "-accel", "kvm", "-M", "q35", "-cpu", "host")
	}
	return append(a, "-accel", "tcg,thread=multi,tb-size=256", "-M", "q35", "-cpu", "max")
}

// endWithReset ends QEMU when its machine is reset. It begins when somebody listens.
var endWithReset = []string{
	"-action", "reboot=shutdown", "-S",
	"-chardev", "socket,id=events,path=events.sock,server=on,wait=off", "-mon", "chardev=events,mode=control",
}

// guestForwards leads ports of GuestAddr to addresses of the build machine, one socat per connection. The target need
// not listen yet.
func guestForwards(forward map[int]string) string {
	var b strings.Builder
	for _, port := range slices.Sorted(maps.Keys(forward)) {
		// -t: when one side has ended, the other may go on for so long. -lf: QEMU would send what socat says to the host.
		fmt.Fprintf(&b, ",guestfwd=tcp:%s:%d-cmd:%s -lf /dev/null -t 30 - TCP4:%s", GuestAddr, port, tool("socat"), comma(forward[port]))
	}
	return b.String()
}

// comma escapes a value for QEMU, where a comma begins the next option.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

func uuidOf(name string) string {
	h := hashOf("host", name) + hashOf(name, "host")
	return fmt.Sprintf("%s-%s-4%s-8%s-%s", h[:8], h[8:12], h[12:15], h[15:18], h[18:30])
}
