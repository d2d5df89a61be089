package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// defaultTrialDeadline is the dead-man's where the control plane names none.
const defaultTrialDeadline = 10 * time.Minute

// maxGrantLife cuts a grant. A control plane renews a grant every few seconds; one that gives hours is broken, and
// the host would drain on the word of somebody who is gone.
const maxGrantLife = 15 * time.Minute

// Config is what an operator, or a test, decides about an agent. Zero durations mean the default.
type Config struct {
	// Host is the name that the certificate speaks for.
	Host fleet.HostID
	// StateDir holds the journals and what the agent remembers: /var/lib/kernwave.
	StateDir string
	// Labels are sent with the facts.
	Labels fleet.Labels
	// Version of the agent.
	Version string

	// CheckInEvery is the time between check-ins until the control plane says otherwise. Default 30 s.
	// Below 1 s a fleet of 10,000 hosts would send 10,000 requests a second.
	CheckInEvery time.Duration
	// CheckInWithin bounds one check-in, and every look at the machine that it needs. Default 20 s.
	CheckInWithin time.Duration
	// BackoffMax bounds the wait after failed check-ins, BackoffMaxInOperation while an operation is open: a host
	// out of service must hear of a commit or a revert soon. Defaults 60 s and 5 s.
	BackoffMax, BackoffMaxInOperation time.Duration
	// FactsEvery is how often the facts are looked up again. Default 5 min; after each step of an operation at once.
	FactsEvery time.Duration

	// ReadyEvery is the time between questions to the ready programs while a host returns, ReadyIdleEvery while it is
	// in service. Defaults 2 s and 30 s.
	ReadyEvery, ReadyIdleEvery time.Duration
	// RetryMax bounds the wait between attempts at a step that failed (fetch, undrain, commit). Default 30 s.
	RetryMax time.Duration

	// SettleUnits is how long after the system is up a newly failed unit may recover. Default 15 s.
	SettleUnits time.Duration
	// SettleNetwork is how long a trial waits for the network to be as good as before. Default 90 s: DHCP, bonding,
	// spanning tree. Within the trial's deadline.
	SettleNetwork time.Duration
	// WatchNetworkEvery is how often a passed trial looks at its network while the control plane is silent, SilentAfter
	// when that counts as silent. Defaults 30 s and 60 s.
	WatchNetworkEvery, SilentAfter time.Duration
	// RevertNetworkAfter is how long the host's own network may be worse than before, with the control plane silent,
	// until a passed trial reverts by itself. Default 5 min.
	RevertNetworkAfter time.Duration
	// RebootWithin is how long a requested reboot may take until it is reported as stuck. Default 10 min.
	RebootWithin time.Duration

	// Chance draws from [0,1) for the jitter. Nil: no jitter.
	Chance func() float64
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{
		{&c.CheckInEvery, 30 * time.Second},
		{&c.CheckInWithin, 20 * time.Second},
		{&c.BackoffMax, time.Minute},
		{&c.BackoffMaxInOperation, 5 * time.Second},
		{&c.FactsEvery, 5 * time.Minute},
		{&c.ReadyEvery, 2 * time.Second},
		{&c.ReadyIdleEvery, 30 * time.Second},
		{&c.RetryMax, 30 * time.Second},
		{&c.SettleUnits, 15 * time.Second},
		{&c.SettleNetwork, 90 * time.Second},
		{&c.WatchNetworkEvery, 30 * time.Second},
		{&c.SilentAfter, time.Minute},
		{&c.RevertNetworkAfter, 5 * time.Minute},
		{&c.RebootWithin, 10 * time.Minute},
	} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if c.Chance == nil {
		c.Chance = func() float64 { return 0.5 }
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if _, err := fleet.ParseHostID(string(c.Host)); err != nil {
		errs = append(errs, err)
	}
	if c.StateDir == "" {
		errs = append(errs, errors.New("state_dir must not be empty"))
	}
	if err := c.Labels.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.CheckInEvery < time.Second {
		errs = append(errs, fmt.Errorf("check_in_every is %s, at least 1s is needed", c.CheckInEvery))
	}
	return errors.Join(errs...)
}
