package linux

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/linux/command"
)

// SystemState asks systemd. Its exit code is not 0 for most states; its word counts.
func (h *Host) SystemState(ctx context.Context) (agent.SystemState, error) {
	var s agent.SystemState
	out, err := h.run.Run(ctx, command.Cmd{Name: "systemctl", Args: []string{"is-system-running"}})
	s.State = strings.TrimSpace(out)
	switch s.State {
	case "running", "degraded":
		s.Up = true
	case "initializing", "starting", "maintenance", "stopping":
	default:
		if err == nil {
			err = errors.New("its answer is unknown")
		}
		return s, fmt.Errorf("ask systemd whether the system is up (%q): %w", s.State, err)
	}
	out, err = h.run.Run(ctx, command.Cmd{Name: "systemctl", Args: []string{"list-units", "--failed", "--plain", "--no-legend", "--no-pager", "--full"}})
	if err != nil {
		return s, fmt.Errorf("list failed units: %w", err)
	}
	s.FailedUnits = parseUnits(out)
	return s, nil
}

// parseUnits takes the names off a list of units. Some versions put a mark before a failed one.
func parseUnits(out string) []string {
	var units []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) > 0 && !strings.ContainsRune(f[0], '.') {
			f = f[1:]
		}
		if len(f) > 0 {
			units = append(units, f[0])
		}
	}
	slices.Sort(units)
	return slices.Compact(units)
}
