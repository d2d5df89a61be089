package grub

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/command"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

// host is a fake root with GRUB and three kernels on it. Its update-grub writes what grub-mkconfig writes for the
// files that are there.
type host struct {
	t       *testing.T
	root    string
	d       *Driver
	saved   bool // /etc/default/grub has GRUB_DEFAULT=saved
	saves   bool // … and GRUB_SAVEDEFAULT=true
	deaf    bool // update-grub does not look at our drop-in
	broken  bool // update-grub fails
	updates int
	settled int
	// render changes what update-grub writes; nil: nothing.
	render func(string) string
}

func newHost(t *testing.T) *host {
	files := map[string]string{
		"proc/self/mountinfo":                     "20 1 259:3 / / rw - ext4 /dev/root rw\n",
		"sys/dev/block/259:3":                     "->../../devices/nvme0n1/nvme0n1p3",
		"sys/devices/nvme0n1/nvme0n1p3/partition": "3",
		"etc/grub.d/00_header":                    "x", "etc/default/grub": "x", "boot/grub/": "",
	}
	for _, r := range []string{newest, middle, oldest} {
		files["boot/vmlinuz-"+r], files["boot/initrd.img-"+r] = "kernel", "initrd"
	}
	h := &host{t: t, root: tree(t, files)}
	d, err := New(Config{Root: h.root}, h, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d.settle = func(string) error { h.settled++; return nil }
	h.d = d
	h.updateGrub()
	h.updates = 0
	return h
}

func (h *host) Run(_ context.Context, c command.Cmd) (string, error) {
	switch c.Name {
	case "update-grub":
		if h.broken {
			return "", &command.Error{Cmd: c, Code: 1, Err: errors.New("exit status 1"), Output: "grub-probe: error"}
		}
		h.updateGrub()
		return "", nil
	case "grub-script-check":
		return command.Exec{}.Run(h.t.Context(), c)
	}
	return "", exec.ErrNotFound
}

func (h *host) updateGrub() {
	h.updates++
	_, err := os.Stat(filepath.Join(h.root, dropIn))
	dropped := err == nil && !h.deaf
	name := "debian-submenu.cfg"
	if h.saved || dropped {
		name = "debian-submenu-saved.cfg"
	}
	if h.saves && !dropped {
		name = "debian-savedefault.cfg"
	}
	cfg := fixture(h.t, name)
	if out, err := exec.Command(filepath.Join(h.root, scriptFile)).Output(); err == nil {
		cfg += string(out)
	}
	if h.render != nil {
		cfg = h.render(cfg)
	}
	h.write(cfgFile, cfg)
}

func (h *host) write(path, content string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.root, path), []byte(content), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) setEnv(kv ...string) {
	h.t.Helper()
	e := NewEnv()
	for i := 0; i < len(kv); i += 2 {
		var err error
		if e, err = e.Set(kv[i], kv[i+1]); err != nil {
			h.t.Fatal(err)
		}
	}
	h.write(envFile, string(e.Bytes()))
}

// boots plays GRUB: it returns the entry that the next boot runs, and clears next_entry as the header does.
func (h *host) boots() *Entry {
	h.t.Helper()
	s, err := h.d.load()
	if err != nil {
		h.t.Fatal(err)
	}
	menu := s.cfg.Menu
	if src, err := os.ReadFile(filepath.Join(h.root, trialPath)); err == nil && s.cfg.SourcesTrial {
		cs, err := parseScript(string(src))
		if err != nil {
			h.t.Fatal(err)
		}
		menu = append(menu, menuOf(cs, "")...)
	}
	spec := s.cfg.Default
	if s.cfg.HonoursSaved {
		spec = s.env.Get("saved_entry")
	}
	if next := s.env.Get("next_entry"); next != "" && s.cfg.HonoursNext {
		spec = next
		cleared, err := s.env.Set("next_entry", "")
		if err != nil {
			h.t.Fatal(err)
		}
		h.write(envFile, string(cleared.Bytes()))
	}
	return resolve(menu, spec)
}

