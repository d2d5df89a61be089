package scenario

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/lab"
	"github.com/kernwave/kernwave/internal/lab/rig"
	"github.com/kernwave/kernwave/internal/operator"
)

// TestLoaders walks two hosts of two types through the main job, with each boot loader in turn.
func TestLoaders(t *testing.T) {
	needLab(t)
	for _, l := range []lab.Loader{lab.SystemdBoot, lab.GRUBOnUEFI, lab.GRUBOnBIOS} {
		t.Run(string(l), func(t *testing.T) { testLoader(t, l) })
	}
}

func testLoader(t *testing.T, l lab.Loader) {
	hosts := []string{"boot-1", "boot-2"}
	b := newBench(t, []string{"--idle-pace", "5s"},
		rig.Host{Name: hosts[0], Model: alpha, Workload: "web", Loader: l}, rig.Host{Name: hosts[1], Model: beta, Workload: "db", Loader: l})
	ks := b.im.Kernels()
	base, good, panics, next := ks[0], ks[1], ks[2], ks[3]
	step := func(name string, f func(b *bench)) {
		if !t.Run(name, func(t *testing.T) { f(b.in(t)) }) {
			t.FailNow() // the next step would begin from who knows where
		}
	}
	step("the hosts say what boots them", func(b *bench) {
		for _, h := range hosts {
			b.bootsWith(h, l, base)
		}
	})
	step("a good kernel reaches every host", func(b *bench) {
		if err := b.AddKernel(b.t.Context(), "good", good); err != nil {
			b.t.Fatal(err)
		}
		b.untilStatus(b.start("good"), "done")
		b.allRun(hosts, good)
	})
	step("the next plain reboot stays on it", func(b *bench) {
		for _, h := range hosts {
			boot, err := b.Fleet.Reboot(b.t.Context(), h)
			if err != nil {
				b.t.Fatal(err)
			}
			if boot.Release != good.Release {
				b.t.Errorf("%s booted %s after a plain reboot, want %s", h, boot.Release, good.Release)
			}
			if line := b.on(h, "cat /proc/cmdline"); strings.Contains(line, "kernwave.") {
				b.t.Errorf("%s: a plain boot has the words of a trial: %s", h, line)
			}
		}
		b.untilHeard()
	})
	step("a kernel that panics on one host type stops itself", func(b *bench) {
		panickingKernel(b, good, panics, hosts[1:], hosts)
	})
	// After a plain boot, which the last step ended with.
	step("internal/linux does on a real host what its fake does", func(b *bench) { conform(b, hosts[1]) })
	if l == lab.SystemdBoot {
		step("what systemd-boot's host refuses", func(b *bench) { refusalsOnUEFI(b, hosts[1], next) })
	}
	step("the records of the hosts explain every boot", func(b *bench) {
		b.proveGrants(hosts...)
		for _, h := range hosts {
			b.proveBoots(h, 1)
		}
	})
}

// bootsWith checks what a host says of its firmware and boot loader.
func (b *bench) bootsWith(host string, l lab.Loader, base lab.Kernel) {
	b.t.Helper()
	hs, err := b.Hosts(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	i := slices.IndexFunc(hs, func(h operator.Host) bool { return string(h.ID) == host })
	if i < 0 {
		b.t.Fatalf("no host %s", host)
	}
	got := hs[i].Facts.Boot
	loader, firmware := "grub", "bios"
	if l != lab.GRUBOnBIOS {
		firmware = "uefi"
	}
	if l == lab.SystemdBoot {
		loader = "systemd-boot"
	}
	if got.Loader != loader || got.Firmware != firmware || got.OneShot != fleet.OneShotAssumed || !slices.Equal(got.Installed, []string{base.Release}) {
		b.t.Errorf("%s says %+v, want %s on %s", host, got, loader, firmware)
	}
}

// allRun checks that hosts run a kernel and would again after a plain boot.
func (b *bench) allRun(hosts []string, k lab.Kernel) {
	b.t.Helper()
	for _, h := range hosts {
		release, def := b.release(h)
		if release != k.Release || !strings.Contains(def, k.Release) {
			b.t.Errorf("%s runs %s, its default is %q; want %s", h, release, def, k.Release)
		}
	}
}

// refusalsOnUEFI offers a host a kernel with something else in the way each time, and with nothing in the end.
func refusalsOnUEFI(b *bench, host string, k lab.Kernel) {
	if err := b.AddKernel(b.t.Context(), "plain", k); err != nil {
		b.t.Fatal(err)
	}
	release, _ := b.release(host)
	const vars = "/sys/firmware/efi/efivars"
	id := ""
	for _, c := range []struct{ what, spoil, mend, says string }{
		{"the ESP is full", "fallocate -l $(($(df --output=avail -B1 /boot/efi | tail -1) - 6000000)) /boot/efi/full", "rm /boot/efi/full", "/boot/efi is too small"},
		{"the ESP is not mounted", "umount /boot/efi", "mount /boot/efi", "no vfat is mounted as ESP"},
		{"the ESP is read-only", "mount -o remount,ro /boot/efi", "mount -o remount,rw /boot/efi", "/boot/efi is mounted read-only"},
		{"efivarfs is not mounted", "umount " + vars, "mount -t efivarfs efivarfs " + vars, "efivarfs is not mounted"},
		{"efivarfs is read-only", "mount -o remount,ro " + vars, "mount -o remount,rw " + vars, "mounted read-only"},
		{"someone else chose the next boot", "bootctl set-oneshot auto-reboot-to-firmware-setup", "bootctl set-oneshot ''", "someone else chose"},
	} {
		b.on(host, c.spoil)
		if id == "" {
			id = b.start("plain", "--selector", "id="+host)
		} else {
			b.change("retry", id, host)
		}
		var h operator.RolloutHost
		b.until(updateLimit, c.what, func() bool {
			h = b.rollout(id).Hosts[0]
			return h.State == "held"
		})
		op := h.Operation
		if op == nil || op.Phase != fleet.PhaseRefused || op.Problem == nil || !strings.Contains(op.Problem.What+op.Problem.Evidence, c.says) || op.Problem.Next == "" {
			b.t.Errorf("%s: ended %+v, want it refused because %q", c.what, op, c.says)
		} else {
			fmt.Printf("    %s: %s\n      next: %s\n", c.what, op.Problem.What, op.Problem.Next)
		}
		b.on(host, c.mend)
		if got, def := b.release(host); got != release || !strings.Contains(def, release) {
			b.t.Errorf("%s: %s runs %s, default %q; it was %s", c.what, host, got, def, release)
		}
	}
	if n := b.on(host, fmt.Sprintf("ls /boot | grep -cF %s || true", k.Release)); n != "0" {
		b.t.Errorf("%s files of the refused kernel are in /boot", n)
	}
	b.change("retry", id, host)
	b.untilStatus(id, "done")
	b.allRun([]string{host}, k)
	// It still runs with the trial's command line, which must not get into what is installed now.
	b.on(host, "kernel-install add "+release+" /boot/vmlinuz-"+release)
	if found := b.on(host, "grep -l kernwave. /boot/efi/loader/entries/* || true"); found != "" {
		b.t.Errorf("%s: every boot of these is a trial: %s", host, found)
	}
}
