// Package agenttest is a machine made of nothing, for tests of the agent and
// of whatever talks to agents: it installs kernels, arms and forgets one-shot
// entries, boots, panics, hangs, loses its network and its power, and keeps
// its own record of it. [Conform] is the test that it and internal/linux both pass.
//
//	h := agenttest.NewHost(agenttest.NewMachine("6.1.0-1"), agenttest.Options{})
//	err := h.Run(ctx, func(ctx context.Context, b *agenttest.Running) error {
//		a, err := agent.New(cfg, agent.Parts{System: b, Disk: b.Disk(disk.OS{}), …}, log)
//		…
//		return a.Run(ctx)
//	})
package agenttest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

const (
	// watchdog ends a trial that hangs.
	watchdog = 2 * time.Minute
	// maxPanics is when a machine that panics on its default counts as lost.
	maxPanics = 3
)

// ErrLost is returned by [Host.Run] when nobody but a person can help: the default kernel panics or hangs.
var ErrLost = errors.New("the machine is lost: its default kernel does not boot")

// Options are for those who keep the machine somewhere.
type Options struct {
	// Save is called after each change, with the machine locked. Nil: it lives in memory.
	Save func(Machine)
	// OnEvent hears what happens to the machine, in order, with the machine locked. Nil: nobody does.
	OnEvent func(Event)
}

// Event is something that happened to the machine.
type Event struct {
	At      time.Time
	What    string // boot, arm, disarm, reboot, commit, install, power-cut, panic, dead-man …
	Release string
	Op      fleet.OperationID
	BootID  string
}

// Host is a simulated machine. All methods may be called at any time, from anywhere.
type Host struct {
	opt Options

	mu      sync.Mutex
	m       Machine
	run     *Running // nil: no agent runs
	boots   int
	dead    *time.Timer // the dead-man
	dies    *time.Timer
	changed chan struct{} // closed and replaced at each change
}

// NewHost is a machine that is switched off; if it was booted before (a saved one), it is as it was left.
func NewHost(m Machine, opt Options) *Host {
	return &Host{opt: opt, m: m, boots: len(m.Boots), changed: make(chan struct{})}
}

// Run boots the machine, unless it is up, and starts the agent on it; again after each reboot, and on the same boot
// after [Host.KillAgent]. It returns when ctx ends (nil), when the agent ends by itself (its error), or with [ErrLost].
func (h *Host) Run(ctx context.Context, program func(context.Context, *Running) error) error {
	defer h.stopTimers()
	h.mu.Lock()
	up := h.m.BootID != "" && !h.m.Down
	if up {
		h.armTimers()
	}
	h.mu.Unlock()
	for {
		if !up {
			if err := h.boot(ctx); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
		pctx, cancel := context.WithCancel(ctx)
		r := h.start(cancel)
		var err error
		if h.behaviour().NoAgent {
			<-pctx.Done()
		} else {
			err = program(pctx, r)
		}
		cancel()
		h.mu.Lock()
		down, killed := h.m.Down, r.killed
		r.over = true
		h.run = nil
		h.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return nil
		case down:
			up = false
		case killed:
			up = true
		default:
			return err
		}
	}
}

