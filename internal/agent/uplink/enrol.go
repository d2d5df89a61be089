package uplink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/wire"
)

// reenrolContext keeps the old key's signature from meaning anything else; see the API.
const reenrolContext = "kernwave reenrol v1\x00"

// leaveContext likewise, for a machine that leaves the name of the host that it was copied from.
const leaveContext = "kernwave leave v1\x00"

// Enrol gets the host its first certificate, with a token. A lost answer costs no use of the token: the key is the
// same when it is asked again.
func (u *Uplink) Enrol(ctx context.Context) error {
	token, err := u.cfg.Token()
	if err != nil {
		return err
	}
	csr, err := u.id.Request(u.cfg.Name)
	if err != nil {
		return err
	}
	req := &kwv1.EnrolRequest{Token: token, Name: string(u.cfg.Name), CsrDer: csr}
	if old := u.cfg.Leaves; old != nil && old.Enrolled() {
		req.LeavesCertificateDer = old.Certificate().Raw
		if req.LeavesSignature, err = old.Sign(append([]byte(leaveContext), csr...)); err != nil {
			return err
		}
	}
	resp, err := u.enrolClient(ctx, func(c kernwavev1connect.EnrolServiceClient) (*connect.Response[kwv1.EnrolResponse], error) {
		return c.Enrol(ctx, connect.NewRequest(req))
	})
	if err != nil {
		return fmt.Errorf("enrol with %s: %w", u.base, err)
	}
	return u.take(resp, u.cfg.Name)
}

// enrolClient calls the control plane without a certificate, on a connection of its own.
func (u *Uplink) enrolClient(_ context.Context, call func(kernwavev1connect.EnrolServiceClient) (*connect.Response[kwv1.EnrolResponse], error)) (*kwv1.EnrolResponse, error) {
	t := u.newTransport(nil)
	defer t.CloseIdleConnections()
	c := kernwavev1connect.NewEnrolServiceClient(&http.Client{Transport: t}, u.base, connect.WithReadMaxBytes(maxAnswer))
	resp, err := call(c)
	if err != nil {
		return nil, explain(err)
	}
	return resp.Msg, nil
}

func (u *Uplink) take(m *kwv1.EnrolResponse, want fleet.HostID) error {
	host := fleet.HostID(m.GetHost())
	if host != want {
		return fmt.Errorf("the control plane gave a certificate for %q, asked for was %q", host, want)
	}
	if err := u.id.Take(host, m.GetCertificateDer(), m.GetCaDer()); err != nil {
		return err
	}
	u.learn(wire.TimeFromProto(m.GetServerTime()))
	u.Reconnect() // the next request shows the new one
	return nil
}

// newCertificate tries to get one, not too often. The old one goes on serving meanwhile, so an error is only logged.
func (u *Uplink) newCertificate(ctx context.Context, why string, how func(context.Context) error) {
	u.renewing.Lock()
	defer u.renewing.Unlock()
	if time.Since(u.tried) < certificateEvery {
		return
	}
	u.tried = time.Now()
	if err := how(ctx); err != nil {
		next := fleet.NextOf(err, "see on the control plane whether the host was revoked")
		u.log.WarnContext(ctx, "no new certificate", "why_wanted", why, "err", err, "next", next)
		return
	}
	u.log.InfoContext(ctx, "new certificate", "why_wanted", why, "not_after", u.id.Certificate().NotAfter)
}

func (u *Uplink) renew(ctx context.Context) error {
	csr, err := u.id.Request(u.id.Host())
	if err != nil {
		return err
	}
	resp, err := u.agent.Renew(ctx, connect.NewRequest(&kwv1.RenewRequest{CsrDer: csr}))
	if err != nil {
		return explain(err)
	}
	return u.take(resp.Msg, u.id.Host())
}

// reenrol asks for a certificate with the old one, which may have run out, and proof of its key.
func (u *Uplink) reenrol(ctx context.Context) error {
	old := u.id.Certificate()
	if old == nil {
		return errors.New("the host is not enrolled")
	}
	csr, err := u.id.Request(u.id.Host())
	if err != nil {
		return err
	}
	sig, err := u.id.Sign(append([]byte(reenrolContext), csr...))
	if err != nil {
		return err
	}
	resp, err := u.enrolClient(ctx, func(c kernwavev1connect.EnrolServiceClient) (*connect.Response[kwv1.EnrolResponse], error) {
		return c.Reenrol(ctx, connect.NewRequest(&kwv1.ReenrolRequest{OldCertificateDer: old.Raw, CsrDer: csr, Signature: sig}))
	})
	if err != nil {
		return err
	}
	return u.take(resp, u.id.Host())
}
