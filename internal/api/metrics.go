package api

import (
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kernwave/kernwave/fleet"
)

// Metrics are the control plane's own numbers, in a registry of their own. They name no host: whoever reaches the
// port may read them without a token, as monitoring expects.
type Metrics struct {
	registry    *prometheus.Registry
	checkIns    prometheus.Counter
	refused     *prometheus.CounterVec
	panics      prometheus.Counter
	storeErrors prometheus.Counter
	tick        prometheus.Histogram

	mu    sync.Mutex
	heard map[fleet.HostID]time.Time // last check-in, since the start
}

// NewMetrics makes a registry; version stands in kernwave_build_info.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		checkIns: prometheus.NewCounter(prometheus.CounterOpts{Name: "kernwave_checkins_total", Help: "Check-ins answered."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kernwave_requests_refused_total", Help: "Requests that were refused or failed, by status code.",
		}, []string{"code"}),
		panics:      prometheus.NewCounter(prometheus.CounterOpts{Name: "kernwave_panics_total", Help: "Handlers that panicked. Each is a bug."}),
		storeErrors: prometheus.NewCounter(prometheus.CounterOpts{Name: "kernwave_store_errors_total", Help: "Reads and writes of the store that failed."}),
		tick: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kernwave_tick_seconds", Help: "Time of one tick of the control loop.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10},
		}),
		heard: map[fleet.HostID]time.Time{},
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kernwave_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.checkIns, m.refused, m.panics, m.storeErrors, m.tick, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Tick counts a tick of the control loop that took so long.
func (m *Metrics) Tick(took time.Duration) { m.tick.Observe(took.Seconds()) }

// StoreError counts a read or write of the store that failed.
func (m *Metrics) StoreError() { m.storeErrors.Inc() }

func (m *Metrics) checkedIn(h fleet.HostID, now time.Time) {
	m.checkIns.Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard[h] = now
}

func (m *Metrics) handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	})
}

// watch adds what is counted at each scrape.
func (m *Metrics) watch(s *Server) { m.registry.MustRegister(&scrape{s}) }