// boot goes through the boot loader until a kernel runs that starts user space.
func (h *Host) boot(ctx context.Context) error {
	panics := 0
	for {
		h.mu.Lock()
		release, trial := h.m.pick()
		b := h.m.Kernels[release]
		h.boots++
		h.m.BootID = fmt.Sprintf("boot-%04d", h.boots)
		h.m.Running, h.m.Trial, h.m.ChecksPassed = release, trial, ""
		h.m.BootedAt = time.Now()
		rec := Boot{BootID: h.m.BootID, Release: release, At: h.m.BootedAt, Why: cmp.Or(h.m.EndedBy, "power on")}
		if trial != nil {
			rec.Trial = trial.Operation
		}
		h.m.Boots = append(h.m.Boots, rec)
		h.event("boot", release, rec.Trial)
		takes := h.m.BootTime
		h.mu.Unlock()

		switch {
		case b.Panic != "":
			if panics++; trial == nil && panics > maxPanics {
				return fmt.Errorf("%w: %s panics", ErrLost, release)
			}
			if err := wait(ctx, takes/2); err != nil {
				return err
			}
			h.mu.Lock()
			if b.Panic != "-" {
				h.m.Crash = b.Panic
			}
			h.down("panic")
			h.mu.Unlock()
			continue
		case b.Hang && trial == nil:
			return fmt.Errorf("%w: %s hangs", ErrLost, release)
		case b.Hang:
			if err := wait(ctx, watchdog); err != nil {
				return err
			}
			h.mu.Lock()
			h.down("watchdog")
			h.mu.Unlock()
			continue
		}
		if err := wait(ctx, takes); err != nil {
			return err
		}
		h.mu.Lock()
		h.m.Down = false
		h.armTimers()
		h.save()
		h.mu.Unlock()
		return nil
	}
}

// down ends the boot. The caller holds the lock.
func (h *Host) down(why string) {
	h.m.Down = true
	h.m.EndedBy = why
	h.event(why, h.m.Running, "")
	if h.dead != nil {
		h.dead.Stop()
	}
	if h.dies != nil {
		h.dies.Stop()
	}
	if h.run != nil {
		h.run.over = true
		h.run.cancel()
	}
	h.save()
}

// armTimers starts the dead-man of a trial, and a late death. The caller holds the lock.
func (h *Host) armTimers() {
	id := h.m.BootID
	if t := h.m.Trial; t != nil && h.m.ChecksPassed == "" {
		h.dead = time.AfterFunc(t.Deadline-time.Since(h.m.BootedAt), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.m.BootID == id && !h.m.Down && h.m.ChecksPassed != t.Operation {
				h.m.DeadManFired = append(h.m.DeadManFired, t.Operation)
				h.down("dead-man")
			}
		})
	}
	if d := h.m.Kernels[h.m.Running].DiesAfter; d > 0 {
		h.dies = time.AfterFunc(d-time.Since(h.m.BootedAt), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.m.BootID == id && !h.m.Down {
				h.m.Crash = "Kernel panic - not syncing: late death"
				h.down("panic")
			}
		})
	}
}

func (h *Host) stopTimers() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range []*time.Timer{h.dead, h.dies} {
		if t != nil {
			t.Stop()
		}
	}
}

func (h *Host) start(cancel context.CancelFunc) *Running {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.run = &Running{h: h, cancel: cancel}
	if h.m.Down { // lost its power again before the agent started
		h.run.over = true
		cancel()
	}
	return h.run
}

// PowerCut ends the boot at once; the machine starts again by itself.
func (h *Host) PowerCut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.m.Down && h.m.BootID != "" {
		h.down("power cut")
	}
}

// KillAgent ends the agent's process at once; it is started again on the same boot.
func (h *Host) KillAgent() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run != nil && !h.run.over {
		h.run.killed, h.run.over = true, true
		h.run.cancel()
	}
}

// Look is the machine as it is now. Maps in it must not be changed.
func (h *Host) Look() Machine {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.m.clone()
}

// Change changes the machine.
func (h *Host) Change(f func(*Machine)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(&h.m)
	h.save()
}

// Online says whether the machine is up and its kernel has a network.
func (h *Host) Online() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.m.Down && !h.m.Kernels[h.m.Running].NoNetwork
}

func (h *Host) behaviour() Behaviour {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.m.Kernels[h.m.Running]
}

func (h *Host) event(what, release string, op fleet.OperationID) {
	if h.opt.OnEvent != nil {
		h.opt.OnEvent(Event{At: time.Now(), What: what, Release: release, Op: op, BootID: h.m.BootID})
	}
}

func (h *Host) save() {
	if h.opt.Save != nil {
		h.opt.Save(h.m)
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
