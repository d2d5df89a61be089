package api

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/internal/wire"
)

// rotationRenewals is how many hosts are told in a second to fetch a certificate because of a rotation: each costs a
// write transaction, and nobody is in a hurry. 5,000 hosts take four minutes.
const rotationRenewals = 20

// learned is which hosts have shown a certificate of the authority that is to follow: they have its bundle on disk.
type learned struct {
	mu    sync.Mutex
	of    *x509.Certificate // the authority
	hosts map[fleet.HostID]bool
}

// has says whether h has shown one of ca's; it forgets what was of another authority.
func (l *learned) has(ca *x509.Certificate, h fleet.HostID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of != nil && l.of.Equal(ca) && l.hosts[h]
}

func (l *learned) add(ca *x509.Certificate, hs ...fleet.HostID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil || !l.of.Equal(ca) {
		l.of, l.hosts = ca, map[fleet.HostID]bool{}
	}
	for _, h := range hs {
		l.hosts[h] = true
	}
}

// loadLearned reads which hosts have shown a certificate of the authority that is to follow.
func (s *Server) loadLearned(ctx context.Context) error {
	next := s.ca.rotating()
	if next == nil {
		return nil
	}
	return s.Store.View(ctx, func(r store.Reader) error {
		for _, h := range s.hosts.expected() {
			certs, err := r.CertificatesOf(h)
			if err != nil {
				return fmt.Errorf("load the certificates of %s: %w", h, err)
			}
			for _, c := range certs {
				if c.ShownAt.IsZero() {
					continue
				}
				if cert, err := x509.ParseCertificate(c.DER); err == nil && cert.CheckSignatureFrom(next.cert) == nil {
					s.learned.add(next.cert, h)
				}
			}
		}
		return nil
	})
}

// shown takes note, once, of a host that shows a certificate of the authority that is to follow, and says whether the
// host should fetch a certificate because of the rotation.
func (s *Server) shown(ctx context.Context, c caller, now time.Time) (renew bool) {
	if s.ca.outdated(c.cert) {
		return s.rotationRate.take(now)
	}
	next := s.ca.rotating()
	if next == nil || s.learned.has(next.cert, c.host) {
		return false
	}
	err := s.Store.Update(ctx, func(tx store.Tx) error {
		row, err := tx.Certificate(serialOf(c.cert))
		if err != nil {
			return err
		}
		row.ShownAt = now
		return tx.PutCertificate(row)
	})
	if err != nil { // the next check-in tries again
		s.Log.WarnContext(ctx, "that a host has learned the next CA could not be written", "host", string(c.host), "err", err)
		return false
	}
	s.learned.add(next.cert, c.host)
	return false
}

