package judgebench

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/kernwave/kernwave/internal/judgecase"
)

// Score is what verdicts on labelled cases amount to. Counts of rates are K of N.
type Score struct {
	Cells, WithoutVerdict, BadLines int

	FalseRegression map[Kind]Count // cells that are no regression, called one at some look, by kind
	FalseRollouts   Count          // rollouts without any regression in which some cell was called one
	WrongPassLast   Count          // of changes as large as the margin or larger
	WrongPassAny    Count
	CoverLast       Count
	CoverAll        Count
	Honest          Count // of level changes as large as the last MDE or larger: found
	Power           map[string]Count
	Last            map[string]int // verdicts on unchanged cells at the last look
	HalfWidth       float64        // median of the last intervals
}

// ScoreFiles compares verdicts, as kernwave judge writes them, with labels.
func ScoreFiles(labels, verdicts io.Reader) (Score, error) {
	type cell struct{ name, signal string }
	truth := map[cell]Label{}
	var order []cell
	dec := json.NewDecoder(bufio.NewReaderSize(labels, 1<<20))
	for {
		var l Label
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return Score{}, fmt.Errorf("label %d: %w", len(order)+1, err)
		}
		c := cell{l.Case, l.Signal}
		if _, twice := truth[c]; twice {
			return Score{}, fmt.Errorf("label %d: %s %s has one already", len(order)+1, l.Case, l.Signal)
		}
		truth[c] = l
		order = append(order, c)
	}
	s := Score{Cells: len(truth), FalseRegression: map[Kind]Count{}, Power: map[string]Count{}, Last: map[string]int{}}
	said := map[cell][]judgecase.Verdict{}
	dec = json.NewDecoder(bufio.NewReaderSize(verdicts, 1<<20))
	for line := 1; ; line++ {
		var v judgecase.Verdict
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return Score{}, fmt.Errorf("verdict %d: %w", line, err)
		}
		c := cell{v.Case, v.Signal}
		if _, known := truth[c]; !known || !slices.Contains([]string{"pass", "regression", "inconclusive"}, v.Verdict) {
			s.BadLines++
			continue
		}
		said[c] = append(said[c], v)
	}
	rollouts := map[string]bool{} // some cell was called a regression
	changed := map[string]bool{}
	var widths []float64
	for _, c := range order {
		l, vs := truth[c], said[c]
		slices.SortStableFunc(vs, func(a, b judgecase.Verdict) int { return int(a.Look - b.Look) })
		e := evaluate(l, vs)
		if _, ok := rollouts[l.Rollout]; !ok {
			rollouts[l.Rollout] = false
		}
		changed[l.Rollout] = changed[l.Rollout] || l.Regression
		rollouts[l.Rollout] = rollouts[l.Rollout] || e.found
		if len(vs) == 0 {
			s.WithoutVerdict++
		}
		last := "missing"
		if len(vs) > 0 {
			last = vs[len(vs)-1].Verdict
		}
		if l.Kind == None {
			s.Last[last]++
		}
		if !l.Regression {
			s.FalseRegression[l.Kind] = s.FalseRegression[l.Kind].and(e.found)
		} else {
			for _, k := range []string{key(l.Kind, l.Size, l.Treated), key(l.Kind, l.Size, "all")} {
				s.Power[k] = s.Power[k].and(e.found)
			}
		}
		if l.Regression && l.Kind != Variance && math.Abs(l.TrueRel) >= l.MarginRel {
			s.WrongPassLast = s.WrongPassLast.and(last == "pass")
			s.WrongPassAny = s.WrongPassAny.and(e.passed)
		}
		if len(vs) > 0 && slices.Contains([]Kind{None, Level, Missing, Tail}, l.Kind) {
			s.CoverLast = s.CoverLast.and(e.coverLast)
			s.CoverAll = s.CoverAll.and(e.coverAll)
			widths = append(widths, e.halfWidth)
		}
		if l.Kind == Level && len(vs) > 0 {
			if m := vs[len(vs)-1].MDE; m != nil && math.Abs(l.TrueRel) >= *m {
				s.Honest = s.Honest.and(e.found)
			}
		}
	}
	for r, found := range rollouts {
		if !changed[r] {
			s.FalseRollouts = s.FalseRollouts.and(found)
		}
	}
	if slices.Sort(widths); len(widths) > 0 {
		s.HalfWidth = widths[len(widths)/2]
	}
	return s, nil
}

// and is the count with one more.
func (c Count) and(held bool) Count {
	c.N++
	if held {
		c.K++
	}
	return c
}

type evaluation struct {
	found, passed, coverLast, coverAll bool
	halfWidth                          float64
}

// evaluate compares the verdicts on one cell, in the order of looks, with the truth.
func evaluate(l Label, vs []judgecase.Verdict) evaluation {
	e := evaluation{coverAll: true}
	for _, v := range vs {
		lo, hi := math.Inf(-1), math.Inf(1)
		if v.Low != nil {
			lo = *v.Low
		}
		if v.High != nil {
			hi = *v.High
		}
		e.coverLast = lo <= l.TrueRel && l.TrueRel <= hi
		e.coverAll = e.coverAll && e.coverLast
		e.halfWidth = (hi - lo) / 2
		e.found = e.found || v.Verdict == "regression"
		e.passed = e.passed || v.Verdict == "pass"
	}
	return e
}

// Print writes a score for people.
func (s Score) Print(w io.Writer) {
	fmt.Fprintf(w, "cells %d, without a verdict %d, bad lines %d\n", s.Cells, s.WithoutVerdict, s.BadLines)
	p := func(name string, c Count) {
		fmt.Fprintf(w, "%-60s %6d of %6d  %s  at most %.2f %% (95 %%, one-sided)\n", name, c.K, c.N, percent(c), 100*c.Upper())
	}
	for _, k := range []Kind{None, Warmup, Surge, OutlierControl, OutlierTreated, Missing, Lost, Idle, Tail} {
		if c := s.FalseRegression[k]; c.N > 0 {
			p("false regressions, "+string(k), c)
		}
	}
	p("unchanged rollouts with a false regression", s.FalseRollouts)
	p("wrong passes, last look", s.WrongPassLast)
	p("wrong passes, any look", s.WrongPassAny)
	p("intervals right, last look", s.CoverLast)
	p("intervals right, all looks", s.CoverAll)
	p("found, of those as large as the MDE", s.Honest)
	fmt.Fprintf(w, "half width of the last intervals, median: %.4f\n", s.HalfWidth)
	names := make([]string, 0, len(s.Power))
	for k := range s.Power {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		p("found: "+k, s.Power[k])
	}
	fmt.Fprintf(w, "unchanged cells at the last look: pass %d, inconclusive %d, regression %d, missing %d\n", s.Last["pass"], s.Last["inconclusive"], s.Last["regression"], s.Last["missing"])
}
