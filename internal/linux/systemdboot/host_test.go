package systemdboot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/internal/linux/command"
	"github.com/kernwave/kernwave/internal/linux/efivar"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

const (
	oldest = "6.12.101+deb12-cloud-amd64"
	middle = "6.12.111+deb12-cloud-amd64"
	newest = "6.12.117+deb12-cloud-amd64"
	token  = "4f1c0a2b3d4e5f60718293a4b5c6d7e8"
	guid   = "-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	uuid   = "0d9c5b1e-1111-4222-8333-444455556666"
)

// image is a kernel as far as anybody here looks: a whole EFI program with a release inside.
func image(release string) []byte {
	b := make([]byte, 0x1000)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[0x44:], 0x8664)  // machine
	binary.LittleEndian.PutUint16(b[0x46:], 1)       // sections
	binary.LittleEndian.PutUint16(b[0x54:], 0xa0)    // size of the optional header
	binary.LittleEndian.PutUint16(b[0x58:], 0x20b)   // PE32+
	binary.LittleEndian.PutUint32(b[0x58+108:], 0x6) // directories
	section := b[0x58+0xa0:]
	copy(section, ".text")
	binary.LittleEndian.PutUint32(section[16:], 0xc00) // size
	binary.LittleEndian.PutUint32(section[20:], 0x400) // offset
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x800-0x200)
	copy(b[0x800:], release+" (build@host) #1\x00")
	return b
}

// host is a fake root with systemd-boot and three kernels on it.
type host struct {
	t    *testing.T
	root string
	d    *Driver
	ran  []string
	// install does what kernel-install does; nil: nothing.
	install func(release string)
}

// newHost boots middle, by its own entry. Nothing is the default.
func newHost(t *testing.T) *host {
	h := &host{t: t, root: t.TempDir()}
	h.write("proc/self/mountinfo", "20 1 259:3 / / rw - ext4 /dev/root rw\n"+
		"30 20 0:22 / /sys rw - sysfs sysfs rw\n31 30 0:23 / /sys/firmware/efi/efivars rw,nosuid - efivarfs efivarfs rw\n"+
		"40 20 259:2 / /boot/efi rw,relatime - vfat /dev/nvme0n1p2 rw,fmask=0077\n")
	h.write("run/udev/data/b259:2", "S:disk/by-partlabel/esp\nE:ID_PART_ENTRY_TYPE="+typeESP+"\nE:ID_PART_ENTRY_UUID="+uuid+"\n")
	h.write("etc/machine-id", token+"\n")
	h.write("etc/kernel/cmdline", "root=PARTUUID=1 rw quiet\n")
	h.write("boot/efi/loader/loader.conf", "#timeout 3\nconsole-mode keep\n")
	for _, r := range []string{oldest, middle, newest} {
		h.add(r)
	}
	h.variable(efivar.Info, "systemd-boot 252.39-1~deb12u2")
	h.variable(efivar.Firmware, "UEFI 2.70 (Debian distribution of EDK II 1.0)")
	h.variable(efivar.PartUUID, strings.ToUpper(uuid))
	h.variable(efivar.Selected, token+"-"+middle+".conf")
	h.d = New(Config{Root: h.root}, h, slog.New(slog.DiscardHandler))
	h.d.vars.Immutable = func(*os.File, bool) (bool, error) { return false, nil }
	h.d.free = func(string) (uint64, error) { return 1 << 30, nil }
	return h
}

// add installs a kernel as Debian's package and kernel-install do.
func (h *host) add(release string) {
	h.write("boot/vmlinuz-"+release, string(image(release)))
	h.write("boot/initrd.img-"+release, "initrd of "+release)
	h.kernelInstall(release)
}

func (h *host) kernelInstall(release string) {
	dir := "boot/efi/" + token + "/" + release
	h.write(dir+"/linux", string(image(release)))
	h.write(dir+"/initrd.img-"+release, "initrd of "+release)
	h.write("boot/efi/loader/entries/"+token+"-"+release+".conf", entryText(release))
}

func entryText(release string) string {
	dir := "/" + token + "/" + release
	return "title      Debian GNU/Linux 12 (bookworm)\nversion    " + release + "\nmachine-id " + token + "\nsort-key   debian\n" +
		"options    root=PARTUUID=1 rw quiet systemd.machine_id=" + token + "\nlinux      " + dir + "/linux\ninitrd     " + dir + "/initrd.img-" + release + "\n"
}

func (h *host) Run(_ context.Context, c command.Cmd) (string, error) {
	h.ran = append(h.ran, c.String())
	if c.Name != "kernel-install" {
		return "", exec.ErrNotFound
	}
	if h.install == nil {
		return "", &command.Error{Cmd: c, Code: 1, Err: errors.New("exit status 1"), Output: "Error: could not create loader entry"}
	}
	h.install(c.Args[1])
	return "", nil
}

func (h *host) path(p string) string { return filepath.Join(h.root, p) }

func (h *host) write(path, content string) {
	h.t.Helper()
	p := h.path(path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o600)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) read(path string) string {
	h.t.Helper()
	b, err := os.ReadFile(h.path(path))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

func (h *host) remove(path string) {
	h.t.Helper()
	if err := os.Remove(h.path(path)); err != nil {
		h.t.Fatal(err)
	}
}

// variable sets one as the loader or another program does; empty deletes it.
func (h *host) variable(name, text string) {
	h.t.Helper()
	p := "sys/firmware/efi/efivars/" + name + guid
	if text == "" {
		_ = os.Remove(h.path(p))
		return
	}
	h.write(p, "\x07\x00\x00\x00"+string(efivar.EncodeText(text)))
}

func (h *host) get(name string) string {
	h.t.Helper()
	s, err := h.d.vars.Text(name)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// boots plays the loader, on nothing but the files: it returns the entry that the next boot runs and deletes the
// one-shot variable.
func (h *host) boots() *Entry {
	h.t.Helper()
	s, err := h.d.load()
	if err != nil {
		h.t.Fatal(err)
	}
	e := s.plainDefault()
	if s.oneShot != "" {
		h.variable(efivar.OneShot, "")
		if o := s.find(s.oneShot); o != nil {
			e = o
		}
	}
	if e == nil {
		h.t.Fatal("the loader has nothing to boot")
	}
	h.variable(efivar.Selected, strings.ToLower(e.ID))
	if stem, left, ext, ok := counter(e.ID); ok && left > 0 { // counts down by renaming
		next := stem + "+" + string(rune('0'+left-1)) + "-1" + ext
		if err := os.Rename(h.d.local(e.Part, entriesDir+"/"+e.ID), h.d.local(e.Part, entriesDir+"/"+next)); err != nil {
			h.t.Fatal(err)
		}
	}
	return e
}

func (h *host) wantBoot(release string, trial bool) *Entry {
	h.t.Helper()
	e := h.boots()
	if e.Release != release || (e.ID == TrialID) != trial {
		h.t.Fatalf("boots %s (%s), want %s, trial %v", e.Release, e.ID, release, trial)
	}
	return e
}

var trial = loader.Trial{Release: newest, Running: middle, Args: append(slices.Clone(loader.SafetyArgs), "kernwave.trial=op-1", "kernwave.deadman=600")}

// snapshot is every file of the root, to see what changed.
func (h *host) snapshot() map[string]string {
	h.t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(h.root, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		files[strings.TrimPrefix(p, h.root+"/")] = string(bytes.Clone(b))
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return files
}
