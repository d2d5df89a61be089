// Package sim is a fleet made of nothing: simulated hosts with simulated
// faults under the real control loop, the real store (SQLite in memory) and the
// real API handlers, called by function call on one event queue whose time jumps to
// the next event. After every step it holds the promises of docs/design.md
// against what really happened in its world. The seed decides everything: the
// same scenario and seed give the same result, byte by byte, but for fields whose
// names begin with real_.
//
//	res, err := sim.Run(ctx, sim.Random(7141), sim.Options{Seed: 7141})
//	if res.Broken != nil {
//		fmt.Println(res.Broken) // which promise, on which hosts, and how it came to that
//	}
package sim

import (
	"context"
	"io"
	"log/slog"
	"time"
)

// Options of one run. The zero value is a good one.
type Options struct {
	// Seed decides everything that the scenario leaves to chance.
	Seed uint64
	// Trace, when set, gets every event of the world as a line, as it happens. It is as reproducible as the result.
	Trace io.Writer
	// Progress, when set, is called now and then, with how far the virtual time has come.
	Progress func(time.Duration)
	// Log is the control plane's. Nil: nobody reads it.
	Log *slog.Logger
}

// Run plays a scenario to its end and says what happened. A broken promise ends it early and is in the result, not in
// the error: that says that the scenario cannot be played (see [Scenario.Validate]), or that ctx ended.
func Run(ctx context.Context, s Scenario, o Options) (Result, error) { return run(ctx, s, o) }

// Random draws a small fleet with every kind of fault: 20 to 300 hosts, most often few. Its rollout may go wrong in any
// way; the promises must hold.
func Random(seed uint64) Scenario { return random(seed) }
