package uplink_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agent/identity"
	"github.com/kernwave/kernwave/internal/agent/uplink"
	"github.com/kernwave/kernwave/internal/wire"
)

// authority is a control plane's CA and clock, made for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, notBefore time.Time) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: notBefore, NotAfter: notBefore.Add(10 * 365 * 24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) sha256() string {
	s := sha256.Sum256(a.cert.Raw)
	return hex.EncodeToString(s[:])
}

func (a *authority) sign(name string, pub any, usage x509.ExtKeyUsage, from time.Time, life time.Duration, names ...string) []byte {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: from.Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, pub, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

// plane is a control plane on a real socket.
type plane struct {
	*authority
	srv  *http.Server
	addr string

	mu         sync.Mutex
	now        time.Time
	hostLife   time.Duration
	serverUse  x509.ExtKeyUsage
	names      []string
	enrolled   int
	reenrolled int
	renewed    int
	proto      string
	desired    fleet.Desired
	refuseAll  bool
	blobs      http.HandlerFunc
}

func newPlane(t *testing.T, now time.Time) *plane {
	p := &plane{authority: newAuthority(t, now.Add(-time.Hour)), now: now, hostLife: 30 * 24 * time.Hour, serverUse: x509.ExtKeyUsageServerAuth, names: []string{"127.0.0.1"}}
	mux := http.NewServeMux()
	mux.Handle(kernwavev1connect.NewEnrolServiceHandler(enrolService{p}))
	mux.Handle(kernwavev1connect.NewAgentServiceHandler(agentService{p}))
	mux.HandleFunc("/v1/blobs/sha256/", func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		p.blobs(w, r)
	})
	p.srv = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.proto = r.Proto
		p.mu.Unlock()
		mux.ServeHTTP(w, r)
	}), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	p.srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequestClientCert, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		leaf := p.sign("server", &key.PublicKey, p.serverUse, p.now.Add(-time.Hour), 90*24*time.Hour, p.names...)
		return &tls.Certificate{Certificate: [][]byte{leaf, p.cert.Raw}, PrivateKey: key}, nil
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- p.srv.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		_ = p.srv.Close()
		<-done
	})
	return p
}

func (p *plane) url() string { return "https://" + p.addr }

type enrolService struct{ *plane }

func (s enrolService) answer(name string, csrDER []byte) (*connect.Response[kwv1.EnrolResponse], error) {
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	der := s.sign(name, csr.PublicKey, x509.ExtKeyUsageClientAuth, s.now.Add(-time.Hour), s.hostLife)
	return connect.NewResponse(&kwv1.EnrolResponse{
		Host: name, CertificateDer: der, CaDer: [][]byte{s.cert.Raw}, ServerTime: wire.TimeToProto(s.now),
	}), nil
}

