package agent

import (
	"context"
	"fmt"

	"github.com/kernwave/kernwave/fleet"
)

// maxCommits is how often making the kernel the default is tried before the host goes back to the old one.
const maxCommits = 3

// commit makes the kernel on trial the default.
func (a *Agent) commit(ctx context.Context, o operation, n now) result {
	var err error
	for try := range maxCommits {
		if err = a.sys.Commit(ctx, o.Kernel.Release); err == nil {
			o.Committed = true
			return result{next: &o}
		}
		a.log.WarnContext(ctx, "commit did not succeed", "operation", o.ID, "err", err, "try", try+1)
		if !pause(ctx, backoff(try+1, a.cfg.RetryMax)) {
			return result{retry: context.Cause(ctx)}
		}
	}
	o.revert(fleet.PhaseReverted, problemOf(fleet.CauseBroken, fmt.Errorf("make %s the default: %w", n.Release, err)), a.now())
	return result{next: &o}
}
