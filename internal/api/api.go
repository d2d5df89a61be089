// Package api is the control plane as machines and people reach it: Connect
// services on one TLS port, the CA behind the hosts' certificates, the
// operators' tokens, the packages' store, metrics and health. It authenticates,
// authorises, checks the form of what comes in, records what operators did, and
// explains each refusal. What should happen is decided by its [Control].
//
//	s, err := api.New(ctx, cfg, api.Parts{Store: st, Control: ctl, Stop: stop, Metrics: m, Log: log})
//	…
//	return s.Run(ctx, listener)
package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/stop"
	"github.com/kernwave/kernwave/internal/store"
)

// Config is what an operator can set. The zero value of each field but Dir means its default.
type Config struct {
	// Dir is the data directory. The API keeps ca/, blobs/, admin.token and operator.yaml in it.
	Dir string
	// Names are further DNS names and addresses that the server is reached by, besides localhost, 127.0.0.1, ::1 and
	// the machine's name. They stand in its certificate.
	Names []string
	// URL is what operator.yaml tells the command line, such as https://localhost:8443. Empty: no operator.yaml.
	URL string
	// HostCertLife is the life of a host's certificate; hosts renew after two thirds of it. Zero means 90 days. Below
	// 2 min a busy host cannot renew in time; above 398 days a stolen key is good for too long.
	HostCertLife time.Duration
	// ReenrolWithin is how long after its certificate ran out a host may still re-enrol with its old key. Zero means
	// 365 days. A host that was away for longer needs a token.
	ReenrolWithin time.Duration
	// MaxBlob is the largest package in bytes. Zero means 2 GiB: debug packages of kernels come close to one.
	MaxBlob int64
	// MaxDownloads is how many packages are sent at once; more are told to come back. Zero means 64, which keeps
	// a 10 Gbit/s link busy and the server responsive.
	MaxDownloads int
	// MaxRequests is how many requests are answered at once; more are told to come back. Zero means 1024.
	MaxRequests int
	// EnrolPerSecond is how many enrolments are looked at in a second, in the long run; ten times as many at once. Zero
	// means 20: 72,000 hosts an hour, and nobody can keep the server busy with guesses.
	EnrolPerSecond float64
	// TickWithin is how old the control loop's last tick may be before /readyz says no. Zero means 30s.
	TickWithin time.Duration
	// Version is the program's, for people.
	Version string
}

func (c *Config) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.HostCertLife, 90*24*time.Hour)
	def(&c.ReenrolWithin, 365*24*time.Hour)
	def(&c.TickWithin, 30*time.Second)
	if c.MaxBlob == 0 {
		c.MaxBlob = 2 << 30
	}
	if c.MaxDownloads == 0 {
		c.MaxDownloads = 64
	}
	if c.MaxRequests == 0 {
		c.MaxRequests = 1024
	}
	if c.EnrolPerSecond == 0 {
		c.EnrolPerSecond = 20
	}
}

// validate reports every mistake at once, by the name that an operator typed.
func (c *Config) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Dir != "", "--data: must be set")
	check(c.HostCertLife >= 2*time.Minute && c.HostCertLife <= 398*24*time.Hour,
		"--host-certificate-life: %s; allowed are 2m to 398 days", c.HostCertLife)
	check(c.ReenrolWithin > 0, "--reenrol-within: %s; must be positive", c.ReenrolWithin)
	check(c.TickWithin > 0, "--tick-within: %s; must be positive", c.TickWithin)
	check(c.MaxBlob > 0, "--max-package: %d; must be positive", c.MaxBlob)
	check(c.MaxDownloads > 0, "--max-downloads: %d; must be positive", c.MaxDownloads)
	check(c.MaxRequests > 0, "--max-requests: %d; must be positive", c.MaxRequests)
	check(c.EnrolPerSecond > 0, "--enrol-per-second: %v; must be positive", c.EnrolPerSecond)
	for _, n := range c.Names {
		check(validSAN(n), "--name: %q is neither a DNS name nor an address", n)
	}
	return errors.Join(errs...)
}

