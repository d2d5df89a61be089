package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

func (w *world) tryEnrol(token, name string, der []byte) (*kwv1.EnrolResponse, error) {
	res, err := w.enrolClient().Enrol(context.Background(), connect.NewRequest(&kwv1.EnrolRequest{Token: token, Name: name, CsrDer: der}))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

func (w *world) usesLeft(token string) (n int) {
	w.t.Helper()
	if err := w.store.View(context.Background(), func(r store.Reader) error {
		t, err := r.EnrolToken(hashToken(token))
		n = t.UsesLeft
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestEnrol(t *testing.T) {
	w := serve(t, nil)
	m := newMachine(t, "web-1")
	token := w.enrolToken(2)
	res, err := w.tryEnrol(token, "web-1", csr(t, m.key))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(res.GetCertificateDer())
	if err != nil {
		t.Fatal(err)
	}
	if res.GetHost() != "web-1" || cert.URIs[0].String() != "kernwave://host/web-1" || !m.key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("the certificate is for %s (%v), want web-1 and its key", res.GetHost(), cert.URIs)
	}
	if got := cert.NotAfter.Sub(t0); got != 90*24*time.Hour {
		t.Errorf("it is good for %s, want 90 days", got)
	}
	if cert.IsCA || !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
		t.Errorf("it may do more than a host needs: CA %v, usages %v", cert.IsCA, cert.ExtKeyUsage)
	}
	if len(res.GetCaDer()) != 1 || !slices.Equal(res.GetCaDer()[0], w.s.CA().Cert().Raw) || !res.GetServerTime().AsTime().Equal(t0) {
		t.Error("the answer lacks the CA or the time")
	}

	again, err := w.tryEnrol(token, "web-1", csr(t, m.key))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.GetCertificateDer(), res.GetCertificateDer()) || w.usesLeft(token) != 1 {
		t.Errorf("asking again gave another certificate, or cost a use (%d left, want 1)", w.usesLeft(token))
	}
	if got := w.events("web-1"); !slices.Equal(got, []string{"host.enrolled"}) {
		t.Errorf("events %v", got)
	}
}

func TestEnrolRefusals(t *testing.T) {
	w := serve(t, nil)
	good := newMachine(t, "x")
	der := csr(t, good.key)
	token := w.enrolToken(5)
	w.enrol("taken")
	used := w.enrolToken(1)
	if _, err := w.tryEnrol(used, "first", csr(t, newMachine(t, "first").key)); err != nil {
		t.Fatal(err)
	}
	short, err := w.fleet(w.admin).CreateEnrolToken(t.Context(), connect.NewRequest(&kwv1.CreateEnrolTokenRequest{Life: durationpb.New(time.Second)}))
	if err != nil {
		t.Fatal(err)
	}
	w.clock.advance(time.Second)

	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged := slices.Clone(der)
	forged[len(forged)-1] ^= 1

	before := w.events("")
	for _, c := range []struct {
		name, token, host string
		der               []byte
		code              connect.Code
		why               string
	}{
		{"no token", "", "x", der, connect.CodeUnauthenticated, "no such enrolment token"},
		{"a wrong token", "kwe_nonsense", "x", der, connect.CodeUnauthenticated, "no such enrolment token"},
		{"an operator's token", w.admin, "x", der, connect.CodeUnauthenticated, "an operator's token, not one for enrolling"},
		{"a token that ran out", short.Msg.GetToken(), "x", der, connect.CodeUnauthenticated, "ran out at 2031-05-01T08:00:01Z"},
		{"a token that is used up", used, "x", der, connect.CodeUnauthenticated, "as often as it may (1)"},
		{"no name", token, "", der, connect.CodeInvalidArgument, "must not be empty"},
		{"a bad name", token, "../etc", der, connect.CodeInvalidArgument, "character '.' at position 1"},
		{"a name that another key has", token, "taken", der, connect.CodeAlreadyExists, "another key"},
		{"no request", token, "x", nil, connect.CodeInvalidArgument, "cannot be read"},
		{"garbage", token, "x", []byte("garbage"), connect.CodeInvalidArgument, "cannot be read"},
		{"a huge request", token, "x", make([]byte, maxDER+1), connect.CodeInvalidArgument, "at most 16384"},
		{"a request that is not signed by its key", token, "x", forged, connect.CodeInvalidArgument, "not signed with its own key"},
		{"an Ed25519 key", token, "x", csr(t, edKey), connect.CodeInvalidArgument, "ECDSA"},
		{"an RSA key", token, "x", csr(t, rsaKey), connect.CodeInvalidArgument, "ECDSA"},
		{"a weak curve", token, "x", csr(t, p224), connect.CodeInvalidArgument, "P-256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.tryEnrol(c.token, c.host, c.der)
			refused(t, err, c.code, c.why)
		})
	}
	if got := w.events(""); len(got) != len(before) || w.usesLeft(token) != 5 {
		t.Errorf("refusals left events (%v) or cost uses (%d left of 5)", got[len(before):], w.usesLeft(token))
	}
}

