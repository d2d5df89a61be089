// Package judgebench measures judges: it makes rollouts with a known truth,
// plays them to the project's judge and to rivals, and counts who was right.
//
// A rollout is a pure function of a [Spec], a seed and a number. Its noise is that of real fleets as far as the figures
// of a reference method go that were measured on them: [Spec] says what is imitated, `judgebench fit` compares. Nothing
// here reads series from elsewhere, so that a fresh clone can repeat every figure:
//
//	make bench-judge
//	go run ./internal/judgebench/cmd/judgebench cases --seed 1 --cases cases.ndjson.gz --labels labels.ndjson
//
// The judges see what the command kernwave judge would see, sample by sample.
package judgebench

import "time"

// Spec is what rollouts are made of. The zero value of a field means what [Spec.withDefaults] puts there.
type Spec struct {
	Types    int                // host types per rollout
	Signals  []string           // of the names of Profiles; nil: all
	Treated  []int              // how many treated hosts a type may have: one is drawn per type
	Controls []int              // the same for controls
	StepS    int                // seconds between samples
	Before   time.Duration      // how much there is before t0
	After    time.Duration      // and from t0 on
	Looks    []time.Duration    // after t0; nil: a look a minute
	Plan     Plan               // what was changed where
	Reboots  bool               // controls were rebooted as well, into their old kernel
	Margins  map[string]float64 // of signals, where they are not those of the profiles
	Uneasy   bool               // how noisy a host is comes and goes within hours, see uneasyBy; if not, it stays
	Work     bool               // every type has a signal of the work that its hosts carry
}

// Plan says which cells of a rollout are not as they were.
type Plan struct {
	Effects []Effect
	// Share is the probability of a cell to have one of Effects, drawn at random. Of 1, all have.
	Share float64
	// One puts an effect on one signal per type only, on another one in the next type; Share is then of types.
	One bool
}

// Effect is one thing that happens to one cell.
type Effect struct {
	Kind Kind
	Size float64
}

// Kind is what was done to a cell.
type Kind string

// Kinds of the format of the cases: the first five change what treated hosts do, the others must not be called
// regressions, and those after [Lost] must not even be called a pass.
const (
	None     Kind = "none"
	Level    Kind = "level"    // Size 0.1: by 10 % in the bad direction
	Tail     Kind = "tail"     // p99 up by Size, p50 as it was
	Leak     Kind = "leak"     // up by Size per hour, linearly
	Variance Kind = "variance" // deviations of samples are 1+Size times as large

	Warmup         Kind = "warmup"          // Size more after a reboot, fading within minutes
	Surge          Kind = "surge"           // Size times the load, on all hosts, from t0 on for 105 minutes
	OutlierControl Kind = "outlier_control" // one control is Size times as noisy
	OutlierTreated Kind = "outlier_treated" // one treated host is, and was before
	Missing        Kind = "missing"         // one treated host falls silent after a while

	Lost Kind = "lost" // no treated host is heard of after its reboot
	Idle Kind = "idle" // treated hosts carry Size of their work only
)

// Regression says whether a cell of this kind is a change for the worse.
func (k Kind) Regression() bool { return k == Level || k == Tail || k == Leak || k == Variance }

func (s Spec) withDefaults() Spec {
	if s.Types == 0 {
		s.Types = 12
	}
	if s.Signals == nil {
		for _, p := range Profiles {
			s.Signals = append(s.Signals, p.Name)
		}
	}
	if s.Treated == nil {
		s.Treated = []int{2, 3, 5}
	}
	if s.Controls == nil {
		s.Controls = []int{20, 50}
	}
	if s.StepS == 0 {
		s.StepS = 60
	}
	if s.Before == 0 {
		s.Before = 4 * time.Hour
	}
	if s.After == 0 {
		s.After = 4 * time.Hour
	}
	if s.Looks == nil {
		s.Looks = Every(time.Minute, s.After)
	}
	return s
}

// Every is a look each d until end.
func Every(d, end time.Duration) []time.Duration {
	var out []time.Duration
	for at := d; at <= end; at += d {
		out = append(out, at)
	}
	return out
}

// Type is one host type of a rollout, with its samples.
type Type struct {
	ID, Rollout string
	StepS       int
	Start, T0   int64 // unix seconds
	End         int64
	Looks       []int64
	Treated     int     // the first so many hosts are treated
	Changed     []int64 // when each host was rebooted into the new kernel; 0: it was not
	Rebooted    []int64 // when a control was rebooted into the old one; 0: it was not
	Cells       []Cell
	// Work, by step and host, is the work that hosts carry; nil: it is not measured.
	Work []float64
}

// Hosts is how many there are.
func (t *Type) Hosts() int { return len(t.Changed) }

// Steps is how many samples each series has.
func (t *Type) Steps() int { return int(t.End-t.Start) / t.StepS }

// Cell is one signal of a type.
type Cell struct {
	Label
	// X has the sample of step k and host i at k*Hosts+i; NaN is a missing one.
	X []float64
}

// Label is the truth about a cell, as a line of a file of labels.
type Label struct {
	Case       string  `json:"case"`
	Rollout    string  `json:"rollout"`
	Signal     string  `json:"signal"`
	Regression bool    `json:"regression"`
	Kind       Kind    `json:"kind"`
	Size       float64 `json:"size"`
	TrueRel    float64 `json:"true_rel"` // mean relative change over the after
	Treated    int     `json:"n_treated"`
	Controls   int     `json:"n_control"`
	MarginRel  float64 `json:"margin_rel"`
	Bad        string  `json:"bad_direction"`
	PostS      int64   `json:"post_s"`
	StepS      int     `json:"step_s"`
}

// Sign is the direction that is bad: 1 for an increase.
func (l Label) Sign() float64 {
	if l.Bad == "decrease" {
		return -1
	}
	return 1
}
