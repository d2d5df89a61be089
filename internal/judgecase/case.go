// Package judgecase reads comparisons of hosts as lines of JSON, and writes
// verdicts as such: the format of kernwave judge.
package judgecase

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/kernwave/kernwave/judge"
)

// Schema is the version of the format of a case.
const Schema = "kernwave.judge.case/v1"

// Case is one line: hosts of one type, and the times at which verdicts are wanted.
type Case struct {
	Schema   string   `json:"schema"`
	ID       string   `json:"id"`
	Rollout  string   `json:"rollout"`
	HostType string   `json:"host_type"`
	StepS    float64  `json:"step_s"`
	Start    int64    `json:"start"`
	T0       int64    `json:"t0"`
	End      int64    `json:"end"`
	Looks    []int64  `json:"looks"`
	Signals  []Signal `json:"signals"`
	Hosts    []Host   `json:"hosts"`
}

// Signal is a series of a case.
type Signal struct {
	Name         string  `json:"name"`
	Unit         string  `json:"unit"`
	BadDirection string  `json:"bad_direction"`
	MarginRel    float64 `json:"margin_rel"`
	Role         string  `json:"role,omitempty"` // "work": the load that a host carries; else empty
}

// Host is one host of a case.
type Host struct {
	ID         string             `json:"id"`
	Arm        string             `json:"arm"`
	ChangedAt  *int64             `json:"changed_at"`
	RebootedAt *int64             `json:"rebooted_at,omitempty"`
	Series     map[string]Samples `json:"series"`
}

// Samples are the values of a series; NaN is a missing one, and null in JSON.
type Samples []float64

// UnmarshalJSON reads an array of numbers and nulls.
func (s *Samples) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '[' {
		if string(b) == "null" {
			*s = nil
			return nil
		}
		return fmt.Errorf("a series is an array of numbers and nulls, not %.20s", b)
	}
	commas := 0
	for _, c := range b {
		if c == ',' {
			commas++
		}
	}
	out := make([]float64, 0, commas+1)
	for i := 1; i < len(b); {
		for i < len(b) && (b[i] == ' ' || b[i] == ',' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
			i++
		}
		if i >= len(b) || b[i] == ']' {
			break
		}
		end := i
		for end < len(b) && b[end] != ',' && b[end] != ']' && b[end] > ' ' {
			end++
		}
		if word := b[i:end]; string(word) == "null" {
			out = append(out, math.NaN())
		} else {
			v, err := strconv.ParseFloat(string(word), 64)
			if err != nil || word[0] != '-' && (word[0] < '0' || word[0] > '9') {
				return fmt.Errorf("sample %d of a series is %.40s: it must be a number or null", len(out), word)
			}
			out = append(out, v)
		}
		i = end
	}
	*s = out
	return nil
}

// MarshalJSON writes NaN as null.
func (s Samples) MarshalJSON() ([]byte, error) {
	b := make([]byte, 1, 2+8*len(s))
	b[0] = '['
	for i, v := range s {
		if i > 0 {
			b = append(b, ',')
		}
		switch {
		case v != v:
			b = append(b, "null"...)
		case math.IsInf(v, 0):
			return nil, fmt.Errorf("sample %d is infinite", i)
		default:
			b = strconv.AppendFloat(b, v, 'g', -1, 64)
		}
	}
	return append(b, ']'), nil
}

// Group is what is compared, without the samples. The error names every mistake.
func (c Case) Group() (judge.Group, error) {
	g := judge.Group{ID: c.ID, Start: time.Unix(c.Start, 0).UTC(), T0: time.Unix(c.T0, 0).UTC()}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Schema != Schema {
		bad("schema: %q; %q is read", c.Schema, Schema)
	}
	if c.ID == "" {
		bad("id: it is missing")
	}
	if c.StepS >= 1 && c.StepS <= 3600 {
		g.Step = time.Duration(math.Round(c.StepS * float64(time.Second)))
	} else {
		bad("step_s: %v; allowed are 1 to 3600", c.StepS)
	}
	for i := 1; i < len(c.Looks); i++ {
		if c.Looks[i] <= c.Looks[i-1] {
			bad("looks[%d]: %d after %d; they must ascend", i, c.Looks[i], c.Looks[i-1])
			break
		}
	}
	for i, s := range c.Signals {
		one := judge.Signal{Name: s.Name, Unit: s.Unit, Margin: s.MarginRel, Work: s.Role == "work"}
		switch s.BadDirection {
		case "increase":
		case "decrease":
			one.Bad = judge.Decrease
		default:
			if !one.Work {
				bad("signals[%d].bad_direction: %q; allowed are increase and decrease", i, s.BadDirection)
			}
		}
		g.Signals = append(g.Signals, one)
	}
	for i, h := range c.Hosts {
		one := judge.Host{ID: h.ID, Treated: h.Arm == "treated"}
		if h.Arm != "treated" && h.Arm != "control" {
			bad("hosts[%d].arm: %q; allowed are treated and control", i, h.Arm)
		}
		if h.ChangedAt != nil && one.Treated {
			one.Changed = time.Unix(*h.ChangedAt, 0).UTC()
		}
		if h.RebootedAt != nil && !one.Treated {
			one.Rebooted = time.Unix(*h.RebootedAt, 0).UTC()
		}
		g.Hosts = append(g.Hosts, one)
	}
	return g, errors.Join(errs...)
}

// length is how many samples every series has. A host may lack a signal: then it was never seen.
func (c Case) length() (int, error) {
	n, of := -1, ""
	for i, h := range c.Hosts {
		for _, s := range c.Signals {
			series, ok := h.Series[s.Name]
			switch {
			case !ok:
			case n < 0:
				n, of = len(series), fmt.Sprintf("hosts[%d] (%s).series.%s", i, h.ID, s.Name)
			case len(series) != n:
				return 0, fmt.Errorf("hosts[%d] (%s).series.%s: %d samples, but %s has %d", i, h.ID, s.Name, len(series), of, n)
			}
		}
	}
	return max(n, 0), nil
}

// Play shows the samples of a case to a comparison of its group, and calls look at each of its looks, in order, when
// the samples before it have been seen. It returns early when look returns false.
func (c Case) Play(cmp *judge.Comparison, look func(at int64) bool) error {
	n, err := c.length()
	if err != nil {
		return err
	}
	return c.play(n, cmp, look)
}

// observer is shown samples.
type observer interface {
	Observe(signal int, values []float64) error
}

func (c Case) play(n int, to observer, look func(at int64) bool) error {
	columns := make([][]Samples, len(c.Signals))
	for s, sig := range c.Signals {
		columns[s] = make([]Samples, len(c.Hosts))
		for i, h := range c.Hosts {
			columns[s][i] = h.Series[sig.Name]
		}
	}
	values := make([]float64, len(c.Hosts))
	next := 0
	for k := range n {
		at := float64(c.Start) + float64(float64(k)*c.StepS)
		for next < len(c.Looks) && float64(c.Looks[next]) <= at {
			if !look(c.Looks[next]) {
				return nil
			}
			next++
		}
		if next == len(c.Looks) && next > 0 {
			return nil
		}
		for s := range c.Signals {
			for i, series := range columns[s] {
				values[i] = math.NaN()
				if series != nil {
					values[i] = series[k]
				}
			}
			if err := to.Observe(s, values); err != nil {
				return fmt.Errorf("sample %d: %w", k, err)
			}
		}
	}
	for ; next < len(c.Looks); next++ {
		if !look(c.Looks[next]) {
			return nil
		}
	}
	return nil
}
