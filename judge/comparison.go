package judge

import (
	"errors"
	"fmt"
	"time"
)

// block is the resolution of what is remembered; hosts' windows begin and end on samples all the same.
const block = 5 * time.Minute

// Limits of what is taken.
const (
	maxHosts   = 100_000
	maxSignals = 1_000
	maxValue   = 1e30 // sums of more than that would not be numbers
)

// Comparison follows one host type. What it remembers grows with hosts, signals and hours, not with samples.
type Comparison struct {
	g     Group
	cells []*cell
	// settled is from when on samples of a host count as after; for controls that were not rebooted, when the last
	// treated host has settled.
	settled []time.Time
	down    []span // hosts whose reboot makes them no yardstick for a while
}

// span is a time in which a host says nothing about others; zero: none.
type span struct{ from, to time.Time }

func (s span) has(t time.Time) bool { return !t.Before(s.from) && t.Before(s.to) }

// never is when a treated host that was not changed yet settles.
var never = time.Unix(1<<40, 0)

// New checks a group and begins to follow it. The error names every mistake.
func New(g Group) (*Comparison, error) {
	if err := g.check(); err != nil {
		return nil, err
	}
	c := &Comparison{g: g, settled: make([]time.Time, len(g.Hosts)), down: make([]span, len(g.Hosts))}
	last := g.T0
	for i, h := range g.Hosts {
		began := h.Rebooted
		if h.Treated {
			began = h.Changed
			if h.Changed.After(last) {
				last = h.Changed
			}
		}
		if !began.IsZero() {
			c.down[i] = span{began, began.Add(Settle)}
		}
	}
	for i, h := range g.Hosts {
		begin := last
		switch {
		case h.Treated && h.Changed.IsZero():
			begin = never
		case h.Treated:
			begin = h.Changed
		case h.Rebooted.After(last):
			begin = h.Rebooted
		}
		c.settled[i] = begin.Add(Settle)
	}
	for _, s := range g.Signals {
		c.cells = append(c.cells, newCell(c, s))
	}
	return c, nil
}

func (g Group) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if g.Step < time.Second || g.Step > time.Hour {
		bad("step: %s; allowed are 1s to 1h", g.Step)
	}
	if len(g.Signals) == 0 || len(g.Signals) > maxSignals {
		bad("signals: %d; allowed are 1 to %d", len(g.Signals), maxSignals)
	}
	if len(g.Hosts) == 0 || len(g.Hosts) > maxHosts {
		bad("hosts: %d; allowed are 1 to %d", len(g.Hosts), maxHosts)
	}
	names := map[string]bool{}
	for i, s := range g.Signals {
		if s.Name == "" || names[s.Name] {
			bad("signals[%d].name: %q is empty or there twice", i, s.Name)
		}
		names[s.Name] = true
		if !s.Work && !(s.Margin > 0 && s.Margin < 100) {
			bad("signals[%d] (%s).margin_rel: %v; it must be above 0 and below 100", i, s.Name, s.Margin)
		}
	}
	ids := map[string]bool{}
	for i, h := range g.Hosts {
		if h.ID == "" || ids[h.ID] {
			bad("hosts[%d].id: %q is empty or there twice", i, h.ID)
		}
		ids[h.ID] = true
		if h.Treated && !h.Changed.IsZero() && h.Changed.Before(g.T0) {
			bad("hosts[%d] (%s).changed_at: %s is before t0 (%s)", i, h.ID, h.Changed.UTC().Format(time.RFC3339), g.T0.UTC().Format(time.RFC3339))
		}
	}
	return errors.Join(errs...)
}

// Group is what is followed.
func (c *Comparison) Group() Group { return c.g }

// Observe takes the next sample of a signal: one value per host, in the order of Group.Hosts; NaN is a missing one.
// The k-th sample is of the time Start + k Step. Values must not be negative or infinite.
func (c *Comparison) Observe(signal int, values []float64) error {
	if err := c.g.checkSample(signal, values); err != nil {
		return err
	}
	c.cells[signal].observe(values)
	return nil
}

func (g *Group) checkSample(signal int, values []float64) error {
	if len(values) != len(g.Hosts) {
		return fmt.Errorf("%d values for %d hosts", len(values), len(g.Hosts))
	}
	for i, v := range values {
		if v < 0 || v > maxValue {
			return fmt.Errorf("signal %s, host %s: %v is no value: it must be from 0 to %g", g.Signals[signal].Name, g.Hosts[i].ID, v, maxValue)
		}
	}
	return nil
}