func (s enrolService) Enrol(_ context.Context, r *connect.Request[kwv1.EnrolRequest]) (*connect.Response[kwv1.EnrolResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Msg.GetToken() != "good" {
		e := connect.NewError(connect.CodeUnauthenticated, errors.New("enrol: no such token"))
		d, _ := connect.NewErrorDetail(&kwv1.ErrorDetail{Op: "enrol", Why: "there is no such enrolment token", Next: "create one"})
		e.AddDetail(d)
		return nil, e
	}
	s.enrolled++
	return s.answer(r.Msg.GetName(), r.Msg.GetCsrDer())
}

func (s enrolService) Reenrol(_ context.Context, r *connect.Request[kwv1.ReenrolRequest]) (*connect.Response[kwv1.EnrolResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := x509.ParseCertificate(r.Msg.GetOldCertificateDer())
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	sum := sha256.Sum256(append([]byte("kernwave reenrol v1\x00"), r.Msg.GetCsrDer()...))
	if !ecdsa.VerifyASN1(old.PublicKey.(*ecdsa.PublicKey), sum[:], r.Msg.GetSignature()) {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("bad signature"))
	}
	s.reenrolled++
	return s.answer(old.Subject.CommonName, r.Msg.GetCsrDer())
}

type agentService struct{ *plane }

func (s agentService) CheckIn(_ context.Context, _ *connect.Request[kwv1.CheckInRequest]) (*connect.Response[kwv1.CheckInResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuseAll {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("the certificate ran out"))
	}
	d := s.desired
	d.ServerTime = s.now
	return connect.NewResponse(wire.DesiredToProto(d)), nil
}

func (s agentService) ConfirmReboot(_ context.Context, r *connect.Request[kwv1.ConfirmRebootRequest]) (*connect.Response[kwv1.ConfirmRebootResponse], error) {
	return connect.NewResponse(wire.ConfirmationToProto(fleet.Confirmation{
		Yes: r.Msg.GetHost() == "web-1", WhyNot: r.Msg.GetOperation() + " " + r.Msg.GetGrant(),
	})), nil
}

func (s agentService) Renew(_ context.Context, r *connect.Request[kwv1.RenewRequest]) (*connect.Response[kwv1.EnrolResponse], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewed++
	return enrolService(s).answer("web-1", r.Msg.GetCsrDer())
}

// host is a machine with its own clock.
type host struct {
	*uplink.Uplink
	id  *identity.Identity
	dir string
}

func newHost(t *testing.T, p *plane, dir string, built time.Time, change func(*uplink.Config)) host {
	t.Helper()
	id, err := identity.Open(disk.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	clock := identity.OpenClock(disk.OS{}, dir, built, "boot", func() time.Duration { return time.Since(began) })
	cfg := uplink.Config{
		Server: p.url(), Name: "web-1", CASHA256: p.sha256(), PackagesDir: filepath.Join(dir, "packages"),
		Token: func() (string, error) { return "good", nil },
	}
	if change != nil {
		change(&cfg)
	}
	u, err := uplink.New(cfg, id, clock, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return host{u, id, dir}
}

var year = 365 * 24 * time.Hour

func TestEnrolAndCheckIn(t *testing.T) {
	p := newPlane(t, time.Now())
	h := newHost(t, p, t.TempDir(), time.Now(), nil)
	if err := h.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.desired = fleet.Desired{From: fleet.Incarnation{Incarnation: 1, Term: 2, Instance: "x"}, CheckInAfter: 7 * time.Second}
	d, err := h.CheckIn(t.Context(), fleet.Report{Host: "web-1"})
	if err != nil || d.CheckInAfter != 7*time.Second || d.From.Term != 2 {
		t.Fatalf("got %+v, %v", d, err)
	}
	if p.proto != "HTTP/2.0" {
		t.Errorf("spoke %s", p.proto)
	}
	c, err := h.ConfirmReboot(t.Context(), "op-1", "g-1")
	if err != nil || !c.Yes || c.WhyNot != "op-1 g-1" {
		t.Fatalf("got %+v, %v", c, err)
	}
	st, err := os.Stat(filepath.Join(h.dir, "host.key"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("host key: %v, %v", st, err)
	}
	again := newHost(t, p, h.dir, time.Now(), nil) // a restart
	if !again.id.Enrolled() || again.id.Host() != "web-1" {
		t.Error("the identity did not survive a restart")
	}
	if _, err := again.CheckIn(t.Context(), fleet.Report{Host: "web-1"}); err != nil {
		t.Error(err)
	}
}

func TestReconnect(t *testing.T) {
	p := newPlane(t, time.Now())
	connected := 0
	h := newHost(t, p, t.TempDir(), time.Now(), func(c *uplink.Config) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			connected++
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	})
	if err := h.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	connected = 0
	for i, want := range []int{1, 1, 2, 3} {
		if i > 1 {
			h.Reconnect()
		}
		if _, err := h.CheckIn(t.Context(), fleet.Report{Host: "web-1"}); err != nil {
			t.Fatal(err)
		}
		if connected != want {
			t.Errorf("check-in %d: connected %d times, expected %d", i, connected, want)
		}
	}
}

// A package that is being fetched must not keep the agent with a control plane that it shall leave.
func TestReconnectDuringADownload(t *testing.T) {
	p := newPlane(t, time.Now())
	asked, release := make(chan struct{}), make(chan struct{})
	p.blobs = func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		close(asked)
		<-release
		fmt.Fprint(w, "package")
	}
	var connected atomic.Int32
	h := newHost(t, p, t.TempDir(), time.Now(), func(c *uplink.Config) {
		c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			connected.Add(1)
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	})
	if err := h.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	fetched := make(chan error)
	go func() {
		_, err := h.Fetch(t.Context(), fleet.Package{Name: "linux", Size: 7, SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte("package")))})
		fetched <- err
	}()
	<-asked
	if _, err := h.CheckIn(t.Context(), fleet.Report{Host: "web-1"}); err != nil {
		t.Fatal(err)
	}
	before := connected.Load()
	h.Reconnect()
	if _, err := h.CheckIn(t.Context(), fleet.Report{Host: "web-1"}); err != nil {
		t.Fatal(err)
	}
	if n := connected.Load() - before; n != 1 {
		t.Errorf("connected %d times after Reconnect, expected 1", n)
	}
	close(release)
	if err := <-fetched; err != nil {
		t.Errorf("the download that was under way: %v", err)
	}
}

