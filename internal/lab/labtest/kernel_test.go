package labtest

import (
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/lab"
)

// entryOf prints the GRUB menu entry of a kernel release.
func entryOf(release string) string {
	return `$(grep -o "gnulinux-` + release + `-advanced-[^' ]*" /boot/grub/grub.cfg | head -n 1)`
}

// The recipes that the rest of Kernwave is tested with, by hand: GRUB's one-shot entry, and kernels that are ill on
// one model only.
func TestVMKernels(t *testing.T) {
	im, ctx := Images(t), t.Context()
	ks := im.Kernels()
	base, good := ks[0], ks[len(ks)-1]
	repack := func(k lab.Kernel, v lab.Variant) lab.Kernel {
		k, err := im.Repack(ctx, k, v)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	panics := repack(ks[1], lab.Variant{Fault: lab.Panic, Model: "Ill 1"})
	hangs := repack(ks[2], lab.Variant{Fault: lab.Hang, Model: "Ill 1"})
	nonet := repack(ks[3], lab.Variant{Fault: lab.NoNetwork, Model: "Ill 1"})
	f := Start(t, im, lab.FleetConfig{Serve: []lab.Kernel{good, panics, hangs, nonet}},
		lab.HostSpec{Name: "ill", Model: "Ill 1"}, lab.HostSpec{Name: "fit", Model: "Fit 2"})

	both := func(do func(t *testing.T, host string)) {
		t.Run("hosts", func(t *testing.T) {
			for _, host := range f.Hosts() {
				t.Run(host, func(t *testing.T) {
					t.Parallel()
					do(t, host)
				})
			}
		})
		if t.Failed() {
			t.FailNow()
		}
	}
	both(func(t *testing.T, host string) {
		began, cpu := time.Now(), f.CPU(host)
		Must(t, f, host, "apt-get update >&2 && apt-get install -y "+good.Package+" >&2")
		t.Logf("apt-get update and install of one kernel: %.1fs, cpu %.1fs", time.Since(began).Seconds(), (f.CPU(host) - cpu).Seconds())
		began, cpu = time.Now(), f.CPU(host)
		Must(t, f, host, strings.Join([]string{"apt-get install -y", panics.Package, hangs.Package, nonet.Package, ">&2"}, " "))
		t.Logf("install of three more: %.1fs, cpu %.1fs", time.Since(began).Seconds(), (f.CPU(host) - cpu).Seconds())
		Must(t, f, host, `mkdir -p /etc/default/grub.d; echo 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX panic=5"' >/etc/default/grub.d/panic.cfg; update-grub 2>&1; grub-set-default "`+entryOf(base.Release)+`"; sync`)
		if got := Must(t, f, host, "ls /boot/initrd* | wc -l; grub-probe --target=fs /boot; grub-probe --target=partuuid /boot; ls /usr/sbin/grub-probe*"); !strings.HasPrefix(got, "3\next2\n") {
			t.Errorf("got %q", got)
		}
	})

	// once boots a kernel one time and returns what came up.
	once := func(t *testing.T, host string, k lab.Kernel) lab.Boot {
		t.Helper()
		began, cpu, n := time.Now(), f.CPU(host), len(f.Boots(host))
		Must(t, f, host, `grub-reboot "`+entryOf(k.Release)+`"; grub-editenv list; sync; systemctl --no-block reboot`)
		if k.Release == hangs.Release && host == "ill" {
			if err := f.WaitConsole(ctx, host, func(log string) bool {
				return strings.HasSuffix(strings.TrimSpace(log), "Loading Linux "+k.Release+" ...")
			}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(8 * time.Second)
			if err := f.Reset(ctx, host); err != nil {
				t.Fatal(err)
			}
		}
		b, err := f.WaitBoot(ctx, host, n+1)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("reboot into %s %s: %.1fs, cpu %.1fs, tries %v", k.Release, k.Variant, time.Since(began).Seconds(), (f.CPU(host) - cpu).Seconds(), f.Tries(host))
		return b
	}
	ping := "timeout 5 bash -c '</dev/tcp/" + lab.GuestAddr + "/80'"
	both(func(t *testing.T, host string) {
		for _, k := range []lab.Kernel{good, panics, hangs, nonet} {
			want := k.Release
			if host == "ill" && (k.Variant == panics.Variant || k.Variant == hangs.Variant) {
				want = base.Release
			}
			if b := once(t, host, k); b.Release != want {
				t.Errorf("after one boot of %s %s: %s runs %s, want %s", k.Release, k.Variant, host, b.Release, want)
			}
			if tries := f.Tries(host); !strings.Contains(strings.Join(tries, " "), k.Release) {
				t.Errorf("GRUB tried %v, want %s among them", tries, k.Release)
			}
			res, err := f.Exec(ctx, host, ping)
			if reached := err == nil && res.Exit == 0; reached == (host == "ill" && k.Variant == nonet.Variant) {
				t.Errorf("with %s %s: network %v, %v", k.Release, k.Variant, reached, err)
			}
		}
		b, err := f.Reboot(ctx, host)
		if err != nil || b.Release != base.Release {
			t.Errorf("after an ordinary reboot: %s, %v; want the default %s", b.Release, err, base.Release)
		}
	})
}
