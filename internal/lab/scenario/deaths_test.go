package scenario

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/lab"
	"github.com/kernwave/kernwave/internal/lab/rig"
	"github.com/kernwave/kernwave/internal/operator"
)

// TestKernelsThatDieInOtherWays tries kernels on which nothing panics: two hosts, one step after the other on each.
func TestKernelsThatDieInOtherWays(t *testing.T) {
	needLab(t)
	b := newBench(t, []string{"--idle-pace", "5s"},
		rig.Host{Name: "die-1", Model: alpha, Workload: "web"}, rig.Host{Name: "die-2", Model: beta, Workload: "db"})
	ks := b.im.Kernels()
	if len(ks) < 5 {
		t.Fatalf("the archive has %d kernels, 5 are needed", len(ks))
	}
	die := func(host string, k lab.Kernel, d death) func(*testing.T) {
		return func(t *testing.T) {
			b := b.in(t)
			d.host = host
			d.try(b, k)
		}
	}
	t.Run("on each host", func(t *testing.T) {
		t.Run("die-1", func(t *testing.T) {
			t.Parallel()
			t.Run("a kernel that hangs after the watchdog is armed: back unaided", die("die-1", ks[1], death{
				fault: lab.HangLate, end: fleet.PhaseFellBack, cause: fleet.CauseNotBooted,
				console: "hangs now, with its watchdog armed", says: "watchdog says that it reset the machine",
			}))
			t.Run("a kernel image that is cut short: refused in prepare", die("die-1", ks[2], death{
				fault: lab.ShortImage, end: fleet.PhaseRefused, cause: fleet.CauseRefused, says: "is cut short", stays: true,
			}))
		})
		t.Run("die-2", func(t *testing.T) {
			t.Parallel()
			t.Run("a kernel that ends in the emergency target: back by the dead-man", die("die-2", ks[3], death{
				fault: lab.Emergency, end: fleet.PhaseFellBack, cause: fleet.CauseDeadMan, console: "emergency mode", deadline: 2 * time.Minute,
			}))
			t.Run("modules that are cut short: back, or refused in prepare", die("die-2", ks[4], death{fault: lab.ShortModules}))
		})
	})
	t.Run("the records of the hosts explain every boot", func(t *testing.T) {
		b := b.in(t)
		b.proveGrants("die-1", "die-2")
		b.proveBoots("die-1", 0)
		b.proveBoots("die-2", 0)
	})
}

// death is one way for a kernel to die, and what has to become of its trial. An empty end: refused, or back on the old kernel.
type death struct {
	host     string
	fault    lab.Fault
	end      fleet.Phase
	cause    fleet.Cause
	says     string        // in the problem, its evidence, or why there is none
	console  string        // on the host's console meanwhile: proof that it really died this way
	deadline time.Duration // of the trial; zero: the bench's
	stays    bool          // the host never leaves its kernel
}

// try rolls the kernel out to the host, waits until the host is back in service and looks at what is said about it.
func (d death) try(b *bench, k lab.Kernel) {
	b.t.Helper()
	ctx := b.t.Context()
	bad, err := b.im.Repack(ctx, k, lab.Variant{Fault: d.fault})
	if err != nil {
		b.t.Fatal(err)
	}
	name := string(d.fault)
	if err := b.AddKernel(ctx, name, bad); err != nil {
		b.t.Fatal(err)
	}
	was, _ := b.release(d.host)
	cycles := b.Fleet.PowerCycles(d.host)
	boots, drained, began := len(b.Fleet.Boots(d.host)), len(b.outages(d.host)), consoleSize(b, d.host)
	args := []string{"--selector", "id=" + d.host}
	if d.deadline > 0 {
		args = append(args, "--trial-deadline", d.deadline.String())
	}
	id := b.start(name, args...)
	if d.console != "" {
		b.until(updateLimit, fmt.Sprintf("%s: its console says %q", d.host, d.console), func() bool {
			return strings.Contains(consoleSince(b, d.host, began), d.console)
		})
	}
	op := b.untilEnded(id, d.host)
	if n := b.Fleet.PowerCycles(d.host) - cycles; n > 0 {
		b.t.Errorf("%s did not come back unaided: its firmware stood still and the lab power-cycled it %d times", d.host, n)
	}
	if d.end != "" && op.Phase != d.end || !slices.Contains([]fleet.Phase{fleet.PhaseRefused, fleet.PhaseReverted, fleet.PhaseFellBack}, op.Phase) {
		b.t.Errorf("%s: ended %s, want %s", d.host, op.Phase, d.end)
	}
	if op.Problem == nil {
		b.t.Fatalf("%s: ended %s and does not say why", d.host, op.Phase)
	}
	fmt.Printf("    %s: %s: %s\n      expected: %s\n      evidence: %.200s%s\n      next: %s\n", d.host, op.Phase, op.Problem.What, op.Problem.Expected,
		op.Problem.Evidence, op.Problem.NoEvidence, op.Problem.Next)
	if d.cause != "" && op.Problem.Cause != d.cause || !strings.Contains(op.Problem.What+op.Problem.Evidence+op.Problem.NoEvidence, d.says) {
		b.t.Errorf("%s: the cause is %s (%s), want %s and %q", d.host, op.Problem.Cause, op.Problem.What, d.cause, d.says)
	}
	if release, def := b.release(d.host); release != was || !strings.Contains(def, was) {
		b.t.Errorf("%s runs %s, its default is %q; want it back on %s", d.host, release, def, was)
	}
	if d.stays || op.Phase == fleet.PhaseRefused {
		if n := len(b.Fleet.Boots(d.host)); n != boots || len(b.outages(d.host)) != drained {
			b.t.Errorf("%s was refused the kernel, and booted %d times more", d.host, n-boots)
		}
		if n := b.on(d.host, fmt.Sprintf("ls /boot | grep -cF %s || true", bad.Release)); n != "0" {
			b.t.Errorf("%s: %s files of the refused kernel are in /boot", d.host, n)
		}
	}
	b.change("abort", id, "--yes", "--why", "as expected")
	b.untilStatus(id, "aborted")
}

// untilEnded waits until the operation of a rollout of one host has ended and the host is in service again.
func (b *bench) untilEnded(id, host string) fleet.Operation {
	b.t.Helper()
	var op fleet.Operation
	b.until(rolloutLimit, host+": its operation has ended", func() bool {
		for _, h := range b.rollout(id).Hosts {
			if string(h.ID) == host && h.Operation != nil && h.Operation.Phase.Ended() {
				op = *h.Operation
				return true
			}
		}
		return false
	})
	b.until(updateLimit, host+" is in service", func() bool {
		hs, err := b.Hosts(b.t.Context())
		i := slices.IndexFunc(hs, func(h operator.Host) bool { return string(h.ID) == host })
		return err == nil && i >= 0 && !hs[i].Silent && hs[i].Now.InService
	})
	return op
}

// consoleSize and consoleSince look at what a host's console has said from some moment on.
func consoleSize(b *bench, host string) int { return len(consoleSince(b, host, 0)) }

func consoleSince(b *bench, host string, from int) string {
	text, err := os.ReadFile(b.Fleet.Console(host))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text[min(from, len(text)):])
}
