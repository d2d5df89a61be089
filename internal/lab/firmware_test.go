package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A machine whose firmware turns in a circle or sleeps for good is power-cycled, three times and not more often, and
// each time is said; one that waits for whoever starts it is not.
func TestFirmwareThatStandsStill(t *testing.T) {
	qemu := tool("qemu-system-x86_64")
	if _, err := os.Stat(qemu); err != nil {
		t.Skipf("starts a virtual machine: %v; next: scripts/setup.sh installs it", err)
	}
	const short, never = 100 * time.Millisecond, time.Hour
	for _, tc := range []struct {
		name, code string // what a processor begins with
		args       []string
		most, wait time.Duration
		cycles     int
	}{
		{"turns in a circle", "\xeb\xfe", nil, short, never, firmwareCycles}, // jmp $
		{"sleeps", "\xfa\xf4\xeb\xfd", nil, never, short, firmwareCycles},    // cli; hlt; jmp back
		{"waits to be started", "\xeb\xfe", []string{"-S"}, short, short, 0}, // jmp $
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			rom := make([]byte, 64<<10)
			copy(rom[len(rom)-16:], tc.code)
			if err := os.WriteFile(filepath.Join(dir, "rom"), rom, 0o644); err != nil {
				t.Fatal(err)
			}
			h := &host{spec: HostSpec{Name: "h"}, dir: dir, args: append(tc.args, "-accel", "tcg", "-M", "q35", "-m", "64", "-nodefaults", "-no-user-config",
				"-display", "none", "-bios", "rom", "-qmp", "unix:qmp.sock,server=on,wait=off")}
			if err := h.powerOn(""); err != nil {
				t.Fatal(err)
			}
			defer h.powerOff()
			first := h.machine()
			events := make(chan Event, 100)
			f := &Fleet{im: &Images{}, hosts: map[string]*host{"h": h}, steps: &steps{to: func(e Event) { events <- e }}}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				f.watchFirmware(ctx, 20*time.Millisecond, tc.most, tc.wait)
			}()
			for cycles := 0; cycles < tc.cycles; {
				select {
				case e := <-events:
					if !e.Done {
						continue
					}
					cycles++
					if e.Err != nil || !strings.Contains(e.Note, "wrote nothing; running") {
						t.Errorf("%s (%s): %v", e, e.Note, e.Err)
					}
				case <-time.After(2 * time.Minute):
					t.Fatalf("power-cycled %d times, want %d", cycles, tc.cycles)
				}
			}
			time.Sleep(10 * short) // and not once more
			stop()
			<-done
			if len(events) > 0 {
				t.Errorf("and once more: %s", <-events)
			}
			if n := f.PowerCycles("h"); n != tc.cycles {
				t.Errorf("%d power cycles are counted, want %d", n, tc.cycles)
			}
			if same := h.machine() == first; same != (tc.cycles == 0) {
				t.Errorf("the same process as in the beginning: %v", same)
			}
		})
	}
}
