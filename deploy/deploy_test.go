package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestInstallTwiceIsInstallOnce(t *testing.T) {
	o := Options{Root: t.TempDir(), Agent: "/opt/kernwave/kernwave-agent"}
	if m, err := Missing(o); err != nil || len(m) != 7 {
		t.Fatalf("missing before: %q, %v", m, err)
	}
	for i, want := range []bool{true, false} {
		if changed, err := Install(o); err != nil || changed != want {
			t.Fatalf("time %d: changed %v, %v", i+1, changed, err)
		}
	}
	if m, err := Missing(o); err != nil || len(m) > 0 {
		t.Errorf("missing after: %q, %v", m, err)
	}
	if m, err := Missing(Options{Root: o.Root}); err != nil || len(m) > 0 {
		t.Errorf("an agent at another path counts as missing: %q, %v", m, err)
	}
	unit, err := os.ReadFile(filepath.Join(o.Root, unitDir, AgentUnit))
	if err != nil || !strings.Contains(string(unit), "\nExecStart=/opt/kernwave/kernwave-agent run\n") || strings.Contains(string(unit), "@") {
		t.Errorf("%s, %v", unit, err)
	}
	for _, target := range []string{"sysinit.target", "emergency.target", "rescue.target"} {
		// A link that leads nowhere would not be an enabled unit.
		if _, err := os.Stat(filepath.Join(o.Root, unitDir, target+".wants", DeadManUnit)); err != nil {
			t.Error(err)
		}
	}
	// What someone changed is put back.
	script := filepath.Join(o.Root, DeadManScript)
	for _, spoil := range []func() error{
		func() error { return os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755) },
		func() error { return os.Chmod(script, 0o600) },
		func() error { return os.Remove(filepath.Join(o.Root, unitDir, "sysinit.target.wants", DeadManUnit)) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if m, _ := Missing(o); len(m) != 1 {
			t.Errorf("not noticed: %q", m)
		}
		if changed, err := Install(o); err != nil || !changed {
			t.Errorf("changed %v, %v", changed, err)
		}
	}
}

func TestPathsThatAUnitCannotHold(t *testing.T) {
	for _, p := range []string{"kernwave-agent", "/a b", "/a%b", "/a\nb", "/$a"} {
		if _, err := Install(Options{Root: t.TempDir(), Agent: p}); err == nil {
			t.Errorf("%q was accepted", p)
		}
	}
}

func TestSystemdReadsTheUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed: the units are only read by people here")
	}
	dir := t.TempDir()
	for _, u := range []string{AgentUnit, DeadManUnit} {
		b, err := files.ReadFile("systemd/" + u)
		if err != nil {
			t.Fatal(err)
		}
		// The agent's binary need not be here; what is checked is the unit.
		text := strings.ReplaceAll(string(b), agentMark, "/bin/true")
		if err := os.WriteFile(filepath.Join(dir, u), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--generators=no", filepath.Join(dir, u)).CombinedOutput()
		if err != nil || strings.Contains(string(out), u) {
			t.Errorf("%s: %v: %s", u, err, out)
		}
	}
}
