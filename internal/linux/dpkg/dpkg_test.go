package dpkg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/command"
)

const running = "6.12.8-amd64"

// sandbox is a folder with a dpkg database of its own; the real dpkg works in it.
type sandbox struct {
	t    *testing.T
	root string
	d    *Driver
	free uint64
	// fail makes dpkg --install fail before or after its work.
	failAfter bool
	cutAfter  bool   // the power goes when dpkg --install has ended
	image     string // what vmlinuz holds
	ran       []string
}

var errPowerCut = errors.New("power cut")

func newSandbox(t *testing.T) *sandbox {
	for _, tool := range []string{"dpkg", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: installing is not tested here", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("not root: dpkg cannot change to the sandbox")
	}
	s := &sandbox{t: t, root: t.TempDir(), free: 1 << 40, image: "kernel"}
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "boot", "lib/modules"} {
		if err := os.MkdirAll(filepath.Join(s.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.write("var/lib/dpkg/status", "")
	s.d = New(Config{Root: s.root, LockWait: time.Millisecond}, s, slog.New(slog.DiscardHandler))
	s.d.space = func(string) (volume, error) { return volume{id: 1, free: s.free, noInodes: true}, nil }
	return s
}

func (s *sandbox) Run(ctx context.Context, c command.Cmd) (string, error) {
	s.ran = append(s.ran, c.String())
	out, err := command.Exec{}.Run(ctx, c)
	if s.cutAfter && strings.Contains(c.String(), "--force-confold --install") && !strings.Contains(c.String(), "--no-act") {
		panic(errPowerCut)
	}
	if s.failAfter && strings.Contains(c.String(), "--force-confold --install") && !strings.Contains(c.String(), "--no-act") {
		return out, &command.Error{Cmd: c, Code: 1, Err: errors.New("exit status 1"), Output: out}
	}
	return out, err
}

func (s *sandbox) write(path, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.root, path), []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// deb builds a kernel package for release and says what kernel it is.
func (s *sandbox) deb(name, version, release, fields string) (fleet.Kernel, []string) {
	s.t.Helper()
	dir := s.t.TempDir()
	for path, content := range map[string]string{
		"DEBIAN/control":                          fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: T <t@t>\nInstalled-Size: 2048\n%sDescription: t\n", name, version, fields),
		"boot/vmlinuz-" + release:                 s.image,
		"lib/modules/" + release + "/kernel/a.ko": "module",
	} {
		p := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o644)); err != nil {
			s.t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "out.deb")
	if out, err := exec.Command("dpkg-deb", "-Znone", "--build", dir, file).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return fleet.Kernel{ID: fleet.KernelID(release), Release: release, Packages: []fleet.Package{{Name: name, Version: version, Arch: "amd64"}}}, []string{file}
}

func (s *sandbox) install(k fleet.Kernel, files []string) {
	s.t.Helper()
	if err := s.d.CanInstall(s.t.Context(), k, files, running); err != nil {
		s.t.Fatal(err)
	}
	if err := s.d.Install(s.t.Context(), k, files, running); err != nil {
		s.t.Fatal(err)
	}
}

func TestInstallBesideAndAgain(t *testing.T) {
	s := newSandbox(t)
	k, files := s.deb("linux-image-6.12.9-amd64", "6.12.9-1", "6.12.9-amd64", "")
	before := snapshot(t, s.root)
	if err := s.d.CanInstall(t.Context(), k, files, running); err != nil {
		t.Fatal(err)
	}
	if now := snapshot(t, s.root); now != before {
		t.Errorf("CanInstall changed files:\n%s\n%s", before, now)
	}
	s.install(k, files)
	if b, err := os.ReadFile(filepath.Join(s.root, "boot/vmlinuz-6.12.9-amd64")); err != nil || string(b) != "kernel" {
		t.Errorf("%q, %v", b, err)
	}
	s.ran = nil
	s.install(k, files)
	for _, c := range s.ran {
		if strings.Contains(c, "--install") {
			t.Errorf("installed again: %s", c)
		}
	}
	keep, err := os.ReadFile(filepath.Join(s.root, autoremoveFile))
	if err != nil || !strings.Contains(string(keep), `"^linux-.*-6[.]12[.]8-amd64(-unsigned)?$"`) || !strings.Contains(string(keep), `6[.]12[.]9-amd64`) {
		t.Errorf("apt may remove them: %s, %v", keep, err)
	}
}

// snapshot lists what there is, apart from dpkg's lock files.
func snapshot(t *testing.T, root string) string {
	t.Helper()
	out, err := exec.Command("find", root, "-not", "-name", "lock*", "-type", "f", "-printf", "%P %s %T@\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestWhatCannotBeInstalledIsRefusedBefore(t *testing.T) {
	const name, version, release = "linux-image-6.12.9-amd64", "6.12.9-1", "6.12.9-amd64"
	for _, c := range []struct {
		name   string
		fields string
		spoil  func(*sandbox, *fleet.Kernel, []string)
		why    string
	}{
		{"a dependency is missing", "Depends: linux-base (>= 4.3~)\n", nil, "linux-image-6.12.9-amd64 needs linux-base (>= 4.3~)"},
		{"another package would go", "Conflicts: old\nReplaces: old\nProvides: old\n", func(s *sandbox, _ *fleet.Kernel, _ []string) {
			s.install(s.deb("old", "1", "6.0-amd64", ""))
		}, "will remove old"},
		{"a conflict", "Conflicts: old\n", func(s *sandbox, _ *fleet.Kernel, _ []string) {
			s.install(s.deb("old", "1", "6.0-amd64", ""))
		}, "conflict"},
		{"no room", "", func(s *sandbox, _ *fleet.Kernel, _ []string) { s.free = 20 << 20 }, "is too small: 66 MiB are needed, 4 MiB are free"},
		{"no room in boot for the initrd", "", func(s *sandbox, _ *fleet.Kernel, _ []string) {
			s.write("boot/initrd.img-"+running, strings.Repeat("x", 3<<20))
			s.free = 20 << 20
		}, "/boot is too small: 23 MiB are needed, 20 MiB are free"},
		{"another version", "", func(_ *sandbox, k *fleet.Kernel, _ []string) { k.Packages[0].Version = "6.12.9-2" }, "the file is linux-image-6.12.9-amd64 6.12.9-1 amd64, not"},
		{"another architecture", "", func(_ *sandbox, k *fleet.Kernel, _ []string) { k.Packages[0].Arch = "arm64" }, "not linux-image-6.12.9-amd64 6.12.9-1 arm64"},
		{"another release", "", func(_ *sandbox, k *fleet.Kernel, _ []string) { k.Release = "6.12.10-amd64" }, "none of its packages brings /boot/vmlinuz-6.12.10-amd64"},
		{"not a package", "", func(s *sandbox, _ *fleet.Kernel, files []string) { os.WriteFile(files[0], []byte("hello"), 0o644) }, "dpkg-deb"},
		{"a torn package", "", func(s *sandbox, _ *fleet.Kernel, files []string) { os.Truncate(files[0], 9000) }, "dpkg-deb"},
		{"the running release", "", func(_ *sandbox, k *fleet.Kernel, _ []string) { k.Release = running }, "running kernel's release"},
		{"no files", "", func(_ *sandbox, k *fleet.Kernel, _ []string) { k.Packages = nil }, "1 files for 0 packages"},
		{"dpkg stopped halfway", "", func(s *sandbox, _ *fleet.Kernel, _ []string) {
			_, files := s.deb("half", "1", "6.0-amd64", "Depends: nothing\n")
			exec.Command("dpkg", "--root="+s.root, "--install", files[0]).Run()
		}, "dpkg stopped halfway with half (unpacked)"},
		{"no status", "", func(s *sandbox, _ *fleet.Kernel, _ []string) { s.write("var/lib/dpkg/status", "garbage") }, "list the installed packages"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSandbox(t)
			k, files := s.deb(name, version, release, c.fields)
			if c.spoil != nil {
				c.spoil(s, &k, files)
			}
			before := snapshot(t, s.root)
			err := s.d.CanInstall(t.Context(), k, files, running)
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Fatalf("got %v, want %q", err, c.why)
			}
			if e, ok := errors.AsType[*fleet.Error](err); !ok || e.Next == "" {
				t.Errorf("does not say what next: %v", err)
			}
			if now := snapshot(t, s.root); now != before {
				t.Errorf("changed files:\n%s\n%s", before, now)
			}
		})
	}
}