func TestEnrolAfterRevocation(t *testing.T) {
	w := serve(t, nil)
	old := w.enrol("web-1")
	if _, err := w.fleet(w.admin).RevokeHost(t.Context(), connect.NewRequest(&kwv1.RevokeHostRequest{Id: "web-1", Why: "stolen"})); err != nil {
		t.Fatal(err)
	}
	_, err := w.agent(old).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1")))
	refused(t, err, connect.CodePermissionDenied, "revoked")

	_, err = w.tryEnrol(w.enrolToken(1), "web-1", csr(t, old.key))
	refused(t, err, connect.CodePermissionDenied, "key was revoked")

	young := w.enrol("web-1")
	if _, err := w.agent(young).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1"))); err != nil {
		t.Errorf("the new machine of that name: %v", err)
	}
	_, err = w.agent(old).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1")))
	refused(t, err, connect.CodePermissionDenied, "revoked")
	if got := w.events("web-1"); !slices.Equal(got, []string{"host.enrolled", "host.revoked", "host.enrolled"}) {
		t.Errorf("events %v", got)
	}

	// A new server on the same data knows what was revoked.
	gate := &hostGate{}
	if err := gate.load(t.Context(), w.store); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(old.cert)
	if err != nil {
		t.Fatal(err)
	}
	if err := gate.admit("check in", "web-1", serialOf(cert)); err == nil {
		t.Error("after a restart the revoked certificate gets in")
	}
}

func TestEnrolAfterRetirement(t *testing.T) {
	w := serve(t, nil)
	old := w.enrol("web-1")
	if _, err := w.fleet(w.admin).SetHostStatus(t.Context(), connect.NewRequest(&kwv1.SetHostStatusRequest{Id: "web-1", Status: "retired"})); err != nil {
		t.Fatal(err)
	}
	_, err := w.agent(old).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1")))
	refused(t, err, connect.CodePermissionDenied, "retired")
	_, err = w.reenrol(old, old.key, csr(t, old.key))
	refused(t, err, connect.CodePermissionDenied, "retired")

	young := w.enrol("web-1")
	if _, err := w.agent(young).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1"))); err != nil {
		t.Errorf("the new machine of that name: %v", err)
	}
	_, err = w.agent(old).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1")))
	refused(t, err, connect.CodePermissionDenied, "revoked")
}

func TestEnrolIsLimited(t *testing.T) {
	w := serve(t, func(c *Config) { c.EnrolPerSecond = 1 })
	for range 10 {
		_, err := w.tryEnrol("kwe_x", "x", csr(t, newMachine(t, "x").key))
		refused(t, err, connect.CodeUnauthenticated, "no such")
	}
	_, err := w.tryEnrol("kwe_x", "x", nil)
	refused(t, err, connect.CodeResourceExhausted, "too many machines")
	w.clock.advance(time.Second)
	_, err = w.tryEnrol("kwe_x", "x", csr(t, newMachine(t, "x").key))
	refused(t, err, connect.CodeUnauthenticated, "no such")
}

