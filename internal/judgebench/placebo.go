package judgebench

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/kernwave/kernwave/internal/judgecase"
	"github.com/kernwave/kernwave/judge"
)

// PlaceboOptions say what is replayed.
type PlaceboOptions struct {
	Seed  uint64
	Draws int // of treated hosts, per case
	// Unchanged: the cases are of a change that did nothing, and their treated hosts are taken like controls. If not,
	// they are left out.
	Unchanged bool
}

// placeboLevels are the p-values that are counted; 0.05/96 is what a family of 96 cells asks of its first.
var placeboLevels = []float64{0.05, 0.01, 0.002, 0.05 / 96}

// PlaceboCount is what came of placebo replays: of each number of treated hosts, how many cells had a p-value of at
// most placeboLevels at some look; and of all replays of a rollout, how many had a false regression.
type PlaceboCount struct {
	Cells    map[int][]Count
	Rollouts Count
}

// Placebos replays cases of real hosts in which nothing changed: random hosts are taken for the treated ones, with
// their times of change, and judged at the looks of the case. The same draw of all cases of a rollout is a rollout.
func Placebos(r io.Reader, o PlaceboOptions) (PlaceboCount, error) {
	out := PlaceboCount{Cells: map[int][]Count{}}
	in, err := judgecase.NewReader(r)
	if err != nil {
		return out, err
	}
	var rollout []judgecase.Case
	for {
		c, line, err := in.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return out, err
		}
		end := errors.Is(err, io.EOF)
		if len(rollout) > 0 && (end || c.Rollout != rollout[0].Rollout) {
			for draw := range o.Draws {
				if err := out.replay(rollout, o, draw); err != nil {
					return out, fmt.Errorf("the rollout before line %d: %w", line, err)
				}
			}
			rollout = rollout[:0]
		}
		if end {
			return out, nil
		}
		rollout = append(rollout, c)
	}
}

// replay plays one draw of a rollout.
func (p *PlaceboCount) replay(rollout []judgecase.Case, o PlaceboOptions, draw int) error {
	var groups []judge.Group
	var looks []map[int64]judge.Look
	var times []int64
	for i, c := range rollout {
		d := &dice{src: stream(o.Seed, uint64(i), uint64(draw))}
		c = placebo(c, d, o.Unchanged)
		g, err := c.Group()
		if err != nil {
			return fmt.Errorf("case %s: %w", c.ID, err)
		}
		cmp, err := judge.New(g)
		if err != nil {
			return fmt.Errorf("case %s: %w", c.ID, err)
		}
		seen := map[int64]judge.Look{}
		if err := c.Play(cmp, func(at int64) bool {
			seen[at] = cmp.Look(time.Unix(at, 0))
			return true
		}); err != nil {
			return fmt.Errorf("case %s: %w", c.ID, err)
		}
		groups, looks, times = append(groups, g), append(looks, seen), append(times, c.Looks...)
	}
	slices.Sort(times)
	f := judge.NewFamily(groups)
	least := map[[2]string]float64{}
	found := false
	for _, at := range slices.Compact(times) {
		now := map[int]judge.Look{}
		for g := range looks {
			if l, ok := looks[g][at]; ok {
				now[g] = l
			}
		}
		for _, v := range f.Decide(time.Unix(at, 0), now) {
			found = found || v.Outcome == judge.Regression
			least[[2]string{v.Group, v.Signal}] = v.P // the running one: the last is the least
		}
	}
	p.Rollouts = p.Rollouts.and(found)
	for _, g := range groups {
		treated := 0
		for _, h := range g.Hosts {
			if h.Treated {
				treated++
			}
		}
		for _, s := range g.Signals {
			if s.Work {
				continue
			}
			if p.Cells[treated] == nil {
				p.Cells[treated] = make([]Count, len(placeboLevels))
			}
			for i, level := range placeboLevels {
				p.Cells[treated][i] = p.Cells[treated][i].and(least[[2]string{g.ID, s.Name}] <= level)
			}
		}
	}
	return nil
}

// placebo is a case with others of its hosts treated.
func placebo(c judgecase.Case, d *dice, unchanged bool) judgecase.Case {
	var changed []*int64
	var hosts []judgecase.Host
	for _, h := range c.Hosts {
		if h.Arm == "treated" {
			changed = append(changed, h.ChangedAt)
			if !unchanged {
				continue
			}
			h.Arm, h.RebootedAt, h.ChangedAt = "control", h.ChangedAt, nil
		}
		hosts = append(hosts, h)
	}
	for i := 0; i < min(len(changed), len(hosts)-2); i++ { // the first of a shuffle
		j := i + d.below(len(hosts)-i)
		hosts[i], hosts[j] = hosts[j], hosts[i]
		hosts[i].Arm, hosts[i].ChangedAt, hosts[i].RebootedAt = "treated", changed[i], nil
	}
	c.Hosts = hosts
	return c
}

// Print writes counts for people.
func (p PlaceboCount) Print(w io.Writer) {
	names := []string{"treated hosts"}
	for _, level := range placeboLevels {
		names = append(names, fmt.Sprintf("p ≤ %.3g %%", 100*level))
	}
	head(w, append(names, "cells")...)
	all := make([]Count, len(placeboLevels))
	line := func(name string, cs []Count) {
		cells := []string{name}
		for _, c := range cs {
			cells = append(cells, fmt.Sprintf("%.3g %%", 100*c.Rate()))
		}
		row(w, append(cells, fmt.Sprint(cs[0].N))...)
	}
	var treated []int
	for n, cs := range p.Cells {
		treated = append(treated, n)
		for i, c := range cs {
			all[i].K, all[i].N = all[i].K+c.K, all[i].N+c.N
		}
	}
	slices.Sort(treated)
	for _, n := range treated {
		line(fmt.Sprint(n), p.Cells[n])
	}
	line("all", all)
	fmt.Fprintf(w, "\nreplays of a rollout with a false regression: %d of %d, %s\n", p.Rollouts.K, p.Rollouts.N, percent(p.Rollouts))
}
