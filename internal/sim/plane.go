package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/api"
	"github.com/kernwave/kernwave/internal/control"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/stop"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

// dataDir is a data directory: a store and what lies beside it. It outlives the processes that work on it.
type dataDir struct {
	path string
	n    int // its inode, as it were
	rows *rows
	// peers are the stores on it: what one of them knows to be the newest state, the others must not.
	peers sqlite.Peers
}

// plane is one process of the control plane.
type plane struct {
	w    *world
	name string
	dir  *dataDir
	st   *sqlite.Store
	ctl  *control.Control
	api  *api.Direct
	door door // the same, for hosts
	stop *stop.Stop
	from fleet.Incarnation
	ring ring

	began   time.Duration
	moved   bool            // it found its store restored or cloned
	heard   []time.Duration // when each host's newest message that arrived was sent, by number; negative: none yet
	saidOut []bool          // what each host said last: that it is not in service
	down    time.Duration   // how long it stays away once it is killed
	dead    bool
	wasMain bool // when it died: it is started again
	fenced  bool // its loop has ended, because somebody else began on its store
	linger  bool // and its API answers all the same

	ticks  timer
	busy   time.Duration // until then its store is at work
	writes int           // in the call that runs
	commit bool          // the running transaction has been committed

	killIn   int // dies at the n-th point from now at which it can; 0: it does not
	dying    bool
	slowTo   time.Duration
	slowBy   time.Duration
	sickTo   time.Duration
	sickness float64 // share of writes that fail
}

// door is the API as hosts use it.
type door interface {
	CheckIn(ctx context.Context, c api.Client, r fleet.Report) (fleet.Desired, error)
	ConfirmReboot(ctx context.Context, c api.Client, host fleet.HostID, id fleet.OperationID, g fleet.GrantID) (fleet.Confirmation, error)
}

// timer is one event that can be moved: only the newest time counts.
type timer struct{ at time.Duration }

var (
	errKilled = errors.New("the process was killed")
	errSick   = errors.New("input/output error")
)

// newDir makes an empty data directory.
func (w *world) newDir() (*dataDir, error) {
	w.dirs++
	d := &dataDir{path: filepath.Join(w.tmp, fmt.Sprint("data-", w.dirs)), n: w.dirs, rows: newRows()}
	return d, os.Mkdir(d.path, 0o700)
}

// lose forgets a data directory that nobody will start on again. Hundreds of them would fill the memory that they are in.
func (w *world) lose(d *dataDir) {
	if err := os.RemoveAll(d.path); err != nil {
		w.broken(fmt.Errorf("lose a data directory: %w", err))
	}
}

// start begins a process on d. raise: an operator says that a backup was put back.
func (w *world) start(d *dataDir, raise bool) (*plane, error) {
	w.processes++
	p := &plane{w: w, name: fmt.Sprintf("server-%d", w.processes), dir: d, began: w.now, heard: make([]time.Duration, len(w.hosts)), saidOut: make([]bool, len(w.hosts))}
	for i := range p.heard {
		p.heard[i] = -1
	}
	ids := newChance(w.opt.Seed, "ids of "+p.name)
	var err error
	if p.st, err = sqlite.OpenUnsynced(d.path, sqlite.Options{Rand: ids, Fault: p.fault, Peers: &d.peers}); err != nil {
		return nil, err
	}
	st := &watched{p.st, p}
	p.stop = stop.Open(d.path)
	ctx := context.Background()
	start, err := p.begin(ctx, st, raise)
	if err != nil {
		return p, err
	}
	p.from, p.moved = start.Incarnation, start.Moved != ""
	c := w.s.Control
	p.ctl, err = control.New(control.Config{
		GrantLife: c.GrantLife, IdlePace: c.IdlePace, OperationPace: c.OperationPace, SilentAfter: c.SilentAfter,
		TickEvery: w.tickEvery, Now: w.time, From: p.from, Halt: p.halt,
	}, st, p.stop, w.log)
	if err != nil {
		return p, err
	}
	p.api, err = api.NewDirect(ctx, api.Config{}, api.Parts{
		Store: st, Epoch: p.from, Control: p.ctl, Stop: p.stop, Metrics: w.metrics, Log: w.log, Now: w.time, Rand: ids,
	})
	if err != nil {
		return p, err
	}
	p.door = p.api
	w.planes = append(w.planes, p)
	w.note(&p.ring, p.name, "started", fmt.Sprintf("incarnation %d, term %d", p.from.Incarnation, p.from.Term), start.Moved)
	p.tickAt(w.now)
	return p, nil
}