func TestWhomIsTrusted(t *testing.T) {
	for _, c := range []struct {
		name   string
		plane  func(*plane)
		config func(*uplink.Config)
		want   string
	}{
		{"another authority", nil, func(c *uplink.Config) { c.CASHA256 = strings.Repeat("ab", 32) }, "another control plane, or somebody in between"},
		{"nobody named", nil, func(c *uplink.Config) { c.CASHA256 = "" }, "set ca_sha256 or ca"},
		{"another name", func(p *plane) { p.names = []string{"other.example"} }, nil, "127.0.0.1"},
		{"a host that plays the server", func(p *plane) { p.serverUse = x509.ExtKeyUsageClientAuth }, nil, "incompatible key usage"},
		{"a wrong token", nil, func(c *uplink.Config) { c.Token = func() (string, error) { return "bad", nil } }, "there is no such enrolment token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlane(t, time.Now())
			if c.plane != nil {
				c.plane(p)
			}
			h := newHost(t, p, t.TempDir(), time.Now(), c.config)
			err := h.Enrol(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if h.id.Enrolled() || p.enrolled != 0 {
				t.Error("enrolled all the same")
			}
		})
	}
}

// TestDeadClockBattery: an agent that was built long ago, on a machine without a clock, meets a control plane of
// today; and after months switched off it still does.
func TestDeadClockBattery(t *testing.T) {
	p := newPlane(t, time.Now().Add(5*year))
	h := newHost(t, p, t.TempDir(), time.Time{}, nil)
	if err := h.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.now = p.now.Add(year / 2) // the server has a new certificate by now
	p.mu.Unlock()
	again := newHost(t, p, h.dir, time.Time{}, nil)
	if _, err := again.CheckIn(t.Context(), fleet.Report{Host: "web-1"}); err != nil {
		t.Fatal(err)
	}
	// What has run out for certain is refused: time does not run backwards.
	p.mu.Lock()
	p.now = p.now.Add(-year)
	p.mu.Unlock()
	again.Close()
	back := newHost(t, p, h.dir, time.Time{}, nil)
	if _, err := back.CheckIn(t.Context(), fleet.Report{Host: "web-1"}); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a server certificate that ran out was accepted: %v", err)
	}
}

func TestRenewal(t *testing.T) {
	p := newPlane(t, time.Now())
	h := newHost(t, p, t.TempDir(), time.Now(), nil)
	if err := h.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := h.id.Certificate().SerialNumber
	p.mu.Lock()
	p.now = p.now.Add(21 * 24 * time.Hour) // of 30 days
	p.mu.Unlock()
	if _, err := h.CheckIn(t.Context(), fleet.Report{Host: "web-1"}); err != nil {
		t.Fatal(err)
	}
	if p.renewed != 1 || h.id.Certificate().SerialNumber.Cmp(first) == 0 {
		t.Errorf("renewed %d times", p.renewed)
	}
	if _, err := h.CheckIn(t.Context(), fleet.Report{Host: "web-1"}); err != nil || p.renewed != 1 {
		t.Errorf("renewed %d times, %v", p.renewed, err)
	}
}

