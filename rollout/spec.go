package rollout

import (
	"errors"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// Spec is what an operator asks for. Zero values mean the defaults, where a comment names one.
type Spec struct {
	Kernel fleet.KernelID `json:"kernel"`
	// Selector chooses the hosts, in the selector language of the CLI. Empty: all.
	Selector string `json:"selector,omitempty"`
	// Waves are shares of the selection in per cent: cumulative, rising, rounded up, canaries counted. The last is
	// 100. Empty means 1, 5, 25, 100.
	Waves []int `json:"waves,omitempty"`
	// Soak is how long a finished stage is watched before the next one begins. Zero means not at all; who asks for
	// nothing gets DefaultSoak. More than 30 days is taken for a typing error.
	Soak time.Duration `json:"soak_ns,omitempty"`
	// Canaries is how many hosts of each type try the kernel first, one after another. Zero means 1.
	Canaries int `json:"canaries,omitempty"`
	// ReturnWithin is how long a host may be gone after it was told to reboot. Zero means 15 min. Bare metal needs up
	// to ten minutes for its firmware alone.
	ReturnWithin time.Duration `json:"return_within_ns,omitempty"`
	// TrialDeadline is the dead-man's: from boot to local checks passed. Zero means 10 min.
	TrialDeadline time.Duration `json:"trial_deadline_ns,omitempty"`
	// LeaveOut are types that a person leaves out from the start.
	LeaveOut []fleet.HostTypeID `json:"leave_out,omitempty"`
	Note     string             `json:"note,omitempty"`
}

// maxWait is the longest time that a setting of a rollout can mean on purpose.
const maxWait = 30 * 24 * time.Hour

// DefaultSoak is the soak of a rollout whose operator did not ask for one.
const DefaultSoak = time.Hour

// WithDefaults fills in what was left empty.
func (s Spec) WithDefaults() Spec {
	if len(s.Waves) == 0 {
		s.Waves = []int{1, 5, 25, 100}
	}
	if s.Canaries == 0 {
		s.Canaries = 1
	}
	if s.ReturnWithin == 0 {
		s.ReturnWithin = 15 * time.Minute
	}
	if s.TrialDeadline == 0 {
		s.TrialDeadline = 10 * time.Minute
	}
	return s
}

// Validate reports every mistake at once. It expects defaults to be filled in.
func (s Spec) Validate() error {
	var errs []error
	if s.Kernel == "" {
		errs = append(errs, errors.New("kernel: must be named"))
	}
	last := 0
	for i, w := range s.Waves {
		if w <= last || w > 100 {
			errs = append(errs, fmt.Errorf("waves: %d %% at position %d; each must be larger than the one before and at most 100", w, i+1))
			break
		}
		last = w
	}
	if last > 0 && last <= 100 && s.Waves[len(s.Waves)-1] != 100 {
		errs = append(errs, fmt.Errorf("waves: the last is %d %%, it must be 100", s.Waves[len(s.Waves)-1]))
	}
	if s.Canaries < 1 || s.Canaries > 100 {
		errs = append(errs, fmt.Errorf("canaries: %d per type; allowed are 1 to 100", s.Canaries))
	}
	for _, d := range []struct {
		name   string
		v, min time.Duration
	}{
		{"soak", s.Soak, 0},
		{"return within", s.ReturnWithin, 30 * time.Second},
		{"trial deadline", s.TrialDeadline, 30 * time.Second},
	} {
		if d.v < d.min || d.v > maxWait {
			errs = append(errs, fmt.Errorf("%s: %s; allowed are %s to %s", d.name, d.v, d.min, maxWait))
		}
	}
	return errors.Join(errs...)
}
