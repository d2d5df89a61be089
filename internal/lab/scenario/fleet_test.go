// Package scenario holds the lab's tests: Kernwave's promises on real virtual machines with real kernels. They need
// root, QEMU and some patience, so they run where KERNWAVE_LAB is set: make test, make test-lab.
package scenario

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/lab"
	"github.com/kernwave/kernwave/internal/lab/rig"
	"github.com/kernwave/kernwave/internal/operator"
)

// needLab skips, with the reason, where no lab was asked for.
func needLab(t *testing.T) {
	t.Helper()
	if os.Getenv("KERNWAVE_LAB") == "" {
		t.Skip("lab scenarios boot virtual machines for many minutes; set KERNWAVE_LAB=1, or run make test-lab")
	}
}

// limits of single waits. They only say when to give up: a healthy machine was slow on a busy day.
const (
	updateLimit  = 12 * time.Minute // one host: fetch, install, reboot, trial, commit, all emulated
	rolloutLimit = 25 * time.Minute
)

// bench is one run: a rig, the images, and what went by.
type bench struct {
	*rig.Rig
	t  *testing.T
	im *lab.Images
}

// progress prints a line for each step, so that whoever waits sees what for.
func progress(began time.Time) func(lab.Event) {
	return func(e lab.Event) {
		if e.Done || e.Err != nil || e.Host == "" {
			fmt.Printf("lab %4.0fs  %s\n", time.Since(began).Seconds(), e)
		}
	}
}

func newBench(t *testing.T, serverArgs []string, hosts ...rig.Host) *bench {
	t.Helper()
	ctx := t.Context()
	said := progress(time.Now())
	bin := t.TempDir()
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin+"/", "github.com/kernwave/kernwave/cmd/...")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for i := range hosts {
		if slices.Contains(conformHosts, hosts[i].Name) {
			hosts[i].Files = append(hosts[i].Files, lab.File{Path: "/usr/local/sbin/onhost.test", Mode: 0o755, Source: onHostTest(t, bin)})
		}
	}
	im, err := lab.Prepare(ctx, lab.Config{Progress: said})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.ArtifactDir(), "rig")
	r, err := rig.Start(ctx, rig.Config{Bin: bin, Dir: dir, Images: im, ServerArgs: serverArgs, Progress: said}, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Rig: r, t: t, im: im}
	t.Cleanup(func() {
		if t.Failed() {
			b.tell()
		}
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// conformHosts are where the conformance test of internal/linux runs: one for each driver of a loader.
var conformHosts = []string{"web-2", "db-1", "boot-2"}

// onHostTest builds it.
func onHostTest(t *testing.T, bin string) string {
	t.Helper()
	out := filepath.Join(bin, "onhost.test")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-trimpath", "-ldflags", "-s -w", "-o", out, "github.com/kernwave/kernwave/internal/linux/onhost")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the conformance test: %v\n%s", err, b)
	}
	return out
}

// in is the bench inside a subtest.
func (b *bench) in(t *testing.T) *bench { c := *b; c.t = t; return &c }

// tell prints what an engineer would ask for first after a failure.
func (b *bench) tell() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.t.Context()), time.Minute)
	defer cancel()
	for _, args := range [][]string{{"hosts"}, {"rollout", "list"}, {"incidents", "--all"}, {"events", "--limit", "200"}} {
		out, err := b.CLI(ctx, args...)
		fmt.Printf("--- kernwave %s (%v)\n%s\n", strings.Join(args, " "), err, out)
	}
	for _, h := range b.Fleet.Hosts() {
		out, err := b.Fleet.Output(ctx, h, "uname -r; "+bootEnv+"; systemctl --failed --no-legend; journalctl -u kernwave-agent -n 40 --no-pager -o cat")
		fmt.Printf("--- %s (%v)\n%s\n", h, err, out)
	}
}

// start starts a rollout and returns its id.
func (b *bench) start(kernel string, args ...string) string {
	b.t.Helper()
	out, err := b.CLI(b.t.Context(), append([]string{"rollout", "start", "-q", kernel, "--soak", "5s", "--return-within", "8m", "--trial-deadline", "5m"}, args...)...)
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// until waits for something to be so, and says what for.
func (b *bench) until(limit time.Duration, what string, ok func() bool) {
	b.t.Helper()
	began := time.Now()
	for last := began; !ok(); {
		if time.Since(began) > limit {
			b.t.Fatalf("%s: not after %s", what, limit)
		}
		if time.Since(last) > 30*time.Second {
			last = time.Now()
			fmt.Printf("    %4.0fs  waiting: %s\n", time.Since(began).Seconds(), what)
		}
		select {
		case <-b.t.Context().Done():
			b.t.Fatal(context.Cause(b.t.Context()))
		case <-time.After(time.Second):
		}
	}
	fmt.Printf("    %4.0fs  %s\n", time.Since(began).Seconds(), what)
}

func (b *bench) rollout(id string) operator.Rollout {
	b.t.Helper()
	r, err := b.Rollout(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// untilStatus waits for a rollout's status; another end fails at once.
func (b *bench) untilStatus(id, want string) operator.Rollout {
	b.t.Helper()
	var r operator.Rollout
	b.until(rolloutLimit, fmt.Sprintf("rollout %s is %s", id, want), func() bool {
		r = b.rollout(id)
		if r.Status != want && (r.Status == "paused" || !r.EndedAt.IsZero()) {
			b.t.Fatalf("rollout %s is %s, not %s: %s", id, r.Status, want, r.StatusWhy)
		}
		return r.Status == want
	})
	return r
}

func (b *bench) change(args ...string) {
	b.t.Helper()
	if _, err := b.CLI(b.t.Context(), append([]string{"rollout"}, args...)...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) events() []operator.Event {
	b.t.Helper()
	var v struct{ Events []operator.Event }
	if err := b.JSON(b.t.Context(), &v, "events", "--limit", "1000"); err != nil {
		b.t.Fatal(err)
	}
	return v.Events
}

func (b *bench) incidents() []operator.Incident {
	b.t.Helper()
	var v struct{ Incidents []operator.Incident }
	if err := b.JSON(b.t.Context(), &v, "incidents", "--all"); err != nil {
		b.t.Fatal(err)
	}
	return v.Incidents
}

// on asks a host itself.
func (b *bench) on(host, script string) string {
	b.t.Helper()
	out, err := b.Fleet.Output(b.t.Context(), host, script)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// bootEnv prints what a host's loader goes by, as grub-editenv does: systemd-boot has it in the firmware's variables.
const bootEnv = `v=/sys/firmware/efi/efivars/Loader g=-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
text() { [ ! -e $v$2$g ] || echo "$1=$(cat $v$2$g | tail -c +5 | tr -d '\000')"; }
if [ -e ${v}Info$g ]; then text saved_entry EntryDefault; text next_entry EntryOneShot; else grub-editenv list; fi`

// release is what a host says it runs, and def what its next plain boot would run.
func (b *bench) release(host string) (release, def string) {
	b.t.Helper()
	env := b.on(host, "uname -r; "+bootEnv)
	lines := strings.Split(env, "\n")
	for _, l := range lines[1:] {
		if v, ok := strings.CutPrefix(l, "saved_entry="); ok {
			def = v
		}
	}
	return lines[0], def
}
