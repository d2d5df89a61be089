package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agent/journal"
)

// keepJournals is how many journals stay on disk: the host's own history.
const keepJournals = 100

const journalSuffix = ".journal"

// load reads what the agent remembers and goes on from there. A damaged journal parks the host; only a state
// directory that cannot be used at all is an error.
func (a *Agent) load(ctx context.Context) error {
	if err := a.disk.MkdirAll(a.operationsDir()); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	a.loadSeen()
	newest, err := a.readJournals()
	if err != nil {
		a.park(ctx, err)
		return nil
	}
	if newest == nil {
		return nil
	}
	a.op = newest
	n := a.now()
	a.grant = newest.Grant
	var last lastBoot
	if needsLastBoot(*newest, n) {
		last = a.lookBack(ctx, *newest)
	}
	next := resume(*newest, n, last)
	if !a.move(next) && next.Phase == fleet.PhaseTrial {
		// A kernel on which the disk cannot be written has failed its trial.
		failed := *a.op
		failed.revert(fleet.PhaseReverted, &fleet.Problem{
			Cause: fleet.CauseBroken, What: "the journal cannot be written on " + n.Release,
			Expected: "a disk that can be written, as on " + failed.FromRelease,
		}, n)
		a.move(failed)
	}
	return nil
}

// readJournals returns the newest operation, nil if there is none, and remembers the ids of all.
func (a *Agent) readJournals() (*operation, error) {
	names, err := a.disk.ReadDir(a.operationsDir())
	if err != nil {
		return nil, fmt.Errorf("list journals: %w", err)
	}
	var ops []operation
	for _, name := range names {
		if id, ok := asideID(name); ok {
			a.past[id] = true // it has been here, whatever became of it
		}
		if !strings.HasSuffix(name, journalSuffix) {
			continue
		}
		states, err := readStates(a.disk, filepath.Join(a.operationsDir(), name))
		if err != nil {
			return nil, err
		}
		if len(states) == 0 {
			continue // torn at its first record: the operation had not begun
		}
		ops = append(ops, states[len(states)-1])
	}
	slices.SortFunc(ops, func(x, y operation) int { return x.Seq - y.Seq })
	for i, o := range ops {
		a.past[o.ID] = true
		if o.ended() {
			a.ended = a.ended.with(o)
		}
		if o.ended() && i < len(ops)-keepJournals {
			_ = a.disk.Remove(a.journalPath(o.ID)) // housekeeping; the next start tries again
		}
	}
	if len(ops) == 0 {
		return nil, nil
	}
	return &ops[len(ops)-1], nil
}

// readStates reads one journal without changing it.
func readStates(fsys disk.FS, path string) ([]operation, error) {
	data, err := fsys.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	raw, _, err := journal.Parse(path, data)
	if err != nil {
		return nil, err
	}
	ops := make([]operation, len(raw))
	for i, r := range raw {
		if err := json.Unmarshal(r, &ops[i]); err != nil {
			return nil, &journal.DamageError{Path: path, Why: fmt.Sprintf("record %d: %v", i+1, err)}
		}
		if !ops[i].Phase.Known() || ops[i].ID == "" {
			return nil, &journal.DamageError{Path: path, Why: fmt.Sprintf("record %d: unknown phase %q", i+1, ops[i].Phase)}
		}
	}
	return ops, nil
}

func (a *Agent) journalPath(id fleet.OperationID) string {
	return filepath.Join(a.operationsDir(), fileName(id)+journalSuffix)
}

// fileName keeps an id from the network inside the directory. Ids that need no change, which are all that a control
// plane makes, keep their name.
func fileName(id fleet.OperationID) string {
	var b strings.Builder
	for _, r := range []byte(id) {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.' && b.Len() > 0:
			b.WriteByte(r)
		default:
			fmt.Fprintf(&b, "%%%02x", r)
		}
	}
	return b.String()
}

func (a *Agent) openJournal(id fleet.OperationID) error {
	a.closeJournal()
	j, _, err := journal.Open(a.disk, a.journalPath(id))
	if err != nil {
		return err
	}
	a.journal = j
	return nil
}

func (a *Agent) closeJournal() {
	if a.journal != nil {
		_ = a.journal.Close() // everything in it is synced
		a.journal = nil
	}
}

// move writes the next snapshot and makes it the state. Where the journal cannot be written, a step into danger is not
// taken, and false returned; a step towards service is taken all the same, and written later.
func (a *Agent) move(next operation) bool {
	if a.op != nil && same(*a.op, next) {
		return true
	}
	changed := a.op == nil || a.op.Phase != next.Phase
	err := a.write(next)
	if err != nil && !towardsService(next) {
		a.log.Error("the journal cannot be written, the step is not taken", "operation", next.ID, "phase", next.Phase,
			"err", err, "next", "make "+a.cfg.StateDir+" writable")
		return false
	}
	a.unsaved = err != nil
	if changed {
		a.log.Info("phase", "operation", next.ID, "phase", next.Phase, "kernel", next.Kernel.ID, "problem", what(next.Problem))
		a.work.reset()
		a.checkIn.soon()
		a.checkIn.factsOld = true
		a.network.next, a.network.badSince = time.Time{}, 0
	}
	a.op = &next
	a.past[next.ID] = true
	if next.ended() {
		a.ended = a.ended.with(next)
	}
	if next.ended() && changed {
		a.grant = nil
		if err := a.fetch.Forget(); err != nil {
			a.log.Warn("fetched packages are left behind", "err", err)
		}
	}
	return true
}

func (a *Agent) write(next operation) error {
	if a.parked != "" {
		return nil
	}
	if a.journal == nil || a.journal.Path() != a.journalPath(next.ID) {
		if err := a.openJournal(next.ID); err != nil {
			return err
		}
	}
	return a.journal.Append(next)
}

// save writes a snapshot that could not be written before.
func (a *Agent) save() {
	if err := a.write(*a.op); err == nil {
		a.unsaved = false
	}
}

// towardsService says which steps are right to take even if a restart forgets them.
func towardsService(o operation) bool {
	return o.Phase == fleet.PhaseUndraining || o.Phase == fleet.PhaseReverting || o.Phase.Ended()
}

// same compares snapshots as the journal would show them.
func same(x, y operation) bool {
	bx, errX := json.Marshal(x)
	by, errY := json.Marshal(y)
	return errX == nil && errY == nil && string(bx) == string(by)
}

func what(p *fleet.Problem) string {
	if p == nil {
		return ""
	}
	return p.What
}
