package rollout

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/kernwave/kernwave/fleet"
)

// Plan is what a rollout will do, decided once, at its start. Hosts that join the fleet later are not in it.
type Plan struct {
	Kernel fleet.Kernel `json:"kernel"`
	Types  []TypePlan   `json:"types"`
	// Hosts in the order in which they are wanted: canaries, then wave by wave.
	Hosts []PlanHost `json:"hosts"`
	// Stages are the canaries and the waves.
	Stages []StagePlan `json:"stages"`
	// Excluded were selected but cannot or need not take part, with why.
	Excluded []Excluded `json:"excluded,omitempty"`
}

// TypePlan is one host type of the selection.
type TypePlan struct {
	ID          fleet.HostTypeID `json:"id"`
	Description string           `json:"description"`
	Hosts       int              `json:"hosts"`
	// Canaries, in the order in which they try the kernel. Empty: the type was approved already.
	Canaries []fleet.HostID `json:"canaries,omitempty"`
}

// PlanHost is one host and the stage in which it is wanted first.
type PlanHost struct {
	ID    fleet.HostID     `json:"id"`
	Type  fleet.HostTypeID `json:"type"`
	Stage int              `json:"stage"`
}

// StagePlan is one stage: number 0 are the canaries, the others waves.
type StagePlan struct {
	Percent int `json:"percent,omitempty"` // cumulative, of the selection; 0 for the canaries
	Upto    int `json:"upto"`              // hosts done at its end
	Adds    int `json:"adds"`              // hosts that it adds
}

// Name is what people call stage i.
func (p Plan) Name(i int) string {
	if i == 0 {
		return "canaries"
	}
	return fmt.Sprintf("wave %d (%d %%)", i, p.Stages[i].Percent)
}

// HasType says whether a host of type t takes part.
func (p Plan) HasType(t fleet.HostTypeID) bool {
	return slices.ContainsFunc(p.Types, func(tp TypePlan) bool { return tp.ID == t })
}

// Excluded is a selected host that does not take part.
type Excluded struct {
	ID  fleet.HostID `json:"id"`
	Why string       `json:"why"`
}

// MakePlan plans a rollout of k over the selected hosts, which it does not modify. approved says whether a type
// needs no canaries any more. The salt (the kernel's checksum) decides who goes first, so that it is not always
// the same hosts; equal arguments give equal plans. It returns an error when nobody can take part.
func MakePlan(spec Spec, k fleet.Kernel, hosts []fleet.Host, approved func(fleet.HostTypeID) bool, salt string) (Plan, error) {
	p := Plan{Kernel: k}
	byType := map[fleet.HostTypeID][]fleet.Host{}
	hosts = slices.Clone(hosts)
	slices.SortFunc(hosts, func(a, b fleet.Host) int { return cmp.Compare(a.ID, b.ID) })
	for _, h := range hosts {
		if why := cannotTakePart(k, h); why != "" {
			p.Excluded = append(p.Excluded, Excluded{h.ID, why})
			continue
		}
		byType[h.Type.ID] = append(byType[h.Type.ID], h)
	}
	if len(byType) == 0 {
		return p, nobody(len(hosts), p.Excluded)
	}
	p.place(spec, byType, approved, salt)
	return p, nil
}

// place chooses canaries, orders everybody, and cuts the order into stages.
func (p *Plan) place(spec Spec, byType map[fleet.HostTypeID][]fleet.Host, approved func(fleet.HostTypeID) bool, salt string) {
	type ranked struct {
		PlanHost
		canary bool
		rank   float64 // place in its type, 0 to 1: sorting by it spreads every type evenly over the waves
	}
	var all []ranked
	for _, t := range slices.Sorted(maps.Keys(byType)) {
		hs := byType[t]
		slices.SortFunc(hs, func(a, b fleet.Host) int {
			return cmp.Or(late(a, p.Kernel)-late(b, p.Kernel), cmp.Compare(draw(salt, a.ID), draw(salt, b.ID)), cmp.Compare(a.ID, b.ID))
		})
		tp := TypePlan{ID: t, Description: hs[0].Type.String(), Hosts: len(hs)}
		for i, h := range hs {
			r := ranked{PlanHost: PlanHost{ID: h.ID, Type: t}, rank: (float64(i) + 0.5) / float64(len(hs))}
			if i < spec.Canaries && !approved(t) && !slices.Contains(spec.LeaveOut, t) {
				r.canary = true
				tp.Canaries = append(tp.Canaries, h.ID)
			}
			all = append(all, r)
		}
		p.Types = append(p.Types, tp)
	}
	slices.SortStableFunc(all, func(a, b ranked) int {
		if a.canary != b.canary {
			if a.canary {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.rank, b.rank)
	})
	canaries := 0
	for _, r := range all {
		if r.canary {
			canaries++
		}
	}
	p.Stages = []StagePlan{{Upto: canaries, Adds: canaries}}
	done := canaries
	for _, pct := range spec.Waves {
		upto := max(done, (len(all)*pct+99)/100)
		p.Stages = append(p.Stages, StagePlan{Percent: pct, Upto: upto, Adds: upto - done})
		done = upto
	}
	for i, r := range all {
		for r.Stage = 0; i >= p.Stages[r.Stage].Upto; r.Stage++ {
		}
		p.Hosts = append(p.Hosts, r.PlanHost)
	}
}

// cannotTakePart says why a selected host is not in the plan; empty: it is.
func cannotTakePart(k fleet.Kernel, h fleet.Host) string {
	switch {
	case h.Status == fleet.StatusRetired:
		return "retired"
	case h.Status == fleet.StatusMaintenance:
		return "in maintenance: " + h.StatusWhy
	case h.Revoked:
		return "its certificate is revoked"
	case h.FactsHash == "":
		return "it has never said what it is"
	case h.Frozen != "":
		return "it is frozen: " + h.Frozen
	case h.Now.Parked != "":
		return "its agent is parked: " + h.Now.Parked
	}
	if why := k.Fits(h.Facts); why != "" {
		return why
	}
	switch b := h.Facts.Boot; {
	case b.OneShot == fleet.OneShotImpossible:
		return "its boot loader cannot boot a kernel just once: " + b.OneShotWhy
	case b.OneShot == fleet.OneShotUnknown:
		return "it is not known whether its boot loader can boot a kernel just once"
	case h.Now.Release == k.Release && b.Default == k.Release:
		return "already runs " + k.Release
	}
	return ""
}

func nobody(selected int, ex []Excluded) error {
	e := &fleet.Error{Op: "plan rollout"}
	if selected == 0 {
		e.Err = fmt.Errorf("the selection is empty")
		e.Next = "list hosts with: kernwave hosts --selector …"
		return e
	}
	e.Err = fmt.Errorf("none of the %d selected hosts can take part: %s: %s", selected, ex[0].ID, ex[0].Why)
	if len(ex) > 1 {
		e.Err = fmt.Errorf("%w (and %d more)", e.Err, len(ex)-1)
	}
	e.Next = "see each host's reason with: kernwave rollout plan … -o json, or kernwave why HOST"
	return e
}

// late says who goes last in its type, for as a canary it would show nothing: a host that runs k already, though not
// by default, or one that is not in service.
func late(h fleet.Host, k fleet.Kernel) int {
	if h.Now.Release == k.Release || !h.Now.InService {
		return 1
	}
	return 0
}

// draw gives a number that depends on salt and host alone.
func draw(salt string, h fleet.HostID) uint64 {
	sum := sha256.Sum256([]byte(salt + "\x00" + string(h)))
	return binary.BigEndian.Uint64(sum[:8])
}
