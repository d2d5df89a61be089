package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

// reenrolContext begins what a host signs with its old key, so that the signature is good for nothing else.
const reenrolContext = "kernwave reenrol v1\x00"

// maxCertificatesAnHour bounds what one host can make the store keep. At the shortest life a host renews 45 times.
const maxCertificatesAnHour = 100

// Reenrol gives a new certificate to a host whose certificate ran out while it was down.
func (s enrolService) Reenrol(ctx context.Context, req *connect.Request[kwv1.ReenrolRequest]) (*connect.Response[kwv1.EnrolResponse], error) {
	const op = "re-enrol"
	const next = "enrol the host with a token: kernwave-agent enrol"
	now := s.Now()
	if err := s.enrolMay(op, now); err != nil {
		return nil, err
	}
	if len(req.Msg.GetOldCertificateDer()) > maxDER {
		return nil, refuse(operator.ErrInvalid, op, "", "the old certificate is too large", next)
	}
	old, err := x509.ParseCertificate(req.Msg.GetOldCertificateDer())
	if err != nil {
		return nil, refuse(operator.ErrInvalid, op, "", "the old certificate cannot be read: "+err.Error(), next)
	}
	// Its time is over, which is why the host asks: it must have been good once.
	id, err := s.ca.VerifyHost(old, old.NotBefore.Add(backdate))
	if err != nil {
		return nil, refuse(errUnauthenticated, op, "", "the old certificate is not one that this control plane gave to a host", next)
	}
	if err := s.hosts.admit(op, id, serialOf(old)); err != nil {
		return nil, err
	}
	if late := now.Sub(old.NotAfter); late > s.cfg.ReenrolWithin {
		return nil, refuse(errForbidden, op, id, fmt.Sprintf("the old certificate ran out %d days ago; up to %d are allowed",
			int(late.Hours()/24), int(s.cfg.ReenrolWithin.Hours()/24)), next)
	}
	key, _, err := readCSR(op, id, req.Msg.GetCsrDer())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append([]byte(reenrolContext), req.Msg.GetCsrDer()...))
	oldKey, ok := old.PublicKey.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(oldKey, sum[:], req.Msg.GetSignature()) {
		return nil, refuse(errUnauthenticated, op, id, "the request is not signed with the old certificate's key", next)
	}
	return s.issue(ctx, op, id, old, key, "host.reenrolled", "its certificate ran out at "+old.NotAfter.UTC().Format(time.RFC3339), now)
}

// issue gives a host that has proved who it is a further certificate.
func (s *Server) issue(ctx context.Context, op string, id fleet.HostID, old *x509.Certificate, key *ecdsa.PublicKey, kind, why string, now time.Time) (*connect.Response[kwv1.EnrolResponse], error) {
	how := "renew"
	if kind == "host.reenrolled" {
		how = "reenrol"
	}
	s.hosts.changing.Lock() // a revocation comes before or after, not in between
	defer s.hosts.changing.Unlock()
	if err := s.hosts.admit(op, id, serialOf(old)); err != nil {
		return nil, err
	}
	cert, err := s.ca.newest().SignHost(id, key, now, s.cfg.HostCertLife)
	if err != nil {
		return nil, err
	}
	if err := s.Store.Update(ctx, func(tx store.Tx) error {
		have, err := tx.CertificatesOf(id)
		if err != nil {
			return err
		}
		if n := len(have); n >= maxCertificatesAnHour && now.Sub(have[n-maxCertificatesAnHour].IssuedAt) < time.Hour {
			return refuse(errBusy, op, id, fmt.Sprintf("the host got %d certificates within the last hour", maxCertificatesAnHour),
				"look at why the agent asks for so many; it may ask again in an hour")
		}
		if err := tx.PutCertificate(certificateRow(id, cert, now, how, "")); err != nil {
			return err
		}
		_, err = tx.AppendEvent(store.Event{
			At: now, Who: "host " + string(id), Kind: kind, Host: id,
			What: fmt.Sprintf("%s got a new certificate, good until %s", id, cert.NotAfter.UTC().Format(time.RFC3339)), Why: why,
		})
		return err
	}); err != nil {
		return nil, err
	}
	return s.enrolled(id, cert.Raw, now), nil
}

func certificateRow(id fleet.HostID, c *x509.Certificate, now time.Time, how, tokenHash string) store.Certificate {
	return store.Certificate{
		Serial: serialOf(c), Host: id, KeySHA256: keySHA256(c), DER: c.Raw, IssuedAt: now.UTC(), NotAfter: c.NotAfter.UTC(), How: how, TokenHash: tokenHash,
	}
}
