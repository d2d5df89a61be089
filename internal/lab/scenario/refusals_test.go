package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/lab"
	"github.com/kernwave/kernwave/internal/operator"
)

// refusals offers one host a kernel again and again, each time with something else in the way. Each time the host
// has to refuse with the reason, in service and undrained.
func refusals(b *bench, host string, k lab.Kernel) {
	ctx := b.t.Context()
	if err := b.AddKernel(ctx, "plain", k); err != nil {
		b.t.Fatal(err)
	}
	release, def := b.release(host)
	drained := len(b.outages(host))
	id := ""
	offer := func(what string, end fleet.Phase, cause fleet.Cause, says ...string) {
		b.t.Helper()
		if id == "" {
			id = b.start("plain", "--selector", "id="+host)
		} else {
			b.change("retry", id, host)
		}
		var h operator.RolloutHost
		b.until(updateLimit, what, func() bool {
			h = b.rollout(id).Hosts[0]
			return h.State == "held"
		})
		op := h.Operation
		if op.Phase != end || op.Problem == nil || op.Problem.Cause != cause {
			b.t.Errorf("%s: ended %s with %+v; want %s, cause %s", what, op.Phase, op.Problem, end, cause)
			return
		}
		said := op.Problem.What + " " + op.Problem.Evidence
		fmt.Printf("    %s: %s\n      next: %s\n", what, op.Problem.What, op.Problem.Next)
		for _, s := range says {
			if !strings.Contains(said, s) {
				b.t.Errorf("%s: says %q, which does not name %q", what, said, s)
			}
		}
		if got, d := b.release(host); got != release || d != def && !strings.Contains(d, release) {
			b.t.Errorf("%s: %s runs %s, default %q; it was %s, %q", what, host, got, d, release, def)
		}
		b.untilHeard()
	}

	mend := b.spoilBlob(k)
	offer("a package with a wrong checksum", fleet.PhaseRefused, fleet.CauseRefused, k.SHA256[:12])
	mend()

	// dpkg's own kind of lock, held by somebody else.
	b.on(host, `systemd-run --unit=lab-holds-dpkg perl -e 'use Fcntl; open(F, "+>>", "/var/lib/dpkg/lock-frontend") or die; $lock = pack("ssx4qqlx4", F_WRLCK, 0, 0, 0, 0); fcntl(F, F_SETLK, $lock) or die; sleep 3000'
		for i in $(seq 30); do grep -q ":$(stat -c %i /var/lib/dpkg/lock-frontend) " /proc/locks && exit 0; sleep 1; done; exit 1`)
	offer("a held dpkg lock", fleet.PhaseRefused, fleet.CauseRefused, "dpkg", "perl")
	b.on(host, "systemctl stop lab-holds-dpkg")

	b.on(host, "fallocate -l $(($(df --output=avail -B1 / | tail -1) - 8000000)) /var/tmp/full")
	offer("a full /boot", fleet.PhaseRefused, fleet.CauseRefused, "/boot")
	b.on(host, "rm /var/tmp/full")
	if n := b.on(host, fmt.Sprintf("ls /boot | grep -cF %s || true", k.Release)); n != "0" {
		b.t.Errorf("%s files of the refused kernel are in /boot", n)
	}
	if n := len(b.outages(host)); n != drained {
		b.t.Errorf("%s drained %d times for refusals that need no drain", host, n-drained)
	}

	b.on(host, `printf 'drain: {argv: [/bin/sh, -c, "echo replica lags 412 s; exit 3"], timeout: 10s}\nundrain: {argv: [/bin/true]}\n' > /etc/kernwave/hooks.d/60-drain.yaml`)
	offer("a failing drain", fleet.PhaseFailed, fleet.CauseDrain, "60-drain", "replica lags 412 s")
	if os := b.outages(host); len(os) != drained+1 || os[len(os)-1].to.IsZero() {
		b.t.Errorf("%s: after the failed drain its own record says %+v", host, os)
	}

	// A drain that takes longer than the grant lives without a control plane to renew it.
	b.on(host, `printf 'drain: {argv: [/bin/sleep, "60"], timeout: 100s}\nundrain: {argv: [/bin/true]}\n' > /etc/kernwave/hooks.d/60-drain.yaml`)
	b.change("retry", id, host)
	b.until(updateLimit, "the host drains", func() bool { return b.rollout(id).Hosts[0].State == string(fleet.PhaseDraining) })
	if err := b.KillServer(); err != nil {
		b.t.Fatal(err)
	}
	b.until(3*time.Minute, "without control plane the grant runs out and the host undrains by itself", func() bool {
		os := b.outages(host)
		return len(os) == drained+2 && !os[len(os)-1].to.IsZero()
	})
	b.on(host, "rm /etc/kernwave/hooks.d/60-drain.yaml")
	if got, _ := b.release(host); got != release {
		b.t.Errorf("%s runs %s after its grant ran out, want %s", host, got, release)
	}
	if err := b.StartServer(ctx); err != nil {
		b.t.Fatal(err)
	}
	b.change("abort", id, "--yes", "--why", "enough refused")
	b.untilStatus(id, "aborted")
	b.untilHeard()
	i := slices.IndexFunc(b.ops(host), func(o fleet.Operation) bool { return o.Problem != nil && o.Problem.Cause == fleet.CauseGrant })
	if i < 0 {
		b.t.Errorf("no operation of %s says that its grant ran out: %+v", host, b.ops(host))
	}
	if n := len(b.Fleet.Tries(host)); n != len(b.Fleet.Boots(host)) {
		b.t.Errorf("%s tried %d kernels and came up %d times", host, n, len(b.Fleet.Boots(host)))
	}
}

// spoilBlob changes a byte of a package in the control plane's store, and returns what mends it.
func (b *bench) spoilBlob(k lab.Kernel) (mend func()) {
	b.t.Helper()
	path := filepath.Join(b.DataDir(), "blobs", "sha256", k.SHA256[:2], k.SHA256)
	good, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	bad := slices.Clone(good)
	bad[len(bad)/2] ^= 1
	write := func(c []byte) {
		if err := os.WriteFile(path, c, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	write(bad)
	return func() { write(good) }
}

// ops are a host's operations, newest first.
func (b *bench) ops(host string) []fleet.Operation {
	b.t.Helper()
	var v struct{ Operations []fleet.Operation }
	if err := b.JSON(b.t.Context(), &v, "host", "show", host); err != nil {
		b.t.Fatal(err)
	}
	return v.Operations
}
