package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/api"
	"github.com/kernwave/kernwave/internal/store"
)

// epoch is the wall clock at the beginning of every simulation.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const (
	oldRelease = "6.12.111+deb12-cloud-amd64"
	newRelease = "6.12.117+deb12-cloud-amd64"
)

// kernel is the one that rollouts bring.
var kernel = fleet.Kernel{
	ID: newRelease, Version: "6.12.117-1", Release: newRelease, Family: "debian", Arch: "amd64", Flavour: "cloud-amd64",
	Packages: []fleet.Package{{Name: "linux-image", Version: "6.12.117-1", Arch: "amd64", SHA256: "5c6f", Size: 1}},
}

// world is one simulation.
type world struct {
	s   Scenario
	opt Options
	log *slog.Logger
	now time.Duration
	q   queue

	rnd struct{ net, store, faults, people chance }

	hosts []*host
	byID  map[fleet.HostID]*host // the enrolled ones; clones of images are not in it
	types []*hostType
	// groups are the machines by what budgets group them by, and by its value; see inGroup.
	groups map[string]map[string][]*host

	tmp         string
	dirs        int
	processes   int
	planes      []*plane
	main        *plane // who answers; nil: nobody
	other       *plane // who answers half of the hosts besides
	tickEvery   time.Duration
	silentAfter time.Duration
	lateness    time.Duration // the most that a message can be late
	waited      time.Duration // that the message which is handled has, for a busy control plane
	metrics     *api.Metrics
	net         []*netFault
	rollouts    []*started

	res       Result
	fail      *Broken
	err       error
	scripted  bool // the control plane is a script: there is nothing to check
	onPhase   func(*host, fleet.Phase)
	onBoot    func(*host)
	lines     uint64
	progress  time.Duration // when something last went on
	pending   int           // actions and faults that are still to come, once
	ended     bool
	still     int // events at this very moment
	ring      ring
	clones    map[fleet.HostID]cloned
	owners    map[fleet.OperationID]string
	asked     map[string]bool // what people have asked for
	begun     map[string]int  // the highest stage of each rollout that has begun, in any store
	liftAt    time.Duration   // the person on call is about to lift a stop
	restoring bool
	lastRows  *rows
	unstopped time.Duration // since when a harm waits for a pause; negative: none does
}

// hostType is one of the scenario's, with the id that the control plane gives it.
type hostType struct {
	Type
	i  int
	id fleet.HostTypeID
}

// run plays s.
func run(ctx context.Context, s Scenario, o Options) (res Result, err error) {
	if err := s.Validate(); err != nil {
		return Result{}, err
	}
	began := time.Now()
	w, err := newWorld(s, o)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.play(ctx); err != nil {
		return Result{}, err
	}
	w.outcome()
	w.res.RealSec = time.Since(began).Seconds()
	return w.res, nil
}

