package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/lab"
	"github.com/kernwave/kernwave/internal/lab/rig"
	"github.com/kernwave/kernwave/internal/operator"
)

// The fleet that all scenarios of a run share: two hosts of each of two types.
var (
	webs = []string{"web-1", "web-2"} // Lab Alpha
	dbs  = []string{"db-1", "db-2"}   // Lab Beta
	all  = []string{"db-1", "db-2", "web-1", "web-2"}
)

const (
	alpha = "Lab Alpha"
	beta  = "Lab Beta"
)

// checkHook is an operator's check that fails on kernels named in /etc/lab-bad-kernels.
const checkHook = `check: {argv: [/bin/sh, -c, "if grep -qxF \"$(uname -r)\" /etc/lab-bad-kernels; then echo app: p99 latency 48 ms, at most 40 ms are allowed; exit 1; fi"], timeout: 20s}
`

func sharedFleet() []rig.Host {
	var hs []rig.Host
	for _, n := range webs {
		hs = append(hs, rig.Host{Name: n, Model: alpha, Workload: "web"})
	}
	for _, n := range dbs {
		hs = append(hs, rig.Host{Name: n, Model: beta, Workload: "db"})
	}
	loaders := map[string]lab.Loader{"db-1": lab.SystemdBoot, "db-2": lab.GRUBOnUEFI} // the others: GRUB on BIOS
	for i := range hs {
		hs[i].Loader = loaders[hs[i].Name]
		hs[i].Hooks = map[string]string{"50-app.yaml": checkHook}
		hs[i].Files = []lab.File{{Path: "/etc/lab-bad-kernels", Content: []byte("none\n")}}
		hs[i].FlushCounts, hs[i].LossSeed = hs[i].Name == cutHost, lossSeed
	}
	return hs
}

// TestSharedFleet walks one fleet through the main job and through what can go wrong with it. Each step begins where
// the one before ended.
func TestSharedFleet(t *testing.T) {
	needLab(t)
	b := newBench(t, []string{"--grant-life", "30s", "--idle-pace", "5s"}, sharedFleet()...)
	ks := b.im.Kernels()
	if len(ks) < 5 {
		t.Fatalf("the archive has %d kernels, 5 are needed", len(ks))
	}
	base, good, panics, others := ks[0], ks[1], ks[2], ks[3:]
	step := func(name string, f func(b *bench)) {
		if !t.Run(name, func(t *testing.T) { f(b.in(t)) }) {
			t.FailNow() // the next step would begin from who knows where
		}
	}
	step("a GRUB without saved default is mended", func(b *bench) { breakGrub(b, "db-2", base) })
	step("a good kernel reaches every host, with the control plane away in between", func(b *bench) { goodKernel(b, base, good) })
	step("the next plain reboot stays on it", func(b *bench) { plainReboot(b, good) })
	step("a kernel that panics on one host type stops itself", func(b *bench) { panickingKernel(b, good, panics, dbs, all) })
	plain := others[len(others)-1]
	step("what a host refuses", func(b *bench) { refusals(b, "web-2", plain) })
	step("failed check, no network, no agent: each is back, each said truthfully", func(b *bench) { badTrials(b, others[0], plain) })
	step("a power cut in a trial, and a hang before any watchdog: each is back, each said truthfully", func(b *bench) { cutAndHang(b, others[0], plain) })
	step("internal/linux does on a real host what its fake does", func(b *bench) { conform(b, "web-2", "db-1") })
	step("the records of the hosts explain every boot", func(b *bench) {
		b.proveBudget(2, webs...) // 2 since the bad trials; the good kernel's part was held against 1
		b.proveGrants(all...)
		for _, h := range all {
			b.proveBoots(h, 1)
		}
	})
}

// breakGrub makes a host's GRUB boot its newest kernel by default, as a stock Debian does. The update that follows
// has to mend that before it installs anything.
func breakGrub(b *bench, host string, base lab.Kernel) {
	b.on(host, `sed -i 's/^GRUB_DEFAULT=.*/GRUB_DEFAULT=0/' /etc/default/grub && grub-editenv - unset saved_entry && update-grub`)
	if _, def := b.release(host); def != "" {
		b.t.Fatalf("saved_entry is still %q", def)
	}
}

