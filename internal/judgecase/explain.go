package judgecase

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/judge"
)

// Explanation is how the verdicts on one signal of one case come about.
type Explanation struct {
	Case     Case
	Signal   int // in Case.Signals
	Verdicts []judge.Verdict
	Working  judge.Working // at the last look
	Family   int           // signals that its rollout judges together
}

// ErrNotThere is returned by [Explain] when the cases do not hold what was asked for.
var ErrNotThere = errors.New("not there")

// Explain judges the rollout of a case, and shows how the verdicts on one of its signals come about.
func Explain(r io.Reader, id, signal string) (Explanation, error) {
	in, err := NewReader(r)
	if err != nil {
		return Explanation{}, err
	}
	var (
		rollout []looked
		name    string
		found   = -1
		out     Explanation
		ids     []string
		bad     error
	)
	for {
		c, line, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if wrong, ok := errors.AsType[*LineError](err); ok {
			bad = errors.Join(bad, wrong)
			continue
		}
		if err != nil {
			return Explanation{}, err
		}
		if c.Rollout != name {
			if found >= 0 {
				break
			}
			rollout, name = rollout[:0], c.Rollout
		}
		ids = append(ids, c.ID)
		if c.ID == id {
			out.Signal = slices.IndexFunc(c.Signals, func(s Signal) bool { return s.Name == signal })
			if out.Signal < 0 || c.Signals[out.Signal].Role == "work" {
				return Explanation{}, fmt.Errorf("signal %s of case %s: %w; its signals are %s", signal, id, ErrNotThere, signalNames(c))
			}
		}
		l, working, err := followTo(c, out.Signal, c.ID == id)
		if err != nil {
			err = &LineError{line, fmt.Errorf("case %s: %w", c.ID, err)}
			if c.ID == id {
				return Explanation{}, err
			}
			bad = errors.Join(bad, err)
			continue
		}
		if c.ID == id {
			found, out.Case, out.Working = len(rollout), c, working
		}
		rollout = append(rollout, l)
	}
	if found < 0 {
		list := strings.Join(ids[:min(len(ids), 6)], ", ")
		if len(ids) > 6 {
			list += fmt.Sprintf(" and %d more", len(ids)-6)
		}
		if len(ids) == 0 {
			list = "none"
		}
		return Explanation{}, errors.Join(fmt.Errorf("case %s: %w; the cases are %s", id, ErrNotThere, list), bad)
	}
	for _, v := range decide(rollout)[found] {
		if v.Signal == signal {
			out.Verdicts = append(out.Verdicts, v)
		}
	}
	for _, l := range rollout {
		for _, s := range l.group.Signals {
			if !s.Work {
				out.Family++
			}
		}
	}
	return out, nil
}

func signalNames(c Case) string {
	var names []string
	for _, s := range c.Signals {
		if s.Role != "work" {
			names = append(names, s.Name)
		}
	}
	return strings.Join(names, ", ")
}

// followTo is follow, with the working of one signal at the last look where it is wanted.
func followTo(c Case, signal int, wanted bool) (l looked, w judge.Working, err error) {
	g, err := c.Group()
	if err != nil {
		return looked{}, w, err
	}
	cmp, err := judge.New(g)
	if err != nil {
		return looked{}, w, err
	}
	l = looked{group: g, at: c.Looks}
	if wanted && len(c.Looks) == 0 {
		return looked{}, w, errors.New("looks: there is none, so there is no verdict to explain")
	}
	err = c.Play(cmp, func(at int64) bool {
		l.looks = append(l.looks, cmp.Look(time.Unix(at, 0).UTC()))
		if wanted && len(l.looks) == len(c.Looks) {
			w = cmp.Working(signal, time.Unix(at, 0).UTC())
		}
		return true
	})
	return l, w, err
}

// Point is a stretch of time of a [Curve]. Values are relative changes against each host's own before and the common
// movement of the controls; NaN: nothing was seen.
type Point struct {
	From    int64   // unix time at which it begins
	Treated float64 // mean of the treated hosts
	Low     float64 // a tenth of the controls are below
	Middle  float64 // of the controls
	High    float64 // a tenth of the controls are above
}

// Curve draws a signal over the time of a case, in so many points.
func (c Case) Curve(signal, points int) []Point {
	n, err := c.length()
	if err != nil || n == 0 || points < 1 {
		return nil
	}
	points = min(points, n)
	name := c.Signals[signal].Name
	split := int(math.Ceil(float64(c.T0-c.Start) / c.StepS))
	split = max(0, min(n, split))
	type host struct {
		x       Samples
		level   float64
		treated bool
	}
	var hosts []host
	for _, h := range c.Hosts {
		x := h.Series[name]
		var sum, m float64
		for _, v := range x[:min(split, len(x))] {
			if v == v {
				sum += v
				m++
			}
		}
		if m > 0 && sum > 0 {
			hosts = append(hosts, host{x, sum / m, h.Arm == "treated"})
		}
	}
	common := make([]float64, n)
	var u []float64
	for k := range n {
		u = u[:0]
		for _, h := range hosts {
			if !h.treated && h.x[k] == h.x[k] {
				u = append(u, h.x[k]/h.level)
			}
		}
		slices.Sort(u)
		cut, s := len(u)/10, 0.0
		for _, v := range u[cut : len(u)-cut] {
			s += v
		}
		common[k] = s / float64(len(u)-2*cut)
	}
	out := make([]Point, points)
	for p := range out {
		from, to := p*n/points, (p+1)*n/points
		var controls []float64
		treated, arms := 0.0, 0.0
		for _, h := range hosts {
			var x, m float64
			for k := from; k < to; k++ {
				if h.x[k] == h.x[k] && common[k] == common[k] {
					x += h.x[k]
					m += common[k]
				}
			}
			if !(m > 0) {
				continue
			}
			change := x/(m*h.level) - 1
			if h.treated {
				treated += change
				arms++
			} else {
				controls = append(controls, change)
			}
		}
		slices.Sort(controls)
		at := func(q float64) float64 {
			if len(controls) == 0 {
				return math.NaN()
			}
			return controls[int(math.Round(q*float64(len(controls)-1)))]
		}
		out[p] = Point{c.Start + int64(float64(from)*c.StepS), treated / arms, at(0.1), at(0.5), at(0.9)}
	}
	return out
}