func newWorld(s Scenario, o Options) (*world, error) {
	w := &world{
		s: withDefaults(s), opt: o, log: o.Log, byID: map[fleet.HostID]*host{}, clones: map[fleet.HostID]cloned{}, groups: map[string]map[string][]*host{},
		owners: map[fleet.OperationID]string{}, asked: map[string]bool{}, begun: map[string]int{}, unstopped: -1, metrics: api.NewMetrics("sim"),
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	w.res = Result{Scenario: s.Name, Seed: o.Seed, Faults: map[string]int{}, Seen: map[string]int{}}
	w.rnd.net, w.rnd.store = newChance(o.Seed, "network"), newChance(o.Seed, "store")
	w.rnd.faults, w.rnd.people = newChance(o.Seed, "faults"), newChance(o.Seed, "people")
	w.silentAfter, w.lateness = w.s.Control.SilentAfter, latenessOf(w.s)
	// Nothing that a check-in or an action starts waits for this: it is how soon silence is noticed.
	w.tickEvery = max(time.Second, w.silentAfter/6)
	base := "/dev/shm"
	if fi, err := os.Stat(base); err != nil || !fi.IsDir() {
		base = ""
	}
	var err error
	if w.tmp, err = os.MkdirTemp(base, "kernwave-sim-*"); err != nil {
		return nil, fmt.Errorf("make room for the simulated data directories: %w", err)
	}
	w.makeHosts()
	if err := w.firstStart(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	w.planFaults()
	w.planPeople()
	return w, nil
}

// withDefaults fills in what the engine needs.
func withDefaults(s Scenario) Scenario {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&s.For, 72*time.Hour)
	s.Fleet.Datacenters, s.Fleet.Racks = max(s.Fleet.Datacenters, 1), max(s.Fleet.Racks, 0)
	if s.Fleet.Racks == 0 {
		s.Fleet.Racks = 10
	}
	s.Fleet.Types = append([]Type(nil), s.Fleet.Types...)
	for i := range s.Fleet.Types {
		t := &s.Fleet.Types[i]
		if t.Workload == "" {
			t.Workload = "web"
		}
		def(&t.Boot, 40*time.Second)
		def(&t.Prepare, 30*time.Second)
		def(&t.Drain, 5*time.Second)
		def(&t.Checks, 15*time.Second)
		def(&t.Watchdog, 2*time.Minute)
	}
	c := &s.Control
	def(&c.GrantLife, 30*time.Second)
	def(&c.IdlePace, 30*time.Second)
	def(&c.OperationPace, 2*time.Second)
	def(&c.SilentAfter, max(3*c.IdlePace, 90*time.Second))
	def(&s.Operator.After, 10*time.Minute)
	if s.Operator.OnPause == "" {
		s.Operator.OnPause = OnPauseNothing
	}
	s.Rollouts = append([]Rollout(nil), s.Rollouts...)
	for i := range s.Rollouts {
		def(&s.Rollouts[i].At, 2*time.Minute)
	}
	return s
}

// firstStart makes the first data directory, with every host enrolled, and the first control plane on it.
func (w *world) firstStart() error {
	d, err := w.newDir()
	if err != nil {
		return err
	}
	p, err := w.start(d, false)
	if err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	err = (&watched{p.st, p}).Update(context.Background(), func(tx store.Tx) error {
		for _, b := range w.s.Budgets {
			if err := tx.PutBudget(store.Budget{By: b.By, Limit: b.Limit}); err != nil {
				return err
			}
		}
		for _, h := range w.hosts {
			if err := tx.PutHost(fleet.Host{ID: h.id, Status: fleet.StatusActive, EnrolledAt: epoch}); err != nil {
				return err
			}
		}
		k := kernel
		k.AddedAt = epoch
		return tx.AddKernel(k)
	})
	if err != nil {
		return fmt.Errorf("enrol the hosts: %w", err)
	}
	// The door knows whom it lets in from its start: so start once more, as a real one would be by now.
	p.end()
	w.planes = nil
	w.main, err = w.start(d, false)
	return err
}

// play takes one event after another until the end.
func (w *world) play(ctx context.Context) error {
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return fmt.Errorf("play scenario %s: stopped at %s: %w", w.s.Name, clock(w.now), context.Cause(ctx))
		}
		if n%1024 == 0 && w.opt.Progress != nil {
			w.opt.Progress(w.now)
		}
		e, ok := w.q.pop()
		if !ok || e.at > w.s.For {
			w.now = w.s.For
			break
		}
		if e.at > w.now {
			w.still = 0
		}
		if w.still++; w.still > maxStill {
			return fmt.Errorf("play scenario %s with seed %d: at %s %d things happened at once: the simulator is at fault", w.s.Name, w.opt.Seed, clock(w.now), w.still)
		}
		w.now = e.at
		e.do()
		if w.err != nil {
			return fmt.Errorf("play scenario %s: at %s: %w", w.s.Name, clock(w.now), w.err)
		}
		if w.fail != nil || w.ended {
			break
		}
	}
	w.res.Virtual = w.now
	return nil
}

// maxStill is how many events one instant may have: in the largest fleet each host has a few.
const maxStill = 200_000

// after does f in d from now.
func (w *world) after(d time.Duration, f func()) { w.q.push(w.now+d, f) }

// time is the wall clock, where it is right.
func (w *world) time() time.Time { return epoch.Add(w.now) }

// broken ends the simulation with an error of its own.
func (w *world) broken(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *world) count(what string)   { w.res.Seen[what]++ }
func (w *world) faulted(what string) { w.res.Faults[what]++ }

func (w *world) close() error {
	var errs []error
	for _, p := range w.planes {
		if !p.dead {
			errs = append(errs, p.st.Close())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(w.tmp))...)
}
