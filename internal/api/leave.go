package api

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
)

// leaveContext begins what a machine signs with the key of a host whose name it leaves.
const leaveContext = "kernwave leave v1\x00"

// leaves says whose name the machine had until now, proved by that name's key; empty: nobody's. A copy of a host that
// becomes a host of its own says so, and the freeze of the other one ends.
func (s enrolService) leaves(op string, id fleet.HostID, m *kwv1.EnrolRequest) (fleet.HostID, error) {
	der := m.GetLeavesCertificateDer()
	if len(der) == 0 {
		return "", nil
	}
	const next = "let kernwave-agent make the request: kernwave-agent enrol --anew"
	if len(der) > maxDER {
		return "", refuse(operator.ErrInvalid, op, id, "the certificate that is left is too large", next)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "", refuse(operator.ErrInvalid, op, id, "the certificate that is left cannot be read: "+err.Error(), next)
	}
	old, err := s.ca.VerifyHost(cert, cert.NotBefore.Add(backdate))
	if err != nil {
		return "", nil // of another control plane: nothing here is left
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	sum := sha256.Sum256(append([]byte(leaveContext), m.GetCsrDer()...))
	if !ok || !ecdsa.VerifyASN1(key, sum[:], m.GetLeavesSignature()) {
		return "", refuse(errUnauthenticated, op, id, "the request is not signed with the key of the certificate that is left", next)
	}
	return old, nil
}

// leave ends the freeze of the host whose name the machine had.
func (e *enrolment) leave(tx store.Tx) error {
	if e.leaves == "" || e.leaves == e.id {
		return nil
	}
	old, err := tx.Host(e.leaves)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if old.Frozen != "" || old.Copied != "" {
		return e.unfreeze(tx, &old, "host "+string(e.id), fmt.Sprintf("the copy is a host of its own: %s", e.id), e.now)
	}
	_, err = tx.AppendEvent(store.Event{
		At: e.now, Who: "host " + string(e.id), Kind: "host.left", Host: e.leaves,
		What: fmt.Sprintf("a machine that had the certificate of %s is %s now", e.leaves, e.id),
	})
	return err
}
