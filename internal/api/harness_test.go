package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	rpc "github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/stop"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/store/sqlite"
)

// t0 is when tests begin. It is not now: nothing may ask the real clock.
var t0 = time.Date(2031, 5, 1, 8, 0, 0, 0, time.UTC)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }

func (c *clock) advance(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.now = c.now.Add(d) }

// world is a server on a real port, with real TLS and a real store, and a control plane that only takes notes.
type world struct {
	t     testing.TB
	dir   string
	clock *clock
	store store.Store
	ctl   *fakeControl
	stop  *stop.Stop
	s     *Server
	url   string
	admin string // token

	faultMu sync.Mutex
	fault   func(point string) error
}

// newWorld makes the server, without a port.
func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: &clock{now: t0}, ctl: &fakeControl{lastTick: t0}}
	db, err := sqlite.OpenTemp(sqlite.Options{Rand: rand.Reader, Fault: func(p string) error {
		w.faultMu.Lock()
		f := w.fault
		w.faultMu.Unlock()
		if f == nil {
			return nil
		}
		return f(p)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	start, err := db.Begin(t.Context(), store.Place{MachineID: "m", Dir: "1:1", Instance: "i"})
	if err != nil {
		t.Fatal(err)
	}
	metrics := NewMetrics("v-test")
	w.store = metrics.Observe(db)
	w.ctl.store = w.store
	w.stop = stop.Open(w.dir)
	cfg := Config{Dir: w.dir, URL: "https://localhost:8443", Version: "v-test", EnrolPerSecond: 1e6}
	if change != nil {
		change(&cfg)
	}
	w.s, err = New(t.Context(), cfg, Parts{
		Store: w.store, Epoch: start.Incarnation, Control: w.ctl, Stop: w.stop, Metrics: metrics,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: w.clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(w.dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	w.admin = strings.TrimSpace(string(token))
	return w
}

func (w *world) breakStore(f func(point string) error) {
	w.faultMu.Lock()
	defer w.faultMu.Unlock()
	w.fault = f
}

// serve starts a world's server on a port of its own.
func serve(t testing.TB, change func(*Config)) *world {
	t.Helper()
	w := newWorld(t, change)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.s.Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	w.url = "https://" + ln.Addr().String()
	return w
}

// client is an HTTP client with, or without (nil), a certificate, and with, or without (""), a token.
func (w *world) client(cert *tls.Certificate, token string) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(w.s.CA().Cert())
	cfg := &tls.Config{RootCAs: pool, Time: w.clock.Now}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	tr := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true, DisableCompression: true}
	w.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: withToken{tr, token}, Timeout: time.Minute}
}

type withToken struct {
	http.RoundTripper
	token string
}

func (b withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" && r.Header.Get("Authorization") == "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.RoundTripper.RoundTrip(r)
}

func (w *world) fleet(token string) rpc.FleetServiceClient {
	return rpc.NewFleetServiceClient(w.client(nil, token), w.url)
}

func (w *world) enrolClient() rpc.EnrolServiceClient {
	return rpc.NewEnrolServiceClient(w.client(nil, ""), w.url)
}

func (w *world) agent(m *machine) rpc.AgentServiceClient {
	return rpc.NewAgentServiceClient(w.client(m.tls(), ""), w.url)
}

// enrolToken makes one as an admin would.
func (w *world) enrolToken(uses int32) string {
	w.t.Helper()
	res, err := w.fleet(w.admin).CreateEnrolToken(context.Background(), connect.NewRequest(&kwv1.CreateEnrolTokenRequest{Uses: uses}))
	if err != nil {
		w.t.Fatal(err)
	}
	return res.Msg.GetToken()
}

// operatorToken makes an operator.
func (w *world) operatorToken(name string, role operator.Role) string {
	w.t.Helper()
	res, err := w.fleet(w.admin).CreateOperator(context.Background(), connect.NewRequest(&kwv1.CreateOperatorRequest{Name: name, Role: string(role)}))
	if err != nil {
		w.t.Fatal(err)
	}
	return res.Msg.GetToken()
}

// machine is one that enrols.
type machine struct {
	name string
	key  *ecdsa.PrivateKey
	cert []byte
}

func newMachine(t testing.TB, name string) *machine {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &machine{name: name, key: key}
}

func csr(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (m *machine) tls() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{m.cert}, PrivateKey: m.key}
}

// enrol lets a new machine in.
func (w *world) enrol(name string) *machine {
	w.t.Helper()
	m := newMachine(w.t, name)
	res, err := w.enrolClient().Enrol(context.Background(), connect.NewRequest(&kwv1.EnrolRequest{Token: w.enrolToken(1), Name: name, CsrDer: csr(w.t, m.key)}))
	if err != nil {
		w.t.Fatal(err)
	}
	m.cert = res.Msg.GetCertificateDer()
	return m
}

// events are the kinds in the record, oldest first, of those about host ("": all).
func (w *world) events(host fleet.HostID) (kinds []string) {
	w.t.Helper()
	if err := w.store.View(context.Background(), func(r store.Reader) error {
		es, err := r.Events(store.EventQuery{Host: host})
		for _, e := range es {
			if e.Who == "" || e.What == "" || e.At.IsZero() {
				w.t.Errorf("event without who, what or when: %+v", e)
			}
			kinds = append(kinds, e.Kind)
		}
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return kinds
}

// detail is an error's explanation; it fails the test when there is none.
func detail(t testing.TB, err error) *kwv1.ErrorDetail {
	t.Helper()
	e, ok := errors.AsType[*connect.Error](err)
	if !ok {
		t.Fatalf("got %v, want an error of the API", err)
	}
	for _, d := range e.Details() {
		v, err := d.Value()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := v.(*kwv1.ErrorDetail); ok {
			if d.GetOp() == "" || d.GetWhy() == "" || d.GetNext() == "" {
				t.Errorf("%v: an explanation with a gap: %v", e, d)
			}
			return d
		}
	}
	t.Fatalf("%v explains nothing", e)
	return nil
}

// refused checks an error's code, and that its explanation says something.
func refused(t testing.TB, err error, code connect.Code, why string) {
	t.Helper()
	if err == nil {
		t.Fatalf("it was not refused, want %s: %s", code, why)
	}
	d := detail(t, err)
	if connect.CodeOf(err) != code || !strings.Contains(d.GetWhy(), why) {
		t.Errorf("refused with %s, why %q; want %s, why …%s…", connect.CodeOf(err), d.GetWhy(), code, why)
	}
}

// plain is the explanation of a refusal in plain HTTP.
type plain struct{ Code, Message, Op, Host, Why, Next string }

func readPlain(t testing.TB, res *http.Response) (p plain) {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&p); err != nil || p.Op == "" || p.Why == "" || p.Next == "" || p.Code == "" {
		t.Errorf("%s %s: the refusal does not explain itself: %s", res.Request.Method, res.Request.URL.Path, b)
	}
	return p
}

// fakeControl takes notes, and answers with what it has.
type fakeControl struct {
	mu         sync.Mutex
	store      store.Store
	calls      []string
	reports    []fleet.Report
	pokes      int
	lastTick   time.Time
	err        error // of every method but Status
	panics     bool
	mayNotLift error
	superseded string
	desired    fleet.Desired
	hosts      []operator.Host
	change     operator.Change
	spec       operator.RolloutSpec
}

var _ Control = (*fakeControl)(nil)

func (f *fakeControl) note(call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
	if f.panics {
		panic("wanted")
	}
	return f.err
}

func (f *fakeControl) count() int { f.mu.Lock(); defer f.mu.Unlock(); return len(f.calls) }

func (f *fakeControl) CheckIn(_ context.Context, r fleet.Report, _ time.Time) (fleet.Desired, error) {
	err := f.note("check in " + string(r.Host))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reports = append(f.reports, r)
	return f.desired, err
}

func (f *fakeControl) ConfirmReboot(_ context.Context, h fleet.HostID, op fleet.OperationID, g fleet.GrantID, _ time.Time) (fleet.Confirmation, error) {
	return fleet.Confirmation{WhyNot: "fake"}, f.note("confirm " + string(h) + " " + string(op) + " " + string(g))
}

func (f *fakeControl) Poke() { f.mu.Lock(); defer f.mu.Unlock(); f.pokes++ }

func (f *fakeControl) Hosts(_ context.Context, selector string, _ time.Time) ([]operator.Host, error) {
	return f.hosts, f.note("hosts " + selector)
}

func (f *fakeControl) Host(_ context.Context, id fleet.HostID, _ time.Time) (operator.Host, []fleet.Operation, error) {
	return operator.Host{Host: fleet.Host{ID: id}}, nil, f.note("host " + string(id))
}

func (f *fakeControl) WhyHost(_ context.Context, id fleet.HostID, _ time.Time) (operator.Why, error) {
	return operator.Why{Host: id, Why: "fake"}, f.note("why " + string(id))
}

func (f *fakeControl) UnfreezeHost(_ context.Context, who string, id fleet.HostID, why string, now time.Time) (operator.Host, error) {
	return operator.Host{Host: fleet.Host{ID: id}}, nil
}

func (f *fakeControl) Unfreeze(tx store.Tx, h *fleet.Host, who, why string, now time.Time) error {
	h.Frozen = ""
	_, err := tx.AppendEvent(store.Event{At: now, Who: who, Kind: "host.unfrozen", Host: h.ID, What: "unfrozen", Why: why})
	return errors.Join(err, tx.PutHost(*h))
}

func (f *fakeControl) SetHostStatus(ctx context.Context, who string, id fleet.HostID, s fleet.Status, why string, now time.Time) (operator.Host, error) {
	if err := f.note("status"); err != nil {
		return operator.Host{}, err
	}
	var h fleet.Host
	err := f.store.Update(ctx, func(tx store.Tx) (err error) {
		if h, err = tx.Host(id); err != nil {
			return err
		}
		h.Status, h.StatusWhy = s, why
		_, errEvent := tx.AppendEvent(store.Event{At: now, Who: who, Kind: "host.status", Host: id, What: "status " + string(s), Why: why})
		return errors.Join(tx.PutHost(h), errEvent)
	})
	return operator.Host{Host: h}, err
}

func (f *fakeControl) PlanRollout(_ context.Context, _ string, spec operator.RolloutSpec, _ time.Time) (operator.Rollout, error) {
	err := f.note("plan")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spec = spec
	return operator.Rollout{Spec: spec, Status: "planned"}, err
}

func (f *fakeControl) StartRollout(_ context.Context, who string, spec operator.RolloutSpec, key string, _ time.Time) (operator.Rollout, error) {
	return operator.Rollout{ID: "r-1", Spec: spec, StartedBy: who}, f.note("start " + key)
}

func (f *fakeControl) Rollout(_ context.Context, id string, _ time.Time) (operator.Rollout, error) {
	return operator.Rollout{ID: id}, f.note("rollout " + id)
}

func (f *fakeControl) Rollouts(context.Context, time.Time) ([]operator.Rollout, error) {
	return []operator.Rollout{{ID: "r-1"}}, f.note("rollouts")
}

func (f *fakeControl) ChangeRollout(_ context.Context, _ string, c operator.Change, _ time.Time) (operator.Rollout, error) {
	err := f.note("change")
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change = c
	return operator.Rollout{ID: c.Rollout}, err
}

func (f *fakeControl) Budgets(context.Context, time.Time) ([]operator.Budget, []operator.GroupUse, error) {
	return []operator.Budget{{By: "type", Limit: 1}}, nil, f.note("budgets")
}

func (f *fakeControl) SetBudget(context.Context, string, operator.Budget, time.Time) error {
	return f.note("set budget")
}

func (f *fakeControl) MayLift(context.Context, time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mayNotLift
}

func (f *fakeControl) Superseded() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.superseded
}

func (f *fakeControl) Accept() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mayNotLift = nil
}

func (f *fakeControl) Status(time.Time) operator.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return operator.Status{Hosts: 7, Silent: 2, LiveGrants: 3, OpenIncidents: 1, LastTick: f.lastTick}
}
