package judge

import (
	"errors"
	"fmt"
	"math"
)

// Rare follows events that are counted, not measured: crashes, reboots nobody asked for, errors in the kernel's log,
// hosts that did not come back. It compares how often they happen per host-hour on treated hosts with a known rate, or
// with controls, and may be asked at any time and any number of times: the chance that it ever calls a regression where
// there is none is Alpha at most, exactly, however small the counts are.
//
// With a known rate, evidence is the likelihood ratio of Poisson processes, averaged over [rareRatios]. With controls,
// each event is on a treated host with a chance that only the exposures and the ratio of the rates decide, whatever
// the rate is and however it changes over time; evidence is the ratio of those chances, averaged alike. With both, the
// two are averaged.
//
// Source: R. Johari, L. Pekelis, D. Walsh, Always valid inference, arXiv:1512.04922, for mixtures; M. Lindon, A. Malek,
// Anytime-valid inference for multinomial count data, arXiv:2011.03567, for the conditional test.
type Rare struct {
	cfg     RareConfig
	treated Exposure
	control Exposure
	told    []told // additions with events, for the conditional test
	// largest evidence so far, in logarithms
	evidence float64
}

// Exposure is hosts watched for some time, and what happened to them.
type Exposure struct {
	Events    int
	HostHours float64
}

// RareConfig is what is to be found.
type RareConfig struct {
	// Base is the known rate of events per host-hour on the old kernel. Zero: it is not known, so controls decide.
	Base float64
	// Alpha is the chance of a false regression, over all looks. Zero means 0.001.
	Alpha float64
	// Margin is the largest harmless ratio of the rates: a pass excludes larger ones. Zero means 3.
	Margin float64
}

// RareVerdict is what is known about the ratio of the rate on treated hosts to that on others.
type RareVerdict struct {
	Outcome Outcome
	// Ratio is the estimate, with bounds that are right at all looks together with probability 0.95. NaN: none;
	// infinite: unbounded.
	Ratio, Low, High float64
	// P is valid at all looks together.
	P float64
	// MDR is the smallest ratio that would have been called a regression by now with a probability of 80 %. Infinite:
	// none would; that is so too where the rate is not known and no event was seen.
	MDR float64
	Why string
}

// told is an addition with events: how many on treated hosts, and the share of treated hosts in the exposure.
type told struct {
	treated, control float64
	share            float64
}

// rareRatios are the ratios that evidence is averaged over, and rareWeight the weight of each.
var rareRatios = [...]float64{1.5, 2, 3, 5, 10, 20, 50, 150, 1000}

const rareWeight = 1 / float64(len(rareRatios))

