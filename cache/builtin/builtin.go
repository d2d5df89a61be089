// Package builtin is the commands that every gateway has. Each file holds one family of them: what it asks of the nodes,
// and how it makes one answer out of theirs. None of them speaks to a node but through package upstream.
//
// Places kept for what comes later: CACHE.HITRATIO, CACHE.SLOTS, CACHE.POLICY and CACHE.MAXMEMORY.
package builtin

import (
	"errors"
	"slices"
	"time"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/upstream"
)

// Deps is what the commands work with.
type Deps struct {
	Fleet   *upstream.Fleet
	Gateway *cache.Gateway
	// Approvals are what CACHE.APPROVE answers; nil where only descriptions are wanted.
	Approvals *cache.Approvals
}

// set is the commands' common state.
type set struct {
	Deps
}

// Register adds all built-in commands to the gateway's registry.
func Register(d Deps) error {
	s := &set{Deps: d}
	var errs []error
	for _, c := range s.commands() {
		errs = append(errs, d.Gateway.Registry.Put(c))
	}
	return errors.Join(errs...)
}

func (s *set) commands() []*cache.Command {
	return slices.Concat([]*cache.Command{
		s.nodes(), s.caps(),
		s.bigkeys(), s.prefix(),
		s.hotkeys(),
		s.slow(), s.latency(), s.clients(),
		s.keyExplain(), s.evictionExplain(),
		s.configDiff(),
		s.monitor(),
	}, s.jobs(), s.record())
}

// envelope is what the replies of all commands have in common.
type envelope struct {
	call   *cache.Call
	epoch  string
	at     time.Time
	ok     int
	failed []*upstream.Failure
	// coverage is the part of what was asked for that the rows stand for, in [0,1].
	coverage float64
	guards   cache.Value // null: the command has none
	notes    []string    // what a reader must know
	extra    []any       // more keys and values, as cache.Dict takes them
	rows     []cache.Value
}

// reply begins an envelope for what a view and a fan-out brought.
func reply(c *cache.Call, v *upstream.View) *envelope {
	return &envelope{call: c, epoch: v.Epoch, at: time.Now().UTC(), coverage: 1}
}

// covered takes the figures of a fan-out.
func (e *envelope) covered(ok int, failed []*upstream.Failure) *envelope {
	e.ok, e.failed, e.coverage = ok, failed, 0
	if n := ok + len(failed); n > 0 {
		e.coverage = float64(ok) / float64(n)
	}
	return e
}

// value is the reply. Where no node answered it is an error.
func (e *envelope) value() (cache.Value, error) {
	if e.ok == 0 && len(e.failed) > 0 {
		why := e.failed[0].Error()
		if len(e.failed) > 1 {
			why += ", and " + plural(len(e.failed)-1, "more node")
		}
		return cache.Value{}, cache.Errorf(cache.CodeUnreachable, "check the addresses, the password and that the servers run", "no node answered: %s", why)
	}
	failed := make([]cache.Value, len(e.failed))
	for i, f := range e.failed {
		failed[i] = cache.Dict("node", cache.String(f.Node), "error", cache.String(f.Err.Error()))
	}
	v := cache.Dict("job", cache.String(e.call.Job), "epoch", cache.String(e.epoch),
		"asof", cache.String(e.at.Format(time.RFC3339Nano)), "coverage", cache.Real(e.coverage))
	if !e.guards.IsNull() {
		v.Add("guards", e.guards)
	}
	v.Add("nodes", cache.Dict("ok", cache.Number(e.ok), "failed", cache.List(failed...)))
	for i := 0; i+1 < len(e.extra); i += 2 {
		v.Add(e.extra[i].(string), e.extra[i+1].(cache.Value))
	}
	if len(e.notes) > 0 {
		v.Add("notes", cache.Strings(e.notes...))
	}
	if e.rows == nil {
		e.rows = []cache.Value{}
	}
	v.Add("rows", cache.List(e.rows...))
	return v, nil
}
