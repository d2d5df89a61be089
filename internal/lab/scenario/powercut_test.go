package scenario

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/lab"
	"github.com/kernwave/kernwave/internal/lab/rig"
)

// slowDrain leaves time to take the control plane away between the grant and the last-moment question.
const slowDrain = `drain: {argv: [/bin/sleep, "20"], timeout: 60s}
undrain: {argv: [/bin/true]}
`

// lossSeed decides which of the writes that were not flushed survive a cut. Any seed must do.
const lossSeed = 20261

// TestPowerCuts cuts the power of one host in the middle of each part of an update. Its disk keeps what was flushed, and a
// part of the rest.
func TestPowerCuts(t *testing.T) {
	needLab(t)
	const host = "cut-1"
	b := newBench(t, []string{"--grant-life", "10m", "--idle-pace", "5s"}, rig.Host{
		Name: host, Model: alpha, Workload: "web", FlushCounts: true, LossSeed: lossSeed, Hooks: map[string]string{"60-slow.yaml": slowDrain},
	})
	ks := b.im.Kernels()
	base, k := ks[0], ks[len(ks)-1]
	if err := b.AddKernel(t.Context(), "good", k); err != nil {
		t.Fatal(err)
	}
	id := b.start("good", "--selector", "id="+host)
	step := func(name string, f func(b *bench)) {
		if !t.Run(name, func(t *testing.T) { f(b.in(t)) }) {
			t.FailNow() // the next step would begin from who knows where
		}
	}
	step("a cut while dpkg unpacks the kernel: it is installed after all", func(b *bench) {
		b.whenDpkgSays(host, "half-installed "+k.Package)
		b.cut(host, base.Release)
	})
	step("a cut when dpkg has just called it installed: what was not on the disk is made anew", func(b *bench) {
		b.whenDpkgSays(host, "installed "+k.Package)
		b.cut(host, base.Release)
		b.until(updateLimit, "the kernel is installed, and the host drains", func() bool {
			h := b.rollout(id).Hosts[0]
			if h.State == "held" {
				b.t.Fatalf("held: %s", h.Why)
			}
			return h.State == string(fleet.PhaseDraining)
		})
		b.soundKernel(host, k)
	})
	step("a cut between arming and the last yes: the trial that nobody allowed is ended", func(b *bench) {
		if err := b.KillServer(); err != nil {
			b.t.Fatal(err)
		}
		b.untilOn(host, "the trial is armed, and no control plane says yes", "grub-editenv list | grep -q next_entry=kernwave")
		b.cut(host, k.Release)
		if err := b.StartServer(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
		b.endsBackOn(id, host, base.Release, fleet.PhaseReverted, fleet.CauseInterrupted)
	})
	step("a cut while GRUB loads the trial, and one during it: back on the old kernel", func(b *bench) {
		tries := len(b.Fleet.Tries(host))
		b.change("retry", id, host)
		b.change("resume", id)
		b.until(updateLimit, host+": GRUB loads the trial's kernel", func() bool {
			ts := b.Fleet.Tries(host)
			return len(ts) > tries && ts[len(ts)-1] == k.Release
		})
		// GRUB forgets the one-shot entry through the firmware, which flushes nothing: the trial may be booted once more.
		if b.cut(host, base.Release, k.Release) == k.Release {
			b.cut(host, base.Release)
		}
		b.endsBackOn(id, host, base.Release, fleet.PhaseFellBack, fleet.CauseNotBooted)
	})
	step("without a cut the same kernel commits, and everything of it is whole", func(b *bench) {
		b.change("retry", id, host)
		b.change("resume", id)
		b.untilStatus(id, "done")
		if release, def := b.release(host); release != k.Release || !strings.Contains(def, k.Release) {
			b.t.Errorf("%s runs %s, its default is %q; want %s", host, release, def, k.Release)
		}
		b.soundKernel(host, k)
		b.proveGrants(host)
	})
}

// whenDpkgSays waits for a state in dpkg's log.
func (b *bench) whenDpkgSays(host, state string) {
	b.t.Helper()
	b.untilOn(host, "dpkg's log says "+state, fmt.Sprintf("grep -q ' status %s' /var/log/dpkg.log", state))
}

// untilOn waits until a script on the host exits with 0. The host itself asks, each half second: a question from outside
// costs an emulated machine more.
func (b *bench) untilOn(host, what, script string) {
	b.t.Helper()
	b.until(updateLimit, host+": "+what, func() bool {
		res, err := b.Fleet.Exec(b.t.Context(), host, "for i in $(seq 40); do "+script+" && exit 0; sleep .5; done; exit 1")
		return err == nil && res.Exit == 0
	})
}

// cut takes the power away, gives it back and returns the kernel that comes up. It fails if that is none of those expected.
func (b *bench) cut(host string, want ...string) string {
	b.t.Helper()
	ctx := b.t.Context()
	if err := b.Fleet.PowerOff(host); err != nil {
		b.t.Fatal(err)
	}
	if err := b.Fleet.PowerOn(ctx, host); err != nil {
		b.t.Fatal(err)
	}
	boots := b.Fleet.Boots(host)
	got := boots[len(boots)-1].Release
	if !slices.Contains(want, got) {
		b.t.Fatalf("%s came up on %s after the cut, want %s", host, got, strings.Join(want, " or "))
	}
	return got
}

// endsBackOn waits for the end of the host's operation and checks that it is the true one.
func (b *bench) endsBackOn(id, host, base string, end fleet.Phase, cause fleet.Cause) {
	b.t.Helper()
	op := b.untilEnded(id, host)
	if op.Phase != end || op.Problem == nil || op.Problem.Cause != cause {
		b.t.Errorf("%s: ended %s with %+v; want %s, cause %s", host, op.Phase, op.Problem, end, cause)
	} else {
		fmt.Printf("    %s: %s: %s\n", host, op.Phase, op.Problem.What)
	}
	if release, def := b.release(host); release != base || !strings.Contains(def, base) {
		b.t.Errorf("%s runs %s, its default is %q; want it back on %s", host, release, def, base)
	}
	b.until(time.Minute, "the rollout is paused", func() bool { return b.rollout(id).Status == "paused" })
	if os := b.outages(host); slices.ContainsFunc(os, func(o outage) bool { return o.to.IsZero() }) {
		b.t.Errorf("%s: by its own record it is still out of service: %+v", host, os)
	}
}

// soundKernel looks for what a power cut leaves behind: packages half installed, files that are empty or not what the
// package brought, a file system with errors.
func (b *bench) soundKernel(host string, k lab.Kernel) {
	b.t.Helper()
	for what, script := range map[string]string{
		"dpkg stopped halfway":        "dpkg --audit",
		"files are not the package's": "dpkg --verify " + k.Package + " | grep -v ' /usr/share/doc' || true", // the image does without
		"lists of modules are empty":  "find /lib/modules/" + k.Release + " -maxdepth 1 -type f -name 'modules.*' -size 0",
		"a module cannot be found":    "modprobe --set-version " + k.Release + " --show-depends virtio_net 2>&1 >/dev/null",
		"the file system has errors":  "dmesg | grep -i 'EXT4-fs error' || true",
		"units failed":                "systemctl list-units --failed --plain --no-legend",
	} {
		if out := b.on(host, script); out != "" {
			b.t.Errorf("%s: %s: %s", host, what, out)
		}
	}
}
