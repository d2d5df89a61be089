package efivar

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/fleet"
)

// firmware is a folder that stands for efivarfs, and notes what is done with the flags.
func firmware(t *testing.T) (Variables, *[]string) {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, Dir), 0o755); err != nil {
		t.Fatal(err)
	}
	v := New(root)
	var did []string
	v.Immutable = func(f *os.File, on bool) (bool, error) {
		name, _, _ := strings.Cut(filepath.Base(f.Name()), "-")
		did = append(did, map[bool]string{true: "protect ", false: "unprotect "}[on]+name)
		return true, nil
	}
	return v, &did
}

func TestAVariableIsWrittenInOneCallAndProtectedAgain(t *testing.T) {
	v, did := firmware(t)
	for _, text := range []string{"debian-6.1.conf", "é.conf", ""} {
		if err := v.Set(Default, text); err != nil {
			t.Fatal(err)
		}
		if got, err := v.Text(Default); err != nil || got != text {
			t.Errorf("reads back %q, %v", got, err)
		}
	}
	if want := []string{"protect " + Default, "unprotect " + Default, "protect " + Default, "unprotect " + Default}; !slices.Equal(*did, want) {
		t.Errorf("did %q, want %q", *did, want)
	}
	if _, err := os.Stat(v.path(Default, loaderGUID)); err == nil {
		t.Error("an empty text leaves the variable")
	}
	if err := v.Set(Default, ""); err != nil { // nothing to delete
		t.Error(err)
	}
	if err := v.Set(OneShot, "a"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(v.path(OneShot, loaderGUID))
	if err != nil || string(b) != "\x07\x00\x00\x00a\x00\x00\x00" {
		t.Errorf("the firmware got %q, %v", b, err)
	}
}

func TestWhatTheFirmwareRefuses(t *testing.T) {
	v, _ := firmware(t)
	v.Immutable = func(*os.File, bool) (bool, error) { return false, unix.ENOSPC }
	if err := os.WriteFile(v.path(Default, loaderGUID), []byte("\x07\x00\x00\x00a\x00\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := v.Set(Default, "b")
	e, ok := errors.AsType[*fleet.Error](err)
	if !ok || !strings.Contains(e.Next, "is full") {
		t.Errorf("a full memory: %v", err)
	}
	if got, _ := v.Text(Default); got != "a" {
		t.Errorf("now it is %q", got)
	}
	for name, b := range map[string]string{"short": "\x07\x00", "odd": "\x07\x00\x00\x00a", "long": strings.Repeat("a", maxVariable+1)} {
		if err := os.WriteFile(v.path(Info, loaderGUID), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := v.Text(Info); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestWhetherVariablesCanBeUsed(t *testing.T) {
	const line = "31 30 0:23 / /sys/firmware/efi/efivars rw,nosuid - efivarfs efivarfs "
	for _, c := range []struct {
		name, mounts string
		readOnly     bool
		fails        bool
	}{
		{"mounted", line + "rw\n", false, false},
		{"read-only", line + "ro\n", true, false},
		{"read-only mount", strings.Replace(line, "rw,", "ro,", 1) + "rw\n", true, false},
		{"not mounted", "20 1 259:3 / / rw - ext4 /dev/root rw\n", false, true},
		{"a folder over it", line + "rw\n32 31 0:99 / /sys/firmware/efi/efivars rw - tmpfs x rw\n", false, true},
	} {
		v, _ := firmware(t)
		path := filepath.Join(v.root, "proc/self/mountinfo")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(c.mounts), 0o600)); err != nil {
			t.Fatal(err)
		}
		ro, err := v.Usable()
		if ro != c.readOnly || (err != nil) != c.fails {
			t.Errorf("%s: %v, %v", c.name, ro, err)
		}
		if e, ok := errors.AsType[*fleet.Error](err); c.fails && (!ok || e.Next == "") {
			t.Errorf("%s: does not say what to do: %v", c.name, err)
		}
	}
}

func TestWhatUEFISays(t *testing.T) {
	v, _ := firmware(t)
	if BootNext(v.root) || BootedBy(v.root) != "" {
		t.Error("says something of nothing")
	}
	if on, known := SecureBoot(v.root); on || known {
		t.Error("Secure Boot of nothing")
	}
	for path, b := range map[string]string{
		v.path("BootNext", globalGUID): "\x07\x00\x00\x00\x03\x00", v.path("SecureBoot", globalGUID): "\x06\x00\x00\x00\x01",
		v.path(Info, loaderGUID):    "\x06\x00\x00\x00" + string(EncodeText("systemd-boot 252.39")),
		v.path(Entries, loaderGUID): "\x06\x00\x00\x00" + string(EncodeText("a.conf")) + string(EncodeText("auto-windows")),
	} {
		if err := os.WriteFile(path, []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	on, known := SecureBoot(v.root)
	if !BootNext(v.root) || !on || !known || BootedBy(v.root) != "systemd-boot 252.39" {
		t.Errorf("%v, %v, %v, %q", BootNext(v.root), on, known, BootedBy(v.root))
	}
	if ids, err := v.Texts(Entries); err != nil || !slices.Equal(ids, []string{"a.conf", "auto-windows"}) {
		t.Errorf("%q, %v", ids, err)
	}
}

func FuzzDecodeText(f *testing.F) {
	f.Add([]byte("a\x00b\x00\x00\x00"))
	f.Add([]byte("\x00\xd8a\x00"))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeText(b)
		if err != nil {
			return
		}
		back, err := DecodeText(EncodeText(s))
		if err != nil || back != s {
			t.Fatalf("%q gave %q, which gave %q, %v", b, s, back, err)
		}
	})
}

// Whatever is in a variable's file, it is a text or an error.
func FuzzVariable(f *testing.F) {
	f.Add([]byte("\x07\x00\x00\x00a\x00\x00\x00b\x00\x00\x00"))
	f.Add([]byte("\x07\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := New(t.TempDir())
		path := v.path(Entries, loaderGUID)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
		texts, err := v.Texts(Entries)
		if err == nil && len(texts) > len(b) {
			t.Fatalf("%d bytes gave %d texts", len(b), len(texts))
		}
		_ = BootedBy(v.root)
	})
}