// GetCA shows the authorities behind the hosts' certificates, and how far a rotation has come.
func (s fleetService) GetCA(ctx context.Context, _ *connect.Request[kwv1.GetCARequest]) (*connect.Response[kwv1.GetCAResponse], error) {
	res, err := s.authorities(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// RotateCA makes the next authority: hosts and control plane trust both from then on.
func (s fleetService) RotateCA(ctx context.Context, req *connect.Request[kwv1.RotateCARequest]) (*connect.Response[kwv1.GetCAResponse], error) {
	const op = "rotate the CA"
	return s.changeCA(ctx, op, req.Msg.GetWhy(), func(now time.Time) (store.Event, error) {
		if err := s.ca.rotate(now); err != nil {
			return store.Event{}, err
		}
		next := s.ca.rotating()
		return store.Event{Kind: "ca.rotated", What: fmt.Sprintf("%s (SHA-256 %s) is to follow %s; both are trusted",
			next.cert.Subject.CommonName, next.SHA256(), s.ca.Serving().cert.Subject.CommonName)}, nil
	})
}

// RetireCA ends a rotation: the old authority counts for nothing any more.
func (s fleetService) RetireCA(ctx context.Context, req *connect.Request[kwv1.RetireCARequest]) (*connect.Response[kwv1.GetCAResponse], error) {
	const op = "retire the CA"
	_, waiting, err := s.waitingForCA(ctx)
	if err != nil {
		return nil, err
	}
	var ids []fleet.HostID
	for _, w := range waiting {
		ids = append(ids, fleet.HostID(w.GetHost()))
	}
	if len(ids) > 0 && !req.Msg.GetForce() {
		return nil, refuse(operator.ErrState, op, "", fmt.Sprintf("%s not learned the one that is to follow, and would not be able to come in: %s", have(len(ids)), some(ids, 10)),
			"see kernwave ca show; bring them back, or retire them (kernwave host retire), or --force: then each of them is to be enrolled anew with kernwave-agent enrol --anew")
	}
	return s.changeCA(ctx, op, req.Msg.GetWhy(), func(now time.Time) (store.Event, error) {
		old := s.ca.Serving()
		if err := s.ca.retire(now); err != nil {
			return store.Event{}, err
		}
		ev := store.Event{Kind: "ca.retired", What: fmt.Sprintf("%s (SHA-256 %s) counts for nothing any more, %s serves",
			old.cert.Subject.CommonName, old.SHA256(), s.ca.Serving().cert.Subject.CommonName)}
		if len(ids) > 0 {
			ev.What += "; by force, though " + have(len(ids)) + " not learned that: " + some(ids, 50)
		}
		return ev, nil
	})
}

func have(n int) string {
	if n == 1 {
		return "1 host has"
	}
	return fmt.Sprintf("%d hosts have", n)
}

// changeCA changes the authorities' files and writes the event in one transaction, so that only the control plane that
// owns the store does either. Killed between the two, the files count: kernwave ca show says what they are.
func (s fleetService) changeCA(ctx context.Context, op, why string, change func(now time.Time) (store.Event, error)) (*connect.Response[kwv1.GetCAResponse], error) {
	if err := checkWhy(op, why); err != nil {
		return nil, err
	}
	who, now := callerOf(ctx).account.Name, s.Now()
	if err := s.Store.Update(ctx, func(tx store.Tx) error {
		ev, err := change(now)
		if err != nil {
			return err
		}
		ev.At, ev.Who, ev.Why = now, who, why
		_, err = tx.AppendEvent(ev)
		return err
	}); err != nil {
		return nil, err
	}
	s.Log.InfoContext(ctx, op, "who", who)
	res, err := s.authorities(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s fleetService) authorities(ctx context.Context) (*kwv1.GetCAResponse, error) {
	res := &kwv1.GetCAResponse{}
	one := func(c *x509.Certificate, state string) *kwv1.Authority {
		return &kwv1.Authority{
			Name: c.Subject.CommonName, Sha256: sumOfDER(c.Raw), State: state, Der: c.Raw,
			NotBefore: wire.TimeToProto(c.NotBefore), NotAfter: wire.TimeToProto(c.NotAfter),
		}
	}
	s.ca.mu.RLock()
	res.Authorities = append(res.Authorities, one(s.ca.serving.cert, "serving"))
	if s.ca.next != nil {
		res.Authorities = append(res.Authorities, one(s.ca.next.cert, "next"))
	}
	for _, r := range s.ca.retired {
		a := one(r.cert, "retired")
		a.Der, a.RetiredAt = nil, wire.TimeToProto(r.at)
		res.Authorities = append(res.Authorities, a)
	}
	s.ca.mu.RUnlock()
	hosts, waiting, err := s.waitingForCA(ctx)
	res.Hosts, res.Ready, res.Waiting = int32(hosts), int32(hosts-len(waiting)), waiting
	return res, err
}

// waitingForCA lists the hosts that have not learned the authority that is to follow; none while there is none.
func (s *Server) waitingForCA(ctx context.Context) (hosts int, waiting []*kwv1.WaitingHost, err error) {
	next := s.ca.rotating()
	if next == nil {
		return 0, nil, nil
	}
	all, err := s.Control.Hosts(ctx, "", s.Now())
	if err != nil {
		return 0, nil, err
	}
	for _, h := range all {
		if h.Status == fleet.StatusRetired || h.Revoked {
			continue
		}
		hosts++
		if s.learned.has(next.cert, h.ID) {
			continue
		}
		w := &kwv1.WaitingHost{Host: string(h.ID), LastSeen: wire.TimeToProto(h.LastSeen), Why: "it is told to fetch a certificate at one of its next check-ins"}
		switch {
		case h.LastSeen.IsZero():
			w.Why = "it has never checked in"
		case h.Silent:
			w.Why = "it is silent"
		case h.Copied != "":
			w.Why = "a copy of it keeps away"
		}
		waiting = append(waiting, w)
	}
	return hosts, waiting, nil
}
