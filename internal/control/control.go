// Package control is the control plane's loop: it reads the state, calls the
// pure rooms (rollout, grant), and writes what they decide, in one transaction.
// Agents and operators come in through internal/api, which calls the methods of
// Control; whatever they change is a row before they get their answer. Kill the
// process at any instant: the next one reads the rows and goes on.
//
//	c, err := control.New(cfg, st, stop, log)
//	err = c.Run(ctx)                      // or, in a simulation:
//	next, err := c.Tick(ctx, now)
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

// Config of a control plane. Zero values mean the defaults.
type Config struct {
	// GrantLife is how long a grant lasts for its holder when nobody renews it. Zero means 30 s. It is renewed at
	// half its life, so it must be several times the pace of an operation; while the control plane is away, a host
	// that has begun to drain gets back into service after at most this long. Below 10 s a slow disk would be
	// enough to lose a grant.
	GrantLife time.Duration
	// IdlePace is the time between check-ins of a host of which nothing is wanted. Zero means 30 s. 100,000 hosts at
	// 30 s are 3,300 check-ins a second.
	IdlePace time.Duration
	// OperationPace is the time between check-ins in an operation. Zero means 2 s.
	OperationPace time.Duration
	// SilentAfter is how long a host may say nothing before it counts as out of service. Zero means 3 idle paces,
	// at least 90 s: one lost check-in, and one more, are no reason to believe that a host is down.
	SilentAfter time.Duration
	// TickEvery is the longest time between two ticks while something is going on. Zero means 1 s.
	TickEvery time.Duration

	// Now gives the time; nil means the real clock.
	Now func() time.Time
	// From says which control plane this is; agents obey the highest.
	From fleet.Incarnation
	// Halt, when set, stops everything durably: a host has obeyed a newer control plane than this one. Without it the
	// stop is forgotten at the end of the process, and found out again.
	Halt func(who, why string, at time.Time) error
	// Ticked, when set, is told how long each tick took and whether it failed.
	Ticked func(took time.Duration, err error)
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.GrantLife, 30*time.Second)
	def(&c.IdlePace, 30*time.Second)
	def(&c.OperationPace, 2*time.Second)
	def(&c.SilentAfter, max(3*c.IdlePace, 90*time.Second))
	def(&c.TickEvery, time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.GrantLife < 10*time.Second || c.GrantLife > time.Hour {
		errs = append(errs, fmt.Errorf("grant life: %s; allowed are 10s to 1h", c.GrantLife))
	}
	if c.IdlePace < time.Second || c.IdlePace > 10*time.Minute {
		errs = append(errs, fmt.Errorf("idle pace: %s; allowed are 1s to 10m", c.IdlePace))
	}
	if c.OperationPace < 100*time.Millisecond || c.OperationPace > c.GrantLife/4 {
		errs = append(errs, fmt.Errorf("operation pace: %s; allowed are 100ms to a quarter of the grant life (%s)", c.OperationPace, c.GrantLife/4))
	}
	if c.SilentAfter < 2*c.IdlePace {
		errs = append(errs, fmt.Errorf("silent after: %s; it must be at least twice the idle pace (%s)", c.SilentAfter, c.IdlePace))
	}
	return errors.Join(errs...)
}

// Stop is what control needs of the stop.
type Stop interface {
	Stopped() (why string, stopped bool)
}

// Control is one control plane. Its methods may be called from any goroutine.
type Control struct {
	cfg   Config
	store store.Store
	stop  Stop
	log   *slog.Logger

	poke    chan struct{}
	started time.Time

	mu         sync.Mutex
	seen       map[fleet.HostID]time.Time // last check-in since the start
	unsaved    map[fleet.HostID]time.Time // of them, those not written yet
	lastSaved  time.Time
	lastTick   time.Time
	storeErr   error
	answers    uint64                   // given to numbered reports since the start
	lines      map[fleet.HostID]*line   // of the hosts that were heard since the start; see order.go
	deadlines  map[string]time.Duration // of rollouts whose hosts checked in: see trialDeadline
	status     summary
	plans      map[string]planIndex               // of open rollouts
	others     map[fleet.HostID]fleet.Incarnation // hosts that obey a newer control plane
	superseded superseded
}

// summary is what Status shows when the store cannot be asked.
type summary struct {
	hosts, grants, incidents int
	rebuild                  *operator.Rebuild
}

