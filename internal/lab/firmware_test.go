package lab

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A machine whose firmware turns in a circle is reset, three times and not more often, and each time is said; one that
// waits for whoever starts it is not.
func TestFirmwareThatStandsStill(t *testing.T) {
	qemu := tool("qemu-system-x86_64")
	if _, err := os.Stat(qemu); err != nil {
		t.Skipf("starts a virtual machine: %v; next: scripts/setup.sh installs it", err)
	}
	events := make(chan Event, 100)
	f := &Fleet{hosts: map[string]*host{}, steps: &steps{to: func(e Event) { events <- e }}}
	for name, args := range map[string][]string{"circle": nil, "waits": {"-S"}} {
		dir := t.TempDir()
		rom := make([]byte, 64<<10)
		copy(rom[len(rom)-16:], "\xeb\xfe") // where a processor begins: jmp $
		if err := os.WriteFile(filepath.Join(dir, "rom"), rom, 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(qemu, append(args, "-accel", "tcg", "-M", "q35", "-m", "64", "-nodefaults", "-no-user-config", "-display", "none",
			"-bios", "rom", "-qmp", "unix:qmp.sock,server=on,wait=off")...)
		cmd.Dir = dir
		p, err := spawn(cmd)
		if err != nil {
			t.Fatal(err)
		}
		defer p.kill()
		f.hosts[name] = &host{spec: HostSpec{Name: name, Loader: SystemdBoot}, dir: dir, vm: p}
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.watchFirmware(ctx, 20*time.Millisecond, 100*time.Millisecond)
	}()
	for reset := 0; reset < firmwareResets; {
		select {
		case e := <-events:
			if !e.Done {
				continue
			}
			reset++
			if e.Host != "circle" || e.Err != nil || !strings.Contains(e.Note, "wrote nothing; running") {
				t.Errorf("%s (%s): %v", e, e.Note, e.Err)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("reset %d times, want %d", reset, firmwareResets)
		}
	}
	for _, h := range f.hosts {
		for began := f.CPU(h.spec.Name); h.spec.Name == "circle" && f.CPU("circle") < began+500*time.Millisecond; {
			time.Sleep(20 * time.Millisecond)
		}
	}
	stop()
	<-done
	if len(events) > 0 {
		t.Errorf("and once more: %s", <-events)
	}
}
