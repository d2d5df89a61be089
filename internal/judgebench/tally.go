package judgebench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
)

// Tally counts: how often something held of how many times, and when things were found. Tallies of parts add up to
// that of the whole, in any order.
type Tally struct {
	Counts map[string]Count         `json:"counts"`
	Times  map[string]map[int]int64 `json:"times,omitempty"` // minutes, and how often; -1: never
	Values map[string][]float64     `json:"values,omitempty"`
}

// Count is K of N.
type Count struct{ K, N int64 }

// Rate is K/N.
func (c Count) Rate() float64 { return float64(c.K) / float64(c.N) }

// Upper is the one-sided 95 % bound of Clopper and Pearson.
func (c Count) Upper() float64 { return binomialUpper(c.K, c.N, 0.05) }

func newTally() *Tally {
	return &Tally{Counts: map[string]Count{}, Times: map[string]map[int]int64{}, Values: map[string][]float64{}}
}

// key joins parts of a key.
func key(parts ...any) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte('|')
		}
		fmt.Fprint(&b, p)
	}
	return b.String()
}

func (t *Tally) count(k string, held bool) {
	c := t.Counts[k]
	c.N++
	if held {
		c.K++
	}
	t.Counts[k] = c
}

func (t *Tally) time(k string, minutes int) {
	if t.Times[k] == nil {
		t.Times[k] = map[int]int64{}
	}
	t.Times[k][minutes]++
}

func (t *Tally) value(k string, v float64) {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		v = math.MaxFloat64
	}
	t.Values[k] = append(t.Values[k], v)
}

// Add adds another tally.
func (t *Tally) Add(o *Tally) {
	for k, c := range o.Counts {
		m := t.Counts[k]
		t.Counts[k] = Count{m.K + c.K, m.N + c.N}
	}
	for k, h := range o.Times {
		for m, n := range h {
			if t.Times[k] == nil {
				t.Times[k] = map[int]int64{}
			}
			t.Times[k][m] += n
		}
	}
	for k, v := range o.Values {
		t.Values[k] = append(t.Values[k], v...)
		slices.Sort(t.Values[k])
	}
}

// Write writes a tally, always the same for the same one.
func (t *Tally) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	return e.Encode(t)
}

// ReadTally reads what Write wrote.
func ReadTally(r io.Reader) (*Tally, error) {
	t := newTally()
	if err := json.NewDecoder(r).Decode(t); err != nil {
		return nil, fmt.Errorf("read tally: %w", err)
	}
	return t, nil
}

// median is that of values under k; infinite: most are.
func (t *Tally) median(k string) float64 {
	v := slices.Sorted(slices.Values(t.Values[k]))
	if len(v) == 0 {
		return math.NaN()
	}
	if m := v[len(v)/2]; m < math.MaxFloat64 {
		return m
	}
	return math.Inf(1)
}

// halfFound is the time by which half of the cells under k were found, in minutes; -1: not half were.
func (t *Tally) halfFound(k string) int {
	var all, sum int64
	for _, n := range t.Times[k] {
		all += n
	}
	for _, m := range slices.Sorted(maps.Keys(t.Times[k])) {
		if m < 0 {
			continue
		}
		if sum += t.Times[k][m]; 2*sum >= all {
			return m
		}
	}
	return -1
}

// foundBy is how many of the cells under k were found by a minute.
func (t *Tally) foundBy(k string, minute int) Count {
	var c Count
	for m, n := range t.Times[k] {
		c.N += n
		if m >= 0 && m <= minute {
			c.K += n
		}
	}
	return c
}

// binomialUpper is the p at which K or fewer of N happen with probability a.
func binomialUpper(k, n int64, a float64) float64 {
	if n == 0 || k >= n {
		return 1
	}
	lo, hi := float64(k)/float64(n), 1.0
	for range 60 {
		p := (lo + hi) / 2
		if binomialCDF(k, n, p) > a {
			lo = p
		} else {
			hi = p
		}
	}
	return hi
}

// binomialCDF is the probability of K or fewer of N.
func binomialCDF(k, n int64, p float64) float64 {
	if p <= 0 {
		return 1
	}
	sum := 0.0
	lg := func(x int64) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	for i := range k + 1 {
		sum += math.Exp(lg(n) - lg(i) - lg(n-i) + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return min(1, sum)
}
