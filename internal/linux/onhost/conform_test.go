// Package onhost holds the conformance test of internal/linux on a real host. It changes the host's boot loader, so it
// runs where KERNWAVE_ON_HOST is set: the lab's scenarios build it and run it in a virtual machine.
package onhost

import (
	"log/slog"
	"os"
	"slices"
	"testing"

	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/linux"
	"github.com/kernwave/kernwave/internal/linux/command"
)

func TestConform(t *testing.T) {
	if os.Getenv("KERNWAVE_ON_HOST") == "" {
		t.Skip("this test changes the boot loader of the machine that it runs on; the lab runs it in a virtual machine (make test-lab)")
	}
	agenttest.Conform(t, func(t *testing.T) agenttest.Fixture {
		t.Helper()
		h, err := linux.New(linux.Config{}, command.Exec{}, slog.New(slog.NewTextHandler(t.Output(), nil)))
		if err != nil {
			t.Fatal(err)
		}
		f, err := h.Facts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(f.Boot.Installed, func(r string) bool { return r != f.Kernel.Release })
		if i < 0 {
			t.Fatalf("the host has one kernel only: %v", f.Boot.Installed)
		}
		return agenttest.Fixture{System: h, Running: f.Kernel.Release, Other: f.Boot.Installed[i]}
	})
}