// begin does what the server's start does: a store that was restored or cloned begins with everything stopped.
func (p *plane) begin(ctx context.Context, st store.Store, raise bool) (store.Start, error) {
	now := p.w.time()
	start, err := st.Begin(ctx, store.Place{
		MachineID: "machine", Dir: fmt.Sprint("1:", p.dir.n), Instance: fmt.Sprintf("%s-%x", p.name, p.w.opt.Seed), Raise: raise, At: now,
	})
	if err != nil || start.Moved == "" {
		return start, err
	}
	if err := p.stop.Set(stop.Order{Who: "control plane", Why: start.Moved, At: now}); err != nil {
		return start, err
	}
	return start, control.SettleMove(ctx, st, start, now)
}

// halt stops everything when the control plane itself finds a reason.
func (p *plane) halt(who, why string, at time.Time) error {
	p.w.count("halted-itself")
	p.w.note(&p.ring, p.name, "stops everything:", why)
	p.dir.rows.stopAt = p.w.now
	return p.stop.Set(stop.Order{Who: who, Why: why, At: at})
}

// fault is what the store asks before and after each of its writes.
func (p *plane) fault(point string) error {
	if p.dead || p.dying {
		return errKilled // a dead process writes nothing
	}
	if point == "committed" {
		p.commit = true
	} else {
		p.writes++
	}
	if p.killIn > 0 {
		if p.killIn--; p.killIn == 0 {
			p.dying = true
			p.w.note(&p.ring, p.name, "killed", "at", point)
			return errKilled
		}
	}
	if p.w.now < p.sickTo && p.w.rnd.store.yes(p.sickness) {
		p.w.count("store-failed")
		return errSick
	}
	return nil
}

// call lets p handle something at this moment. late is how long its store takes; ok is false when the process died of
// it: nobody gets an answer then.
func (p *plane) call(f func()) (late time.Duration, ok bool) {
	p.writes = 0
	f()
	if p.dying {
		p.end()
		return 0, false
	}
	if p.w.now < p.slowTo {
		late = time.Duration(p.writes) * p.slowBy
		p.busy = max(p.busy, p.w.now) + late
	}
	if p.ctl != nil && !p.fenced {
		if within, yes := p.ctl.Poked(); yes {
			p.tickAt(max(p.w.now+within, p.busy))
		}
	}
	return late, true
}

// free is when p can handle the next thing.
func (p *plane) free() time.Duration { return max(p.w.now, p.busy) }

// end is the end of the process, however it came.
func (p *plane) end() {
	if p.dead {
		return
	}
	p.dead = true
	if err := p.st.Close(); err != nil {
		p.w.broken(fmt.Errorf("close the store of %s: %w", p.name, err))
	}
	w := p.w
	for i, one := range w.planes {
		if one == p {
			w.planes = append(w.planes[:i:i], w.planes[i+1:]...)
			break
		}
	}
	if w.main == p {
		p.wasMain, w.main, w.lastRows = true, nil, p.dir.rows
	}
	if w.other == p {
		w.other = nil
	}
}

// tickAt makes sure that p ticks no later than at.
func (p *plane) tickAt(at time.Duration) {
	if p.ticks.at > p.w.now && p.ticks.at <= at {
		return
	}
	p.ticks.at = at
	p.w.q.push(at, func() {
		if p.dead || p.fenced || p.ticks.at != at {
			return
		}
		p.ticks.at = 0
		p.tick()
	})
}

// tick is one turn of the loop that control.Run is.
func (p *plane) tick() {
	w := p.w
	if free := p.free(); free > w.now {
		p.tickAt(free)
		return
	}
	w.count("tick")
	var next time.Time
	var err error
	if _, ok := p.call(func() { next, err = p.ctl.Tick(context.Background(), w.time()) }); !ok {
		w.killed(p)
		return
	}
	wait := w.tickEvery
	switch {
	case errors.Is(err, store.ErrFenced):
		p.fenced = true
		w.note(&p.ring, p.name, "its loop ends: it is fenced")
		if !p.linger {
			p.end()
		}
		return
	case err != nil:
		w.count("tick-failed")
		w.note(&p.ring, p.name, "tick failed:", err.Error())
	case next.IsZero():
		wait = max(control.IdleTick, w.tickEvery)
	default:
		wait = min(max(next.Sub(w.time()), control.MinTick), w.tickEvery)
	}
	p.tickAt(max(w.now+wait, p.busy))
}

// hears notes that a message of h, sent at the given time, arrived and was taken.
func (p *plane) hears(h *host, sent time.Duration) {
	if h.i < len(p.heard) {
		p.heard[h.i] = max(p.heard[h.i], sent)
	}
}

// silent says whether p must take h for silent: nothing that h sent within the time of silence has come, however late
// the network may be.
func (p *plane) silent(h *host) bool {
	last := p.heard[h.i]
	return last < 0 || p.w.now-last > p.w.silentAfter+p.w.lateness
}

// account is whom the people of a simulation are.
var account = operator.Account{Name: "ada", Role: operator.RoleAdmin}
