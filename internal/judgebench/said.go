package judgebench

import (
	"math"
	"slices"
)

// Said is what a judge says of one cell at one look, before the family has its say. Numbers are relative changes.
type Said struct {
	P         float64 // at all looks so far together; a judge that knows no p-values says 0 for an alarm, else 1
	Now       float64 // of this look alone, where there is such a thing
	Pass      bool
	Low, High float64 // bounds; infinite: none
	MDE       float64 // infinite: none
}

var silent = Said{P: 1, Low: math.Inf(-1), High: math.Inf(1), MDE: math.Inf(1)}

// Seen is all that a judge said of one cell, as it is scored.
type Seen struct {
	Found      int     // the look that first called it a regression; -1: none did
	Single     bool    // some look had a P of 0.05 at most: an alarm, if this cell were alone
	SingleLast bool    // the last look had
	PassAny    bool    // some look said pass
	Pass       bool    // the last look did
	CoverLast  bool    // the last interval has the truth in it
	CoverAll   bool    // all have
	Bounded    bool    // the last interval has an end on the bad side
	MDE        float64 // of the last look
	Width      float64 // half the width of the last interval
	Now        float64 // Said.Now of the last look
}

// Judge says verdicts on rollouts: it sees the types of one, one after the other, and then decides.
type Judge interface {
	Name() string
	// See follows all signals of a type through all looks. effect multiplies what treated hosts show after their
	// reboot in each signal's bad direction: 0.1 is 10 % worse; nil: nothing does.
	See(t *Type, effect []float64)
	// Decide says what was seen, by type and signal, and forgets it. Apart: each cell is decided in a family of its
	// own as large as the whole, of which nothing else was seen yet: the hardest case for a change to be found.
	Decide(apart bool) [][]Seen
}

// matrix collects what a rival says and lets Benjamini and Hochberg decide.
type matrix struct {
	said   [][][]Said // by type, signal, look
	labels [][]Label
}

func (m *matrix) add(t *Type, effect []float64) [][]Said {
	cells := make([][]Said, len(t.Cells))
	labels := make([]Label, len(t.Cells))
	for i, c := range t.Cells {
		cells[i] = make([]Said, len(t.Looks))
		labels[i] = c.Label
		if effect != nil {
			labels[i].TrueRel = c.Sign() * effect[i]
		}
	}
	m.said, m.labels = append(m.said, cells), append(m.labels, labels)
	return cells
}

func (m *matrix) decide(apart bool) [][]Seen {
	out := make([][]Seen, len(m.said))
	total := 0
	for i, cells := range m.said {
		out[i] = make([]Seen, len(cells))
		total += len(cells)
		for s, looks := range cells {
			out[i][s] = summary(m.labels[i][s], looks)
		}
	}
	if len(m.said) > 0 {
		looks := len(m.said[0][0])
		for l := range looks {
			reject(m.said, out, l, total, apart)
		}
	}
	m.said, m.labels = m.said[:0], m.labels[:0]
	return out
}

// reject marks what is found at look l by the rule of Benjamini and Hochberg at 5 %, of total cells. Apart: of each cell
// on its own, when the others have shown nothing.
func reject(said [][][]Said, out [][]Seen, l, total int, apart bool) {
	var ps []float64
	for _, cells := range said {
		for _, looks := range cells {
			if p := looks[l].P; p <= 0.05 {
				ps = append(ps, p)
			}
		}
	}
	slices.Sort(ps)
	bound := -1.0
	if apart {
		bound = 0.05 / float64(total)
	}
	for k, p := range ps {
		if !apart && p <= 0.05*float64(k+1)/float64(total) {
			bound = p
		}
	}
	for i, cells := range said {
		for s, looks := range cells {
			if looks[l].P <= bound && out[i][s].Found < 0 {
				out[i][s].Found = l
				out[i][s].Pass = false
			}
		}
	}
}

// summary is what a row of looks amounts to, apart from the family.
func summary(l Label, looks []Said) Seen {
	s := Seen{Found: -1, CoverAll: true, CoverLast: true, MDE: math.Inf(1), Width: math.Inf(1)}
	for _, v := range looks {
		s.Single = s.Single || v.P <= 0.05
		s.PassAny = s.PassAny || v.Pass
		s.CoverLast = v.Low <= l.TrueRel && l.TrueRel <= v.High
		s.CoverAll = s.CoverAll && s.CoverLast
		s.Pass, s.MDE, s.Width, s.Now = v.Pass, v.MDE, (v.High-v.Low)/2, v.Now
		s.SingleLast = v.P <= 0.05
	}
	s.Bounded = !math.IsInf(s.Width, 1)
	return s
}
