package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/wire"
)

// maxDER bounds certificates and requests for them; ours are below 1 KiB.
const maxDER = 16 << 10

// reenrolContext begins what a host signs with its old key, so that the signature is good for nothing else.
const reenrolContext = "kernwave reenrol v1\x00"

// enrolService is what a machine without a valid certificate may call.
type enrolService struct{ *Server }

// Enrol trades a token for a certificate.
func (s enrolService) Enrol(ctx context.Context, req *connect.Request[kwv1.EnrolRequest]) (*connect.Response[kwv1.EnrolResponse], error) {
	const op = "enrol"
	now := s.Now()
	if err := s.enrolMay(op, now); err != nil {
		return nil, err
	}
	id, err := fleet.ParseHostID(req.Msg.GetName())
	if err != nil {
		return nil, refuse(operator.ErrInvalid, op, "", err.Error(), "choose another name: kernwave-agent enrol --name NAME")
	}
	key, keySum, err := readCSR(op, id, req.Msg.GetCsrDer())
	if err != nil {
		return nil, err
	}
	token := req.Msg.GetToken()
	if why := wrongToken(token, enrolToken); why != "" {
		return nil, refuse(errUnauthenticated, op, id, why, "create one: kernwave token create")
	}
	hash := hashToken(token)
	// Look first: a wrong token must not cost a write transaction.
	if err := s.Store.View(ctx, func(r store.Reader) error { _, err := tokenFor(r, op, id, hash); return err }); err != nil {
		s.Log.WarnContext(ctx, "enrolment refused", "host", string(id), "err", err)
		return nil, err
	}
	s.hosts.changing.Lock()
	defer s.hosts.changing.Unlock()
	e := enrolment{id: id, key: key, keySHA256: keySum, tokenHash: hash, now: now, ca: s.ca, life: s.cfg.HostCertLife}
	if err := s.Store.Update(ctx, e.apply); err != nil {
		s.Log.WarnContext(ctx, "enrolment refused", "host", string(id), "err", err)
		return nil, err
	}
	s.hosts.put(e.host, e.revoked)
	s.Log.InfoContext(ctx, "host enrolled", "host", string(id), "again", e.again)
	s.Control.Poke()
	return s.enrolled(id, e.der, now), nil
}

func (s enrolService) enrolMay(op string, now time.Time) error {
	if !s.enrolRate.take(now) {
		return refuse(errBusy, op, "", "too many machines enrol at once", "try again in a few seconds")
	}
	return nil
}

func (s *Server) enrolled(id fleet.HostID, der []byte, now time.Time) *connect.Response[kwv1.EnrolResponse] {
	return connect.NewResponse(&kwv1.EnrolResponse{
		Host: string(id), CertificateDer: der, CaDer: [][]byte{s.ca.cert.Raw}, ServerTime: wire.TimeToProto(now),
	})
}

// enrolment is one host's enrolment with a token. apply runs once.
type enrolment struct {
	id        fleet.HostID
	key       *ecdsa.PublicKey
	keySHA256 string
	tokenHash string
	now       time.Time
	ca        *CA
	life      time.Duration

	// What it came to.
	host    fleet.Host
	der     []byte
	revoked []string // serials of certificates that others had under this name
	again   bool     // the answer to an earlier, equal request
}

