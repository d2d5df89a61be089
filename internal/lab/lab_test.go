package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestSourceLines(t *testing.T) {
	targets := `MetaKey: main/binary-amd64/Packages
Component: main
Architecture: amd64
Release: bookworm
Repo-URI: http://mirror.example/debian/

Component: contrib
Architecture: amd64
Release: bookworm
Repo-URI: http://mirror.example/debian/

Component: main
Architecture: amd64
Release: bookworm-security
Repo-URI: http://mirror.example/security/

Component: main
Architecture: amd64
Release: nodistro
Repo-URI: https://elsewhere.example/
`
	signed := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
	want := []string{
		signed + "http://mirror.example/debian/ bookworm main",
		signed + "http://mirror.example/security/ bookworm-security main",
	}
	if diff := cmp.Diff(want, sourceLines(targets, "bookworm")); diff != "" {
		t.Error(diff)
	}
}

func TestBySeries(t *testing.T) {
	var all []Kernel
	for _, p := range []string{
		"linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-10-cloud-amd64", "linux-image-6.1.0-11-cloud-amd64", "linux-image-6.1.0-12-cloud-amd64",
		"linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64",
		"linux-image-6.12.9+deb12-cloud-amd64", "linux-image-6.12.101+deb12-cloud-amd64", "linux-image-6.12.11+deb12-cloud-amd64", "linux-image-6.12.12+deb12-cloud-amd64",
		"linux-image-6.18.1+deb12-cloud-amd64",
	} {
		all = append(all, Kernel{Package: p})
	}
	var got []string
	for _, g := range bySeries(all) {
		for _, k := range g {
			got = append(got, k.Release)
		}
	}
	want := []string{
		"6.12.9+deb12-cloud-amd64", "6.12.11+deb12-cloud-amd64", "6.12.12+deb12-cloud-amd64", "6.12.101+deb12-cloud-amd64",
		"6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64", "6.1.0-11-cloud-amd64", "6.1.0-12-cloud-amd64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCompareReleasesIsAnOrder(t *testing.T) {
	release := rapid.StringMatching(`[1-9]\.[0-9]{1,2}\.[0-9]{1,3}(-[0-9]{1,2})?(\+deb1[23])?-cloud-amd64`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := release.Draw(t, "a"), release.Draw(t, "b"), release.Draw(t, "c")
		if compareReleases(a, b) != -compareReleases(b, a) || (compareReleases(a, b) == 0) != (a == b) {
			t.Fatalf("%s and %s have no clear order", a, b)
		}
		if compareReleases(a, b) <= 0 && compareReleases(b, c) <= 0 && compareReleases(a, c) > 0 {
			t.Fatalf("%s, %s, %s go round in a circle", a, b, c)
		}
	})
}

const serial = "\x1b[H\x1b[J  Booting `Debian GNU/Linux'\r\nLoading Linux 6.12.9-cloud-amd64 ...\r\n\r\n" +
	"KERNWAVE-LAB boot release=6.12.9-cloud-amd64 id=aaaa uptime=9.50 rtc=1795340535\r\n" +
	"Loading Linux 6.12.11-cloud-amd64 ...\r\n[    4.1] Kernel panic - not syncing: Attempted to kill init!\r\n"

func TestConsole(t *testing.T) {
	log := serial + "KERNWAVE-LAB boot release=torn"
	want := []Boot{{Release: "6.12.9-cloud-amd64", ID: "aaaa", Uptime: 9500 * time.Millisecond, RTC: time.Unix(1795340535, 0).UTC()}}
	if diff := cmp.Diff(want, parseBoots(log)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"6.12.9-cloud-amd64", "6.12.11-cloud-amd64"}, parseTries(log)); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct{ what, more, want string }{
		{"a kernel without panic= stops for good", "[    4.2] ---[ end Kernel panic - not syncing: Attempted to kill init! ]---\r\n", "end Kernel panic - not syncing: Attempted to kill init!"},
		{"a kernel that will reboot has not stopped", "[    4.2] Rebooting in 5 seconds..\r\n", ""},
		{"the next boot ends it", "[    4.2] ---[ end Kernel panic - not syncing ]---\r\nLoading Linux 6.12.9 ...\r\n", ""},
	} {
		if got := halted(serial + c.more); got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
}

func FuzzParseBoots(f *testing.F) {
	f.Add(serial)
	f.Fuzz(func(t *testing.T, log string) {
		for _, b := range parseBoots(log) {
			if b.Release == "" || !strings.Contains(log, b.Release) || !strings.Contains(log, b.ID) {
				t.Errorf("%+v is not from the log", b)
			}
		}
		halted(log)
		parseTries(log)
	})
}

func TestInterruptedBuildIsRemoved(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, unfinished+"1")
	if err := os.MkdirAll(filepath.Join(left, "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := buildDir(dir, "key", func(string) error { return errors.New("no") }); err == nil {
		t.Error("a failed build succeeds")
	}
	path, err := buildDir(dir, "key", func(tmp string) error { return os.WriteFile(filepath.Join(tmp, "x"), nil, 0o644) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := buildDir(dir, "key", func(string) error { return errors.New("built twice") }); err != nil {
		t.Error(err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("the folder has %v, want the finished build alone", entries)
	}
}

func TestLockWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lockFile(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a held lock gives %v", err)
	}
	unlock()
	if unlock, err = lockFile(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestVariantsHaveVersions(t *testing.T) {
	for v, want := range map[Variant]string{
		{Fault: Panic}:                         "panic",
		{Fault: Hang, Model: "PowerEdge R650"}: "hang.poweredge.r650",
	} {
		if got := v.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestProcessIsItself(t *testing.T) {
	p := self()
	if !p.Running() {
		t.Error("this process does not run")
	}
	p.Start++
	if p.Running() {
		t.Error("another process of the same number counts as this one")
	}
}

func TestPatience(t *testing.T) {
	for load, want := range map[float64]float64{0: 1, 3.9: 1, 8: 2, 100: maxPatience} {
		if got := busyAt(load, 2); got != want {
			t.Errorf("load %v on 2 CPUs: %v times as long, want %v", load, got, want)
		}
	}
}
