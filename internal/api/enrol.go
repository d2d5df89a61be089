package api

import (
	"context"
	"crypto/ecdsa"
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
	leaves, err := s.leaves(op, id, req.Msg)
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
	e := enrolment{
		id: id, key: key, keySHA256: keySum, tokenHash: hash, now: now, ca: s.ca.newest(), verify: s.ca.VerifyHost, life: s.cfg.HostCertLife,
		leaves: leaves, unfreeze: s.Control.Unfreeze,
	}
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
	s.said.tell(now)
	return connect.NewResponse(&kwv1.EnrolResponse{
		Host: string(id), CertificateDer: der, CaDer: s.ca.bundle(), ServerTime: wire.TimeToProto(now),
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
	verify    func(cert *x509.Certificate, at time.Time) (fleet.HostID, error)
	life      time.Duration
	leaves    fleet.HostID // whose name the machine had until now; empty: nobody's
	unfreeze  func(tx store.Tx, h *fleet.Host, who, why string, now time.Time) error

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
	// A frozen name belongs to the machine that is enrolled anew: all others had the old key.
	gone := e.host.Revoked || e.host.Status == fleet.StatusRetired || e.host.Frozen != ""
	if known && !gone {
		gone = e.nobodyGetsIn(certs)
	}
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
	if sameKey && e.host.Frozen != "" {
		return refuse(errForbidden, op, e.id, "the host is frozen, and another machine has this key, too: "+e.host.Frozen,
			"enrol this machine with a new key: kernwave-agent enrol --anew")
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
	if e.host.Frozen != "" {
		if err := e.unfreeze(tx, &e.host, "host "+string(e.id), "the machine was enrolled anew, and the old key is worth nothing", e.now); err != nil {
			return err
		}
	}
	if err := e.leave(tx); err != nil {
		return err
	}
	if err := tx.PutHost(e.host); err != nil {
		return err
	}
	_, err = tx.AppendEvent(store.Event{
		At: e.now, Who: "host " + string(e.id), Kind: "host.enrolled", Host: e.id, What: string(e.id) + " enrolled", Why: why,
	})
	return err
}

// nobodyGetsIn says whether no certificate of the host is worth anything any more, for their authority was retired: the
// name is free for whoever has a token.
func (e *enrolment) nobodyGetsIn(certs []store.Certificate) bool {
	for _, c := range certs {
		cert, err := x509.ParseCertificate(c.DER)
		if err != nil || !c.RevokedAt.IsZero() {
			continue
		}
		if _, err := e.verify(cert, cert.NotBefore.Add(backdate)); err == nil {
			return false
		}
	}
	return len(certs) > 0
}

// tokenFor finds an enrolment token. Whether it may still be used is asked later: an equal request may be answered again.
func tokenFor(r store.Reader, op string, id fleet.HostID, hash string) (store.EnrolToken, error) {
	t, err := r.EnrolToken(hash)
	if errors.Is(err, store.ErrNotFound) || err == nil && subtle.ConstantTimeCompare([]byte(t.Hash), []byte(hash)) != 1 {
		return t, refuse(errUnauthenticated, op, id, "there is no such enrolment token", "create one: kernwave token create")
	}
	return t, err
}
