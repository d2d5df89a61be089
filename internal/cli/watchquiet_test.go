package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// TestQuietMinuteIsSaid: plain lines show that somebody is still watching, and at what the hosts are.
func TestQuietMinuteIsSaid(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	w := watched{rollout: operator.Rollout{ID: "r-1", Status: "running", Hosts: []operator.RolloutHost{
		{ID: "web-1", State: "preparing", Operation: &fleet.Operation{Phase: fleet.PhasePreparing, PhaseSince: noon}},
		{ID: "web-2", State: "committed", Operation: &fleet.Operation{Phase: fleet.PhaseCommitted, PhaseSince: noon}},
	}}}
	var out bytes.Buffer
	l := &lineWatch{a: &app{Process: Process{Out: &out}}}
	for s := range 150 {
		if err := l.show(w, noon.Add(time.Duration(s)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	quiet := 0
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "no change for 1 min: web-1 preparing for") && !strings.Contains(line, "web-2") {
			quiet++
		}
	}
	if quiet != 2 {
		t.Errorf("%d lines say that nothing changed in 150 s, want 2:\n%s", quiet, out.String())
	}
}