func (h *host) wantBoot(release string, trial bool) {
	h.t.Helper()
	if e := h.boots(); e.Release != release || (e.ID == TrialID) != trial {
		h.t.Fatalf("boots %s (%s), want %s, trial %v", e.Release, e.Path, release, trial)
	}
}

var trial = loader.Trial{Release: newest, Running: middle, Args: []string{"panic=30", "kernwave.trial=op-1"}}

func TestATrialIsBootedOnceAndTheWayBackHolds(t *testing.T) {
	for _, c := range []struct {
		name         string
		saved, saves bool
		env          []string
	}{
		{"default 0", false, false, nil},
		{"saved, but empty: the trap", true, false, []string{}},
		{"saved by a title that is gone", true, false, []string{"saved_entry", "gone"}},
		{"saved, another kernel", true, false, []string{"saved_entry", "1>4"}},
		{"saved by its number", true, false, []string{"saved_entry", "1>2"}},
		{"entries save themselves", true, true, []string{"saved_entry", "0", "prev_saved_entry", "0"}},
		{"armed by an agent that died", true, false, []string{"next_entry", TrialID}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.saved, h.saves = c.saved, c.saves
			h.updateGrub()
			if c.env != nil {
				h.setEnv(c.env...)
			}
			if err := h.d.Arm(t.Context(), trial); err == nil && c.env == nil {
				t.Fatal("armed without a way back")
			}
			if err := h.d.SecureWayBack(t.Context(), middle); err != nil {
				t.Fatal(err)
			}
			h.wantBoot(middle, false)
			if err := h.d.Arm(t.Context(), trial); err != nil {
				t.Fatal(err)
			}
			if got := h.d.Facts().Default; got != middle {
				t.Errorf("default is %s while armed", got)
			}
			h.wantBoot(newest, true)
			for range 3 {
				h.wantBoot(middle, false)
			}
			if err := h.d.OneShotProven(); err != nil {
				t.Fatal(err)
			}
			if got := h.d.Facts().OneShot; got != fleet.OneShotProven {
				t.Errorf("one-shot is %s", got)
			}
			if err := h.d.Commit(t.Context(), newest); err != nil {
				t.Fatal(err)
			}
			h.wantBoot(newest, false)
			if _, err := os.Stat(filepath.Join(h.root, trialPath)); err == nil {
				t.Error("the trial's entry is still there")
			}
			updates := h.updates
			if err := h.d.SecureWayBack(t.Context(), newest); err != nil || h.updates != updates {
				t.Errorf("secured again: %v, with %d updates", err, h.updates-updates)
			}
		})
	}
}

