package systemdboot

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/linux/efivar"
	"github.com/kernwave/kernwave/internal/linux/loader"
)

func (h *host) secure() {
	h.t.Helper()
	if err := h.d.SecureWayBack(h.t.Context(), middle); err != nil {
		h.t.Fatal(err)
	}
}

func TestATrialIsBootedOnceAndTheWayBackHolds(t *testing.T) {
	h := newHost(t)
	h.wantBoot(newest, false) // the trap: nothing is the default, and the newest comes first
	h.variable(efivar.Selected, token+"-"+middle+".conf")
	h.secure()
	h.wantBoot(middle, false)
	if err := h.d.Arm(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	if b := h.d.Facts(); b.Default != middle || b.Loader != "systemd-boot" || b.OneShot != fleet.OneShotAssumed {
		t.Errorf("facts of an armed host: %+v", b)
	}
	e := h.wantBoot(newest, true)
	want := "root=PARTUUID=1 rw quiet systemd.machine_id=" + token + " panic=30 oops=panic systemd.watchdog_sec=120 kernwave.trial=op-1 kernwave.deadman=600"
	if got := e.Lines.options(); got != want {
		t.Errorf("the trial's command line is\n%s, want\n%s", got, want)
	}
	if e.kernel() != "/"+token+"/"+newest+"/linux" || len(e.initrds()) != 1 {
		t.Errorf("the trial boots %s with %v", e.kernel(), e.initrds())
	}
	if err := h.d.OneShotProven(); err != nil {
		t.Fatal(err)
	}
	h.wantBoot(middle, false) // not committed: back
	if b := h.d.Facts(); b.OneShot != fleet.OneShotProven {
		t.Errorf("after a trial: %+v", b)
	}
}

func TestACommittedKernelStays(t *testing.T) {
	h := newHost(t)
	h.secure()
	if err := h.d.Arm(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	h.wantBoot(newest, true)
	for range 2 {
		if err := h.d.Commit(t.Context(), newest); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if e := h.wantBoot(newest, false); strings.Contains(e.Lines.options(), "kernwave") {
			t.Errorf("a committed kernel boots with %q", e.Lines.options())
		}
	}
	if _, err := os.Stat(h.path("boot/efi/loader/entries/" + TrialID)); err == nil {
		t.Error("the trial's entry is still there")
	}
}

func TestDisarmTakesTheTrialBack(t *testing.T) {
	h := newHost(t)
	h.secure()
	before := h.snapshot()
	if err := h.d.Arm(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.d.Disarm(); err != nil {
			t.Fatal(err)
		}
	}
	for path, content := range h.snapshot() {
		if before[path] != content {
			t.Errorf("%s is left changed", path)
		}
	}
	h.wantBoot(middle, false)
	// What someone else chose is not ours to take back.
	h.variable(efivar.OneShot, token+"-"+oldest+".conf")
	if err := h.d.Disarm(); err != nil || h.get(efivar.OneShot) == "" {
		t.Errorf("took back someone else's choice, %v", err)
	}
	// Without the ESP the entry stays, and harms nobody.
	h.variable(efivar.OneShot, TrialID)
	h.write("proc/self/mountinfo", strings.ReplaceAll(h.read("proc/self/mountinfo"), "vfat", "ext4"))
	if err := h.d.Disarm(); err != nil || h.get(efivar.OneShot) != "" {
		t.Errorf("without the ESP: %v, %q", err, h.get(efivar.OneShot))
	}
}

func TestTheWayBackIsRefused(t *testing.T) {
	mounts := func(from, to string) func(h *host) {
		return func(h *host) {
			was := h.read("proc/self/mountinfo")
			if !strings.Contains(was, from) {
				h.t.Fatal("nothing to spoil")
			}
			h.write("proc/self/mountinfo", strings.Replace(was, from, to, 1))
		}
	}
	entry := "boot/efi/loader/entries/" + token + "-" + middle + ".conf"
	for _, c := range []struct {
		name      string
		spoil     func(h *host)
		why, next string
	}{
		{"efivarfs is not mounted", mounts("- efivarfs", "- tmpfs"), "efivarfs is not mounted", "mount -t efivarfs"},
		{"efivarfs is read-only", mounts("efivarfs efivarfs rw", "efivarfs efivarfs ro"), "mounted read-only", "remount,rw /sys/firmware/efi/efivars"},
		{"the ESP is not mounted", mounts("/boot/efi rw", "/mnt rw"), "no vfat is mounted as ESP", "mount it"},
		{"the ESP is read-only", mounts("/boot/efi rw,", "/boot/efi ro,"), "/boot/efi is mounted read-only", "fsck.vfat"},
		{"another ESP is mounted", func(h *host) { h.variable(efivar.PartUUID, "9"+uuid[1:]) }, "systemd-boot was started from partition 9", "by-partuuid"},
		{"another loader booted it", func(h *host) { h.variable(efivar.Info, "") }, "did not come through systemd-boot", "bootctl install"},
		{"someone chose the next boot", func(h *host) { h.variable(efivar.OneShot, "auto-reboot-to-firmware-setup") }, "someone else chose", "reboot"},
		{"the menu waits", func(h *host) { h.write("boot/efi/loader/loader.conf", "timeout menu-force\n") }, "waits for a person", "timeout"},
		{"the menu waits by variable", func(h *host) { h.variable(efivar.Timeout, "menu-force") }, "LoaderConfigTimeout is menu-force", "timeout"},
		{"the menu waits once", func(h *host) { h.variable(efivar.TimeoutOneShot, "menu-force") }, "LoaderConfigTimeoutOneShot is menu-force", "timeout"},
		{"a unified kernel image", func(h *host) {
			h.remove(entry)
			h.write("boot/efi/EFI/Linux/debian.efi", string(unified(middle)))
		}, "unified kernel image /boot/efi/EFI/Linux/debian.efi", "layout=bls"},
		{"no entry, and none can be made", func(h *host) { h.remove(entry) }, "could not create loader entry", "kernel-install --verbose"},
		{"no entry, and none is made", func(h *host) { h.remove(entry); h.install = func(string) {} }, "kernel-install made none", "kernel-install inspect"},
		{"an entry cut short by a power cut", func(h *host) {
			h.write(entry, "title Debian\nversion "+middle+"\n")
			h.install = func(string) {}
		}, "it names neither linux nor efi", "kernel-install"},
		{"no kernel file", func(h *host) {
			h.remove("boot/efi/" + token + "/" + middle + "/linux")
			h.install = func(string) {}
		}, "is not there", "kernel-install"},
		{"an empty initrd", func(h *host) { h.write("boot/efi/"+token+"/"+middle+"/initrd.img-"+middle, "") }, "is empty", "kernel-install add"},
		{"a kernel cut short", func(h *host) {
			h.write("boot/efi/"+token+"/"+middle+"/linux", string(image(middle)[:0xfff]))
		}, "cut off", "kernel-install add"},
		{"two entries of one name", func(h *host) {
			h.write("boot/efi/loader/entries/"+strings.ToUpper(token)+"-"+middle+".conf", entryText(newest))
		}, "selects another one", "rename"},
		{"a damaged variable", func(h *host) {
			h.write("sys/firmware/efi/efivars/"+efivar.Default+guid, "\x07\x00\x00\x00abc")
		}, "no UTF-16", "doctor"},
		{"the firmware forgets nothing", func(h *host) {
			h.secure()
			h.variable(efivar.Selected, TrialID)
			h.variable(efivar.OneShot, TrialID)
			if err := h.d.OneShotProven(); err == nil {
				h.t.Error("a one-shot that is still there is proven")
			}
		}, "cannot forget a one-shot entry", "firmware"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			c.spoil(h)
			err := h.d.SecureWayBack(t.Context(), middle)
			e, ok := errors.AsType[*fleet.Error](err)
			if !ok || !strings.Contains(err.Error(), c.why) || !strings.Contains(e.Next, c.next) {
				t.Fatalf("got %v, next %q; want %q, next %q", err, nextOf(err), c.why, c.next)
			}
			if err := h.d.Arm(t.Context(), trial); err == nil {
				t.Error("and it can be armed")
			}
			if got := h.get2(efivar.OneShot); got == TrialID {
				t.Error("and it is armed")
			}
		})
	}
}

func nextOf(err error) string {
	if e, ok := errors.AsType[*fleet.Error](err); ok {
		return e.Next
	}
	return ""
}

// get2 is get where the variable may be damaged.
func (h *host) get2(name string) string { s, _ := h.d.vars.Text(name); return s }

// unified is a unified kernel image as far as anybody here looks.
func unified(release string) []byte {
	b := image("")
	section := b[0x58+0xa0:]
	clear(section[:8])
	copy(section, ".uname")
	copy(b[0x400:], release)
	section[16], section[17] = 0x00, 0x01 // 256 bytes
	return b
}

func TestWhatIsMended(t *testing.T) {
	entry := "boot/efi/loader/entries/" + token + "-" + middle
	for _, c := range []struct {
		name  string
		spoil func(h *host)
		check func(h *host)
	}{
		{"a pattern for a default", func(h *host) { h.variable(efivar.Default, "*") }, nil},
		{"the last one booted for a default", func(h *host) {
			h.variable(efivar.Default, "@saved")
			h.variable(efivar.LastBooted, token+"-"+newest+".conf")
		}, nil},
		{"a default in loader.conf", func(h *host) { h.write("boot/efi/loader/loader.conf", "default "+token+"-"+oldest+"*\n") }, nil},
		{"no entry of the running kernel", func(h *host) { h.remove(entry + ".conf"); h.install = h.kernelInstall }, nil},
		{"an entry cut short", func(h *host) { h.write(entry+".conf", "title x\n"); h.install = h.kernelInstall }, nil},
		{"a trial that was not used", func(h *host) { h.variable(efivar.OneShot, TrialID) }, nil},
		{"a boot counter", func(h *host) {
			if err := os.Rename(h.path(entry+".conf"), h.path(entry+"+2-1.conf")); err != nil {
				h.t.Fatal(err)
			}
			h.variable(efivar.Default, token+"-"+middle+"+2-1.conf")
			h.variable(efivar.Selected, token+"-"+middle+"+3.conf")
		}, func(h *host) {
			if _, err := os.Stat(h.path(entry + "+2-1.conf")); err == nil {
				h.t.Error("the counter is still there")
			}
		}},
		{"a trial's words in the entry", func(h *host) {
			h.write(entry+".conf", strings.Replace(entryText(middle), "quiet", "quiet panic=30 oops=panic systemd.watchdog_sec=120 kernwave.trial=op-0 kernwave.deadman=60", 1))
		}, func(h *host) {
			if got := h.read(entry + ".conf"); strings.Contains(got, "kernwave") || strings.Contains(got, "panic") || !strings.Contains(got, "rw quiet systemd.machine_id") {
				h.t.Errorf("left %s", got)
			}
		}},
		{"kernel-install copies the running command line", func(h *host) { h.remove("etc/kernel/cmdline") }, func(h *host) {
			if got := h.read("etc/kernel/cmdline"); got != "root=PARTUUID=1 rw quiet systemd.machine_id="+token+"\n" {
				h.t.Errorf("wrote %q", got)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			c.spoil(h)
			for range 2 {
				h.secure()
				if c.check != nil {
					c.check(h)
				}
			}
			for range 3 {
				h.wantBoot(middle, false)
			}
			ps, err := h.d.Problems(middle)
			if err != nil || len(ps) > 0 {
				t.Errorf("left %+v, %v", ps, err)
			}
		})
	}
}

func TestArmRefusesAKernelThatCannotBoot(t *testing.T) {
	dir := "boot/efi/" + token + "/" + newest
	for _, c := range []struct {
		name  string
		spoil func(h *host) loader.Trial
		why   string
	}{
		{"not installed", func(*host) loader.Trial { return loader.Trial{Release: "6.99-x", Running: middle} }, "no entry boots it"},
		{"no kernel file", func(h *host) loader.Trial { h.remove(dir + "/linux"); return trial }, "is not there"},
		{"an empty initrd", func(h *host) loader.Trial { h.write(dir+"/initrd.img-"+newest, ""); return trial }, "empty"},
		{"an initrd that was not copied whole", func(h *host) loader.Trial { h.write(dir+"/initrd.img-"+newest, "init"); return trial }, "is not the file that is in /boot"},
		{"a kernel cut short", func(h *host) loader.Trial { h.write(dir+"/linux", string(image(newest)[:0xe00])); return trial }, "cut off"},
		{"another kernel in its file", func(h *host) loader.Trial { h.write(dir+"/linux", string(image("6.1.0-other"))); return trial }, "no entry boots it"},
		{"no EFI program", func(h *host) loader.Trial { h.write(dir+"/linux", "not a kernel"); return trial }, "no EFI program"},
		{"for another architecture", func(h *host) loader.Trial {
			h.write("boot/efi/loader/entries/"+token+"-"+newest+".conf", entryText(newest)+"architecture riscv64\n")
			return trial
		}, "architecture riscv64"},
		{"of another installation", func(h *host) loader.Trial {
			h.write("boot/efi/loader/entries/"+token+"-"+newest+".conf", strings.Replace(entryText(newest), "machine-id "+token, "machine-id 0"+token[1:], 1))
			return trial
		}, "no entry boots it"},
		{"a command line without room", func(h *host) loader.Trial {
			h.write("boot/efi/loader/entries/"+token+"-"+newest+".conf", entryText(newest)+"options "+strings.Repeat("x", 1800)+"\n")
			return trial
		}, "the kernel reads 2048"},
		{"an argument that is none", func(*host) loader.Trial { return loader.Trial{Release: newest, Running: middle, Args: []string{"a b"}} }, "cannot stand"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			h.secure()
			err := h.d.Arm(t.Context(), c.spoil(h))
			if err == nil || !strings.Contains(err.Error(), c.why) || nextOf(err) == "" {
				t.Fatalf("got %v, next %q, want %q", err, nextOf(err), c.why)
			}
			h.wantBoot(middle, false)
		})
	}
}

func TestTheRunningKernelCanBeArmedForAControl(t *testing.T) {
	h := newHost(t)
	h.secure()
	h.write("boot/initrd.img-"+middle, "made anew since") // what it runs from is good enough to run again
	tr := trial
	tr.Release = middle
	if err := h.d.Arm(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	h.wantBoot(middle, true)
	h.wantBoot(middle, false)
}

func TestEntriesAreMadeAndMendedWhenAKernelIsInstalled(t *testing.T) {
	const fresh = "6.12.120+deb12-cloud-amd64"
	h := newHost(t)
	h.secure()
	h.write("boot/vmlinuz-"+fresh, string(image(fresh)))
	if ok, err := h.d.HasEntry(fresh); ok || err != nil {
		t.Errorf("has an entry: %v, %v", ok, err)
	}
	if err := h.d.EnsureEntry(t.Context(), fresh); err == nil || nextOf(err) == "" {
		t.Errorf("kernel-install failed, and nobody said so: %v", err)
	}
	h.install = func(release string) {
		h.write("boot/efi/"+token+"/"+release+"/linux", string(image(release)))
		// as in the boot of a committed trial, where there is no /etc/kernel/cmdline
		h.write("boot/efi/loader/entries/"+token+"-"+release+"+3.conf", "version "+release+"\nsort-key debian\noptions root=x quiet panic=30 oops=panic systemd.watchdog_sec=120 kernwave.trial=op-0 kernwave.deadman=60\nlinux /"+token+"/"+release+"/linux\n")
	}
	h.ran = nil
	for range 2 {
		if err := h.d.EnsureEntry(t.Context(), fresh); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(h.ran, []string{"kernel-install add " + fresh + " /boot/vmlinuz-" + fresh}) {
		t.Errorf("ran %q", h.ran)
	}
	if ok, err := h.d.HasEntry(fresh); !ok || err != nil {
		t.Errorf("has no entry: %v, %v", ok, err)
	}
	if got := h.read("boot/efi/loader/entries/" + token + "-" + fresh + "+3.conf"); strings.Contains(got, "kernwave") || strings.Contains(got, "panic") {
		t.Errorf("every boot of it would be a trial:\n%s", got)
	}
	// A copy that a power cut interrupted is made anew.
	h.write("boot/efi/"+token+"/"+fresh+"/linux", string(image(fresh)[:0x900]))
	if err := h.d.EnsureEntry(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	h.wantBoot(middle, false)
	if got := h.d.Facts().Installed; !slices.Equal(got, []string{oldest, middle, newest, fresh}) {
		t.Errorf("installed %q", got)
	}
	// Its trial has no counter, and neither has what is committed.
	tr := trial
	tr.Release = fresh
	if err := h.d.Arm(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	h.wantBoot(fresh, true)
	if err := h.d.Commit(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	for range 5 { // a counter would have run out
		if e := h.wantBoot(fresh, false); e.Tries >= 0 {
			t.Errorf("boots %s", e.ID)
		}
	}
}

func TestRoomOnTheESP(t *testing.T) {
	h := newHost(t)
	h.d.free = func(string) (uint64, error) { return bootMargin + 0x1000, nil }
	err := h.d.CanInstall("6.99-x", middle)
	if err == nil || !strings.Contains(err.Error(), "/boot/efi is too small") || nextOf(err) == "" {
		t.Errorf("got %v", err)
	}
	if err := h.d.CanInstall(newest, middle); err != nil {
		t.Errorf("what is there needs no room: %v", err)
	}
	h.d.free = func(string) (uint64, error) { return bootMargin + 0x2000, nil }
	if err := h.d.CanInstall("6.99-x", middle); err != nil {
		t.Error(err)
	}
	h.d.free = func(string) (uint64, error) { return 0, unix.EIO }
	if err := h.d.CanInstall("6.99-x", middle); err == nil {
		t.Error("room that cannot be looked at")
	}
	h.write("proc/self/mountinfo", strings.Replace(h.read("proc/self/mountinfo"), "/boot/efi rw", "/boot/efi ro", 1))
	if err := h.d.CanInstall("6.99-x", middle); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("got %v", err)
	}
}

func TestTheExtendedPartition(t *testing.T) {
	h := newHost(t)
	h.write("proc/self/mountinfo", strings.Replace(h.read("proc/self/mountinfo"), "/boot/efi rw", "/efi rw", 1)+"41 20 259:4 / /boot rw - vfat /dev/nvme0n1p4 rw\n")
	h.write("run/udev/data/b259:4", "E:ID_PART_ENTRY_TYPE="+strings.ToUpper(typeXBOOTLDR)+"\nE:ID_PART_ENTRY_UUID=1\n")
	for _, d := range []string{"loader/loader.conf"} {
		h.write("efi/"+d, h.read("boot/efi/"+d))
	}
	for _, r := range []string{oldest, middle, newest} {
		h.write("boot/"+token+"/"+r+"/linux", string(image(r)))
		h.write("boot/"+token+"/"+r+"/initrd.img-"+r, "initrd of "+r)
		h.write("boot/loader/entries/"+token+"-"+r+".conf", entryText(r))
	}
	h.write("efi/loader/entries/"+TrialID, "linux /x\n") // left by an earlier trial
	h.write("efi/x", "kernel")
	h.secure()
	if err := h.d.Arm(t.Context(), trial); err != nil {
		t.Fatal(err)
	}
	if e := h.wantBoot(newest, true); e.Part.Point != "/boot" || !e.Part.Extended {
		t.Errorf("the trial is on %+v", e.Part)
	}
	h.wantBoot(middle, false)
}

func TestATrialIsOnlyProvenByTheTrialsEntry(t *testing.T) {
	h := newHost(t)
	if err := h.d.OneShotProven(); err == nil || nextOf(err) == "" {
		t.Errorf("a boot of %s proves something: %v", h.get(efivar.Selected), err)
	}
	h.variable(efivar.Selected, TrialID)
	if err := h.d.OneShotProven(); err != nil {
		t.Fatal(err)
	}
	if b := h.d.Facts(); b.OneShot != fleet.OneShotProven {
		t.Errorf("%+v", b)
	}
	h.variable(efivar.Info, "systemd-boot 254.1") // another loader has to show it anew
	if b := h.d.Facts(); b.OneShot != fleet.OneShotAssumed {
		t.Errorf("%+v", b)
	}
}

func TestFactsOfWhatCannotBeRead(t *testing.T) {
	h := newHost(t)
	h.write("proc/self/mountinfo", "20 1 259:3 / / rw - ext4 /dev/root rw\n")
	if b := h.d.Facts(); b.Loader != "systemd-boot" || b.OneShot != fleet.OneShotUnknown || !strings.Contains(b.OneShotWhy, "(run: mount -t efivarfs") {
		t.Errorf("%+v", b)
	}
	if _, err := h.d.HasEntry(middle); err == nil {
		t.Error("has an entry that cannot be seen")
	}
}
