package grub

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// onUEFI makes the host one of UEFI, with a stub on the ESP that looks for the file system stub, and /boot/grub on fs.
func (h *host) onUEFI(fs string, stubs map[string]string) {
	h.t.Helper()
	for path, text := range map[string]string{
		"sys/firmware/efi/runtime": "", "boot/efi/EFI/BOOT/BOOTX64.EFI": "MZ",
	} {
		h.put(path, text)
	}
	if err := os.MkdirAll(filepath.Join(h.root, "dev/disk/by-uuid"), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Symlink("../../nvme0n1p3", filepath.Join(h.root, "dev/disk/by-uuid", fs)); err != nil {
		h.t.Fatal(err)
	}
	for name, id := range stubs {
		h.put("boot/efi/EFI/"+name+"/grub.cfg", "search.fs_uuid "+id+" root hd0,gpt2 \nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n")
	}
}

func (h *host) put(path, text string) {
	h.t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(h.root, path)), 0o755); err != nil {
		h.t.Fatal(err)
	}
	h.write(path, text)
}

// What update-grub writes on UEFI besides: an entry that boots no kernel, which must not be taken for one.
func TestAMenuOfUEFI(t *testing.T) {
	h := newHost(t)
	h.onUEFI(uuid, map[string]string{"debian": uuid})
	h.render = func(cfg string) string {
		const at = "### BEGIN /etc/grub.d/30_uefi-firmware ###\n"
		if !strings.Contains(cfg, at) {
			cfg += at
		}
		return strings.Replace(cfg, at, at+"menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' {\n\tfwsetup\n}\n", 1)
	}
	h.updateGrub()
	if err := h.d.SecureWayBack(t.Context(), middle); err != nil {
		t.Fatal(err)
	}
	if err := h.d.Arm(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	h.wantBoot(newest, true)
	h.wantBoot(middle, false)
	if got := h.d.Facts().Installed; len(got) != 3 {
		t.Errorf("installed %q", got)
	}
	// Someone who wants the firmware's settings next gets them.
	h.setEnv("saved_entry", "uefi-firmware")
	if e := h.boots(); e == nil || e.Release != "" {
		t.Errorf("boots %+v", e)
	}
}

func TestAGRUBThatReadsAnotherSystemsConfigurationIsRefused(t *testing.T) {
	const other = "99999999-8d0a-4c7e-9a55-0d1f6c1f7b11"
	for _, c := range []struct {
		name  string
		stubs map[string]string
		why   string
	}{
		{"its own", map[string]string{"debian": strings.ToUpper(uuid)}, ""},
		{"two systems on one ESP", map[string]string{"debian": other, "ubuntu": uuid}, ""},
		{"no stub: the core knows by itself", nil, ""},
		{"another system's", map[string]string{"debian": other}, "looks for grub.cfg on the file system " + other},
	} {
		h := newHost(t)
		h.onUEFI(uuid, c.stubs)
		err := h.d.SecureWayBack(t.Context(), middle)
		if c.why == "" && err != nil || c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "/boot/efi/EFI/debian/grub.cfg")) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestStubs(t *testing.T) {
	for src, want := range map[string]string{
		"search.fs_uuid " + uuid + " root hd0,gpt2\n":                     uuid,
		"search --no-floppy --fs-uuid --set=root " + uuid + "\n":          uuid,
		"search --fs-uuid --set root '" + uuid + "'\n":                    uuid,
		"# nothing\nset prefix=(hd0,gpt2)/boot/grub\nsearch.fs_uuid\n":    "",
		"search --label root\nconfigfile (hd0,gpt2)/boot/grub/grub.cfg\n": "",
	} {
		if got := stubUUID(src); got != want {
			t.Errorf("%q: %q, want %q", src, got, want)
		}
	}
}

func FuzzStubUUID(f *testing.F) {
	f.Add("search.fs_uuid " + uuid + " root\n")
	f.Add("search --fs-uuid --set root 'x'")
	f.Fuzz(func(t *testing.T, src string) {
		if got := stubUUID(src); strings.ContainsAny(got, " \t\n") {
			t.Fatalf("%q gave %q", src, got)
		}
	})
}
