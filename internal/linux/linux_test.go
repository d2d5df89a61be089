package linux

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/deploy"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/linux/command"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

var _ agent.System = (*Host)(nil)

const running = "6.12.111+deb12-cloud-amd64"

// machine is a root made of files, with drivers that note what they are asked.
type machine struct {
	*Host
	t       *testing.T
	answer  map[string]string // command line to output
	failing map[string]error
	ran     []command.Cmd
	loader  *fakeLoader
}

// newMachine makes a Debian virtual machine; a value beginning with -> is a link.
func newMachine(t *testing.T, files map[string]string) *machine {
	t.Helper()
	m := &machine{t: t, answer: map[string]string{"dpkg --print-architecture": "amd64\n"}, failing: map[string]error{}}
	all := map[string]string{
		"proc/sys/kernel/osrelease":      running + "\n",
		"proc/sys/kernel/random/boot_id": "8d4b7c2e-1111-2222-3333-444455556666\n",
		"proc/cmdline":                   "root=x quiet\n",
		"proc/self/mountinfo":            "20 1 259:3 / / rw - ext4 /dev/root rw\n",
		"etc/os-release":                 "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n",
	}
	for k, v := range files {
		all[k] = v
	}
	root := t.TempDir()
	for name, content := range all {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if to, ok := strings.CutPrefix(content, "->"); ok {
			err = errors.Join(err, os.Symlink(to, path))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(content), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h, err := New(Config{Root: root}, m, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m.Host = h
	h.addresses = func(string) ([]string, error) { return nil, nil }
	h.answers = func(context.Context, route) (bool, error) { return false, nil }
	return m
}

func (m *machine) withLoader() *machine {
	m.loader = &fakeLoader{}
	m.boot = m.loader
	return m
}

func (m *machine) Run(_ context.Context, c command.Cmd) (string, error) {
	m.ran = append(m.ran, c)
	return m.answer[c.String()], m.failing[c.String()]
}

func (m *machine) write(path, content string) {
	m.t.Helper()
	p := filepath.Join(m.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o644)); err != nil {
		m.t.Fatal(err)
	}
}

func trialOf(id fleet.OperationID) agent.TrialBoot {
	return agent.TrialBoot{Operation: id, Release: "6.12.117+deb12-cloud-amd64", Deadline: time.Minute}
}

type fakeLoader struct {
	BootLoader
	asked []string
	trial loader.Trial
}

func (f *fakeLoader) Present() bool                             { return true }
func (f *fakeLoader) CanInstall(string, string) error           { return nil }
func (f *fakeLoader) Problems(string) ([]loader.Problem, error) { return nil, nil }
func (f *fakeLoader) Facts() fleet.Boot                         { return fleet.Boot{Loader: "fake"} }

func (f *fakeLoader) SecureWayBack(_ context.Context, r string) error {
	f.asked = append(f.asked, "secure "+r)
	return nil
}

func (f *fakeLoader) Arm(_ context.Context, t loader.Trial) error {
	f.trial = t
	f.asked = append(f.asked, "arm")
	return nil
}

func (f *fakeLoader) Commit(_ context.Context, r string) error {
	f.asked = append(f.asked, "commit "+r)
	return nil
}
func (f *fakeLoader) OneShotProven() error { f.asked = append(f.asked, "proven"); return nil }

func TestIdentityOfTheBoot(t *testing.T) {
	m := newMachine(t, nil)
	if id, err := m.BootID(); err != nil || id != "8d4b7c2e-1111-2222-3333-444455556666" {
		t.Errorf("boot id %q, %v", id, err)
	}
	if r, err := m.Release(); err != nil || r != running {
		t.Errorf("release %q, %v", r, err)
	}
	a := m.Uptime()
	if b := m.Uptime(); a <= 0 || b < a || b > a+time.Minute {
		t.Errorf("uptime %s, then %s", a, b)
	}
	m.write("proc/sys/kernel/osrelease", "\n")
	if r, err := m.Release(); err == nil {
		t.Errorf("release %q", r)
	}
	if _, err := m.Facts(t.Context()); err == nil {
		t.Error("facts of a machine without a kernel")
	}
}

func TestATrialIsArmedOnlyWithItsDeadMan(t *testing.T) {
	m := newMachine(t, nil).withLoader()
	trial := agent.TrialBoot{Operation: "op-7.web-1", Release: "6.12.117+deb12-cloud-amd64", Deadline: 90*time.Second + time.Millisecond}
	for _, err := range []error{m.ArmTrial(t.Context(), trial), m.SecureWayBack(t.Context())} {
		e, ok := errors.AsType[*fleet.Error](err)
		if !ok || !strings.Contains(err.Error(), "dead-man is not installed") || e.Next != "run: kernwave-agent install" {
			t.Fatalf("without a dead-man: %v", err)
		}
	}
	if _, err := deploy.Install(deploy.Options{Root: m.root}); err != nil {
		t.Fatal(err)
	}
	if err := m.SecureWayBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.ArmTrial(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	got := m.loader.trial
	if got.Release != trial.Release || got.Running != running {
		t.Errorf("%+v", got)
	}
	args := strings.Join(got.Args, " ")
	for _, want := range []string{"panic=30", "oops=panic", "kernwave.trial=op-7.web-1", "kernwave.deadman=91"} {
		if !strings.Contains(args, want) {
			t.Errorf("no %s on the command line: %s", want, args)
		}
	}
	// What is armed is what the next boot reads back.
	m.write("proc/cmdline", "root=x "+args+"\n")
	if id, err := m.TrialBoot(); err != nil || id != trial.Operation {
		t.Errorf("operation %q, %v", id, err)
	}
	for _, bad := range []agent.TrialBoot{
		{Operation: "", Release: "r", Deadline: time.Minute},
		{Operation: "a b", Release: "r", Deadline: time.Minute},
		{Operation: "a'b", Release: "r", Deadline: time.Minute},
		{Operation: "../a", Release: "r", Deadline: time.Minute},
		{Operation: "a", Release: "r"},
		{Operation: "a", Release: "r", Deadline: 25 * time.Hour},
	} {
		if err := m.ArmTrial(t.Context(), bad); err == nil {
			t.Errorf("armed %+v", bad)
		}
	}
}

func TestOnlyTheRunningKernelIsCommitted(t *testing.T) {
	m := newMachine(t, nil).withLoader()
	if err := m.Commit(t.Context(), "6.99-x"); err == nil || len(m.loader.asked) > 0 {
		t.Errorf("%v, %q", err, m.loader.asked)
	}
	if err := m.Commit(t.Context(), running); err != nil || m.loader.asked[0] != "commit "+running {
		t.Errorf("%v, %q", err, m.loader.asked)
	}
}

func TestAPlainBootProvesNothing(t *testing.T) {
	m := newMachine(t, nil).withLoader()
	if err := m.OneShotProven(t.Context()); err == nil || len(m.loader.asked) > 0 {
		t.Errorf("%v, %q", err, m.loader.asked)
	}
	m.write("proc/cmdline", "kernwave.trial=op-1\n")
	if err := m.OneShotProven(t.Context()); err != nil || len(m.loader.asked) != 1 {
		t.Errorf("%v, %q", err, m.loader.asked)
	}
}

func TestWordsWithTheDeadMan(t *testing.T) {
	m := newMachine(t, map[string]string{"proc/cmdline": "quiet kernwave.trial=op-1 kernwave.deadman=60\n"})
	if err := m.ChecksPassed(t.Context(), "op-2"); err == nil {
		t.Error("told it of another operation")
	}
	if err := m.ChecksPassed(t.Context(), "op-1"); err != nil {
		t.Fatal(err)
	}
	if got := m.raw("/run/kernwave/checks-passed"); got != "op-1\n" {
		t.Errorf("wrote %q", got)
	}
	if fired, err := m.DeadManFired("op-1"); fired || err != nil {
		t.Errorf("%v, %v", fired, err)
	}
	m.write("var/lib/kernwave/deadman-op-1", "fired\n")
	if fired, err := m.DeadManFired("op-1"); !fired || err != nil {
		t.Errorf("%v, %v", fired, err)
	}
	if fired, err := m.DeadManFired("../deadman-op-1"); fired || err != nil {
		t.Errorf("a path for an operation: %v, %v", fired, err)
	}
}

func TestHostsWithoutADriverAreRefused(t *testing.T) {
	loaderInfo := func(name string) string {
		b := []byte{6, 0, 0, 0}
		for _, c := range name + "\x00" {
			b = append(b, byte(c), 0)
		}
		return string(b)
	}
	const efivar = "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	for _, c := range []struct {
		name  string
		files map[string]string
		why   string
	}{
		{"another system", map[string]string{"etc/os-release": "ID=fedora\nVERSION_ID=40\n"}, "no package driver for fedora"},
		{"no os-release", map[string]string{"etc/os-release": ""}, "an unknown system"},
		{"another loader", map[string]string{efivar: loaderInfo("refind 0.14"), "boot/grub/grub.cfg": "x"}, "boots with refind"},
		{"no GRUB", nil, "no boot loader that is known here"},
	} {
		m := newMachine(t, c.files)
		for what, err := range map[string]error{
			"SecureWayBack": m.SecureWayBack(t.Context()),
			"CanInstall":    m.CanInstall(t.Context(), fleet.Kernel{}, nil),
			"Install":       m.Install(t.Context(), fleet.Kernel{}, nil),
		} {
			if e, ok := errors.AsType[*fleet.Error](err); !ok || !strings.Contains(err.Error(), c.why) || e.Next == "" {
				t.Errorf("%s, %s: %v", c.name, what, err)
			}
		}
		if err := m.Disarm(t.Context()); err != nil && c.name != "another loader" {
			t.Errorf("%s: disarm: %v", c.name, err)
		}
		f, err := m.Facts(t.Context())
		if err != nil || f.Boot.OneShot != fleet.OneShotUnknown || f.Boot.OneShotWhy == "" {
			t.Errorf("%s: %+v, %v", c.name, f.Boot, err)
		}
	}
	m := newMachine(t, map[string]string{efivar: loaderInfo("GRUB 2.12"), "boot/grub/grub.cfg": "x"})
	if err := m.supported(); err != nil || m.bootFacts().Firmware != "uefi" {
		t.Errorf("a GRUB that says its name: %v", err)
	}
}

func TestRebootIsNeverPastTheBootLoader(t *testing.T) {
	const cmd = "systemctl --no-ask-password --message=kernwave: trial of x reboot"
	files := map[string]string{"sys/kernel/kexec_loaded": "1\n", "proc/sys/kernel/kexec_load_disabled": "0\n"}
	m := newMachine(t, files)
	m.kexec = func() error { return errors.New("operation not permitted") }
	if err := m.Reboot(t.Context(), "trial of x"); err == nil || len(m.ran) > 0 {
		t.Errorf("rebooted with a kernel loaded: %v, %v", err, m.ran)
	}
	m.kexec = func() error { return nil } // says so, and does not
	if err := m.Reboot(t.Context(), "trial of x"); err == nil || len(m.ran) > 0 {
		t.Errorf("rebooted without reading back: %v, %v", err, m.ran)
	}
	m.kexec = func() error { m.write("sys/kernel/kexec_loaded", "0\n"); return nil }
	if err := m.Reboot(t.Context(), "trial of x"); err != nil {
		t.Fatal(err)
	}
	if len(m.ran) != 1 || m.ran[0].String() != cmd || m.ran[0].Env[0] != "SYSTEMCTL_SKIP_AUTO_KEXEC=1" {
		t.Errorf("ran %v", m.ran)
	}
	if got := m.text("/proc/sys/kernel/kexec_load_disabled"); got != "1" {
		t.Errorf("another kernel can still be loaded: %q", got)
	}
	m = newMachine(t, nil) // a kernel without kexec
	m.failing[cmd] = &command.Error{Code: 1, Err: errors.New("exit status 1"), Output: "Call to Reboot failed"}
	if err := m.Reboot(t.Context(), "trial of x"); err == nil || !strings.Contains(err.Error(), "Call to Reboot failed") {
		t.Errorf("got %v", err)
	}
}

func TestSystemState(t *testing.T) {
	const is, list = "systemctl is-system-running", "systemctl list-units --failed --plain --no-legend --no-pager --full"
	for _, c := range []struct {
		state string
		up    bool
		fails bool
	}{{"running", true, false}, {"degraded", true, false}, {"starting", false, false}, {"initializing", false, false}, {"maintenance", false, false}, {"stopping", false, false}, {"offline", false, true}, {"", false, true}} {
		m := newMachine(t, nil)
		m.answer[is] = c.state + "\n"
		if c.state != "running" { // its exit code is 0 for one state only
			m.failing[is] = &command.Error{Code: 1, Err: errors.New("exit status 1")}
		}
		m.answer[list] = "b.service loaded failed failed B is broken\n● a.mount not-found failed failed a\n"
		s, err := m.SystemState(t.Context())
		if (err != nil) != c.fails || s.Up != c.up {
			t.Errorf("%q: %+v, %v", c.state, s, err)
		}
		if err == nil && strings.Join(s.FailedUnits, " ") != "a.mount b.service" {
			t.Errorf("failed units %q", s.FailedUnits)
		}
		m.failing[list] = errors.New("no")
		if _, err := m.SystemState(t.Context()); err == nil {
			t.Error("failed units that cannot be listed are none")
		}
	}
}
