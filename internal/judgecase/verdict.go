package judgecase

import (
	"math"
	"strconv"

	"github.com/kernwave/kernwave/judge"
)

// Verdict is one line of the output. A number that is null is unbounded, or there is none.
type Verdict struct {
	Case    string   `json:"case"`
	Signal  string   `json:"signal"`
	Look    int64    `json:"look"`
	Verdict string   `json:"verdict"`
	Effect  *float64 `json:"effect_rel"`
	Low     *float64 `json:"ci_low"`
	High    *float64 `json:"ci_high"`
	Level   float64  `json:"ci_level"`
	MDE     *float64 `json:"mde_rel"`
	P       *float64 `json:"p_value"`
	Needs   *Needs   `json:"needs,omitempty"`
	Placebo *Placebo `json:"placebo,omitempty"`
	Why     string   `json:"why,omitempty"`
}

// Needs is what it would take to find the margin with a probability of 80 %; either is enough. Null: no amount would do.
type Needs struct {
	Hours *float64 `json:"hours"`
	Hosts *int     `json:"hosts"`
}

// Placebo counts replays of changes that did not happen, of this signal over all types of the rollout, and how many of
// them alarmed at a level of 0.05.
type Placebo struct {
	Alarms  int `json:"alarms"`
	Replays int `json:"replays"`
}

// Line is a verdict as it is written.
func Line(v judge.Verdict) Verdict {
	out := Verdict{
		Case: v.Group, Signal: v.Signal, Look: v.Look.Unix(), Verdict: v.Outcome.String(), Effect: Rounded(v.Effect),
		Low: Rounded(v.Low), High: Rounded(v.High), Level: v.Level, MDE: Rounded(v.MDE), P: Rounded(v.P), Why: v.Why,
	}
	if v.Placebo.Replays > 0 {
		out.Placebo = &Placebo{v.Placebo.Alarms, v.Placebo.Replays}
	}
	if v.Needs != (judge.Needs{}) {
		out.Needs = &Needs{}
		if v.Needs.Hours > 0 {
			out.Needs.Hours = Rounded(v.Needs.Hours)
		}
		if v.Needs.Hosts > 0 {
			out.Needs.Hosts = &v.Needs.Hosts
		}
	}
	return out
}

// significant is how many digits are written: the rest may differ between processors, and means nothing.
const significant = 6

// Rounded keeps the significant digits. Nil: there is no such number.
func Rounded(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'e', significant-1, 64), 64)
	if err != nil {
		return nil
	}
	if y == 0 {
		y = 0 // never -0
	}
	return &y
}