func goodKernel(b *bench, base, good lab.Kernel) {
	ctx := b.t.Context()
	if err := b.AddKernel(ctx, "good", good); err != nil {
		b.t.Fatal(err)
	}
	id := b.start("good", "--waves", "50,100")
	// The canaries commit; then a host of the wave is in trial, and the control plane goes away.
	b.until(rolloutLimit, "a host of the waves reboots", func() bool {
		r := b.rollout(id)
		if r.Status != "running" {
			b.t.Fatalf("rollout is %s: %s", r.Status, r.StatusWhy)
		}
		return r.Stage > 0 && slices.ContainsFunc(r.Hosts, func(h operator.RolloutHost) bool {
			// It may go down too soon to say so itself.
			return h.Stage > 0 && h.Operation != nil && !h.Operation.ConfirmedAt.IsZero()
		})
	})
	before := drains(b)
	if err := b.KillServer(); err != nil {
		b.t.Fatal(err)
	}
	gone := time.Now()
	b.until(updateLimit, "the hosts have been without control plane for more than three grant lives, and one has passed its trial alone", func() bool {
		return time.Since(gone) > 100*time.Second && trialsWaiting(b) > 0
	})
	if after := drains(b); after != before {
		b.t.Errorf("hosts began %d operations while the control plane was away", after-before)
	}
	if err := b.StartServer(ctx); err != nil {
		b.t.Fatal(err)
	}
	b.untilStatus(id, "done")
	for _, h := range all {
		release, def := b.release(h)
		if release != good.Release || !strings.Contains(def, good.Release) {
			b.t.Errorf("%s runs %s, its default is %q; want %s", h, release, def, good.Release)
		}
	}
	b.proveBudget(1, webs...)
	b.proveBudget(1, dbs...)
	b.proveGrants(all...)
	for _, h := range all {
		b.proveBoots(h, 0)
		if n := len(b.Fleet.Boots(h)); n != 2 {
			b.t.Errorf("%s booted %d times, want once with each kernel: %s", h, n, describe(b.Fleet.Boots(h)))
		}
	}
	approvals := 0
	for _, ty := range b.rollout(id).Types {
		if strings.Contains(ty.Approval, "trial passed on") {
			approvals++
		}
	}
	if approvals != 2 {
		b.t.Errorf("%d types are approved by a trial, want 2", approvals)
	}
}

// conform runs the conformance test of internal/linux on hosts, with their agents stopped: only one may change a machine.
func conform(b *bench, hosts ...string) {
	ctx, cancel := context.WithTimeout(b.t.Context(), updateLimit)
	defer cancel()
	var all sync.WaitGroup
	for _, h := range hosts {
		all.Go(func() {
			res, err := b.Fleet.Exec(ctx, h, "systemctl stop kernwave-agent && cd / && KERNWAVE_ON_HOST=1 /usr/local/sbin/onhost.test -test.v; code=$?; systemctl start kernwave-agent; exit $code")
			if err != nil {
				b.t.Errorf("%s: %v", h, err)
				return
			}
			fmt.Printf("    on %s:\n%s", h, res.Stdout)
			if res.Exit != 0 || !strings.Contains(res.Stdout, "--- PASS: TestConform") {
				b.t.Errorf("%s: exit code %d\n%s", h, res.Exit, res.Stderr)
			}
		})
	}
	all.Wait()
	b.untilHeard()
}

// drains counts how often the hosts' own drain programs ran.
func drains(b *bench) int {
	n := 0
	for _, h := range all {
		rs, err := b.Records(h)
		if err != nil {
			b.t.Fatal(err)
		}
		for _, r := range rs {
			if r.What == "drain" {
				n++
			}
		}
	}
	return n
}