func TestDisarmTakesTheTrialBack(t *testing.T) {
	h := newHost(t)
	for range 2 { // nothing armed is no error
		if err := h.d.Disarm(); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.d.SecureWayBack(t.Context(), middle); err != nil {
		t.Fatal(err)
	}
	if err := h.d.Arm(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	if err := h.d.Disarm(); err != nil {
		t.Fatal(err)
	}
	h.wantBoot(middle, false)
	h.setEnv("next_entry", "someone's")
	if err := h.d.Disarm(); err != nil {
		t.Fatal(err)
	}
	if s, _ := h.d.load(); s.env.Get("next_entry") != "someone's" {
		t.Error("took back what someone else had set")
	}
}

func TestWhatCannotBeMendedIsRefusedAndPutBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*host)
		why   string
	}{
		{"a drop-in that does not help", func(h *host) { h.deaf = true }, "does not boot saved_entry"},
		{"update-grub fails", func(h *host) { h.broken = true }, "grub-probe: error"},
		{"GRUB cannot write", func(h *host) {
			h.write("proc/self/mountinfo", "20 1 0:30 / / rw - btrfs /dev/root rw\n")
		}, "btrfs"},
		{"read-only", func(h *host) { h.write("proc/self/mountinfo", "20 1 259:3 / / ro - ext4 /dev/root rw\n") }, "read-only"},
		{"someone's next boot", func(h *host) { h.setEnv("next_entry", "1>4") }, "someone else chose"},
		{"env_block", func(h *host) { h.setEnv("env_block", "512+1") }, "env_block"},
		{"a menu that waits", func(h *host) {
			h.write(cfgFile, strings.Replace(fixture(h.t, "debian-submenu.cfg"), "set timeout=5", "set timeout=-1", 1))
		}, "waits for a person"},
		{"a broken grub.cfg", func(h *host) { h.write(cfgFile, "menuentry 'x {") }, "not closed"},
		{"a broken block", func(h *host) { h.write(envFile, "saved_entry=x") }, "environment block"},
		{"the running kernel's file is gone", func(h *host) { os.Remove(filepath.Join(h.root, "boot/vmlinuz-"+middle)) }, "no such file"},
		{"its initrd is empty", func(h *host) { h.write("boot/initrd.img-"+middle, "") }, "empty"},
		{"the disk keeps nothing", func(h *host) { h.d.settle = func(string) error { return errors.New("input/output error") } }, "input/output error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			c.spoil(h)
			cfg, _ := os.ReadFile(filepath.Join(h.root, cfgFile))
			err := h.d.SecureWayBack(t.Context(), middle)
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Fatalf("got %v, want %q", err, c.why)
			}
			if e, ok := errors.AsType[*fleet.Error](err); !ok || e.Next == "" {
				t.Errorf("does not say what next: %#v", err)
			}
			if now, _ := os.ReadFile(filepath.Join(h.root, cfgFile)); string(now) != string(cfg) {
				t.Error("grub.cfg was not put back")
			}
			for _, f := range []string{dropIn, scriptFile} {
				if _, err := os.Stat(filepath.Join(h.root, f)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("left behind: %s", f)
				}
			}
			if err := h.d.Arm(t.Context(), trial); err == nil {
				t.Error("could be armed all the same")
			}
		})
	}
}

func TestTheRunningKernelCanBeRebootedUnderWatch(t *testing.T) {
	h := newHost(t)
	if err := h.d.SecureWayBack(t.Context(), middle); err != nil {
		t.Fatal(err)
	}
	if err := h.d.Arm(t.Context(), loader.Trial{Release: middle, Running: middle, Args: []string{"panic=30"}}); err != nil {
		t.Fatal(err)
	}
	h.wantBoot(middle, true)
	h.wantBoot(middle, false)
}

func TestArmRefusesAKernelThatCannotBoot(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*host) loader.Trial
		why   string
	}{
		{"not installed", func(*host) loader.Trial { return loader.Trial{Release: "6.99-x", Running: middle} }, "no menu entry"},
		{"no kernel file", func(h *host) loader.Trial { os.Remove(filepath.Join(h.root, "boot/vmlinuz-"+newest)); return trial }, "no such file"},
		{"an empty initrd", func(h *host) loader.Trial { h.write("boot/initrd.img-"+newest, ""); return trial }, "empty"},
		{"another kernel in its file", func(h *host) loader.Trial {
			img := make([]byte, 0xa00) // as long as its header says
			copy(img[0x202:], "HdrS")
			img[0x20e] = 0x50
			copy(img[0x250:], "6.1.0-other (build@host)")
			h.write("boot/vmlinuz-"+newest, string(img))
			return trial
		}, `holds kernel "6.1.0-other"`},
		{"an argument that is none", func(*host) loader.Trial { return loader.Trial{Release: newest, Running: middle, Args: []string{"a b"}} }, "cannot stand"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			if err := h.d.SecureWayBack(t.Context(), middle); err != nil {
				t.Fatal(err)
			}
			err := h.d.Arm(t.Context(), c.spoil(h))
			if err == nil || !strings.Contains(err.Error(), c.why) {
				t.Fatalf("got %v, want %q", err, c.why)
			}
			h.wantBoot(middle, false)
		})
	}
}

