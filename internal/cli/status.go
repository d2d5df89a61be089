package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/wire"
)

// statusAnswer is the control plane at a glance, as JSON.
type statusAnswer struct {
	Server string `json:"server"`
	Build  string `json:"server_version"`
	operator.Status
	Incarnation uint64 `json:"incarnation"`
	Term        uint64 `json:"term"`
	// Stopped is why, by whom and since when everything is stopped; empty: it is not.
	Stopped  string `json:"stopped,omitempty"`
	Operator string `json:"operator"`
	Role     string `json:"role"`
	// Rollouts are those that have not ended.
	Rollouts []operator.Rollout `json:"rollouts"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "the control plane at a glance, and who you are to it", Args: arguments(),
		Example: "  kernwave status\n  kernwave status -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			res, err := call(cmd.Context(), a, c.fleet.GetStatus, &kwv1.GetStatusRequest{})
			if err != nil {
				return err
			}
			s := statusFrom(res, c.base)
			list, err := a.listRollouts(cmd.Context())
			if err != nil {
				// The rest of the answer is worth more than this part when the store is sick.
				a.warn("the rollouts are not known: " + a.explain(cmd, err).what())
			}
			for _, r := range list {
				if !over(r) {
					s.Rollouts = append(s.Rollouts, r)
				}
			}
			if a.json() {
				return printJSON(a.Out, "status", s)
			}
			return a.printStatus(s)
		},
	}
}

func statusFrom(p *kwv1.GetStatusResponse, server string) statusAnswer {
	return statusAnswer{
		Server: server, Build: p.GetVersion(), Incarnation: p.GetIncarnation(), Term: p.GetTerm(), Stopped: p.GetStopped(),
		Operator: p.GetOperator(), Role: p.GetRole(), Rollouts: []operator.Rollout{},
		Status: operator.Status{
			Hosts: int(p.GetHosts()), Silent: int(p.GetSilent()), Frozen: int(p.GetFrozen()), LiveGrants: int(p.GetLiveGrants()),
			OpenIncidents: int(p.GetOpenIncidents()), LastTick: wire.TimeFromProto(p.GetLastTick()), StoreError: p.GetStoreError(),
			Rebuild: wire.RebuildFromProto(p.GetRebuild()), Superseded: p.GetSuperseded(),
		},
	}
}

// lateTick is when a control plane that has not decided anything deserves a warning colour; it ticks every few seconds.
const lateTick = time.Minute

func (a *app) printStatus(v statusAnswer) error {
	p := a.paletteFor(a.Out)
	s := &sheet{}
	s.line("control plane", clean(v.Server), "kernwave "+clean(v.Build))
	s.line("you", clean(v.Operator), clean(v.Role))
	if v.Stopped != "" {
		s.line("stopped", p.bad(clean(strings.TrimPrefix(v.Stopped, "stopped "))))
	} else {
		s.line("stopped", "no")
	}
	if v.Superseded != "" {
		s.line("superseded", p.bad(clean(v.Superseded)))
	}
	if v.Rebuild != nil {
		s.line("rebuild", p.warn(clean(v.Rebuild.String())))
	}
	hosts := count(v.Hosts, "host")
	if v.Silent > 0 {
		hosts += ", " + p.warn(fmt.Sprintf("%d silent", v.Silent))
	}
	if v.Frozen > 0 {
		hosts += ", " + p.bad(fmt.Sprintf("%d frozen", v.Frozen))
	}
	s.line("fleet", hosts)
	s.line("grants", fmt.Sprintf("%d live", v.LiveGrants))
	incidents := fmt.Sprintf("%d open", v.OpenIncidents)
	if v.OpenIncidents > 0 {
		incidents = p.bad(incidents)
	}
	s.line("incidents", incidents)
	for _, r := range v.Rollouts {
		committed, total := progressOf(r)
		s.line("rollout", clean(r.ID)+" "+p.state(clean(r.Status))+fmt.Sprintf(", %d of %d committed, %s", committed, total, clean(stageName(r))))
	}
	tick := ago(v.LastTick, a.Now())
	if a.Now().Sub(v.LastTick) > lateTick {
		tick = p.warn(tick)
	}
	s.line("last tick", tick)
	if v.StoreError != "" {
		s.line("store", p.bad(clean(v.StoreError)))
	} else {
		s.line("store", "well")
	}
	s.line("term", fmt.Sprintf("%d of incarnation %d", v.Term, v.Incarnation))
	if err := s.print(a.Out, p, a.glyphs(), a.width()); err != nil {
		return err
	}
	switch {
	case v.Rebuild != nil && v.Rebuild.Reported < v.Rebuild.Hosts:
		a.note("", "wait for the hosts; decide on those that will not come: kernwave host maintenance HOST --why …")
	case v.Stopped != "":
		a.note("", "kernwave stop lift, when it may go on")
	case v.OpenIncidents > 0:
		a.note("", "kernwave incidents")
	}
	return nil
}