// trialsWaiting counts the hosts whose own dead-man was told that the checks passed, and that have not committed.
func trialsWaiting(b *bench) int {
	n := 0
	for _, h := range all {
		res, err := b.Fleet.Exec(b.t.Context(), h, "test -s /run/kernwave/checks-passed && grep -q kernwave.trial= /proc/cmdline && ! ( "+bootEnv+" ) | grep -q \"saved_entry=.*$(uname -r)\"")
		if err == nil && res.Exit == 0 {
			n++
		}
	}
	return n
}

func plainReboot(b *bench, good lab.Kernel) {
	for _, h := range []string{"web-1", "db-1", "db-2"} { // one for each loader
		boot, err := b.Fleet.Reboot(b.t.Context(), h)
		if err != nil {
			b.t.Fatal(err)
		}
		if boot.Release != good.Release {
			b.t.Errorf("%s booted %s after a plain reboot, want %s", h, boot.Release, good.Release)
		}
	}
	b.untilHeard()
}

// untilHeard waits until every host has checked in and is in service.
func (b *bench) untilHeard() {
	b.t.Helper()
	b.until(lab.BootLimit, "every host is heard and in service", func() bool {
		hs, err := b.Hosts(b.t.Context())
		return err == nil && !slices.ContainsFunc(hs, func(h operator.Host) bool { return h.Silent || !h.Now.InService })
	})
}

// panickingKernel offers a kernel that panics on the hosts ill, which are all of the type beta, to all hosts.
func panickingKernel(b *bench, good, panics lab.Kernel, ill, all []string) {
	ctx := b.t.Context()
	bad, err := b.im.Repack(ctx, panics, lab.Variant{Fault: lab.Panic, Model: beta})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.AddKernel(ctx, "panics", bad); err != nil {
		b.t.Fatal(err)
	}
	id := b.start("panics", "--waves", "50,100")
	b.until(rolloutLimit, "the rollout pauses by itself", func() bool { return b.rollout(id).Status == "paused" })
	r := b.rollout(id)
	var paused time.Time
	for _, e := range b.events() {
		if e.Kind == "rollout.paused" && e.Rollout == id {
			paused = e.At
		}
	}
	canary := ""
	for _, h := range r.Hosts {
		if h.Stage == 0 && slices.Contains(ill, string(h.ID)) {
			canary = string(h.ID)
		}
	}
	b.until(updateLimit, "the open operations have ended", func() bool {
		hs, err := b.Hosts(ctx)
		return err == nil && !slices.ContainsFunc(hs, func(h operator.Host) bool { return h.Operation != nil })
	})
	for _, h := range ill {
		release, def := b.release(h)
		if release != good.Release || !strings.Contains(def, good.Release) {
			b.t.Errorf("%s runs %s, its default is %q; want it back on %s", h, release, def, good.Release)
		}
		installed := b.on(h, fmt.Sprintf("ls /boot | grep -cF %s || true", bad.Release))
		if (installed != "0") != (h == canary) {
			b.t.Errorf("%s: %s files of the kernel in /boot; only the canary %s may have it", h, installed, canary)
		}
	}
	if tries := b.Fleet.Tries(canary); !slices.Contains(tries, bad.Release) || slices.ContainsFunc(b.Fleet.Boots(canary), func(x lab.Boot) bool { return x.Release == bad.Release }) {
		b.t.Errorf("%s: tried %v; it should have tried %s and never come up on it", canary, tries, bad.Release)
	}
	for _, o := range b.outages(all...) {
		if o.from.After(paused.Add(clockSlack)) {
			b.t.Errorf("%s left service at %s, after the pause at %s", o.host, o.from.Format(time.TimeOnly), paused.Format(time.TimeOnly))
		}
	}
	for _, e := range b.events() {
		if e.Kind == "reboot.confirmed" && e.At.After(paused) {
			b.t.Errorf("%s was let reboot at %s, after the pause", e.Host, e.At.Format(time.TimeOnly))
		}
	}
	i := slices.IndexFunc(b.incidents(), func(i operator.Incident) bool { return i.Rollout == id })
	if i < 0 {
		b.t.Fatal("no incident")
	}
	in := b.incidents()[i]
	fmt.Printf("    incident: %s\n      expected: %s\n      evidence: %.200s%s\n", in.Saw, in.Expected, in.Evidence, in.NoEvidence)
	if in.Kernel != "panics" || !slices.Contains(in.Hosts, fleet.HostID(canary)) || in.Saw == "" || len(in.Choices) < 3 || in.Evidence == "" && in.NoEvidence == "" {
		b.t.Errorf("the incident does not say enough: %+v", in)
	}
	out, err := b.CLI(ctx, "why", ill[0])
	if err != nil || !strings.Contains(out, id) {
		b.t.Errorf("why %s: %s %v", ill[0], out, err)
	}
	b.change("abort", id, "--yes", "--why", "panics on "+beta)
	b.untilStatus(id, "aborted")
}

