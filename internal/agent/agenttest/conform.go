package agenttest

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/agent"
)

// Fixture is a machine for [Conform], up and healthy: a plain boot of Running, which is the default, with Other installed
// beside it.
type Fixture struct {
	System  agent.System
	Running string
	Other   string
	// A fixture without systemd, or without a network, says so: those parts are left out.
	NoSystemd, NoNetwork bool
}

// Conform checks what every [agent.System] promises and that can be seen without rebooting. open gives a fresh
// machine for each part.
func Conform(t *testing.T, open func(*testing.T) Fixture) {
	part := func(name string, f func(*testing.T, context.Context, Fixture)) {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // update-grub on an emulated machine
			defer cancel()
			f(t, ctx, open(t))
		})
	}
	part("the boot has an id and a release that stay", func(t *testing.T, _ context.Context, x Fixture) {
		for range 2 {
			if id, err := x.System.BootID(); err != nil || id == "" {
				t.Errorf("boot id %q, %v", id, err)
			}
			if r, err := x.System.Release(); err != nil || r != x.Running {
				t.Errorf("release %q, %v; want %q", r, err, x.Running)
			}
		}
		a, _ := x.System.BootID()
		b, _ := x.System.BootID()
		if a != b {
			t.Errorf("boot id changed from %q to %q", a, b)
		}
		if op, err := x.System.TrialBoot(); err != nil || op != "" {
			t.Errorf("a plain boot is the trial of %q, %v", op, err)
		}
	})
	part("uptime does not run backwards", func(t *testing.T, _ context.Context, x Fixture) {
		last := x.System.Uptime()
		for range 100 {
			now := x.System.Uptime()
			if now < last {
				t.Fatalf("from %s to %s", last, now)
			}
			last = now
		}
	})
	part("facts name the kernel, and are equal when nothing changed", func(t *testing.T, ctx context.Context, x Fixture) {
		f, err := x.System.Facts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if f.Kernel.Release != x.Running || f.Arch == "" {
			t.Errorf("got %+v", f)
		}
		g, err := x.System.Facts(ctx)
		if err != nil || f.Hash() != g.Hash() {
			t.Errorf("facts changed from %+v to %+v, %v", f, g, err)
		}
	})
	part("what is installed is told", func(t *testing.T, ctx context.Context, x Fixture) {
		for release, want := range map[string]bool{x.Running: true, x.Other: true, "0.0.0-none": false} {
			if got, err := x.System.Installed(ctx, release); err != nil || got != want {
				t.Errorf("%s: installed %v, %v; want %v", release, got, err, want)
			}
		}
	})
	part("the way back is secured, again and again", func(t *testing.T, ctx context.Context, x Fixture) {
		for range 2 {
			if err := x.System.SecureWayBack(ctx); err != nil {
				t.Fatal(err)
			}
			wantDefault(t, ctx, x, x.Running)
		}
	})
	part("arming leaves the default, and can be taken back", func(t *testing.T, ctx context.Context, x Fixture) {
		trial := agent.TrialBoot{Operation: "op-1", Release: x.Other, Deadline: 10 * time.Minute}
		if err := x.System.SecureWayBack(ctx); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := x.System.ArmTrial(ctx, trial); err != nil {
				t.Fatal(err)
			}
			wantDefault(t, ctx, x, x.Running)
		}
		for range 2 { // the second has nothing to take back
			if err := x.System.Disarm(ctx); err != nil {
				t.Fatal(err)
			}
		}
		wantDefault(t, ctx, x, x.Running)
	})
	part("a kernel that is not installed cannot be armed", func(t *testing.T, ctx context.Context, x Fixture) {
		if err := x.System.ArmTrial(ctx, agent.TrialBoot{Operation: "op-1", Release: "0.0.0-none", Deadline: time.Minute}); err == nil {
			t.Error("no error")
		}
	})
	part("the running kernel can be armed, for a control", func(t *testing.T, ctx context.Context, x Fixture) {
		if err := x.System.SecureWayBack(ctx); err != nil {
			t.Fatal(err)
		}
		if err := x.System.ArmTrial(ctx, agent.TrialBoot{Operation: "op-1", Release: x.Running, Deadline: time.Minute}); err != nil {
			t.Error(err)
		}
		if err := x.System.Disarm(ctx); err != nil {
			t.Error(err)
		}
	})
	part("only the running kernel can be committed", func(t *testing.T, ctx context.Context, x Fixture) {
		if err := x.System.Commit(ctx, x.Other); err == nil {
			t.Error("a kernel that does not run was made the default")
		}
		for range 2 {
			if err := x.System.Commit(ctx, x.Running); err != nil {
				t.Fatal(err)
			}
		}
		wantDefault(t, ctx, x, x.Running)
	})
	part("a plain boot proves no one-shot", func(t *testing.T, ctx context.Context, x Fixture) {
		if err := x.System.OneShotProven(ctx); err == nil {
			t.Error("no error")
		}
	})
	part("no crash is said with a reason, and no dead-man fired", func(t *testing.T, ctx context.Context, x Fixture) {
		if text, why := x.System.CrashText(ctx, time.Now()); (text == "") == (why == "") {
			t.Errorf("text %q, why %q: exactly one must say something", text, why)
		}
		if fired, err := x.System.DeadManFired("op-1"); err != nil || fired {
			t.Errorf("fired %v, %v", fired, err)
		}
	})
	part("lists are sorted", func(t *testing.T, ctx context.Context, x Fixture) {
		if !x.NoSystemd {
			s, err := x.System.SystemState(ctx)
			if err != nil || !slices.IsSorted(s.FailedUnits) || s.State == "" {
				t.Errorf("system %+v, %v", s, err)
			}
		}
		if !x.NoNetwork {
			n, err := x.System.Network(ctx)
			if err != nil || !slices.IsSortedFunc(n.Links, func(a, b agent.Link) int { return cmp.Compare(a.Name, b.Name) }) {
				t.Errorf("network %+v, %v", n, err)
			}
		}
	})
}

func wantDefault(t *testing.T, ctx context.Context, x Fixture, want string) {
	t.Helper()
	f, err := x.System.Facts(ctx)
	if err != nil || f.Boot.Default != want {
		t.Errorf("the default is %q, %v; want %q", f.Boot.Default, err, want)
	}
}
