package lab

import (
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"
)

// A machine that is on but has not begun stands at its reset vector; one that is gone cannot be asked.
func TestWhereabouts(t *testing.T) {
	qemu := tool("qemu-system-x86_64")
	if _, err := os.Stat(qemu); err != nil {
		t.Skipf("starts a virtual machine: %v; next: scripts/setup.sh installs it", err)
	}
	dir := t.TempDir()
	cmd := exec.Command(qemu, "-accel", "tcg", "-M", "q35", "-m", "64", "-nodefaults", "-no-user-config", "-display", "none",
		"-qmp", "unix:qmp.sock,server=on,wait=off", "-S")
	cmd.Dir = dir
	p, err := spawn(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	at := ""
	for began := time.Now(); at == "" && p.running() && time.Since(began) < time.Minute; time.Sleep(50 * time.Millisecond) {
		at = whereabouts(dir)
	}
	if want := regexp.MustCompile(`^prelaunch( [RE]SP=0+ [RE]IP=0*fff0 HLT=0){2}$`); !want.MatchString(at) {
		t.Errorf("whereabouts: %q, want %s", at, want)
	}
	p.kill()
	if at := whereabouts(dir); at != "" {
		t.Errorf("whereabouts of a machine that is gone: %q", at)
	}
}