// badTrials tries three kernels on three hosts at once: one that fails an operator's check, one without network, and
// one under which the agent does not start.
func badTrials(b *bench, noNetwork, plain lab.Kernel) {
	ctx := b.t.Context()
	nonet, err := b.im.Repack(ctx, noNetwork, lab.Variant{Fault: lab.NoNetwork})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.CLI(ctx, "budget", "set", "type", "2"); err != nil {
		b.t.Fatal(err)
	}
	// The second is there already in a whole run; adding it again changes nothing.
	if err := errors.Join(b.AddKernel(ctx, "nonet", nonet), b.AddKernel(ctx, "plain", plain)); err != nil {
		b.t.Fatal(err)
	}
	b.on("web-2", "echo "+plain.Release+" > /etc/lab-bad-kernels")
	b.on("db-2", fmt.Sprintf("mkdir -p /etc/systemd/system/kernwave-agent.service.d && printf '[Unit]\\nConditionKernelVersion=!%s\\n' > /etc/systemd/system/kernwave-agent.service.d/lab.conf && systemctl daemon-reload", plain.Release))
	was := map[string]string{}
	for _, h := range []string{"web-2", "db-1", "db-2"} {
		was[h], _ = b.release(h)
	}
	type trial struct {
		host, kernel string
		cause        fleet.Cause
		says         string
		id           string
	}
	trials := []trial{
		{host: "web-2", kernel: "plain", cause: fleet.CauseCheck, says: "p99 latency 48 ms"},
		{host: "db-1", kernel: "nonet", cause: fleet.CauseNetwork, says: ""},
		{host: "db-2", kernel: "plain", cause: fleet.CauseDeadMan, says: ""},
	}
	for i, tr := range trials {
		args := []string{"--selector", "id=" + tr.host}
		if tr.cause == fleet.CauseDeadMan {
			args = append(args, "--trial-deadline", "2m") // nobody will speak up in it: the rest is waiting
		}
		trials[i].id = b.start(tr.kernel, args...)
	}
	for _, tr := range trials {
		b.until(rolloutLimit, fmt.Sprintf("%s on %s pauses its rollout", tr.kernel, tr.host), func() bool { return b.rollout(tr.id).Status == "paused" })
		b.until(updateLimit, tr.host+" is back", func() bool {
			hs, err := b.Hosts(ctx)
			i := slices.IndexFunc(hs, func(h operator.Host) bool { return string(h.ID) == tr.host })
			return err == nil && i >= 0 && hs[i].Operation == nil && hs[i].Now.InService
		})
		release, def := b.release(tr.host)
		if release != was[tr.host] || !strings.Contains(def, was[tr.host]) {
			b.t.Errorf("%s runs %s, its default is %q; want it back on %s", tr.host, release, def, was[tr.host])
		}
		op := b.rollout(tr.id).Hosts[0].Operation
		if op == nil || op.Problem == nil || op.Problem.Cause != tr.cause || !strings.Contains(op.Problem.What+op.Problem.Evidence, tr.says) {
			b.t.Errorf("%s: the operation says %+v, want the cause %s", tr.host, op, tr.cause)
		} else {
			fmt.Printf("    %s: %s; expected %s\n", tr.host, op.Problem.What, op.Problem.Expected)
		}
		b.change("abort", tr.id, "--yes", "--why", "as expected")
		b.untilStatus(tr.id, "aborted")
	}
}
