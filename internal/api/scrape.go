package api

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kernwave/kernwave/internal/store"
)

// scrape looks at the control plane when Prometheus asks.
type scrape struct{ *Server }

var (
	descAge = prometheus.NewDesc("kernwave_checkin_age_seconds",
		"Age of the last check-in of each active host that was heard since the start, at the time of the scrape.", nil, nil)
	descOldest   = prometheus.NewDesc("kernwave_checkin_oldest_age_seconds", "The largest of those ages.", nil, nil)
	descUnheard  = prometheus.NewDesc("kernwave_hosts_unheard", "Active hosts that were not heard since the start.", nil, nil)
	descHosts    = prometheus.NewDesc("kernwave_hosts", "Hosts, without retired ones.", nil, nil)
	descSilent   = prometheus.NewDesc("kernwave_hosts_silent", "Hosts that should check in and do not.", nil, nil)
	descGrants   = prometheus.NewDesc("kernwave_grants_live", "Grants that have not ended.", nil, nil)
	descOpen     = prometheus.NewDesc("kernwave_incidents_open", "Incidents that are open.", nil, nil)
	descStopped  = prometheus.NewDesc("kernwave_stopped", "1 while everything is stopped.", nil, nil)
	descLastTick = prometheus.NewDesc("kernwave_last_tick_timestamp_seconds", "When the control loop ticked last.", nil, nil)
	descRollouts = prometheus.NewDesc("kernwave_rollouts", "Open rollouts by status.", []string{"status"}, nil)
)

// ageBuckets reach from the pace of an operation to a day.
var ageBuckets = []float64{5, 15, 30, 60, 120, 300, 900, 3600, 86400}

// Describe implements [prometheus.Collector].
func (s *scrape) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descAge, descOldest, descUnheard, descHosts, descSilent, descGrants, descOpen, descStopped, descLastTick, descRollouts,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	now := s.Now()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	st := s.Control.Status(now)
	gauge(descHosts, float64(st.Hosts))
	gauge(descSilent, float64(st.Silent))
	gauge(descGrants, float64(st.LiveGrants))
	gauge(descOpen, float64(st.OpenIncidents))
	if !st.LastTick.IsZero() {
		gauge(descLastTick, float64(st.LastTick.UnixNano())/1e9)
	}
	stopped := 0.0
	if _, is := s.Parts.Stop.Stopped(); is {
		stopped = 1
	}
	gauge(descStopped, stopped)
	s.ages(ch, gauge, now)

	ctx, cancel := context.WithTimeoutCause(context.Background(), 5*time.Second, errors.New("the store does not answer"))
	defer cancel()
	count := map[string]int{}
	if err := s.Store.View(ctx, func(r store.Reader) error {
		rs, err := r.OpenRollouts()
		for _, r := range rs {
			count[r.Status]++
		}
		return err
	}); err != nil {
		return // counted as a store error; a missing series says that nobody knows
	}
	for status, n := range count {
		gauge(descRollouts, float64(n), status)
	}
}

func (s *scrape) ages(ch chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, ...string), now time.Time) {
	buckets := map[float64]uint64{}
	for _, b := range ageBuckets {
		buckets[b] = 0
	}
	var n, unheard uint64
	var sum, oldest float64
	expected := s.hosts.expected()
	s.Metrics.mu.Lock()
	for _, id := range expected {
		at, ok := s.Metrics.heard[id]
		if !ok {
			unheard++
			continue
		}
		age := max(0, now.Sub(at).Seconds())
		n++
		sum += age
		oldest = max(oldest, age)
		for _, b := range ageBuckets {
			if age <= b {
				buckets[b]++
			}
		}
	}
	s.Metrics.mu.Unlock()
	ch <- prometheus.MustNewConstHistogram(descAge, n, sum, buckets)
	gauge(descOldest, oldest)
	gauge(descUnheard, float64(unheard))
}
