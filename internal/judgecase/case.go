// Package judgecase reads comparisons of hosts as lines of JSON, and writes
// verdicts as such: the format of kernwave judge.
package judgecase

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
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
	Role         string  `json:"role,omitempty"`
}

// Host is one host of a case.
type Host struct {
	ID         string                `json:"id"`
	Arm        string                `json:"arm"`
	ChangedAt  *int64                `json:"changed_at"`
	RebootedAt *int64                `json:"rebooted_at,omitempty"`
	Series     map[string][]*float64 `json:"series"`
}

// Verdict is one line of the output.
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
	Why     string   `json:"why,omitempty"`
}

// Needs is what it would take to find the margin with a probability of 80 %; either is enough. Null: no amount would do.
type Needs struct {
	Hours *float64 `json:"hours"`
	Hosts *int     `json:"hosts"`
}

// LineError is what is wrong with one line.
type LineError struct {
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// Group is what is compared, without the samples.
func (c Case) Group() (judge.Group, error) {
	g := judge.Group{ID: c.ID, Step: time.Duration(c.StepS * float64(time.Second)), Start: time.Unix(c.Start, 0), T0: time.Unix(c.T0, 0)}
	var errs []error
	if c.Schema != Schema {
		errs = append(errs, fmt.Errorf("schema: %q; %q is read", c.Schema, Schema))
	}
	for i, s := range c.Signals {
		one := judge.Signal{Name: s.Name, Unit: s.Unit, Margin: s.MarginRel, Work: s.Role == "work"}
		switch s.BadDirection {
		case "increase":
		case "decrease":
			one.Bad = judge.Decrease
		default:
			errs = append(errs, fmt.Errorf("signals[%d].bad_direction: %q; allowed are increase and decrease", i, s.BadDirection))
		}
		g.Signals = append(g.Signals, one)
	}
	for i, h := range c.Hosts {
		one := judge.Host{ID: h.ID, Treated: h.Arm == "treated"}
		if h.Arm != "treated" && h.Arm != "control" {
			errs = append(errs, fmt.Errorf("hosts[%d].arm: %q; allowed are treated and control", i, h.Arm))
		}
		if h.ChangedAt != nil {
			one.Changed = time.Unix(*h.ChangedAt, 0)
		}
		if h.RebootedAt != nil {
			one.Rebooted = time.Unix(*h.RebootedAt, 0)
		}
		g.Hosts = append(g.Hosts, one)
	}
	return g, errors.Join(errs...)
}

// looked is one case that was looked at: what it showed at each look.
type looked struct {
	group judge.Group
	at    []int64
	looks []judge.Look
}

// follow plays one case to its end.
func follow(c Case) (looked, error) {
	g, err := c.Group()
	if err != nil {
		return looked{}, err
	}
	cmp, err := judge.New(g)
	if err != nil {
		return looked{}, err
	}
	l := looked{group: g, at: c.Looks}
	if !slices.IsSorted(c.Looks) {
		return looked{}, errors.New("looks: must ascend")
	}
	n := 0
	for i, h := range c.Hosts {
		for _, s := range c.Signals {
			if len(h.Series[s.Name]) > 0 && n == 0 {
				n = len(h.Series[s.Name])
			}
			if len(h.Series[s.Name]) != n {
				return looked{}, fmt.Errorf("hosts[%d] (%s).series.%s: %d samples, other series have %d", i, h.ID, s.Name, len(h.Series[s.Name]), n)
			}
		}
	}
	next := 0
	values := make([]float64, len(c.Hosts))
	for k := range n + 1 {
		at := float64(c.Start) + float64(k)*c.StepS
		for next < len(c.Looks) && (k == n || float64(c.Looks[next]) <= at) {
			l.looks = append(l.looks, cmp.Look(time.Unix(c.Looks[next], 0)))
			next++
		}
		if k == n || next == len(c.Looks) {
			break
		}
		for s, sig := range c.Signals {
			for i, h := range c.Hosts {
				values[i] = math.NaN()
				if v := h.Series[sig.Name][k]; v != nil {
					values[i] = *v
				}
			}
			if err := cmp.Observe(s, values); err != nil {
				return looked{}, fmt.Errorf("sample %d: %w", k, err)
			}
		}
	}
	return l, nil
}

// Judge reads cases from r and writes verdicts to w, in the order of the cases, their looks and their signals.
func Judge(r io.Reader, w io.Writer) error {
	in := json.NewDecoder(bufio.NewReaderSize(r, 1<<20))
	out := bufio.NewWriterSize(w, 1<<20)
	var rollout []looked
	name := ""
	flush := func() error {
		for _, v := range decide(rollout) {
			b, err := json.Marshal(v)
			if err != nil {
				return err
			}
			if _, err := out.Write(append(b, '\n')); err != nil {
				return err
			}
		}
		rollout = rollout[:0]
		return nil
	}
	for line := 1; ; line++ {
		var c Case
		err := in.Decode(&c)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return &LineError{line, err}
		}
		if c.Rollout != name {
			if err := flush(); err != nil {
				return err
			}
			name = c.Rollout
		}
		l, err := follow(c)
		if err != nil {
			return &LineError{line, fmt.Errorf("case %s: %w", c.ID, err)}
		}
		rollout = append(rollout, l)
	}
	if err := flush(); err != nil {
		return err
	}
	return out.Flush()
}

// decide puts the looks of a rollout's cases in the order of time.
func decide(rollout []looked) []Verdict {
	var groups []judge.Group
	var times []int64
	for _, l := range rollout {
		groups = append(groups, l.group)
		times = append(times, l.at...)
	}
	slices.Sort(times)
	times = slices.Compact(times)
	f := judge.NewFamily(groups)
	byGroup := make([][]Verdict, len(groups))
	index := map[string]int{}
	for i, g := range groups {
		index[g.ID] = i
	}
	for _, at := range times {
		looks := map[int]judge.Look{}
		for g, l := range rollout {
			if i, ok := slices.BinarySearch(l.at, at); ok {
				looks[g] = l.looks[i]
			}
		}
		for _, v := range f.Decide(time.Unix(at, 0), looks) {
			g := index[v.Group]
			byGroup[g] = append(byGroup[g], line(v))
		}
	}
	var out []Verdict
	for _, vs := range byGroup {
		out = append(out, vs...)
	}
	return out
}

func line(v judge.Verdict) Verdict {
	return Verdict{
		Case: v.Group, Signal: v.Signal, Look: v.Look.Unix(), Verdict: v.Outcome.String(), Effect: rounded(v.Effect),
		Low: rounded(v.Low), High: rounded(v.High), Level: v.Level, MDE: rounded(v.MDE), P: rounded(v.P), Why: v.Why,
	}
}

// rounded keeps 6 significant digits: the rest differs between processors. Nil: there is no such number.
func rounded(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	if x == 0 {
		return new(float64)
	}
	scale := math.Pow(10, 5-math.Floor(math.Log10(math.Abs(x))))
	y := math.Round(x*scale) / scale
	return &y
}