func (e *enrolment) apply(tx store.Tx) error {
	const op = "enrol"
	token, err := tokenFor(tx, op, e.id, e.tokenHash)
	if err != nil {
		return err
	}
	certs, err := tx.CertificatesOf(e.id)
	if err != nil {
		return err
	}
	e.host, err = tx.Host(e.id)
	known := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	gone := e.host.Revoked || e.host.Status == fleet.StatusRetired
	sameKey := false
	for _, c := range certs {
		if c.KeySHA256 != e.keySHA256 {
			continue
		}
		if !c.RevokedAt.IsZero() {
			return refuse(errForbidden, op, e.id, "the machine's key was revoked", "remove host.key and identity.json in the agent's state directory (/var/lib/kernwave), so that it makes a new key, then enrol again")
		}
		sameKey = true
		if !gone && c.TokenHash == e.tokenHash && c.NotAfter.After(e.now) {
			e.der, e.again = c.DER, true // the first answer was lost: it costs no use
			return nil
		}
	}
	if known && !gone && !sameKey {
		return refuse(operator.ErrExists, op, e.id, "there is a host of this name, with another key",
			fmt.Sprintf("choose another name; or, if it is this machine, installed anew: kernwave host revoke %s, then enrol again", e.id))
	}
	switch {
	case !e.now.Before(token.ExpiresAt):
		return refuse(errUnauthenticated, op, e.id, "the token ran out at "+token.ExpiresAt.UTC().Format(time.RFC3339), "create another: kernwave token create")
	case token.UsesLeft <= 0:
		return refuse(errUnauthenticated, op, e.id, fmt.Sprintf("the token has been used as often as it may (%d)", token.Uses), "create another: kernwave token create")
	}
	token.UsesLeft--
	if err := tx.PutEnrolToken(token); err != nil {
		return err
	}
	for _, c := range certs {
		if c.RevokedAt.IsZero() && c.KeySHA256 != e.keySHA256 {
			c.RevokedAt, c.RevokedBy = e.now, "enrolment of "+string(e.id)+" with another key"
			if err := tx.PutCertificate(c); err != nil {
				return err
			}
			e.revoked = append(e.revoked, c.Serial)
		}
	}
	cert, err := e.ca.SignHost(e.id, e.key, e.now, e.life)
	if err != nil {
		return err
	}
	e.der = cert.Raw
	if err := tx.PutCertificate(certificateRow(e.id, cert, e.now, "enrol", e.tokenHash)); err != nil {
		return err
	}
	why := "a token of " + token.CreatedBy
	if token.Note != "" {
		why += " (" + token.Note + ")"
	}
	if !known || gone {
		e.host.ID, e.host.Status, e.host.StatusWhy, e.host.Revoked = e.id, fleet.StatusActive, "", false
	}
	e.host.EnrolledAt = e.now
	if err := tx.PutHost(e.host); err != nil {
		return err
	}
	_, err = tx.AppendEvent(store.Event{
		At: e.now, Who: "host " + string(e.id), Kind: "host.enrolled", Host: e.id, What: string(e.id) + " enrolled", Why: why,
	})
	return err
}

// tokenFor finds an enrolment token. Whether it may still be used is asked later: an equal request may be answered again.
func tokenFor(r store.Reader, op string, id fleet.HostID, hash string) (store.EnrolToken, error) {
	t, err := r.EnrolToken(hash)
	if errors.Is(err, store.ErrNotFound) || err == nil && subtle.ConstantTimeCompare([]byte(t.Hash), []byte(hash)) != 1 {
		return t, refuse(errUnauthenticated, op, id, "there is no such enrolment token", "create one: kernwave token create")
	}
	return t, err
}

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
	return s.issue(ctx, op, id, key, "host.reenrolled", "its certificate ran out at "+old.NotAfter.UTC().Format(time.RFC3339), now)
}

// issue gives a host that has proved who it is a further certificate.
func (s *Server) issue(ctx context.Context, op string, id fleet.HostID, key *ecdsa.PublicKey, kind, why string, now time.Time) (*connect.Response[kwv1.EnrolResponse], error) {
	how := "renew"
	if kind == "host.reenrolled" {
		how = "reenrol"
	}
	s.hosts.changing.Lock() // a revocation comes before or after, not in between
	defer s.hosts.changing.Unlock()
	cert, err := s.ca.SignHost(id, key, now, s.cfg.HostCertLife)
	if err != nil {
		return nil, err
	}
	if err := s.Store.Update(ctx, func(tx store.Tx) error {
		h, err := tx.Host(id)
		if err != nil {
			return err
		}
		if h.Revoked || h.Status == fleet.StatusRetired {
			return refuse(errForbidden, op, id, "the host was revoked or retired meanwhile", "enrol it again with a new token, if it is to come back")
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

// readCSR checks a certificate request: of all that it says, only the key counts, and that the machine has it.
func readCSR(op string, id fleet.HostID, der []byte) (key *ecdsa.PublicKey, sum string, err error) {
	const next = "let kernwave-agent make the request"
	bad := func(why string) (*ecdsa.PublicKey, string, error) {
		return nil, "", refuse(operator.ErrInvalid, op, id, "the certificate request "+why, next)
	}
	if len(der) > maxDER {
		return bad(fmt.Sprintf("has %d bytes, at most %d are read", len(der), maxDER))
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return bad("cannot be read: " + err.Error())
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
		return bad("must have an ECDSA key on P-256 or P-384")
	}
	if err := csr.CheckSignature(); err != nil {
		return bad("is not signed with its own key")
	}
	return key, keySHA256(&x509.Certificate{RawSubjectPublicKeyInfo: csr.RawSubjectPublicKeyInfo}), nil
}
