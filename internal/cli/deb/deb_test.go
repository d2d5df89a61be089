package deb_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/kernwave/kernwave/internal/cli/clitest"
	"github.com/kernwave/kernwave/internal/cli/deb"
)

const release = "6.12.9-test-amd64"

func image(compression string) clitest.Deb {
	return clitest.Deb{
		Name: "linux-image-" + release, Version: "6.12.9-1~deb12u1", Arch: "amd64", Compression: compression,
		Files: []string{"boot/config-" + release, "boot/vmlinuz-" + release, "lib/modules/" + release + "/kernel/x.ko", "usr/share/doc/x"},
	}
}

func TestReadEveryCompression(t *testing.T) {
	for _, c := range []string{"", "gz", "xz", "zst"} {
		got, err := deb.Read(iotest.OneByteReader(bytes.NewReader(image(c).Build())))
		want := deb.Info{Name: "linux-image-" + release, Version: "6.12.9-1~deb12u1", Arch: "amd64", Kernels: []string{release}}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("compression %q: %v\n%s", c, err, diff)
		}
	}
}

func TestWhichKernelsAPackageHolds(t *testing.T) {
	for _, c := range []struct {
		name  string
		files []string
		want  []string
	}{
		{"none", []string{"usr/bin/x"}, nil},
		{"the image of a usr-merged package", []string{"usr/lib/modules/6.12.9/vmlinuz", "usr/lib/modules/6.12.9/x.ko"}, []string{"6.12.9"}},
		{"arm64 names", []string{"boot/Image-6.12.9"}, []string{"6.12.9"}},
		{"two", []string{"boot/vmlinuz-6.1.0", "boot/vmlinuz-6.12.9"}, []string{"6.1.0", "6.12.9"}},
		{"files that only look like one", []string{"usr/share/boot/vmlinuz-6.1.0", "boot/vmlinuz-", "boot/vmlinuz-6/x"}, nil},
	} {
		d := image("gz")
		d.Files = c.files
		got, err := deb.Read(bytes.NewReader(d.Build()))
		if err != nil || !cmp.Equal(got.Kernels, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, got.Kernels, err, c.want)
		}
	}
}

// A kernel's image comes early: what lies behind is not read.
func TestReadStopsBehindTheImage(t *testing.T) {
	d := image("")
	b := d.Build()
	cut := bytes.Index(b, []byte("usr/share/doc/x"))
	got, err := deb.Read(bytes.NewReader(b[:cut]))
	if err != nil || len(got.Kernels) != 1 {
		t.Errorf("%v, %v: want the kernel, from a package that ends behind it", got, err)
	}
}

func TestDamagedPackagesAreRefused(t *testing.T) {
	good := image("xz").Build()
	replace := func(from, to string) []byte { return bytes.Replace(image("").Build(), []byte(from), []byte(to), 1) }
	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"nothing", nil, "too short"},
		{"text", []byte("Package: x\nVersion: 1\n"), "does not begin"},
		{"an rpm", []byte("\xed\xab\xee\xdb........"), "does not begin"},
		{"only the magic", good[:8], "first member"},
		{"another archive", []byte("!<arch>\n" + strings.Replace(string(good[8:]), "debian-binary   ", "hello           ", 1)), "not debian-binary"},
		{"another format", replace("2.0\n", "9.0\n"), "only 2.x"},
		{"cut in the control", good[:150], "control"},
		{"without data", good[:bytes.Index(good, []byte("data.tar"))], "data.tar"},
		{"a size that cannot be", replace("control.tar     1700000000  ", "control.tar     1700000000  ")[:0], "too short"},
		{"a control file without a version", replace("Version: ", "Persion: "), "Version is missing"},
		{"a name that is a command", replace("Package: linux", "Package: $(rm)"), "not allowed"},
		{"a name twice", replace("Maintainer: nobody", "Package: another__"), "twice"},
		{"an unknown compression", replace("control.tar     ", "control.tar.lzo "), "lzo"},
	} {
		_, err := deb.Read(bytes.NewReader(c.b))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestReadErrorsOfTheDiskAreKept(t *testing.T) {
	disk := errors.New("input/output error")
	b := image("gz").Build()
	_, err := deb.Read(io.MultiReader(bytes.NewReader(b[:200]), iotest.ErrReader(disk)))
	if !errors.Is(err, disk) {
		t.Errorf("got %v, want the disk's error in it", err)
	}
}

// What dpkg-deb builds is what we read.
func TestReadWhatDpkgBuilds(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg-deb")
	if err != nil {
		t.Skip("dpkg-deb is not on this machine: packages built by this test's own code are read elsewhere")
	}
	for _, compression := range []string{"xz", "gzip", "zstd", "none"} {
		dir := t.TempDir()
		for name, content := range map[string]string{
			"DEBIAN/control":          "Package: linux-image-" + release + "\nVersion: 6.12.9-1\nArchitecture: amd64\nMaintainer: nobody <n@example.org>\nDescription: x\n",
			"boot/vmlinuz-" + release: "kernel",
		} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(t.TempDir(), "x.deb")
		if out, err := exec.CommandContext(t.Context(), dpkg, "--root-owner-group", "-Z"+compression, "-b", dir, file).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb -Z%s: %v\n%s", compression, err, out)
		}
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := deb.Read(f)
		f.Close()
		if err != nil || len(got.Kernels) != 1 || got.Kernels[0] != release || got.Version != "6.12.9-1" {
			t.Errorf("-Z%s: %+v, %v", compression, got, err)
		}
	}
}

// Whatever the bytes: no panic, no endless work, and what is read is safe to print and to put into a path.
func FuzzRead(f *testing.F) {
	for _, c := range []string{"", "gz", "xz", "zst"} {
		b := image(c).Build()
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte("!<arch>\n"))
	f.Add([]byte("!<arch>\ndebian-binary   1700000000  0     0     100644  99999999999`\n2.0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := deb.Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, s := range append([]string{info.Name, info.Version, info.Arch}, info.Kernels...) {
			if s == "" || strings.ContainsAny(s, " /\n\x1b'\"$`\\") || strings.HasPrefix(s, "-") || strings.HasPrefix(s, ".") {
				t.Fatalf("read %q from %q", s, b)
			}
		}
	})
}

// A control file that was read is written in one way only, and read again the same.
func FuzzParseControl(f *testing.F) {
	f.Add("Package: linux-image\nVersion: 6.1-1\nArchitecture: amd64\nSource: linux (6.1)\n")
	f.Add("Package: a\n continued\nVersion: 1\nArchitecture: all\n\nPackage: b\n")
	f.Add("Package:\nVersion:1\nArchitecture:\tamd64")
	f.Add("#comment\nno field\n")
	f.Fuzz(func(t *testing.T, s string) {
		info, err := deb.ParseControl(strings.NewReader(s))
		if err != nil {
			return
		}
		again, err := deb.ParseControl(strings.NewReader("Package: " + info.Name + "\nVersion: " + info.Version + "\nArchitecture: " + info.Arch + "\n"))
		again.Source = info.Source
		if err != nil || !cmp.Equal(info, again) {
			t.Fatalf("%q: read %+v, then %+v, %v", s, info, again, err)
		}
	})
}
