package deploy

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// machine is a fake root for the dead-man, with a systemctl that notes how it was called.
type machine struct {
	t         *testing.T
	root, bin string
	shell     []string
	systemctl string // body of the fake
	patience  string
}

func newMachine(t *testing.T, cmdline, uptime string) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), bin: t.TempDir(), shell: []string{"sh"}, patience: "1"}
	for _, d := range []string{"proc/sys/kernel", "run/kernwave", "var/lib"} {
		if err := os.MkdirAll(filepath.Join(m.root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.write("proc/cmdline", cmdline)
	m.write("proc/uptime", uptime)
	return m
}

func (m *machine) write(path, content string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, path), []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(path string) string {
	b, _ := os.ReadFile(filepath.Join(m.root, path))
	return string(b)
}

func (m *machine) start(ctx context.Context) *exec.Cmd {
	m.t.Helper()
	fake := "#!/bin/sh\necho \"$* $SYSTEMCTL_SKIP_AUTO_KEXEC\" >>" + m.root + "/called\n" + m.systemctl
	if err := os.WriteFile(filepath.Join(m.bin, "systemctl"), []byte(fake), 0o755); err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, m.shell[0], append(m.shell[1:], "deadman.sh")...)
	cmd.Env = append(os.Environ(), "PATH="+m.bin+":"+os.Getenv("PATH"), "KERNWAVE_ROOT="+m.root, "KERNWAVE_STEP=0.02", "KERNWAVE_PATIENCE="+m.patience)
	cmd.WaitDelay = time.Second
	// A group of its own, so that nothing that it started outlives the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	m.t.Cleanup(func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	return cmd
}

// run runs it to its end and returns what it said.
func (m *machine) run() string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 30*time.Second)
	defer cancel()
	out, _ := m.start(ctx).CombinedOutput()
	if ctx.Err() != nil {
		m.t.Fatalf("did not end: %s", out)
	}
	return string(out)
}

const trialLine = "BOOT_IMAGE=/boot/vmlinuz root=x quiet panic=30 kernwave.trial=op-1.a kernwave.deadman=300\n"

func TestDeadManFiresAfterTheDeadline(t *testing.T) {
	t.Parallel()
	for _, shell := range [][]string{{"dash"}, {"bash", "--posix"}, {"busybox", "sh"}} {
		t.Run(shell[0], func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(shell[0]); err != nil {
				t.Skipf("%s is not installed", shell[0])
			}
			m := newMachine(t, trialLine, "300.02 1.0\n")
			m.shell = shell
			out := m.run()
			if got := m.read("called"); got != "reboot --force 1\nreboot --force --force 1\n" {
				t.Errorf("systemctl was called as %q: %s", got, out)
			}
			// The fake machine does not go down: the kernel's own key is the last resort.
			if m.read("proc/sysrq-trigger") != "b\n" || m.read("proc/sys/kernel/sysrq") != "1\n" {
				t.Errorf("sysrq %q: %s", m.read("proc/sysrq-trigger"), out)
			}
			if got := m.read("var/lib/kernwave/deadman-op-1.a"); got != "fired 300.02 s after boot, deadline 300 s\n" {
				t.Errorf("note %q", got)
			}
		})
	}
}

func TestDeadManStandsDown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, cmdline, passed, says string }{
		{"checks passed", trialLine, "op-1.a\n", "the checks passed"},
		{"checks passed, without a newline", trialLine, "op-1.a", "the checks passed"},
		{"a plain boot", "root=x quiet\n", "", "no trial"},
		{"no newline", "root=x quiet", "", "no trial"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, c.cmdline, "9999.00 1.0\n")
			if c.passed != "" {
				m.write("run/kernwave/checks-passed", c.passed)
			}
			if out := m.run(); !strings.Contains(out, c.says) || m.read("called") != "" {
				t.Errorf("%q, systemctl %q", out, m.read("called"))
			}
		})
	}
}

func TestDeadManWaitsForTheDeadlineAndForItsOwnOperation(t *testing.T) {
	t.Parallel()
	m := newMachine(t, trialLine, "12.00 1.0\n")
	m.write("run/kernwave/checks-passed", "op-of-another-boot\n")
	noted := "#!/bin/sh\necho >>" + m.root + "/slept\nexec /bin/sleep \"$@\"\n"
	if err := os.WriteFile(filepath.Join(m.bin, "sleep"), []byte(noted), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := m.start(t.Context())
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It reads the uptime again and again: let it see a later one, still before the deadline, then the deadline.
	m.write("proc/uptime", "299.99 1.0\n")
	for seen := len(m.read("slept")); len(m.read("slept")) < seen+3; time.Sleep(time.Millisecond) {
		if t.Context().Err() != nil {
			t.Fatal("it does not look again")
		}
	}
	if m.read("called") != "" {
		t.Error("fired before the deadline")
	}
	m.write("proc/uptime", "301.00 1.0\n")
	_ = cmd.Wait()
	if !strings.HasPrefix(m.read("called"), "reboot --force 1\n") {
		t.Errorf("did not fire: %s", out.String())
	}
}

func TestDeadManWithWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, deadline := range map[string]string{"none": "", "letters": "kernwave.deadman=soon", "empty": "kernwave.deadman=", "negative": "kernwave.deadman=-1", "huge": "kernwave.deadman=99999999999999999999"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, "kernwave.trial=../../etc/x "+deadline+"\n", "900.00 1.0\n")
			out := m.run()
			if !strings.Contains(out, "taking 900") || !strings.HasPrefix(m.read("called"), "reboot --force 1\n") {
				t.Errorf("%q: %s", m.read("called"), out)
			}
			if es, _ := os.ReadDir(filepath.Join(m.root, "var/lib")); len(es) > 0 {
				t.Errorf("wrote a note named by a path: %v", es)
			}
		})
	}
}

func TestDeadManIsNotHeldUp(t *testing.T) {
	t.Parallel()
	m := newMachine(t, trialLine, "300.00 1.0\n")
	m.systemctl, m.patience = "exec sleep 600 >/dev/null 2>&1\n", "1" // a service manager that does not answer
	if err := os.RemoveAll(filepath.Join(m.root, "var")); err != nil {
		t.Fatal(err)
	}
	m.write("var", "not a folder, so the note cannot be written")
	if out := m.run(); m.read("proc/sysrq-trigger") != "b\n" {
		t.Errorf("got no further: %s", out)
	}
	m = newMachine(t, trialLine, "300.00 1.0\n")
	m.systemctl = "exit 127\n"
	if out := m.run(); m.read("proc/sysrq-trigger") != "b\n" {
		t.Errorf("gave up: %s", out)
	}
}

func TestShellcheckHasNothingToSay(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Skip("shellcheck is not installed")
	}
	if out, err := exec.Command("shellcheck", "-s", "sh", "deadman.sh").CombinedOutput(); err != nil {
		t.Errorf("%s", out)
	}
}
