package sim

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/rollout"
)

// rows is what was committed to one store, as its writers wrote it: what must never be lost.
type rows struct {
	ops      map[fleet.OperationID]fleet.Operation
	open     map[fleet.HostID]fleet.OperationID
	grants   map[fleet.GrantID]store.Grant
	live     map[fleet.HostID]fleet.GrantID // the one that has not ended
	rollouts map[string]rolloutRow
	status   map[fleet.HostID]fleet.Status
	known    map[fleet.HostID]bool // it has said what it is: its groups are known
	frozen   map[fleet.HostID]bool
	budgets  map[string]int
	// excused are canaries ("r-1 host") that a person had taken out of the fleet when the first wave began.
	excused map[string]bool
	// standIns are operations that began on another host of a type when all its canaries had been given up.
	standIns map[fleet.OperationID]bool
	events   int64 // the newest Seq
	// resumed is which rollouts a person has resumed since the store was restored or cloned.
	resumed map[string]bool
	stopAt  time.Duration // when an acknowledged stop came into force; negative: there is none
	lifted  bool          // a person has lifted the stop of a restored or cloned store
}

// rolloutRow is what the checks need of a rollout.
type rolloutRow struct {
	id     string
	status string
	since  time.Duration // when it got that status
	plan   *rollout.Plan
	state  rollout.State
	stage  map[fleet.HostID]int // of the plan
	doneAt time.Duration        // when the running stage began its soak; zero: not yet
}

func newRows() *rows {
	return &rows{
		ops: map[fleet.OperationID]fleet.Operation{}, open: map[fleet.HostID]fleet.OperationID{},
		grants: map[fleet.GrantID]store.Grant{}, live: map[fleet.HostID]fleet.GrantID{},
		rollouts: map[string]rolloutRow{}, status: map[fleet.HostID]fleet.Status{}, known: map[fleet.HostID]bool{}, frozen: map[fleet.HostID]bool{},
		budgets: map[string]int{}, excused: map[string]bool{}, standIns: map[fleet.OperationID]bool{}, resumed: map[string]bool{}, stopAt: -1,
	}
}

// clone is for a copy of the store.
func (r *rows) clone() *rows {
	return &rows{
		ops: maps.Clone(r.ops), open: maps.Clone(r.open), grants: maps.Clone(r.grants), live: maps.Clone(r.live),
		rollouts: maps.Clone(r.rollouts), status: maps.Clone(r.status), known: maps.Clone(r.known), frozen: maps.Clone(r.frozen),
		budgets: maps.Clone(r.budgets), excused: maps.Clone(r.excused), standIns: maps.Clone(r.standIns), events: r.events, resumed: map[string]bool{}, stopAt: -1,
	}
}

// written is what one transaction wrote, in order.
type written struct {
	hosts    []fleet.Host
	ops      []fleet.Operation
	grants   []store.Grant
	rollouts []store.Rollout
	budgets  []store.Budget
	events   []store.Event
	lastSeq  int64
}

// watched is a store whose committed writes the simulator sees.
type watched struct {
	store.Store
	p *plane
}

// Update implements [store.Store].
func (s *watched) Update(ctx context.Context, f func(store.Tx) error) error {
	var got written
	s.p.commit = false
	err := s.Store.Update(ctx, func(tx store.Tx) error {
		got = written{}
		return f(&watchedTx{tx, &got})
	})
	if err == nil || s.p.commit { // an error after the commit is the process's end
		s.p.w.committed(s.p, &got)
	}
	return err
}

type watchedTx struct {
	store.Tx
	got *written
}

func (t *watchedTx) PutHost(h fleet.Host) error {
	t.got.hosts = append(t.got.hosts, h)
	return t.Tx.PutHost(h)
}

func (t *watchedTx) PutOperation(o fleet.Operation) error {
	t.got.ops = append(t.got.ops, o)
	return t.Tx.PutOperation(o)
}

func (t *watchedTx) PutGrant(g store.Grant) error {
	t.got.grants = append(t.got.grants, g)
	return t.Tx.PutGrant(g)
}

func (t *watchedTx) PutRollout(r store.Rollout) error {
	t.got.rollouts = append(t.got.rollouts, r)
	return t.Tx.PutRollout(r)
}

func (t *watchedTx) PutBudget(b store.Budget) error {
	t.got.budgets = append(t.got.budgets, b)
	return t.Tx.PutBudget(b)
}

func (t *watchedTx) DeleteBudget(by string) error {
	t.got.budgets = append(t.got.budgets, store.Budget{By: by})
	return t.Tx.DeleteBudget(by)
}

func (t *watchedTx) AppendEvent(e store.Event) (int64, error) {
	seq, err := t.Tx.AppendEvent(e)
	e.Seq = seq
	t.got.events = append(t.got.events, e)
	t.got.lastSeq = max(t.got.lastSeq, seq)
	return seq, err
}

// readRollout takes what the checks need out of a row.
func readRollout(r store.Rollout, before rolloutRow, known bool, now time.Duration) (rolloutRow, error) {
	row := before
	row.id = r.ID
	if !known || row.status != r.Status {
		row.status, row.since = r.Status, now
	}
	row.state = rollout.State{}
	err := json.Unmarshal(r.State, &row.state)
	if row.plan == nil && len(r.Plan) > 0 {
		row.plan = &rollout.Plan{}
		err = errors.Join(err, json.Unmarshal(r.Plan, row.plan))
		row.stage = map[fleet.HostID]int{}
		for _, h := range row.plan.Hosts {
			row.stage[h.ID] = h.Stage
		}
	}
	return row, err
}
