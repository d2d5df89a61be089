package api

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

// hostGate knows, in memory, which hosts may come in: every check-in asks.
type hostGate struct {
	// changing is held over a change in the store and here, so that both see changes in one order.
	changing sync.Mutex

	mu      sync.RWMutex
	hosts   map[fleet.HostID]standing
	revoked map[string]bool // serials
}

// standing is what counts of a host at the door.
type standing struct {
	status  fleet.Status
	revoked bool
}

func (g *hostGate) load(ctx context.Context, s store.Store) error {
	hosts, revoked := map[fleet.HostID]standing{}, map[string]bool{}
	if err := s.View(ctx, func(r store.Reader) error {
		hs, err := r.Hosts()
		if err != nil {
			return err
		}
		for _, h := range hs {
			hosts[h.ID] = standing{h.Status, h.Revoked}
		}
		serials, err := r.RevokedCertificates()
		for _, n := range serials {
			revoked[n] = true
		}
		return err
	}); err != nil {
		return fmt.Errorf("load who may come in: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hosts, g.revoked = hosts, revoked
	return nil
}

// put takes note of a host and of certificates that were revoked.
func (g *hostGate) put(h fleet.Host, revoked []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hosts[h.ID] = standing{h.Status, h.Revoked}
	for _, n := range revoked {
		g.revoked[n] = true
	}
}

// expected lists the hosts that should check in.
func (g *hostGate) expected() []fleet.HostID {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var ids []fleet.HostID
	for id, s := range g.hosts {
		if s.status == fleet.StatusActive && !s.revoked {
			ids = append(ids, id)
		}
	}
	return ids
}

// knows says whether the store has a host.
func (g *hostGate) knows(id fleet.HostID) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	_, known := g.hosts[id]
	return known
}

// admit refuses hosts that are unknown, revoked or retired, and certificates that were revoked.
func (g *hostGate) admit(op string, id fleet.HostID, serial string) error {
	g.mu.RLock()
	s, known := g.hosts[id]
	gone := g.revoked[serial]
	g.mu.RUnlock()
	switch {
	case !known:
		return refuse(errForbidden, op, id, "the host is not known here, though its certificate is ours: the control plane may have been restored from an older backup",
			"enrol the host again with a new token")
	case s.revoked || gone:
		return refuse(errForbidden, op, id, "the host's certificate was revoked", "if this machine is to come back, enrol it again with a new key: kernwave-agent enrol --anew, with a token of kernwave token create")
	case s.status == fleet.StatusRetired:
		return refuse(errForbidden, op, id, "the host is retired", "if it is to come back, enrol it again with a new token: kernwave token create")
	}
	return nil
}

// authenticateHost says for which host the client's certificate speaks.
func (s *Server) authenticateHost(ctx context.Context, op string, cert *x509.Certificate, header http.Header, now time.Time) (fleet.HostID, error) {
	if cert == nil {
		why := "there is no host's certificate with the connection"
		if header.Get("Authorization") != "" {
			why += "; an operator's token does not speak for a host"
		}
		return "", refuse(errUnauthenticated, op, "", why, "enrol the host: kernwave-agent enrol")
	}
	id, err := s.ca.VerifyHost(cert, now)
	if err != nil {
		if bad, ok := errors.AsType[x509.CertificateInvalidError](err); ok && bad.Reason == x509.Expired {
			if now.Before(cert.NotBefore) {
				return "", refuse(errUnauthenticated, op, "", fmt.Sprintf("the certificate is valid from %s on, and here it is %s",
					cert.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)), "check the control plane's clock")
			}
			return "", refuse(errUnauthenticated, op, "", "the certificate ran out at "+cert.NotAfter.UTC().Format(time.RFC3339),
				"the agent re-enrols by itself with its old key; if it does not, enrol the host again with a new token")
		}
		return "", refuse(errUnauthenticated, op, "", "the certificate is not one that this control plane gave to a host: "+err.Error(),
			"check that the agent speaks to the right control plane, or enrol the host here")
	}
	if err := s.hosts.admit(op, id, serialOf(cert)); err != nil {
		s.unknown(ctx, id, now)
		return id, err
	}
	return id, nil
}
