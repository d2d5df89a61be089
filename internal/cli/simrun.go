package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/sim"
	"github.com/kernwave/kernwave/internal/sim/scenarios"
)

// simGC is GOGC of a process that simulates: a small fleet lives on 4 MB, and collecting its garbage each time that as
// much has come is a fifth of the work. 5,000 hosts then take some 200 MB.
const simGC = 400

// play gives the scenario of a seed, and the command line that plays it again.
type play func(seed uint64) (s sim.Scenario, replay string)

// simulate plays one seed or many, prints what came of it, and ends with ExitFailed when a promise was broken.
func (a *app) simulate(cmd *cobra.Command, f simFlags, p play) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(simGC)
	}
	if !cmd.Flags().Changed("seeds") {
		return a.simulateOne(cmd.Context(), f, p)
	}
	return a.simulateMany(cmd.Context(), f, p)
}

func (a *app) simulateOne(ctx context.Context, f simFlags, p play) error {
	s, replay := p(f.seed)
	opt := sim.Options{Seed: f.seed}
	bar := a.newSimBar(f)
	opt.Progress = func(at time.Duration) { bar.at(at) }
	out, err := a.openTrace(f.trace)
	if err != nil {
		return err
	}
	if out != nil {
		opt.Trace = out
	}
	res, err := playOne(ctx, s, opt, replay)
	bar.done()
	if out != nil {
		err = errors.Join(err, out.close())
	}
	if err != nil {
		return err
	}
	switch {
	case a.json():
		err = printJSON(a.Out, "simulation", res)
	case a.quiet:
		_, err = fmt.Fprintln(a.Out, keptWord(res.Broken))
	default:
		err = a.printSimulation(res, s)
	}
	return errors.Join(err, exitOf(res.Broken))
}

func keptWord(b *sim.Broken) string {
	if b != nil {
		return "broken"
	}
	return "kept"
}

// exitOf is the end of a command that found what stands in b.
func exitOf(b *sim.Broken) error {
	if b != nil {
		return quietExit(ExitFailed)
	}
	return nil
}

// playOne runs the simulator. A panic in it is one of the control plane that it simulates: as bad as a broken promise, so
// it is told with all that is needed to see it again.
func playOne(ctx context.Context, s sim.Scenario, opt sim.Options, replay string) (res sim.Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &fleet.Error{
				Op:  fmt.Sprintf("play scenario %s with seed %d", s.Name, opt.Seed),
				Err: fmt.Errorf("the control plane that it plays panicked: %v (%s)", r, placesOf(debug.Stack())), Next: "report it as a bug; see it again: " + replay,
			}
		}
	}()
	res, err = sim.Run(ctx, s, opt)
	if err != nil {
		if ctx.Err() != nil {
			return res, ctx.Err()
		}
		return res, &fleet.Error{Op: fmt.Sprintf("play scenario %s with seed %d", s.Name, opt.Seed), Err: err, Next: "try it again: " + replay}
	}
	if res.Broken != nil {
		res.Broken.Replay = replay
	}
	return res, nil
}

// placesOf are the lines of this module in a stack, the innermost first, behind the one that recovered.
func placesOf(stack []byte) string {
	const most = 6
	var places []string
	_, stack, _ = bytes.Cut(stack, []byte("\npanic("))
	for line := range strings.Lines(string(stack)) {
		place, _, _ := strings.Cut(strings.TrimSpace(line), " +0x")
		if _, inside, ok := strings.Cut(place, "/internal/"); ok && strings.Contains(place, ".go:") && !strings.Contains(place, "/go/src/") && !strings.Contains(place, "/pkg/mod/") {
			places = append(places, inside)
		}
	}
	return "at " + strings.Join(places[:min(len(places), most)], ", from ")
}

func (a *app) simulateMany(ctx context.Context, f simFlags, p play) error {
	began := a.Now()
	sum := newSummary(f.seed, f.seeds)
	bar := a.newSimBar(f)
	var mu sync.Mutex // sum and failed
	failed := map[uint64]error{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(f.parallel)
	for i := range f.seeds {
		mu.Lock()
		stop := sum.broken != nil || len(failed) > 0
		mu.Unlock()
		if stop || gctx.Err() != nil {
			break // those that run, all of them lower, end
		}
		seed := f.seed + uint64(i)
		g.Go(func() error {
			s, replay := p(seed)
			res, err := playOne(gctx, s, sim.Options{Seed: seed}, replay)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[seed] = err
				return nil
			}
			sum.add(res)
			bar.seed(sum)
			return nil
		})
	}
	_ = g.Wait() // it returns nothing
	bar.done()
	if ctx.Err() != nil {
		a.note(fmt.Sprintf("interrupted: %s kept every promise", count(sum.upto(), "seed")),
			fmt.Sprintf("go on with --seed %d --seeds %d", f.seed+uint64(sum.upto()), f.seeds-sum.upto()))
		return ctx.Err()
	}
	sum.finish()
	for seed := range failed {
		if sum.broken == nil || seed < sum.broken.Seed {
			return failed[lowest(failed)]
		}
	}
	sum.RealSec = a.Now().Sub(began).Seconds()
	var err error
	switch {
	case a.json():
		err = printJSON(a.Out, "simulations", sum)
	case a.quiet:
		_, err = fmt.Fprintln(a.Out, keptWord(sum.firstBroken()))
	default:
		err = a.printSummary(sum)
	}
	return errors.Join(err, exitOf(sum.firstBroken()))
}

func lowest(m map[uint64]error) uint64 {
	var found uint64
	first := true
	for seed := range m {
		if first || seed < found {
			found, first = seed, false
		}
	}
	return found
}

// traceFile is where the events of a simulation go.
type traceFile struct {
	*bufio.Writer
	f *os.File // nil: the standard output, which stays open
}

func (a *app) openTrace(name string) (*traceFile, error) {
	switch name {
	case "":
		return nil, nil
	case "-":
		return &traceFile{Writer: bufio.NewWriter(a.Out)}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, &usageError{"write the trace: " + plainPathError(err).Error(), "name a file that can be written with --trace"}
	}
	return &traceFile{Writer: bufio.NewWriter(f), f: f}, nil
}

func (t *traceFile) close() error {
	err := t.Flush()
	if t.f != nil {
		err = errors.Join(err, t.f.Close())
	}
	if err != nil {
		return &fleet.Error{Op: "write the trace", Err: plainPathError(err), Next: "make room, or name another file with --trace"}
	}
	return nil
}

// badScenario is what to do about the mistakes in a file.
func badScenario(m *scenarios.Mistakes) string {
	what := "mend it"
	if n := len(m.List); n > 1 {
		what = fmt.Sprintf("mend these %d", n)
	}
	return what + `; docs/reference/simulator.md explains every key, and "kernwave sim show NAME" prints an example`
}
