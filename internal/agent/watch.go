package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// watch looks after a passed trial whose control plane is silent: a host that cut itself off goes back, one whose own
// network is as good as before waits, for ever if need be.
type watch struct {
	busy     bool
	next     time.Time
	badSince time.Duration // on the boot-time clock; zero: it was as good as before
}

// watching says whether the watch is on.
func (a *Agent) watching() bool {
	if a.op == nil || a.op.Phase != fleet.PhasePassed || a.op.Before == nil {
		return false
	}
	return a.sys.Uptime()-max(a.checkIn.lastGood, a.sinceHere()) >= a.cfg.SilentAfter
}

// sinceHere is when this boot entered the phase.
func (a *Agent) sinceHere() time.Duration {
	if a.op.BootID == a.bootID {
		return a.op.Since
	}
	return 0
}

func (a *Agent) startWatch(ctx context.Context) {
	w := &a.network
	if !a.watching() {
		w.badSince = 0
		return
	}
	if w.busy || time.Now().Before(w.next) {
		return
	}
	w.busy = true
	o := *a.op
	a.beside(func() func() {
		lctx, cancel := context.WithTimeout(ctx, a.cfg.CheckInWithin)
		defer cancel()
		net, err := a.sys.Network(lctx)
		bad := worse(o.Before.Network, net)
		if err != nil {
			bad = []string{"the network cannot be looked at: " + err.Error()}
		}
		return func() {
			w.busy = false
			w.next = time.Now().Add(a.cfg.WatchNetworkEvery)
			if a.op.ID == o.ID && a.watching() && ctx.Err() == nil {
				a.sawNetwork(bad, net)
			}
		}
	})
}

func (a *Agent) sawNetwork(bad []string, net Network) {
	w, n := &a.network, a.now()
	switch {
	case len(bad) == 0:
		w.badSince = 0
	case w.badSince == 0:
		w.badSince = n.Uptime
		a.log.Warn("on trial, without control plane, and the host's own network is worse than before", "worse", bad,
			"revert_in", a.cfg.RevertNetworkAfter)
	case n.Uptime-w.badSince >= a.cfg.RevertNetworkAfter:
		next := *a.op
		next.revert(fleet.PhaseReverted, &fleet.Problem{
			Cause:    fleet.CauseNetwork,
			What:     fmt.Sprintf("on %s, for %s: %s", next.Kernel.Release, (n.Uptime - w.badSince).Round(time.Second), strings.Join(bad, "; ")),
			Expected: "the network as good as before the reboot, or a control plane that answers",
			Evidence: "before:\n" + describe(next.Before.Network) + "now:\n" + describe(net),
		}, n)
		a.move(next)
	}
}