func TestAPackageThatBringsFilesOfTheRunningKernelIsRefused(t *testing.T) {
	s := newSandbox(t)
	k, files := s.deb("linux-image-other", "1", running, "")
	k.Release = "6.12.9-amd64"
	if err := s.d.CanInstall(t.Context(), k, files, running); err == nil || !strings.Contains(err.Error(), "belongs to the running kernel") {
		t.Fatalf("got %v", err)
	}
	// Exactly what is installed and runs is fine: there is nothing to do.
	k.Release = running
	s.install2(k, files)
	if err := s.d.CanInstall(t.Context(), k, files, running); err != nil {
		t.Fatal(err)
	}
	newer, newerFiles := s.deb("linux-image-other", "2", running, "")
	if err := s.d.Install(t.Context(), newer, newerFiles, running); err == nil || !strings.Contains(err.Error(), "would overwrite") {
		t.Fatalf("got %v", err)
	}
}

// install2 installs as someone who runs another kernel.
func (s *sandbox) install2(k fleet.Kernel, files []string) {
	s.t.Helper()
	if err := s.d.Install(s.t.Context(), k, files, "other"); err != nil {
		s.t.Fatal(err)
	}
}

func TestAHeldLockIsSaid(t *testing.T) {
	s := newSandbox(t)
	k, files := s.deb("linux-image-6.12.9-amd64", "6.12.9-1", "6.12.9-amd64", "")
	for _, lock := range lockFiles {
		release := holdLock(t, filepath.Join(s.root, lock))
		err := s.d.CanInstall(t.Context(), k, files, running)
		if err == nil || !strings.Contains(err.Error(), "dpkg is locked by python3 (process ") {
			t.Errorf("%s: %v", lock, err)
		}
		if err := s.d.Install(t.Context(), k, files, running); err == nil || !strings.Contains(err.Error(), "also after waiting") {
			t.Errorf("%s: %v", lock, err)
		}
		if err := s.d.Healthy(t.Context()); err == nil {
			t.Error("healthy while locked")
		}
		release()
	}
	s.install(k, files)
}

