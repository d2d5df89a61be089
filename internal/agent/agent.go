// Package agent is the part of Kernwave on the host. It says what is, hears
// what should be, and takes one operation at a time through its phases, each
// of them in a journal on disk before it begins. It never leaves service
// without a live grant, never reboots into a kernel on trial without a yes
// younger than five seconds, and finds its way back without anyone's help.
//
// The loop owns all state and never blocks; what may block (a check-in, the
// step of an operation, the ready programs) runs beside it, one of each at a
// time. What to do is decided by functions of data alone: transition.go, todo.go.
//
//	a, err := agent.New(cfg, agent.Parts{Controller: c, Fetcher: f, System: linux.New(), Programs: hook.Dir(dir)}, log)
//	err = a.Run(ctx)
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agent/journal"
)

// Parts are what an agent works with.
type Parts struct {
	Controller Controller
	Fetcher    Fetcher
	System     System
	Programs   Programs
	Disk       disk.FS // nil: the machine's
	// Copied says why this host's certificate belongs to another machine than the one with these facts; empty: it does
	// not. Nil: nobody can tell.
	Copied func(fleet.Facts) string
}

// Agent is one host's. Create it with [New]; everything happens in [Agent.Run].
type Agent struct {
	cfg      Config
	ctl      Controller
	fetch    Fetcher
	sys      System
	programs Programs
	disk     disk.FS
	copied   func(fleet.Facts) string
	log      *slog.Logger

	// What this boot is; fixed while Run runs.
	bootID    string
	release   string
	trialBoot fleet.OperationID

	// The loop's own; nothing else touches it.
	op      *operation // the newest; nil: none yet
	journal *journal.Journal
	unsaved bool   // op moved on towards service and the journal could not be written
	parked  string // why every operation is refused
	past    map[fleet.OperationID]bool
	ended   past       // what of it a control plane that has forgotten may ask for
	grant   *heldGrant // as the last answer gave it
	refused fleet.OperationID
	seen    fleet.Incarnation
	// refusals counts answers in a row that were not obeyed. Behind one name there may be an old control plane beside
	// the new one, and each connection finds one of them.
	refusals int

	work    job  // the step of the operation
	goAhead bool // the last-moment question was answered with yes, and the reboot is in the journal
	checkIn checkInState
	ready   readiness
	network watch

	back    chan func() // results, for the loop to apply
	running sync.WaitGroup
}

// New checks the configuration. It touches nothing.
func New(cfg Config, p Parts, log *slog.Logger) (*Agent, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("agent configuration: %w", err)
	}
	if p.Disk == nil {
		p.Disk = disk.OS{}
	}
	return &Agent{
		cfg: cfg, ctl: p.Controller, fetch: p.Fetcher, sys: p.System, programs: p.Programs, disk: p.Disk, copied: p.Copied,
		log: log.With("host", cfg.Host), past: map[fleet.OperationID]bool{},
		// One result of each kind of background job can be on its way when the loop ends.
		back: make(chan func(), 4),
	}, nil
}

// Run goes on from the journal and blocks until ctx ends, which is no error. Everything that it started has ended then.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer a.running.Wait()
	defer cancel()
	if err := a.lookAround(ctx); err != nil {
		return err
	}
	if err := a.load(ctx); err != nil {
		return err
	}
	defer a.closeJournal()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		a.step(ctx)
		timer.Reset(a.untilNext())
		select {
		case <-ctx.Done():
			a.work.stop(ctx)
			return nil
		case apply := <-a.back:
			apply()
		case <-timer.C:
		}
	}
}

// lookAround finds out what this boot is.
func (a *Agent) lookAround(context.Context) (err error) {
	if a.bootID, err = a.sys.BootID(); err != nil {
		return fmt.Errorf("read boot id: %w", err)
	}
	if a.release, err = a.sys.Release(); err != nil {
		return fmt.Errorf("read kernel release: %w", err)
	}
	if a.trialBoot, err = a.sys.TrialBoot(); err != nil {
		return fmt.Errorf("read kernel command line: %w", err)
	}
	return nil
}

func (a *Agent) now() now {
	return now{Uptime: a.sys.Uptime(), BootID: a.bootID, Release: a.release, Wall: time.Now(), TrialBoot: a.trialBoot}
}

// step does everything that is due and needs no waiting: it starts what is missing.
func (a *Agent) step(ctx context.Context) {
	if a.op != nil {
		a.move(lapse(*a.op, a.grant, a.now()))
		if a.unsaved {
			a.save()
		}
	}
	a.startWork(ctx)
	a.startReady(ctx)
	a.startWatch(ctx)
	a.startCheckIn(ctx)
}

// untilNext is how long nothing is due, as far as the loop can know.
func (a *Agent) untilNext() time.Duration {
	wait := time.Minute
	soonest := func(busy bool, at time.Time) {
		if !busy {
			wait = min(wait, time.Until(at))
		}
	}
	soonest(a.checkIn.busy, a.checkIn.next)
	if todo(a.op, a.now()) != doNothing {
		soonest(a.work.busy, a.work.next)
	}
	if !a.op.drained() {
		soonest(a.ready.busy, a.ready.next)
	}
	if a.watching() {
		soonest(a.network.busy, a.network.next)
	}
	if a.op.drained() && a.grant != nil {
		if left := a.grant.Until - a.sys.Uptime(); left > 0 {
			wait = min(wait, left)
		}
	}
	if a.unsaved {
		wait = min(wait, time.Second)
	}
	return max(wait, time.Millisecond)
}

// beside runs f outside the loop; what it returns is applied by the loop.
func (a *Agent) beside(f func() (apply func())) {
	a.running.Go(func() { a.back <- f() })
}

func (a *Agent) operationsDir() string { return filepath.Join(a.cfg.StateDir, "operations") }

// errStopped is why a step was cut short when the agent ends.
var errStopped = errors.New("the agent was stopped")
