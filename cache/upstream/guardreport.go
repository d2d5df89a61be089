package upstream

import (
	"slices"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// GuardReport is what the guards did.
type GuardReport struct {
	Cuts     int           // times the duty cycle was halved
	Opens    int           // times the breaker opened
	Why      string        // the last reason for either
	Duty     float64       // now
	Base     time.Duration // 94th percentile of the canary's pings before the work
	Ratio    float64       // worst window: 94th percentile of the pings against Base
	Throttle time.Duration // time spent waiting
}

// ErrGuard is wrapped by the error of a job that the guards ended.
type ErrGuard struct{ Why string }

func (e *ErrGuard) Error() string { return "guard: " + e.Why }

// quantile is a percentile. The 94th is the tail that a customer notices, steadier than p99 in a window of a few dozen.
func quantile(d []time.Duration, percent int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[min(len(s)-1, len(s)*percent/100)]
}

// Add merges what the guards of several nodes did.
func (r *GuardReport) Add(o GuardReport) {
	r.Cuts += o.Cuts
	r.Opens += o.Opens
	if o.Why != "" {
		r.Why = o.Why
	}
	r.Base, r.Ratio, r.Throttle = max(r.Base, o.Base), max(r.Ratio, o.Ratio), r.Throttle+o.Throttle
}

// Value is the report as replies carry it.
func (r GuardReport) Value() cache.Value {
	v := cache.Dict("cuts", cache.Number(r.Cuts), "breaker_opened", cache.Number(r.Opens),
		"canary_before_us", cache.Number(r.Base.Microseconds()), "canary_worst_ratio", cache.Real(float64(int(r.Ratio*100))/100),
		"throttled_ms", cache.Number(r.Throttle.Milliseconds()))
	if r.Why != "" {
		v.Add("why", cache.String(r.Why))
	}
	return v
}
