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

	install := func(t *testing.T, host string, ks ...lab.Kernel) {
		t.Helper()
		began, cpu := time.Now(), f.CPU(host)
		script := "apt-get update >&2 && apt-get install -y >&2"
		for _, k := range ks {
			script += " " + k.Package + "=" + k.Version
		}
		Must(t, f, host, script)
		t.Logf("install of %d kernels: %.1fs, cpu %.1fs", len(ks), time.Since(began).Seconds(), (f.CPU(host) - cpu).Seconds())
	}
	makeReady := func(t *testing.T, host string) { // panic=, and the running kernel as the explicit default
		t.Helper()
		Must(t, f, host, `mkdir -p /etc/default/grub.d; echo 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX panic=5"' >/etc/default/grub.d/panic.cfg
			update-grub 2>&1; grub-set-default "`+entryOf(base.Release)+`"; sync`)
	}
	// once boots a kernel one time and checks what came up.
	once := func(t *testing.T, host string, k lab.Kernel, want string, network bool) {
		t.Helper()
		began, cpu, n, tries := time.Now(), f.CPU(host), len(f.Boots(host)), len(f.Tries(host))
		Must(t, f, host, `grub-reboot "`+entryOf(k.Release)+`"; sync; systemctl --no-block reboot`)
		if want == base.Release && k.Variant == hangs.Variant {
			if err := f.WaitConsole(ctx, host, func(string) bool { return len(f.Tries(host)) > tries }); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second) // a panic would show by now
			if err := f.Reset(ctx, host); err != nil {
				t.Fatal(err)
			}
		}
		b, err := f.WaitBoot(ctx, host, n+1)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("reboot into %s %s: %.1fs, cpu %.1fs, GRUB loaded %v", k.Release, k.Variant, time.Since(began).Seconds(), (f.CPU(host) - cpu).Seconds(), f.Tries(host)[tries:])
		if b.Release != want || f.Tries(host)[tries] != k.Release {
			t.Errorf("%s: GRUB loaded %v and %s came up, want %s first and %s up", host, f.Tries(host)[tries:], b.Release, k.Release, want)
		}
		res, err := f.Exec(ctx, host, "for i in 1 2 3 4 5 6 7 8; do timeout 5 bash -c '</dev/tcp/"+lab.GuestAddr+"/80' && exit 0; sleep 1; done; exit 1")
		if err != nil || (res.Exit == 0) != network {
			t.Errorf("%s on %s %s: network %v, %v; want %v", host, k.Release, k.Variant, res.Exit == 0, err, network)
		}
		if failed := Must(t, f, host, "systemctl list-units --failed --plain --no-legend"); failed != "" {
			t.Errorf("%s on %s %s: failed units: %s", host, k.Release, k.Variant, failed)
		}
	}
	t.Run("ill", func(t *testing.T) {
		t.Parallel()
		install(t, "ill", good)
		install(t, "ill", panics, hangs, nonet)
		makeReady(t, "ill")
		if got := Must(t, f, "ill", "ls /boot/initrd* | wc -l; grub-probe --target=fs /boot; ls /usr/sbin/grub-probe*"); got != "3\next2\n/usr/sbin/grub-probe" {
			t.Errorf("got %q", got)
		}
		once(t, "ill", good, good.Release, true)
		once(t, "ill", panics, base.Release, true)
		if log := f.Tail("ill", 100); !strings.Contains(log, "Attempted to kill init") {
			t.Errorf("no panic on the console:\n%s", log)
		}
		once(t, "ill", nonet, nonet.Release, false)
		once(t, "ill", hangs, base.Release, true)
	})
	t.Run("fit", func(t *testing.T) {
		t.Parallel()
		install(t, "fit", panics)
		makeReady(t, "fit")
		once(t, "fit", panics, panics.Release, true)
		if b, err := f.Reboot(ctx, "fit"); err != nil || b.Release != base.Release {
			t.Errorf("after an ordinary reboot: %s, %v; want the default %s", b.Release, err, base.Release)
		}
	})
}
