package lab

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A host whose QEMU ends with a reset is on all the while, and in another QEMU afterwards; where the power was cut, or the guest
// switched itself off, it stays off.
func TestEachResetStartsQEMUAnew(t *testing.T) {
	if _, err := os.Stat(tool("qemu-system-x86_64")); err != nil {
		t.Skipf("starts a virtual machine: %v; next: scripts/setup.sh installs it", err)
	}
	const (
		turns  = "\xeb\xfe"                         // jmp $
		resets = "\xba\xf9\x0c\xb0\x06\xee\xeb\xfe" // mov dx,0xcf9; mov al,6; out dx,al; jmp $
	)
	start := func(t *testing.T, code string) *host {
		t.Helper()
		dir := t.TempDir()
		rom := make([]byte, 64<<10)
		copy(rom[len(rom)-16:], code)
		if err := os.WriteFile(filepath.Join(dir, "rom"), rom, 0o644); err != nil {
			t.Fatal(err)
		}
		h := &host{spec: HostSpec{Name: "h", Loader: SystemdBoot}, dir: dir, args: append([]string{
			"-accel", "tcg", "-M", "q35", "-m", "64", "-nodefaults", "-no-user-config", "-display", "none", "-bios", "rom", "-qmp", "unix:qmp.sock,server=on,wait=off",
			"-netdev", "user,id=net", "-device", "virtio-net-pci,id=nic,netdev=net,romfile=",
			"-action", "watchdog=reset,panic=none",
		}, endWithReset...)}
		if err := h.powerOn("tcg"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.powerOff() })
		return h
	}
	until := func(t *testing.T, what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("not in two minutes: %s", what)
			}
		}
	}
	ask := func(h *host, command string) func() bool {
		return func() bool { _, err := qmp(t.Context(), h.dir, command, nil); return err == nil }
	}
	t.Run("from outside", func(t *testing.T) {
		h := start(t, turns)
		first := h.machine()
		f := &Fleet{hosts: map[string]*host{"h": h}}
		until(t, "its cable is out", func() bool { return f.NetworkCut(t.Context(), "h", true) == nil })
		until(t, "it is reset", ask(h, "system_reset"))
		until(t, "another QEMU runs", func() bool {
			if !h.powered() {
				t.Fatal("its power is off meanwhile")
			}
			return h.machine() != first
		})
		if _, err := os.Stat(h.unplug()); err != nil {
			t.Errorf("its cable is forgotten: %v", err)
		}
		until(t, "its guest has begun", func() bool { state, err := runState(t.Context(), h.dir); return err == nil && state == "running" })
		second := h.machine()
		until(t, "it ends for good", ask(h, "quit"))
		until(t, "its power is off", func() bool { return !h.powered() })
		if h.machine() != second {
			t.Error("it was started anew, and nothing had reset it")
		}
	})
	t.Run("from outside, before anybody listens to it", func(t *testing.T) {
		h := start(t, turns)
		for i := range 10 {
			last := h.machine()
			until(t, "it is reset", ask(h, "system_reset"))
			until(t, "another QEMU runs", func() bool {
				if !h.powered() {
					t.Fatalf("its power is off after reset %d", i+1)
				}
				return h.machine() != last
			})
		}
	})
	t.Run("by itself, over and over", func(t *testing.T) {
		h := start(t, resets)
		for range 3 {
			last := h.machine()
			until(t, "another QEMU runs", func() bool { return h.machine() != last })
		}
		if _, err := h.powerOff(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if h.powered() {
			t.Error("its power was cut, and it is on again")
		}
	})
}