// New builds a control plane over a store that has begun (store.Begin); cfg.From is what that gave.
func New(cfg Config, st store.Store, stop Stop, log *slog.Logger) (*Control, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, &fleet.Error{Op: "configure the control plane", Err: err, Next: "mend the settings and start again"}
	}
	return &Control{
		cfg: cfg, store: st, stop: stop, log: log,
		poke: make(chan struct{}, 1), started: cfg.Now(),
		seen: map[fleet.HostID]time.Time{}, unsaved: map[fleet.HostID]time.Time{}, deadlines: map[string]time.Duration{},
		plans: map[string]planIndex{}, others: map[fleet.HostID]fleet.Incarnation{},
		lines: map[fleet.HostID]*line{},
	}, nil
}

// Poke says that something changed: tick soon. It never blocks.
func (c *Control) Poke() {
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

// idleTick is how often an idle control plane looks at its store all the same: whoever watches it wants to see that
// it is alive and that its store can be read.
const idleTick = 10 * time.Second

// minTick keeps a storm of pokes from ticking without pause.
const minTick = 50 * time.Millisecond

// Run ticks until ctx ends. A failing tick is logged and tried again: nothing is granted meanwhile, and grants run out.
func (c *Control) Run(ctx context.Context) error {
	for {
		next, err := c.Tick(ctx, c.cfg.Now())
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, store.ErrFenced) {
			return &fleet.Error{Op: "run the control plane", Err: err, Next: "see which process works on the data directory; only one may"}
		}
		wait := c.cfg.TickEvery
		if err != nil {
			c.log.ErrorContext(ctx, "tick failed, will retry", "err", err, "retry_in", wait, "next", "see whether the disk of the data directory is full or sick")
		} else if next.IsZero() {
			wait = idleTick
		} else {
			wait = min(max(next.Sub(c.cfg.Now()), minTick), c.cfg.TickEvery)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-c.poke:
			timer.Stop()
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(minTick):
			}
		}
	}
}

// Tick decides everything that can be decided at now, in one transaction, and says when to tick again: zero means
// when something happens ([Control.Poke]).
func (c *Control) Tick(ctx context.Context, now time.Time) (next time.Time, err error) {
	began := c.cfg.Now()
	idle, err := c.idle(ctx)
	if err == nil && !idle {
		err = c.store.Update(ctx, func(tx store.Tx) error {
			next, err = c.decide(tx, now)
			return err
		})
	}
	if err == nil {
		err = c.saveSeen(ctx, now)
	}
	c.mu.Lock()
	c.storeErr = err
	if err == nil {
		c.lastTick = now
	}
	c.mu.Unlock()
	if c.cfg.Ticked != nil {
		c.cfg.Ticked(c.cfg.Now().Sub(began), err)
	}
	if err == nil && !idle && (next.IsZero() || next.Sub(now) > c.cfg.TickEvery) {
		next = now.Add(c.cfg.TickEvery) // hosts go silent without an event
	}
	return next, err
}

// idle says whether nothing is open: no rollout, no operation, no grant. It also keeps the numbers for Status.
func (c *Control) idle(ctx context.Context) (idle bool, err error) {
	err = c.store.View(ctx, func(r store.Reader) error {
		rs, err := r.OpenRollouts()
		if err != nil {
			return err
		}
		gs, err := r.LiveGrants()
		if err != nil {
			return err
		}
		is, err := r.Incidents(false)
		if err != nil {
			return err
		}
		rb, err := r.Rebuild()
		if err != nil {
			return err
		}
		idle = len(rs) == 0 && len(gs) == 0 && !rb.Open()
		if idle { // else load counts them
			hs, err := r.Hosts()
			if err != nil {
				return err
			}
			c.count(hs)
		}
		c.mu.Lock()
		c.status.grants, c.status.incidents = len(gs), len(is)
		c.mu.Unlock()
		return nil
	})
	return idle, err
}

// count keeps the number of hosts for Status.
func (c *Control) count(hs []fleet.Host) {
	n := 0
	for _, h := range hs {
		if h.Status != fleet.StatusRetired {
			n++
		}
	}
	c.mu.Lock()
	c.status.hosts = n
	c.mu.Unlock()
}

// decide steps every open rollout and then the arbiter, and writes what they decide.
func (c *Control) decide(tx store.Tx, now time.Time) (next time.Time, err error) {
	w, err := c.load(tx, now)
	if err != nil {
		return time.Time{}, err
	}
	if err := w.stepRebuild(); err != nil {
		return time.Time{}, fmt.Errorf("end the rebuild: %w", err)
	}
	for _, r := range w.rollouts {
		wake, err := w.stepRollout(r)
		if err != nil {
			return time.Time{}, fmt.Errorf("step rollout %s: %w", r.r.ID, err)
		}
		next = sooner(next, wake)
	}
	wake, err := w.stepGrants()
	if err != nil {
		return time.Time{}, fmt.Errorf("step grants: %w", err)
	}
	return sooner(next, wake), nil
}

// sooner is the earlier of two times, of which zero means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