// Parts are what the program supplies. All but Now and Rand must be set.
type Parts struct {
	Store   store.Store
	Epoch   fleet.Incarnation // what the store began with
	Control Control
	Stop    *stop.Stop
	Metrics *Metrics
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
	Rand    io.Reader        // nil: crypto/rand
}

// Server is the API of one control plane.
type Server struct {
	cfg Config
	Parts

	ca        *authorities
	learned   *learned
	said      *said
	operators *accounts
	hosts     *hostGate
	strangers strangers
	blobs     *blobStore
	enrolRate *bucket
	// rotationRate bounds how many hosts are told to renew because of a rotation.
	rotationRate *bucket
	busy         chan struct{} // one token for each request that is being answered
	downloads    chan struct{}

	background sync.WaitGroup // what outlives a request; Run waits for it
}

// New opens the CA and the packages' store in the data directory, or makes them, and at the first start also an
// operator "admin", whose token it leaves in admin.token. The store must have been begun.
func New(ctx context.Context, cfg Config, p Parts) (*Server, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Rand == nil {
		p.Rand = cryptoRand
	}
	s := &Server{
		cfg: cfg, Parts: p,
		operators: &accounts{}, hosts: &hostGate{}, learned: &learned{}, said: &said{},
		rotationRate: &bucket{perSecond: rotationRenewals, size: rotationRenewals},
		enrolRate:    &bucket{perSecond: cfg.EnrolPerSecond, size: 10 * cfg.EnrolPerSecond},
		busy:         make(chan struct{}, cfg.MaxRequests), downloads: make(chan struct{}, cfg.MaxDownloads),
	}
	var err error
	if s.ca, err = openAuthorities(filepath.Join(cfg.Dir, "ca"), p.Now(), p.Rand); err != nil {
		return nil, err
	}
	if s.blobs, err = openBlobs(filepath.Join(cfg.Dir, "blobs"), cfg.MaxBlob); err != nil {
		return nil, err
	}
	if err := s.firstOperator(ctx); err != nil {
		return nil, err
	}
	if err := s.operators.load(ctx, p.Store); err != nil {
		return nil, err
	}
	if err := s.hosts.load(ctx, p.Store); err != nil {
		return nil, err
	}
	if err := s.said.load(ctx, p.Store); err != nil {
		return nil, err
	}
	if err := s.loadLearned(ctx); err != nil {
		return nil, err
	}
	p.Metrics.watch(s)
	return s, nil
}

// CA returns the certificate authority, whose fingerprint operators need for enrolment.
func (s *Server) CA() *CA { return s.ca.Serving() }

// firstOperator lets the first person in. The token's file comes before its row: killed in between, the next start
// begins anew.
func (s *Server) firstOperator(ctx context.Context) error {
	var any bool
	if err := s.Store.View(ctx, func(r store.Reader) error {
		os, err := r.Operators()
		any = len(os) > 0
		return err
	}); err != nil {
		return err
	}
	tokenFile := filepath.Join(s.cfg.Dir, "admin.token")
	if !any {
		token, err := newToken(operatorToken, s.Rand)
		if err != nil {
			return err
		}
		if err := writeDurably(tokenFile, []byte(token+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the first operator's token: %w", err)
		}
		now := s.Now()
		if err := s.Store.Update(ctx, func(tx store.Tx) error { return addFirstAdmin(tx, hashToken(token), now) }); err != nil {
			return fmt.Errorf("add the first operator: %w", err)
		}
		s.Log.Info("first start: operator admin may do everything", "token_file", tokenFile)
	}
	if s.cfg.URL == "" {
		return nil
	}
	// Relative names: the command line takes them from where the file is.
	want := fmt.Sprintf("# Written by kernwave server at each start. kernwave --config %s uses it.\nserver: %s\nca: ca/cert.pem\ntoken_file: admin.token\n", s.cfg.Dir, s.cfg.URL)
	file := filepath.Join(s.cfg.Dir, "operator.yaml")
	if have, err := os.ReadFile(file); err == nil && string(have) == want {
		return nil
	}
	if err := writeDurably(file, []byte(want), 0o600); err != nil {
		return fmt.Errorf("write the first operator's settings: %w", err)
	}
	return nil
}