// reenrol asks for a certificate for der's key, with m's certificate, signed by key.
func (w *world) reenrol(m *machine, key *ecdsa.PrivateKey, der []byte) (*kwv1.EnrolResponse, error) {
	sum := sha256.Sum256(append([]byte("kernwave reenrol v1\x00"), der...))
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := w.enrolClient().Reenrol(context.Background(), connect.NewRequest(&kwv1.ReenrolRequest{OldCertificateDer: m.cert, CsrDer: der, Signature: sig}))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

func TestReenrolAfterTheCertificateRanOut(t *testing.T) {
	w := serve(t, nil)
	m := w.enrol("web-1")
	w.clock.advance(91 * 24 * time.Hour)
	_, err := w.agent(m).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1")))
	refused(t, err, connect.CodeUnauthenticated, "ran out at 2031-07-30T08:00:00Z")

	young := newMachine(t, "web-1")
	res, err := w.reenrol(m, m.key, csr(t, young.key))
	if err != nil {
		t.Fatal(err)
	}
	young.cert = res.GetCertificateDer()
	if _, err := w.agent(young).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1"))); err != nil {
		t.Error(err)
	}
	if _, err := w.reenrol(m, m.key, csr(t, newMachine(t, "web-1").key)); err != nil {
		t.Errorf("again, after a lost answer and with another new key: %v", err)
	}
	if got := w.events("web-1"); !slices.Equal(got, []string{"host.enrolled", "host.reenrolled", "host.reenrolled"}) {
		t.Errorf("events %v", got)
	}
}

