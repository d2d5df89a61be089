package cli

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/kernwave/kernwave/cache"
	"github.com/kernwave/kernwave/cache/bulk"
	"github.com/kernwave/kernwave/cache/drain"
	"github.com/kernwave/kernwave/cache/lease"
	"github.com/kernwave/kernwave/cache/script"
	"github.com/kernwave/kernwave/cache/upstream"
	"github.com/kernwave/kernwave/fleet"
)

// cacheState is what a gateway keeps on disk: the journals of temporary changes and of drained hosts, changes of many keys with
// what they captured, and operators' own commands.
type cacheState struct {
	keeper *lease.Keeper
	bulk   *bulk.Manager
	drains *drain.Keeper
}

// openState registers the commands that need a folder of the gateway's own. dir empty: they say so.
func openState(dir string, g *cache.Gateway, fl *upstream.Fleet, approvals *cache.Approvals) (*cacheState, error) {
	var err error
	if dir == "" {
		for _, c := range stateCommands() {
			if err := g.Registry.Put(c); err != nil {
				return nil, err
			}
		}
		return &cacheState{}, nil
	}
	op := func(err error) error {
		return &fleet.Error{Op: "open the gateway's folder " + dir, Err: plainPathError(err), Next: "choose another with state: in the --clusters file, or mend this one"}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, op(err)
	}
	s := &cacheState{}
	if s.keeper, err = lease.Open(filepath.Join(dir, "leases.journal"), lease.FleetNodes(fl), g.Log, lease.Clock{Now: g.Now}); err != nil {
		return nil, op(err)
	}
	if s.bulk, err = bulk.Open(filepath.Join(dir, "bulk"), fl, approvals, g.Log, g.Now); err != nil {
		s.close()
		return nil, op(err)
	}
	if s.drains, err = drain.Open(filepath.Join(dir, "drains.journal"), fl, approvals, g.Log, g.Now); err != nil {
		s.close()
		return nil, op(err)
	}
	s.drains.Leased = s.keeper.On
	for _, c := range slices.Concat(lease.Commands(s.keeper, fl, approvals), bulk.Commands(s.bulk), drain.Commands(s.drains)) {
		if err := g.Registry.Put(c); err != nil {
			s.close()
			return nil, err
		}
	}
	m, err := script.New(script.Config{Dir: filepath.Join(dir, "commands"), Registry: g.Registry, Fleet: fl, Approvals: approvals, Log: g.Log, Now: g.Now})
	if m == nil {
		s.close()
		return nil, op(err)
	}
	return s, err
}

// stateCommands are descriptions of the commands that need the folder; called, they say what is missing.
func stateCommands() []*cache.Command {
	list := slices.Concat(lease.Commands(nil, nil, nil), bulk.Commands(nil), drain.Commands(nil), script.Commands())
	for i, c := range list {
		d := *c
		d.Run = func(context.Context, *cache.Call) (cache.Value, error) {
			return cache.Value{}, cache.Errorf(cache.CodeUnsupported, "name a folder with state: in the --clusters file of a gateway", "%s needs a gateway with a folder of its own", d.Name)
		}
		list[i] = &d
	}
	return list
}

// run takes temporary changes back, and finds out how hand-overs ended, until ctx ends.
func (s *cacheState) run(ctx context.Context) {
	var wg sync.WaitGroup
	if s.keeper != nil {
		wg.Go(func() { s.keeper.Run(ctx) })
	}
	if s.drains != nil {
		wg.Go(func() { s.drains.Run(ctx) })
	}
	wg.Wait()
}

func (s *cacheState) close() {
	if s.keeper != nil {
		_ = s.keeper.Close()
	}
	if s.bulk != nil {
		_ = s.bulk.Close()
	}
	if s.drains != nil {
		_ = s.drains.Close()
	}
}
