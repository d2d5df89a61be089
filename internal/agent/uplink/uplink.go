// Package uplink is the agent's way to the control plane: Connect over HTTP/2
// and TLS 1.3 with the host's certificate, and packages by their SHA-256. It
// enrols the host, renews its certificate, and enrols it again with its old
// key when the certificate ran out while the machine was off.
package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/identity"
	"github.com/kernwave/kernwave/internal/wire"
)

const (
	// maxAnswer bounds what is read of one answer. A desired state is a few KiB.
	maxAnswer = 1 << 20
	// A connection that has gone quiet is asked for a sign of life; a cut network would otherwise be noticed after a
	// quarter of an hour.
	pingAfter, pingWithin = 15 * time.Second, 10 * time.Second
	dialWithin            = 10 * time.Second
	// certificateEvery is the least time between attempts at a new certificate.
	certificateEvery = time.Minute
)

// Config of an Uplink.
type Config struct {
	// Server is the control plane's address: https://kernwave.example:8443.
	Server string
	// Name is the host id to enrol under.
	Name fleet.HostID
	// CA and CASHA256 say whom to trust until the host is enrolled: certificates, or the SHA-256 of one (hex).
	CA       []*x509.Certificate
	CASHA256 string
	// Token gives the enrolment token; it is asked once per attempt.
	Token func() (string, error)
	// Leaves is the identity that a machine had until now and gives up by enrolling anew. Nil: none.
	Leaves *identity.Identity
	// PackagesDir is where packages go.
	PackagesDir string
	// Dial, if not nil, replaces the network.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Uplink is safe for concurrent use. Create it with [New].
type Uplink struct {
	cfg   Config
	base  string
	name  string // of the server, as its certificate must say
	id    *identity.Identity
	clock *identity.Clock
	log   *slog.Logger

	transport *http.Transport
	agent     kernwavev1connect.AgentServiceClient
	packages  *http.Client // over connections of its own: a long download must not hold the check-ins to one

	renewing sync.Mutex
	tried    time.Time // the last attempt at a new certificate; guarded by renewing
}

// New checks the configuration; it opens no connection.
func New(cfg Config, id *identity.Identity, clock *identity.Clock, log *slog.Logger) (*Uplink, error) {
	base, err := url.Parse(cfg.Server)
	if err != nil || base.Scheme != "https" || base.Host == "" || strings.Trim(base.Path, "/") != "" || base.User != nil {
		return nil, fmt.Errorf("server %q: must be like https://kernwave.example:8443", cfg.Server)
	}
	u := &Uplink{
		cfg: cfg, base: "https://" + base.Host, name: base.Hostname(), id: id, clock: clock, log: log,
	}
	u.transport = u.newTransport(id.TLS)
	u.agent = kernwavev1connect.NewAgentServiceClient(&http.Client{Transport: u.transport}, u.base, connect.WithReadMaxBytes(maxAnswer))
	u.packages = &http.Client{Transport: u.newTransport(id.TLS)}
	return u, nil
}

func (u *Uplink) newTransport(certificate func() *tls.Certificate) *http.Transport {
	dial := u.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialWithin}).DialContext
	}
	return &http.Transport{
		Proxy:       nil, // what the environment of a root service says must not redirect it
		DialContext: dial,
		// Trust is looked up at each handshake: enrolment changes it.
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			cfg := u.trust().Client(u.name, certificate)
			cfg.NextProtos = []string{"h2", "http/1.1"}
			t := tls.Client(c, cfg)
			ctx, cancel := context.WithTimeout(ctx, dialWithin)
			defer cancel()
			if err := t.HandshakeContext(ctx); err != nil {
				_ = c.Close()
				return nil, err
			}
			return t, nil
		},
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingWithin},
		MaxIdleConns:          4,
		IdleConnTimeout:       5 * time.Minute,
		ResponseHeaderTimeout: 30 * time.Second,
	}
}

func (u *Uplink) trust() identity.Trust {
	t := identity.Trust{CA: u.id.CA(), Clock: u.clock}
	if len(t.CA) == 0 {
		t.CA, t.SHA256 = u.cfg.CA, strings.ToLower(u.cfg.CASHA256)
	}
	return t
}

// Reach connects once, without a certificate, and says why the control plane cannot be reached or trusted.
func (u *Uplink) Reach(ctx context.Context) error {
	addr := strings.TrimPrefix(u.base, "https://")
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(u.name, "443")
	}
	c, err := u.newTransport(nil).DialTLSContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

// Close ends the connections that are idle.
func (u *Uplink) Close() {
	u.transport.CloseIdleConnections()
	u.packages.CloseIdleConnections()
}

// Reconnect is Close: what is under way goes on, and the next question connects anew.
func (u *Uplink) Reconnect() { u.Close() }

// CheckIn says what is and returns what should be. It also keeps the certificate and the clock fresh.
func (u *Uplink) CheckIn(ctx context.Context, r fleet.Report) (fleet.Desired, error) {
	if leaf := u.id.Certificate(); leaf != nil && u.clock.Now().After(leaf.NotAfter) {
		u.newCertificate(ctx, "it has run out", u.reenrol)
	}
	resp, err := u.agent.CheckIn(ctx, connect.NewRequest(wire.ReportToProto(r)))
	if err != nil {
		if connect.CodeOf(err) == connect.CodeUnauthenticated {
			u.newCertificate(ctx, "the control plane does not accept it", u.reenrol)
		}
		return fleet.Desired{}, explain(err)
	}
	d := wire.DesiredFromProto(resp.Msg)
	u.learn(d.ServerTime)
	if d.RenewCertificate || u.clock.Now().After(u.id.RenewAt()) {
		u.newCertificate(ctx, "two thirds of its life are over", u.renew)
	}
	return d, nil
}

// learn believes the control plane about the time, within the life of what the host trusts: a wrong year would
// otherwise have every certificate run out.
func (u *Uplink) learn(t time.Time) {
	for _, ca := range u.id.CA() {
		if t.Before(ca.NotAfter) {
			u.clock.Learn(t)
			return
		}
	}
}

// ConfirmReboot asks the last-moment question.
func (u *Uplink) ConfirmReboot(ctx context.Context, op fleet.OperationID, grant fleet.GrantID) (fleet.Confirmation, error) {
	resp, err := u.agent.ConfirmReboot(ctx, connect.NewRequest(&kwv1.ConfirmRebootRequest{
		Host: string(u.id.Host()), Operation: string(op), Grant: string(grant),
	}))
	if err != nil {
		return fleet.Confirmation{}, explain(err)
	}
	return wire.ConfirmationFromProto(resp.Msg), nil
}

// explain turns what Connect returns into an error that says what to do, where the control plane said so.
func explain(err error) error {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return err
	}
	for _, d := range ce.Details() {
		v, derr := d.Value()
		if derr != nil {
			continue
		}
		if ed, ok := v.(*kwv1.ErrorDetail); ok {
			return wire.ErrorFromProto(ed)
		}
	}
	return err
}
