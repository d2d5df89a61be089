package judge

import "math"

// Placebo counts changes that did not happen: random hosts of a type are taken for treated ones, between the first and
// the second half of the before. An alarm is evidence that would be a p-value of at most [PlaceboLevel].
type Placebo struct{ Alarms, Replays int }

// PlaceboLevel is the share of replays that may alarm, if the method suits the signal.
const PlaceboLevel = 0.05

// Rate is the share of replays that alarmed; NaN: there was none.
func (p Placebo) Rate() float64 {
	if p.Replays == 0 {
		return nan
	}
	return float64(p.Alarms) / float64(p.Replays)
}

// Replays are bounded per signal of a type, and by how many hosts have to be looked at in all.
const (
	mostReplays     = 20
	mostReplayHosts = 20_000
)

// replay plays placebos with the changes of all hosts from one half of the before to the other. They are drawn by a
// fixed rule, so that the same input gives the same verdicts.
func (k *cell) replay(change []float64) (out Placebo) {
	b := k.base
	arms := 0
	var usable []int
	for i, h := range k.c.g.Hosts {
		if h.Treated {
			arms++
		}
		if change[i] == change[i] {
			usable = append(usable, i)
		}
	}
	if k.sig.Work || arms == 0 || len(usable) < arms+4 || !(b.vary > 0) || !(b.hours > 0) {
		return out
	}
	in := lookFor{y: change, spread: b.spread, treated: make([]bool, len(change)), worth: reference.worth}
	in.prior = reference.wander[0] * math.Sqrt(b.vary*4/b.hours/6)
	draw := uint64(len(usable))
	for range min(mostReplays, 1+mostReplayHosts/len(usable)) {
		clear(in.treated)
		for i := range arms { // the first of a shuffle
			draw = draw*6364136223846793005 + 1442695040888963407
			j := i + int((draw>>33)%uint64(len(usable)-i))
			usable[i], usable[j] = usable[j], usable[i]
			in.treated[usable[i]] = true
		}
		f, ok := newShift(in, max(leastScale, leastOfMargin*k.sig.Margin))
		if !ok {
			continue
		}
		nodes := f.nodes()
		out.Replays++
		if f.evidence(&nodes, k.sig.Bad.sign())+reference.lnShare[0] >= reference.caution-ln(PlaceboLevel) {
			out.Alarms++
		}
	}
	return out
}