func TestReenrolRefusals(t *testing.T) {
	w := serve(t, nil)
	m, other := w.enrol("web-1"), w.enrol("web-2")
	gone := w.enrol("gone")
	if _, err := w.fleet(w.admin).RevokeHost(t.Context(), connect.NewRequest(&kwv1.RevokeHostRequest{Id: "gone"})); err != nil {
		t.Fatal(err)
	}
	foreign := newMachine(t, "web-1")
	foreignCA, err := OpenCA(t.TempDir(), t0, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := foreignCA.SignHost("web-1", &foreign.key.PublicKey, t0, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	foreign.cert = cert.Raw
	der := csr(t, newMachine(t, "new").key)

	_, err = w.reenrol(m, other.key, der)
	refused(t, err, connect.CodeUnauthenticated, "not signed with the old certificate's key")
	_, err = w.reenrol(foreign, foreign.key, der)
	refused(t, err, connect.CodeUnauthenticated, "not one that this control plane gave")
	_, err = w.reenrol(gone, gone.key, der)
	refused(t, err, connect.CodePermissionDenied, "revoked")
	_, err = w.reenrol(&machine{cert: []byte("garbage")}, m.key, der)
	refused(t, err, connect.CodeInvalidArgument, "cannot be read")
	_, err = w.reenrol(&machine{cert: make([]byte, maxDER+1)}, m.key, der)
	refused(t, err, connect.CodeInvalidArgument, "too large")
	_, err = w.reenrol(&machine{cert: w.s.CA().Cert().Raw}, m.key, der)
	refused(t, err, connect.CodeUnauthenticated, "not one that this control plane gave")
	_, err = w.reenrol(m, m.key, []byte("garbage"))
	refused(t, err, connect.CodeInvalidArgument, "cannot be read")
	w.clock.advance((90 + 366) * 24 * time.Hour)
	_, err = w.reenrol(m, m.key, der)
	refused(t, err, connect.CodePermissionDenied, "366 days ago")
}

func TestRenew(t *testing.T) {
	w := serve(t, nil)
	m := w.enrol("web-1")
	ask := func(m *machine) *kwv1.CheckInResponse {
		t.Helper()
		res, err := w.agent(m).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1")))
		if err != nil {
			t.Fatal(err)
		}
		return res.Msg
	}
	if ask(m).GetRenewCertificate() {
		t.Error("a fresh certificate is to be renewed")
	}
	w.clock.advance(61 * 24 * time.Hour)
	if !ask(m).GetRenewCertificate() {
		t.Error("after two thirds of its life the certificate is not to be renewed")
	}
	young := newMachine(t, "web-1")
	res, err := w.agent(m).Renew(t.Context(), connect.NewRequest(&kwv1.RenewRequest{CsrDer: csr(t, young.key)}))
	if err != nil {
		t.Fatal(err)
	}
	young.cert = res.Msg.GetCertificateDer()
	if ask(young).GetRenewCertificate() {
		t.Error("the renewed certificate is to be renewed")
	}
	ask(m) // until it runs out, the old one is good too: the new one may not have arrived
	_, err = w.agent(m).Renew(t.Context(), connect.NewRequest(&kwv1.RenewRequest{CsrDer: []byte("x")}))
	refused(t, err, connect.CodeInvalidArgument, "cannot be read")
	if got := w.events("web-1"); !slices.Equal(got, []string{"host.enrolled", "host.renewed"}) {
		t.Errorf("events %v", got)
	}
}

func TestAHostCannotFillTheStoreWithCertificates(t *testing.T) {
	w := serve(t, nil)
	m := w.enrol("web-1")
	agent, req := w.agent(m), &kwv1.RenewRequest{CsrDer: csr(t, m.key)}
	for range maxCertificatesAnHour - 1 {
		if _, err := agent.Renew(t.Context(), connect.NewRequest(req)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := agent.Renew(t.Context(), connect.NewRequest(req))
	refused(t, err, connect.CodeResourceExhausted, "100 certificates within the last hour")
	w.clock.advance(time.Hour)
	if _, err := agent.Renew(t.Context(), connect.NewRequest(req)); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}

// TestShortLivedCertificatesAreNotRenewedAllTheTime: the backdating must not count as life.
func TestShortLivedCertificatesAreNotRenewedAllTheTime(t *testing.T) {
	w := serve(t, func(c *Config) { c.HostCertLife = 2 * time.Minute })
	m := w.enrol("web-1")
	res, err := w.agent(m).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1")))
	if err != nil || res.Msg.GetRenewCertificate() {
		t.Errorf("a fresh certificate of 2 min is to be renewed (%v)", err)
	}
}

func TestUnknownHostWithOurCertificate(t *testing.T) {
	w := serve(t, nil)
	m := newMachine(t, "ghost")
	cert, err := w.s.CA().SignHost("ghost", &m.key.PublicKey, t0, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	m.cert = cert.Raw
	_, err = w.agent(m).CheckIn(t.Context(), connect.NewRequest(checkIn("ghost")))
	refused(t, err, connect.CodePermissionDenied, "not known here")
}

func checkIn(host fleet.HostID) *kwv1.CheckInRequest {
	return &kwv1.CheckInRequest{Host: string(host), Now: &kwv1.HostState{BootId: "b", Release: "6.1", Uptime: durationpb.New(time.Hour), InService: true}}
}

func TestFirstStartLetsOnePersonIn(t *testing.T) {
	w := serve(t, nil)
	if !strings.HasPrefix(w.admin, "kwo_") || len(w.admin) < 40 {
		t.Errorf("the first token is %q", w.admin)
	}
	res, err := w.fleet(w.admin).GetStatus(t.Context(), connect.NewRequest(&kwv1.GetStatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Msg.GetOperator() != "admin" || res.Msg.GetRole() != string(operator.RoleAdmin) || res.Msg.GetTerm() != 1 {
		t.Errorf("status %v", res.Msg)
	}
}
