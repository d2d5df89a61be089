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
	"github.com/kernwave/kernwave/grant"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/rollout"
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
	nudged  chan struct{}
	started time.Time

	mu         sync.Mutex
	seen       map[fleet.HostID]time.Time // last check-in since the start
	saved      map[fleet.HostID]time.Time // of them, the one that was written last or is in unsaved
	unsaved    []fleet.HostID             // whose last check-in is to be written
	gone       map[fleet.HostID]bool      // the silent ones of seen, from goneAt to goneUntil
	goneAt     time.Time
	goneUntil  time.Time
	lastSaved  time.Time
	lastTick   time.Time
	clockAt    time.Time // the clock at the last tick
	storeErr   error
	answers    uint64                   // given to numbered reports since the start
	lines      map[fleet.HostID]*line   // of the hosts that were heard since the start; see order.go
	deadlines  map[string]time.Duration // of rollouts whose hosts checked in: see trialDeadline
	status     summary
	plans      map[string]planIndex               // of open rollouts
	others     map[fleet.HostID]fleet.Incarnation // hosts that obey a newer control plane
	superseded superseded

	// shared guards index, which ticks hand on to each other; see borrow.
	shared sync.Mutex
	index  *index
}

// summary is what Status shows when the store cannot be asked.
type summary struct {
	hosts, frozen, grants, incidents int
	rebuild                          *operator.Rebuild
}

// New builds a control plane over a store that has begun (store.Begin); cfg.From is what that gave.
func New(cfg Config, st store.Store, stop Stop, log *slog.Logger) (*Control, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, &fleet.Error{Op: "configure the control plane", Err: err, Next: "mend the settings and start again"}
	}
	c := &Control{
		cfg: cfg, store: st, stop: stop, log: log,
		poke: make(chan struct{}, 1), nudged: make(chan struct{}, 1), started: cfg.Now(),
		seen: map[fleet.HostID]time.Time{}, saved: map[fleet.HostID]time.Time{}, gone: map[fleet.HostID]bool{}, deadlines: map[string]time.Duration{},
		plans: map[string]planIndex{}, others: map[fleet.HostID]fleet.Incarnation{},
		lines: map[fleet.HostID]*line{},
	}
	c.index = newIndex(c)
	return c, nil
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

// nudge says that something went its way: tick before the hosts that are at it check in again. A wave's reports come in
// one after another, and deciding on several of them costs as much as on one. It never blocks.
func (c *Control) nudge() {
	select {
	case c.nudged <- struct{}{}:
	default:
	}
}

// nudgeTick is how long a nudge can wait.
func (c *Control) nudgeTick() time.Duration {
	return min(max(c.cfg.OperationPace/4, minTick), c.cfg.TickEvery)
}

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
		if !c.waitFor(ctx, wait) {
			return nil
		}
	}
}

// waitFor waits for the next tick: so long, or less if there is a reason. False: ctx has ended.
func (c *Control) waitFor(ctx context.Context, d time.Duration) bool {
	at := time.Now().Add(d)
	timer := time.NewTimer(d)
	defer timer.Stop()
	within := func(d time.Duration) {
		if t := time.Now().Add(d); t.Before(at) {
			at = t
			timer.Reset(d)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-c.poke:
			within(minTick)
		case <-c.nudged:
			within(c.nudgeTick())
		}
	}
}

// Tick decides everything that can be decided at now, in one transaction, and says when to tick again: zero means
// when something happens ([Control.Poke]).
func (c *Control) Tick(ctx context.Context, now time.Time) (next time.Time, err error) {
	began := c.cfg.Now()
	var l looked
	if err = c.watchClock(ctx, now); err == nil {
		l, err = c.look(ctx, now)
	}
	next = l.next
	if err == nil && l.due {
		err = c.store.Update(ctx, func(tx store.Tx) error {
			next, err = c.decide(tx, c.later(now))
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
	if err == nil && !l.idle && (next.IsZero() || next.Sub(now) > c.cfg.TickEvery) {
		next = now.Add(c.cfg.TickEvery) // hosts go silent without an event
	}
	return next, err
}

// looked is what a tick sees before it writes anything.
type looked struct {
	idle bool      // nothing is open: no rollout, no grant, no rebuild
	due  bool      // there is something to write
	next time.Time // when there will be, if not now
}

// look asks the pure rooms, on a snapshot, whether there is anything to decide: most ticks write nothing, and a write
// transaction costs more than all the rest. It also keeps the numbers for Status.
func (c *Control) look(ctx context.Context, now time.Time) (l looked, err error) {
	err = c.store.View(ctx, func(r store.Reader) error {
		hot, err := r.Hot()
		if err != nil {
			return err
		}
		if c.cfg.From != (fleet.Incarnation{}) && hot.Epoch != c.cfg.From {
			return store.ErrFenced
		}
		w, giveBack, err := c.borrow(r, now)
		if err != nil {
			return err
		}
		defer giveBack()
		c.mu.Lock()
		c.status.grants, c.status.incidents = hot.Grants.Len(), hot.Incidents.Len()
		c.mu.Unlock()
		if l.idle = hot.Rollouts.Len() == 0 && hot.Grants.Len() == 0 && !hot.Rebuild.Open(); l.idle {
			return nil
		}
		l.due, l.next, err = w.due()
		return err
	})
	return l, err
}

// due says whether decide would write anything, or else when to ask again.
func (w *world) due() (due bool, next time.Time, err error) {
	if w.rebuild.Open() && len(w.rebuild.waiting) == 0 {
		return true, next, nil
	}
	for _, o := range w.rollouts {
		ds, wake := rollout.Step(o, w.now)
		if len(ds) > 0 || o.reopens() {
			return true, next, nil
		}
		next = sooner(next, wake)
	}
	v, err := w.stepView()
	if err != nil {
		return false, next, err
	}
	ds, wake := grant.Step(v, w.now)
	return len(ds) > 0, sooner(next, wake), nil
}

// count keeps the numbers of hosts for Status.
func (c *Control) count(hosts, frozen int) {
	c.mu.Lock()
	c.status.hosts, c.status.frozen = hosts, frozen
	c.mu.Unlock()
}

// decide steps every open rollout and then the arbiter, and writes what they decide.
func (c *Control) decide(tx store.Tx, now time.Time) (next time.Time, err error) {
	w, giveBack, err := c.borrow(tx, now)
	if err != nil {
		return time.Time{}, err
	}
	defer giveBack()
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

// later is now, or what the clock says by now: a slow store may have kept its writer waiting, and who has gone silent
// meanwhile must not be taken for well.
func (c *Control) later(now time.Time) time.Time {
	if t := c.cfg.Now(); t.After(now) {
		return t
	}
	return now
}

// sooner is the earlier of two times, of which zero means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