func TestReenrolAfterTheCertificateRanOut(t *testing.T) {
	p := newPlane(t, time.Now())
	h := newHost(t, p, t.TempDir(), time.Now(), nil)
	if err := h.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.now, p.refuseAll = p.now.Add(60*24*time.Hour), true
	p.mu.Unlock()
	if _, err := h.CheckIn(t.Context(), fleet.Report{Host: "web-1"}); err == nil {
		t.Fatal("no error although the control plane refused")
	}
	if p.reenrolled != 1 {
		t.Fatalf("re-enrolled %d times", p.reenrolled)
	}
	if _, err := h.CheckIn(t.Context(), fleet.Report{Host: "web-1"}); err == nil || p.reenrolled != 1 {
		t.Errorf("re-enrolled %d times within a minute", p.reenrolled)
	}
	p.mu.Lock()
	p.refuseAll = false
	p.mu.Unlock()
	if _, err := h.CheckIn(t.Context(), fleet.Report{Host: "web-1"}); err != nil {
		t.Error(err)
	}
}

func pkg(content []byte) fleet.Package {
	s := sha256.Sum256(content)
	return fleet.Package{Name: "linux-image", Version: "1", SHA256: hex.EncodeToString(s[:]), Size: int64(len(content))}
}

func TestFetch(t *testing.T) {
	content := bytes.Repeat([]byte("kernel "), 100_000)
	good := pkg(content)
	serve := func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
	cut := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:300_000])
	}
	for _, c := range []struct {
		name    string
		blobs   []http.HandlerFunc // one per attempt
		p       fleet.Package
		part    []byte
		want    string // of the last error; empty: fetched
		refused bool
	}{
		{"whole", []http.HandlerFunc{serve}, good, nil, "", false},
		{"resumed after a cut", []http.HandlerFunc{cut, serve}, good, nil, "", false},
		{"resumed from what a power cut left", []http.HandlerFunc{serve}, good, content[:1234], "", false},
		{"what a power cut left is wrong", []http.HandlerFunc{serve}, good, []byte("garbage"), "", false},
		{"what was left is longer", []http.HandlerFunc{serve}, good, append(bytes.Clone(content), 'x'), "", false},
		{"no ranges", []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }}, good, content[:99], "", false},
		{"another content", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bytes.ToUpper(content)))
		}}, good, nil, "what came has SHA-256", true},
		{"more than it should be", []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(append(bytes.Clone(content), 'x')) }}, good, nil, "more than", true},
		{"less than it should be", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content[:10]))
		}}, good, nil, "only 10 of", true},
		{"gone", []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"message":"fetch a package: there is no package"}`))
		}}, good, nil, "there is no package", true},
		{"busy", []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }}, good, nil, "503", false},
		{"a path for a checksum", []http.HandlerFunc{serve}, fleet.Package{Name: "x", SHA256: "../../../etc/passwd", Size: 1}, nil, "is no SHA-256", true},
		{"no size", []http.HandlerFunc{serve}, fleet.Package{Name: "x", SHA256: good.SHA256}, nil, "its size is 0 bytes", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlane(t, time.Now())
			h := newHost(t, p, t.TempDir(), time.Now(), nil)
			if err := h.Enrol(t.Context()); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(h.dir, "packages")
			if c.part != nil {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, c.p.SHA256+".part"), c.part, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var path string
			var err error
			for _, b := range c.blobs {
				p.blobs = b
				path, err = h.Fetch(t.Context(), c.p)
			}
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				p.blobs = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }
				if again, err := h.Fetch(t.Context(), c.p); err != nil || again != path {
					t.Errorf("fetched again: %q, %v", again, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.Is(err, agent.ErrRefused) != c.refused {
				t.Errorf("got %v, refused %v; want %q, refused %v", err, errors.Is(err, agent.ErrRefused), c.want, c.refused)
			}
			if c.refused {
				if left, _ := filepath.Glob(filepath.Join(dir, c.p.SHA256+"*")); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
		})
	}
}

func TestServerMustBeHTTPS(t *testing.T) {
	for _, s := range []string{"", "http://a:1", "a:1", "https://", "https://u@a", "https://a/path"} {
		if _, err := uplink.New(uplink.Config{Server: s}, nil, nil, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}