// A disk that fails while the trial is being armed must leave the host on its default.
func TestArmThatFailsHalfwayIsTakenBack(t *testing.T) {
	for at := 1; ; at++ {
		h := newHost(t)
		if err := h.d.SecureWayBack(t.Context(), middle); err != nil {
			t.Fatal(err)
		}
		n := 0
		h.d.settle = func(string) error {
			if n++; n == at {
				return errors.New("input/output error")
			}
			return nil
		}
		err := h.d.Arm(t.Context(), trial)
		if n < at {
			if err != nil {
				t.Fatal(err)
			}
			if at < 3 {
				t.Fatalf("arming settles the disk %d times: before and after next_entry are needed", n)
			}
			return
		}
		if err == nil {
			t.Fatalf("armed although settling %d failed", at)
		}
		h.wantBoot(middle, false)
	}
}

func TestAGRUBThatDoesNotForgetIsRememberedAsImpossible(t *testing.T) {
	h := newHost(t)
	if err := h.d.SecureWayBack(t.Context(), middle); err != nil {
		t.Fatal(err)
	}
	if got := h.d.Facts().OneShot; got != fleet.OneShotAssumed {
		t.Fatalf("before any trial: %s", got)
	}
	if err := h.d.Arm(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	// Booted, and next_entry still there.
	if err := h.d.OneShotProven(); err == nil || !strings.Contains(err.Error(), "did not clear") {
		t.Fatalf("got %v", err)
	}
	h.wantBoot(middle, false)
	if b := h.d.Facts(); b.OneShot != fleet.OneShotImpossible {
		t.Errorf("%+v", b)
	}
	if err := h.d.SecureWayBack(t.Context(), middle); err == nil {
		t.Error("another trial would be let through")
	}
	// A new environment block is another file: nothing has been shown about it.
	e, _ := os.ReadFile(filepath.Join(h.root, envFile))
	os.Rename(filepath.Join(h.root, envFile), filepath.Join(h.root, envFile+".old"))
	h.write(envFile, string(e))
	if b := h.d.Facts(); b.OneShot != fleet.OneShotAssumed {
		t.Errorf("%+v", b)
	}
}

func TestFactsAndEntries(t *testing.T) {
	h := newHost(t)
	b := h.d.Facts()
	if b.Loader != "grub" || b.Default != newest || !slices.Equal(b.Installed, []string{oldest, middle, newest}) {
		t.Errorf("%+v", b)
	}
	os.Remove(filepath.Join(h.root, "boot/initrd.img-"+newest))
	if ok, err := h.d.HasEntry(newest); ok || err != nil {
		t.Errorf("an entry without its initrd counts: %v, %v", ok, err)
	}
	if ok, err := h.d.HasEntry(oldest); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	h.write(cfgFile, "menuentry 'x' {\n}\n")
	if err := h.d.EnsureEntry(t.Context(), oldest); err != nil || h.updates != 1 {
		t.Errorf("%v after %d updates", err, h.updates)
	}
	if err := h.d.EnsureEntry(t.Context(), "6.99-x"); err == nil {
		t.Error("an entry for nothing")
	}
	h.write(envFile, "short")
	if b := h.d.Facts(); b.OneShot != fleet.OneShotUnknown || b.OneShotWhy == "" {
		t.Errorf("%+v", b)
	}
}

// The block must stay the same file: GRUB's and other tools' notes of where it is stay true.
func TestTheBlockIsOverwrittenInPlace(t *testing.T) {
	h := newHost(t)
	h.setEnv("a", "b")
	before, _ := os.Stat(filepath.Join(h.root, envFile))
	if err := h.d.SecureWayBack(t.Context(), middle); err != nil {
		t.Fatal(err)
	}
	after, _ := os.Stat(filepath.Join(h.root, envFile))
	if !os.SameFile(before, after) {
		t.Error("it is another file now")
	}
	if s, _ := h.d.load(); s.env.Get("a") != "b" {
		t.Error("another variable is gone")
	}
	os.Remove(filepath.Join(h.root, envFile))
	os.Symlink("elsewhere", filepath.Join(h.root, envFile))
	if err := h.d.writeEnv(NewEnv()); err == nil {
		t.Error("wrote through a link")
	}
}