// holdLock has another process hold a lock as apt does.
func holdLock(t *testing.T, path string) (release func()) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed: no other process to hold the lock")
	}
	cmd := exec.Command("python3", "-c", "import fcntl,sys\nf=open(sys.argv[1],'w')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint('held',flush=True)\nsys.stdin.read()", path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if b := make([]byte, 4); true {
		if _, err := io.ReadFull(out, b); err != nil || string(b) != "held" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	return func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

func TestAFailedInstallationIsTakenOff(t *testing.T) {
	s := newSandbox(t)
	k, files := s.deb("linux-image-6.12.9-amd64", "6.12.9-1", "6.12.9-amd64", "Depends: nothing\n")
	err := s.d.Install(t.Context(), k, files, running) // dpkg itself refuses to configure it
	if err == nil || !strings.Contains(err.Error(), "dependency problems") {
		t.Fatalf("got %v", err)
	}
	if ps, err := s.d.packages(t.Context()); err != nil || len(ps) != 0 {
		t.Errorf("left behind: %v, %v", ps, err)
	}
	if _, err := os.Stat(filepath.Join(s.root, "boot/vmlinuz-6.12.9-amd64")); err == nil {
		t.Error("its kernel is still in /boot")
	}
	// A package that the host had before stays, whatever happens.
	old, oldFiles := s.deb("linux-image-6.0-amd64", "1", "6.0-amd64", "")
	s.install(old, oldFiles)
	newer, newerFiles := s.deb("linux-image-6.0-amd64", "2", "6.0-amd64", "")
	s.failAfter = true
	if err := s.d.Install(t.Context(), newer, newerFiles, running); err == nil {
		t.Fatal("no error")
	}
	if ps, err := s.d.packages(t.Context()); err != nil || len(ps) != 1 {
		t.Errorf("%v, %v", ps, err)
	}
}

// dpkg syncs the files that it unpacks, but not what maintainer scripts make: a power cut right after dpkg has written
// "installed" can leave an empty modules.dep behind. What a cut has interrupted is installed again.
func TestAnInstallationThatWasCutOffIsDoneAgain(t *testing.T) {
	s := newSandbox(t)
	k, files := s.deb("linux-image-6.12.9-amd64", "6.12.9-1", "6.12.9-amd64", "")
	module := filepath.Join(s.root, "lib/modules/6.12.9-amd64/kernel/a.ko")
	s.cutAfter = true
	func() {
		defer func() {
			if recover() != errPowerCut {
				t.Fatal("the power was not cut")
			}
		}()
		_ = s.d.Install(t.Context(), k, files, running)
	}()
	s.cutAfter = false
	if ps, err := s.d.packages(t.Context()); err != nil || !ps.has(k) {
		t.Fatalf("dpkg does not say installed: %v, %v; this shows nothing", ps, err)
	}
	s.write("lib/modules/6.12.9-amd64/kernel/a.ko", "")
	s.install(k, files)
	if b, err := os.ReadFile(module); err != nil || string(b) != "module" {
		t.Errorf("after the next installation the module holds %q, %v", b, err)
	}
	s.ran = nil
	s.install(k, files)
	for _, c := range s.ran {
		if strings.Contains(c, "--install") {
			t.Errorf("installed once more, without a reason: %s", c)
		}
	}
	// Another kernel's unfinished installation is no reason to repeat this one's.
	if err := s.d.begin(fleet.Kernel{ID: "other", Packages: []fleet.Package{{Name: "linux-image-other", Version: "1"}}}); err != nil {
		t.Fatal(err)
	}
	s.install(k, files)
	for _, c := range s.ran {
		if strings.Contains(c, "--install") {
			t.Errorf("installed for another kernel's sake: %s", c)
		}
	}
}

// The operation that a power cut interrupted was called off; the next kernel finds what it left behind.
func TestWhatWasLeftHalfwayOfAnotherKernelIsTakenOff(t *testing.T) {
	s := newSandbox(t)
	half, halfFiles := s.deb("linux-image-6.12.9-amd64", "6.12.9-1", "6.12.9-amd64", "")
	k, files := s.deb("linux-image-6.12.10-amd64", "6.12.10-1", "6.12.10-amd64", "")
	unpack := func() {
		t.Helper()
		if out, err := exec.Command("dpkg", "--root="+s.root, "--unpack", halfFiles[0]).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	unpack()
	if err := s.d.CanInstall(t.Context(), k, files, running); err == nil || !strings.Contains(err.Error(), "dpkg stopped halfway with "+half.Packages[0].Name) {
		t.Fatalf("somebody else's half installed package: %v", err)
	}
	if err := s.d.begin(half); err != nil {
		t.Fatal(err)
	}
	if err := s.d.CanInstall(t.Context(), k, files, half.Release); err == nil {
		t.Fatal("the running kernel's packages would be taken off")
	}
	s.install(k, files)
	if ps, err := s.d.packages(t.Context()); err != nil || len(ps) != 1 || !ps.has(k) {
		t.Errorf("installed are %v, %v; want the new kernel alone", ps, err)
	}
	if err := s.d.Healthy(t.Context()); err != nil {
		t.Error(err)
	}
}

// A kernel whose file is cut short stops the machine for good at boot. It does not stay in /boot.
func TestAKernelThatIsCutShortIsTakenOff(t *testing.T) {
	s := newSandbox(t)
	s.image = string(append(append(make([]byte, 0x202), "HdrS"...), make([]byte, 600)...))
	b := []byte(s.image)
	b[0x1f1], b[0x1f4] = 3, 255 // four sectors of setup and 4080 bytes
	s.image = string(b)
	k, files := s.deb("linux-image-6.12.9-amd64", "6.12.9-1", "6.12.9-amd64", "")
	err := s.d.Install(t.Context(), k, files, running)
	if err == nil || !strings.Contains(err.Error(), "/boot/vmlinuz-6.12.9-amd64") || !strings.Contains(err.Error(), "cut short: it has 1118 bytes and says that it needs 6128") {
		t.Fatalf("got %v", err)
	}
	if ps, err := s.d.packages(t.Context()); err != nil || len(ps) != 0 {
		t.Errorf("left behind: %v, %v", ps, err)
	}
}

// What a power cut left half installed was never there before: when it cannot be installed after all, it goes.
func TestWhatACutLeftBehindIsTakenOffToo(t *testing.T) {
	s := newSandbox(t)
	k, files := s.deb("linux-image-6.12.9-amd64", "6.12.9-1", "6.12.9-amd64", "Depends: nothing\n")
	if out, err := exec.Command("dpkg", "--root="+s.root, "--unpack", files[0]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := s.d.Install(t.Context(), k, files, running); err == nil {
		t.Fatal("no error")
	}
	if ps, err := s.d.packages(t.Context()); err != nil || len(ps) != 0 {
		t.Errorf("left behind: %v, %v", ps, err)
	}
}

// An installation that a power cut has left halfway is taken up again.
func TestOurOwnHalfInstalledPackageIsNoReasonToRefuse(t *testing.T) {
	s := newSandbox(t)
	k, files := s.deb("linux-image-6.12.9-amd64", "6.12.9-1", "6.12.9-amd64", "")
	if out, err := exec.Command("dpkg", "--root="+s.root, "--unpack", files[0]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.install(k, files)
	if err := s.d.Healthy(t.Context()); err != nil {
		t.Error(err)
	}
}
