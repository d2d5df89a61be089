package linux

import (
	"strings"
	"testing"

	"github.com/kernwave/kernwave/deploy"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/efivar"
)

const efivarsMounted = "31 30 0:23 / /sys/firmware/efi/efivars rw - efivarfs efivarfs rw\n"

func variableOf(text string) string { return "\x07\x00\x00\x00" + string(efivar.EncodeText(text)) }

func TestTheLoaderThatBootedIsDriven(t *testing.T) {
	const (
		info  = "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
		root  = "20 1 259:3 / / rw - ext4 /dev/root rw\n"
		grub  = "boot/grub/grub.cfg"
		sd    = "boot/efi/loader/loader.conf"
		uefi  = "sys/firmware/efi/runtime"
		mount = "proc/self/mountinfo"
	)
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"BIOS", map[string]string{grub: "x"}, "grub"},
		{"BIOS, with an ESP of another time", map[string]string{grub: "x", sd: ""}, "grub"},
		{"nothing at all", nil, "grub"},
		{"systemd-boot", map[string]string{info: variableOf("systemd-boot 252.39-1~deb12u2"), mount: root + efivarsMounted}, "systemd-boot"},
		{"systemd-boot, with a grub.cfg of another time", map[string]string{info: variableOf("systemd-boot 252.39"), grub: "x", mount: root + efivarsMounted}, "systemd-boot"},
		{"GRUB that says so, with systemd-boot beside it", map[string]string{info: variableOf("GRUB 2.12"), grub: "x", sd: "", mount: root + efivarsMounted}, "grub"},
		{"GRUB that says nothing", map[string]string{grub: "x", uefi: "", mount: root + efivarsMounted}, "grub"},
		{"GRUB that says nothing, with systemd-boot beside it", map[string]string{grub: "x", sd: "", uefi: "", mount: root + efivarsMounted}, "grub"},
		{"GRUB on UEFI without efivarfs", map[string]string{grub: "x", uefi: ""}, "grub"},
		{"systemd-boot without efivarfs", map[string]string{sd: "", uefi: ""}, "systemd-boot"},
		{"either, without efivarfs", map[string]string{grub: "x", sd: "", uefi: ""}, "systemd-boot"},
	} {
		m := newMachine(t, c.files)
		if got := m.boot.Name(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if strings.HasSuffix(c.name, "without efivarfs") && c.want == "systemd-boot" {
			if err := m.boot.SecureWayBack(t.Context(), running); err == nil || !strings.Contains(err.Error(), "efivarfs is not mounted") {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

func TestBootNextIsSomebodyElses(t *testing.T) {
	m := newMachine(t, map[string]string{"sys/firmware/efi/efivars/BootNext-8be4df61-93ca-11d2-aa0d-00e098032b8c": "\x07\x00\x00\x00\x01\x00"}).withLoader()
	if _, err := deploy.Install(deploy.Options{Root: m.root}); err != nil {
		t.Fatal(err)
	}
	trial := trialOf("op-1")
	for what, err := range map[string]error{"SecureWayBack": m.SecureWayBack(t.Context()), "ArmTrial": m.ArmTrial(t.Context(), trial)} {
		if err == nil || !strings.Contains(err.Error(), "BootNext") || fleet.NextOf(err, "") == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if len(m.loader.asked) > 0 {
		t.Errorf("asked the loader: %q", m.loader.asked)
	}
	found := false
	for _, f := range m.Doctor(t.Context()) {
		found = found || f.Name == "way-back" && f.Level == Fail && strings.Contains(f.Saw, "BootNext")
	}
	if !found {
		t.Error("the doctor does not see it")
	}
}

func TestTheDoctorNamesTheLoader(t *testing.T) {
	secure := "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	for _, c := range []struct {
		files map[string]string
		level Level
		saw   string
	}{
		{nil, OK, "fake on bios"},
		{map[string]string{secure: "\x06\x00\x00\x00\x00"}, OK, "fake on uefi, Secure Boot is off"},
		{map[string]string{secure: "\x06\x00\x00\x00\x01"}, Warn, "Secure Boot is on"},
	} {
		m := newMachine(t, c.files)
		m.boot = sound{&fakeLoader{}}
		if f := m.doctorLoader(m.bootFacts()); f.Level != c.level || !strings.Contains(f.Saw, c.saw) {
			t.Errorf("%+v, want %s, %q", f, c.level, c.saw)
		}
	}
}
