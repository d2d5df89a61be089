package cli

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/internal/judgecase"
)

// The size of a plot, in characters.
const (
	plotRows  = 15
	plotLabel = 9
	plotMost  = 100
	plotLeast = 24
)

// curvePlot draws treated hosts and controls against time: relative changes against each host's own before and the common
// movement of the controls. At the right end stands the interval of the effect.
func (a *app) curvePlot(e judgecase.Explanation, p palette) string {
	width := max(plotLeast, min(plotMost, orWidth(a.width(), 80))-plotLabel-5)
	curve := e.Case.Curve(e.Signal, width)
	if len(curve) == 0 {
		return "there is nothing to draw\n"
	}
	s := e.Case.Signals[e.Signal]
	margin := s.MarginRel
	if s.BadDirection == "decrease" {
		margin = -margin
	}
	last := e.Verdicts[len(e.Verdicts)-1]
	low, high := min(0, margin)-0.2*math.Abs(margin), max(0, margin)+0.2*math.Abs(margin)
	var lows, highs []float64
	for _, c := range curve {
		for _, v := range []float64{c.Low, c.High, c.Treated} {
			if v == v && !math.IsInf(v, 0) {
				lows, highs = append(lows, v), append(highs, v)
			}
		}
	}
	low, high = min(low, quantileOf(lows, 0.03)), max(high, quantileOf(highs, 0.97))
	row := func(v float64) int { // may lie outside
		return int(math.Round((high - v) / (high - low) * (plotRows - 1)))
	}
	cells := make([][]rune, plotRows)
	paint := make([][]func(string) string, plotRows)
	for r := range cells {
		cells[r] = []rune(strings.Repeat(" ", len(curve)+4))
		paint[r] = make([]func(string) string, len(curve)+4)
	}
	put := func(r, c int, g rune, how func(string) string) {
		if r >= 0 && r < plotRows {
			cells[r][c], paint[r][c] = g, how
		}
	}
	g := plotGlyphs(a.glyphs())
	for c := range curve {
		put(row(0), c, g.zero, p.faint)
	}
	for c := range curve {
		if c%2 == 0 {
			put(row(margin), c, g.margin, p.bad)
		}
	}
	start := -1
	for c, pt := range curve {
		if pt.From >= e.Case.T0 && start < 0 {
			start = c
		}
		if pt.Low == pt.Low {
			for r := max(0, row(pt.High)); r <= min(plotRows-1, row(pt.Low)); r++ {
				put(r, c, g.control, p.faint)
			}
		}
	}
	for r := range plotRows {
		if start >= 0 {
			put(r, start, g.change, p.strong)
		}
	}
	for c, pt := range curve {
		if pt.Treated == pt.Treated {
			put(min(plotRows-1, max(0, row(pt.Treated))), c, g.treated, p.active)
		}
	}
	if last.Effect == last.Effect {
		end := len(curve) + 2
		lo, hi := plotRows-1, 0
		if !math.IsInf(last.Low, 0) {
			lo = min(plotRows-1, row(last.Low))
		}
		if !math.IsInf(last.High, 0) {
			hi = max(0, row(last.High))
		}
		for r := max(0, hi); r <= lo; r++ {
			put(r, end, g.interval, p.strong)
		}
		put(min(plotRows-1, max(0, row(last.Effect))), end, g.effect, p.strong)
	}
	var b strings.Builder
	labels := map[int]string{0: signedPercent(high), plotRows - 1: signedPercent(low)}
	labels[row(0)] = "0 %"
	labels[row(margin)] = signedPercent(margin)
	for r := range cells {
		b.WriteString(fmt.Sprintf("%*s ", plotLabel, labels[r]))
		var line strings.Builder
		for c, ch := range cells[r] {
			if how := paint[r][c]; how != nil {
				line.WriteString(how(string(ch)))
			} else {
				line.WriteRune(ch)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	if start >= 0 {
		b.WriteString(strings.Repeat(" ", plotLabel+1+start) + "change\n")
	}
	legend := fmt.Sprintf("%c treated  %c controls (8 of 10)  %c margin  %c effect and interval at the last look; relative to each host's before, as the controls moved", g.treated, g.control, g.margin, g.interval)
	b.WriteString(p.faint(strings.Join(wrap(legend, orWidth(a.width(), 80)), "\n")) + "\n")
	return b.String()
}

// plotRunes are the characters of a plot.
type plotRunes struct{ treated, control, zero, margin, change, interval, effect rune }

func plotGlyphs(g glyphs) plotRunes {
	if g.dot == "·" {
		return plotRunes{treated: '●', control: '░', zero: '─', margin: '╌', change: '│', interval: '┃', effect: '◆'}
	}
	return plotRunes{treated: 'o', control: ':', zero: '-', margin: '=', change: '|', interval: 'I', effect: '@'}
}

func quantileOf(v []float64, q float64) float64 {
	if len(v) == 0 {
		return 0
	}
	return sortedCopy(v)[int(math.Round(q*float64(len(v)-1)))]
}

func sortedCopy(v []float64) []float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v
}
