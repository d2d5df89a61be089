package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// maxDER bounds certificates and requests for them; ours are below 1 KiB.
const maxDER = 16 << 10

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
