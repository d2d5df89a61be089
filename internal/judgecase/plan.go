package judgecase

import (
	"errors"
	"fmt"
	"io"

	"github.com/kernwave/kernwave/judge"
)

// TypePlan is what planning says of one case.
type TypePlan struct {
	Case     string
	HostType string
	Hosts    int
	Hours    float64 // of history
	Signals  []judge.Forecast
}

// Plan forecasts, for each case, how many canaries and hours its type needs. Arms, t0 and looks are ignored. All cases
// count as one rollout, of cells signals; 0: as many as there are.
func Plan(r io.Reader, cells int) ([]TypePlan, error) {
	in, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	var (
		plans     []TypePlan
		histories []*judge.History
		judged    int
	)
	for {
		c, line, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		bad := func(err error) error { return &LineError{line, fmt.Errorf("case %s: %w", c.ID, err)} }
		c.T0, c.Looks = c.Start, nil
		for i := range c.Hosts {
			c.Hosts[i].Arm, c.Hosts[i].ChangedAt, c.Hosts[i].RebootedAt = "control", nil, nil
		}
		g, err := c.Group()
		if err != nil {
			return nil, bad(err)
		}
		h, err := judge.NewHistory(g)
		if err != nil {
			return nil, bad(err)
		}
		n, err := c.length()
		if err != nil {
			return nil, bad(err)
		}
		if err := c.play(n, h, nil); err != nil {
			return nil, bad(err)
		}
		for _, s := range g.Signals {
			if !s.Work {
				judged++
			}
		}
		plans = append(plans, TypePlan{Case: c.ID, HostType: orElse(c.HostType, c.ID), Hosts: len(c.Hosts), Hours: float64(n) * c.StepS / 3600})
		histories = append(histories, h)
	}
	if cells <= 0 {
		cells = judged
	}
	for i, h := range histories {
		plans[i].Signals = h.Plan(cells)
	}
	return plans, nil
}