// NewRare begins to follow events.
func NewRare(cfg RareConfig) (*Rare, error) {
	if cfg.Alpha == 0 {
		cfg.Alpha = 0.001
	}
	if cfg.Margin == 0 {
		cfg.Margin = 3
	}
	var errs []error
	if !(cfg.Base >= 0) || math.IsInf(cfg.Base, 0) {
		errs = append(errs, fmt.Errorf("base: %v events per host-hour; it must be 0 (not known) or more", cfg.Base))
	}
	if !(cfg.Alpha > 0 && cfg.Alpha < 0.5) {
		errs = append(errs, fmt.Errorf("alpha: %v; it must be above 0 and below 0.5", cfg.Alpha))
	}
	if !(cfg.Margin > 1) || math.IsInf(cfg.Margin, 0) {
		errs = append(errs, fmt.Errorf("margin: %v; a harmless ratio must be above 1", cfg.Margin))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &Rare{cfg: cfg}, nil
}

// Add tells what happened since the last call. Add often: the shares of the exposure are those of one call. Controls
// without host-hours are none.
func (r *Rare) Add(treated, control Exposure) error {
	for _, e := range []Exposure{treated, control} {
		if e.Events < 0 || !(e.HostHours >= 0) || math.IsInf(e.HostHours, 0) {
			return fmt.Errorf("%d events in %v host-hours: neither may be negative", e.Events, e.HostHours)
		}
		if e.Events > 0 && e.HostHours == 0 {
			return fmt.Errorf("%d events in no time: host-hours are missing", e.Events)
		}
	}
	r.treated.Events += treated.Events
	r.treated.HostHours += treated.HostHours
	r.control.Events += control.Events
	r.control.HostHours += control.HostHours
	if n := treated.Events + control.Events; n > 0 && treated.HostHours > 0 && control.HostHours > 0 {
		share := treated.HostHours / (treated.HostHours + control.HostHours)
		if last := len(r.told) - 1; last >= 0 && r.told[last].share == share {
			r.told[last].treated += float64(treated.Events)
			r.told[last].control += float64(control.Events)
		} else {
			r.told = append(r.told, told{float64(treated.Events), float64(control.Events), share})
		}
	}
	r.evidence = max(r.evidence, r.weigh(1, rareRatios[:]))
	return nil
}

// weigh is the logarithm of the evidence that the ratio is greater (by any of the steps) than ratio.
func (r *Rare) weigh(ratio float64, steps []float64) float64 {
	var ways []float64
	if r.cfg.Base > 0 {
		ways = append(ways, r.averaged(steps, func(step float64) float64 {
			return r.known(ratio, step)
		}))
	}
	if len(r.told) > 0 || r.cfg.Base == 0 {
		ways = append(ways, r.averaged(steps, func(step float64) float64 {
			return r.conditional(ratio, step)
		}))
	}
	return logMeanExp(ways)
}

func (r *Rare) averaged(steps []float64, of func(step float64) float64) float64 {
	ls := make([]float64, len(steps))
	for i, s := range steps {
		ls[i] = of(s)
	}
	return logMeanExp(ls)
}

// known is the logarithm of the likelihood of the treated hosts' events at step times the ratio, against the ratio.
func (r *Rare) known(ratio, step float64) float64 {
	expected := float64(r.cfg.Base*r.treated.HostHours) * ratio
	return float64(float64(r.treated.Events)*ln(step)) - float64((step-1)*expected)
}

// conditional is the same of how the events fell on treated hosts and controls.
func (r *Rare) conditional(ratio, step float64) float64 {
	sum := 0.0
	for _, t := range r.told {
		before := float64(ratio*t.share) + 1 - t.share
		after := float64(float64(step*ratio)*t.share) + 1 - t.share
		l := ln(before / after)
		sum += float64(t.treated*(ln(step)+l)) + float64(t.control*l)
	}
	return sum
}

func logMeanExp(ls []float64) float64 {
	top := math.Inf(-1)
	for _, l := range ls {
		top = max(top, l)
	}
	if math.IsInf(top, -1) {
		return top
	}
	sum := 0.0
	for _, l := range ls {
		sum += exp(l - top)
	}
	return top + ln(sum/float64(len(ls)))
}

// Verdict says what is known now.
func (r *Rare) Verdict() RareVerdict {
	v := RareVerdict{Ratio: nan, Low: 0, High: math.Inf(1), P: min(1, exp(-r.evidence)), MDR: r.detectable()}
	rate := r.cfg.Base
	if rate == 0 && r.control.HostHours > 0 {
		rate = float64(r.control.Events) / r.control.HostHours
	}
	if rate > 0 && r.treated.HostHours > 0 {
		v.Ratio = float64(r.treated.Events) / (rate * r.treated.HostHours)
	}
	v.Low, v.High = r.bounds()
	seen := fmt.Sprintf("%d in %.4g host-hours on treated hosts", r.treated.Events, r.treated.HostHours)
	if r.control.HostHours > 0 {
		seen += fmt.Sprintf(", %d in %.4g on controls", r.control.Events, r.control.HostHours)
	}
	if r.cfg.Base > 0 {
		seen += fmt.Sprintf(", where %.3g were expected", r.cfg.Base*r.treated.HostHours)
	}
	switch {
	case r.evidence >= -ln(r.cfg.Alpha):
		v.Outcome = Regression
		v.Why = fmt.Sprintf("regression: %s; by chance alone that happens with p = %.2g, over all looks", seen, v.P)
	case v.High <= r.cfg.Margin:
		v.Outcome = Pass
		v.Why = fmt.Sprintf("pass: %s; more than %.3g times as many are excluded (the margin is %.3g)", seen, v.High, r.cfg.Margin)
	case math.IsInf(v.MDR, 1):
		v.Why = fmt.Sprintf("inconclusive: %s; that is too little to tell any ratio", seen)
	default:
		v.Why = fmt.Sprintf("inconclusive: %s; a rate %.3g times as high would have been found by now, a lower one may not", seen, v.MDR)
	}
	return v
}

// downSteps and upSteps are how far beyond a bound the truth is imagined.
var (
	upSteps   = [...]float64{1.2, 1.5, 2, 3, 5, 10, 50}
	downSteps = [...]float64{1 / 1.2, 1 / 1.5, 0.5, 1.0 / 3, 0.2, 0.1, 0.02}
)

// bounds are ratios that are excluded at 2.5 % each side.
func (r *Rare) bounds() (low, high float64) {
	const most, tooMuch = 1e9, 3.6888794541139363 // ln 40
	// Evidence against a ratio falls with the ratio when the truth is above it, and rises when it is below.
	low, high = 0, math.Inf(1)
	search := func(excluded func(ratio float64) bool, below, above float64) (last float64) {
		a, b := ln(below), ln(above)
		for range 60 {
			m := (a + b) / 2
			if excluded(exp(m)) {
				a = m
			} else {
				b = m
			}
		}
		return exp(a)
	}
	if up := func(x float64) bool { return r.weigh(x, upSteps[:]) >= tooMuch }; up(1 / most) {
		low = search(up, 1/most, most)
	}
	if down := func(x float64) bool { return r.weigh(x, downSteps[:]) >= tooMuch }; down(most) {
		high = search(down, most, 1/most)
	}
	return low, high
}

// detectable is the smallest ratio that the exposure would have shown with a probability of 80 %.
func (r *Rare) detectable() float64 {
	base := r.cfg.Base
	if base == 0 && r.control.HostHours > 0 {
		base = float64(r.control.Events) / r.control.HostHours
	}
	expected := base * r.treated.HostHours
	if !(expected > 0) {
		return math.Inf(1)
	}
	for ratio := 1.1; ratio < 1e5; ratio = float64(ratio * 1.05) {
		// The number that is reached with 80 %.
		mean := float64(expected * ratio)
		k := poissonQuantile(mean, 0.2)
		if k == 0 {
			continue
		}
		imagined := Rare{cfg: r.cfg, treated: Exposure{k, r.treated.HostHours}, control: r.control}
		if share := r.treated.HostHours / (r.treated.HostHours + r.control.HostHours); r.cfg.Base == 0 || r.control.HostHours > 0 {
			imagined.told = []told{{float64(k), float64(r.control.Events), share}}
		}
		if imagined.weigh(1, rareRatios[:]) >= -ln(r.cfg.Alpha) {
			return ratio
		}
	}
	return math.Inf(1)
}

// poissonQuantile is the largest k that is reached with a probability of at least 1-p.
func poissonQuantile(mean, p float64) int {
	if mean > 1e4 {
		return int(mean - float64(0.84*math.Sqrt(mean)))
	}
	term := -mean // logarithm of the probability of k
	below := 0.0
	for k := 0; ; k++ {
		below += exp(term)
		if below > p {
			return k
		}
		term += ln(mean / float64(k+1))
	}
}

// HostHours is the information bound: the least exposure after which a test with a false alarm rate of alpha, of a known
// base rate per host-hour, can find on average that the rate is ratio times as high. No test needs less.
//
// Source: A. Wald, Sequential tests of statistical hypotheses, Ann. Math. Statist. 16 (1945), 117–186.
func HostHours(base, ratio, alpha float64) float64 {
	if !(base > 0) || !(ratio > 1) || !(alpha > 0 && alpha < 1) {
		return math.Inf(1)
	}
	return -ln(alpha) / (base * (float64(ratio*ln(ratio)) - ratio + 1))
}
