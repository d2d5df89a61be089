package control

import (
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

// What goes its way waits for a quarter of the pace at which hosts check in; trouble and people do not wait, whatever waits beside them.
func TestTroubleDoesNotWait(t *testing.T) {
	c := &Control{
		cfg:  Config{OperationPace: 2 * time.Second, TickEvery: time.Second},
		poke: make(chan struct{}, 1), nudged: make(chan struct{}, 1),
	}
	if _, yes := c.Poked(); yes {
		t.Error("a tick without a reason")
	}
	for _, tc := range []struct {
		name string
		do   func()
		want time.Duration
	}{
		{"nudged", c.nudge, 500 * time.Millisecond},
		{"nudged twice", func() { c.nudge(); c.nudge() }, 500 * time.Millisecond},
		{"poked", c.Poke, minTick},
		{"nudged and poked", func() { c.nudge(); c.Poke() }, minTick},
	} {
		tc.do()
		if within, yes := c.Poked(); !yes || within != tc.want {
			t.Errorf("%s: a tick within %s (%t), want %s", tc.name, within, yes, tc.want)
		}
		if _, yes := c.Poked(); yes {
			t.Errorf("%s: the same reason twice", tc.name)
		}
	}
	op, sick := fleet.Operation{}, fleet.Operation{Problem: &fleet.Problem{}}
	for _, tc := range []struct {
		name        string
		ch          change
		any, urgent bool
	}{
		{"nothing", change{op: &sick}, false, false},
		{"the host's service", change{hostNew: true}, true, false},
		{"the next phase", change{op: &op, opNew: true}, true, false},
		{"a problem", change{op: &sick, opNew: true}, true, true},
		{"an older operation", change{other: &op}, true, true},
		{"an event", change{events: []store.Event{{}}}, true, true},
	} {
		if tc.ch.any() != tc.any || tc.ch.urgent() != tc.urgent {
			t.Errorf("%s: changes anything %t, want %t; urgent %t, want %t", tc.name, tc.ch.any(), tc.any, tc.ch.urgent(), tc.urgent)
		}
	}
}
