package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// endsWithReset says whether the QEMU of a host ends when its guest resets, to be started anew. OVMF, emulated, now and then does
// not come to a boot loader in a QEMU that has run Linux: docs/internals/lab.md has what is known.
func endsWithReset(spec HostSpec, accel string) bool { return accel != "kvm" && spec.Loader.uefi() }

// follow waits until vm ends. If its guest had reset, it starts the next one, with what the disk, the firmware's variables and
// the network cable were like; unless somebody has cut the power.
func (h *host) follow(accel string, vm *process) {
	began, reset := h.listen(vm)
	<-vm.done
	if !began {
		reset = vm.err == nil // in good order, and its guest had not begun: from outside, before anybody listened
	}
	h.mu.Lock()
	if h.vm != vm || !h.again {
		h.mu.Unlock()
		return
	}
	h.again = false
	var err error
	if reset {
		err = h.start(accel)
	}
	vm = h.vm
	h.mu.Unlock()
	if _, none := os.Stat(h.unplug()); reset && none == nil {
		err = errors.Join(err, h.unplugAgain(vm))
	}
	if err != nil {
		h.note(fmt.Errorf("start anew after a reset: %w", err))
	}
}

// unplugAgain pulls the network cable of vm, which has just begun, long before its firmware has come to a loader.
func (h *host) unplugAgain(vm *process) (err error) {
	for vm != nil && vm.running() {
		if _, err = qmp(context.Background(), h.dir, "set_link", link(false)); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// listen lets the guest of vm begin, and listens until vm ends. It says whether it heard the guest begin, without which it would
// hear nothing of a reset either, and whether vm ended because of one.
func (h *host) listen(vm *process) (began, reset bool) {
	var c net.Conn
	for c == nil {
		var err error
		if c, err = dialIn(context.Background(), h.dir, "events.sock"); err != nil && !vm.running() {
			return false, false
		} else if err != nil {
			time.Sleep(20 * time.Millisecond) // it has just begun
		}
	}
	defer c.Close()
	if _, err := c.Write([]byte(`{"execute":"qmp_capabilities"} {"execute":"cont"}`)); err != nil {
		return false, false
	}
	for dec := json.NewDecoder(c); ; {
		var e struct {
			Event string
			Data  struct{ Reason string }
		}
		if dec.Decode(&e) != nil {
			return began, reset
		}
		switch e.Event {
		case "RESUME":
			began = true
		case "SHUTDOWN":
			reset = strings.HasSuffix(e.Data.Reason, "-reset") // guest-reset, of its watchdog too; host-qmp-system-reset
		}
	}
}

// unplug is a file that is there while the network cable is out.
func (h *host) unplug() string { return filepath.Join(h.dir, "network.cut") }

func (h *host) unplugged(out bool) error {
	if out {
		return os.WriteFile(h.unplug(), nil, 0o644)
	}
	if err := os.Remove(h.unplug()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// note adds a line to the log of QEMU.
func (h *host) note(err error) {
	if f, open := os.OpenFile(filepath.Join(h.dir, "qemu.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); open == nil {
		fmt.Fprintln(f, err)
		f.Close()
	}
}
