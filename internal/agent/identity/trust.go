package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Trust is how a host tells its control plane from others: by authorities that it has, or, at its first contact, by
// the SHA-256 of an authority's certificate (hex, of the DER), which the server then has to show.
type Trust struct {
	CA     []*x509.Certificate
	SHA256 string
	Clock  *Clock
}

// Client is the TLS configuration for a connection to the server of that name. certificate, if not nil, gives the
// host's own for each handshake.
func (t Trust) Client(serverName string, certificate func() *tls.Certificate) *tls.Config {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: serverName,
		// crypto/tls would check the time against the wall clock, and an authority that is known by its hash not at
		// all. Verify does what it would do, and both.
		InsecureSkipVerify: true,
		VerifyConnection:   func(s tls.ConnectionState) error { return t.Verify(serverName, s.PeerCertificates) },
	}
	if certificate != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate(), nil }
	}
	return cfg
}

// Verify checks what a server showed: a chain to a trusted authority, for its name, as a server, and not run out.
//
// The clock is a lower bound of the true time. A certificate that runs out before it has run out for certain; one
// whose life seems not to have begun shows only that the bound is too low, and is checked at its beginning.
func (t Trust) Verify(serverName string, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("the server showed no certificate")
	}
	opts := x509.VerifyOptions{
		DNSName: serverName, Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, CurrentTime: t.Clock.Now(),
	}
	later := func(at time.Time) {
		if at.After(opts.CurrentTime) {
			opts.CurrentTime = at
		}
	}
	for _, c := range t.CA {
		opts.Roots.AddCert(c)
		later(c.NotBefore)
	}
	later(chain[0].NotBefore)
	pinned := false
	for _, c := range chain[1:] {
		if len(t.CA) == 0 && sameSHA256(c, t.SHA256) {
			opts.Roots.AddCert(c)
			pinned = true
		} else {
			opts.Intermediates.AddCert(c)
		}
		later(c.NotBefore)
	}
	switch {
	case len(t.CA) == 0 && t.SHA256 == "":
		return errors.New("nothing says whom to trust: set ca_sha256 or ca")
	case len(t.CA) == 0 && !pinned:
		return fmt.Errorf("the server showed no authority with SHA-256 %s: it is another control plane, or somebody in between", t.SHA256)
	}
	if _, err := chain[0].Verify(opts); err != nil {
		if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
			err = fmt.Errorf("%w: another control plane, somebody in between, or its authority was replaced while this host was off (then: kernwave-agent enrol --anew --ca-sha256 HEX --token TOKEN, as kernwave token create prints them)", err)
		}
		return fmt.Errorf("the server's certificate: %w", err)
	}
	return nil
}

func sameSHA256(c *x509.Certificate, want string) bool {
	sum := sha256.Sum256(c.Raw)
	return subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(want)) == 1
}
