package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// kvmLimit is how long a kernel may take under KVM to reach its search for a root file system. Hardware needs one
// second, nested virtualisation three.
const kvmLimit = 20 * time.Second

// probeKVM says which accelerator boots a Debian kernel here. A /dev/kvm proves nothing: there are machines on which
// the firmware starts and the kernel then dies of an internal error. The answer is kept until the machine reboots.
func probeKVM(ctx context.Context, cache, kernel, vmlinuz string) (accel, note string, err error) {
	bootID, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	version, err := run(ctx, exec.Command(tool("qemu-system-x86_64"), "--version"))
	if err != nil {
		return "", "", err
	}
	answer := filepath.Join(cache, "kvm.json")
	var known struct{ Key, Accel, Note string }
	key := hashOf(string(bootID), version, kernel)
	if data, err := os.ReadFile(answer); err == nil && json.Unmarshal(data, &known) == nil && known.Key == key {
		return known.Accel, known.Note, nil
	}
	known.Key = key
	known.Accel, known.Note = "kvm", "a kernel boots under it"
	if why := tryKVM(ctx, filepath.Join(cache, "kvm"), vmlinuz); why != "" {
		known.Accel, known.Note = "tcg", "emulating: "+why
	}
	if ctx.Err() != nil {
		return "", "", context.Cause(ctx)
	}
	data, err := json.Marshal(known)
	if err != nil {
		return "", "", err
	}
	return known.Accel, known.Note, writeFile(answer, data, 0o644)
}

// tryKVM boots a kernel without a disk, which comes as far as looking for one, and says why that did not work.
func tryKVM(ctx context.Context, dir, vmlinuz string) (why string) {
	if f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0); err != nil {
		return "no usable /dev/kvm"
	} else {
		f.Close()
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil { // the cache's lock is held
		return err.Error()
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(tool("qemu-system-x86_64"), "-accel", "kvm", "-M", "q35", "-cpu", "host", "-m", "384", "-nodefaults", "-no-user-config",
		"-display", "none", "-serial", "file:serial.log", "-qmp", "unix:qmp.sock,server=on,wait=off", "-no-reboot",
		"-kernel", vmlinuz, "-append", "console=ttyS0 panic=-1")
	cmd.Dir = dir
	p, err := spawn(cmd)
	if err != nil {
		return err.Error()
	}
	defer p.kill()
	ctx, cancel := context.WithTimeout(ctx, kvmLimit)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return "no kernel came up under KVM within " + kvmLimit.String()
		case <-time.After(200 * time.Millisecond):
		}
		serial, _ := os.ReadFile(filepath.Join(dir, "serial.log"))
		if bytes.Contains(serial, []byte("Unable to mount root fs")) {
			return ""
		}
		if !p.running() {
			return "QEMU ended: " + p.err.Error()
		}
		if state, err := runState(ctx, dir); err == nil && state != "running" && state != "prelaunch" {
			return "the machine stops with " + strings.ReplaceAll(state, "-", " ") + " under KVM"
		}
	}
}
