package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"regexp"
	"slices"
	"sync"
	"time"
)

// serverCertLife is the life of the server's own certificate. It is made anew at each start and after two thirds.
const serverCertLife = 90 * 24 * time.Hour

// TLS returns the server's side of TLS: version 1.3, a certificate that renews itself, with the CA's in the chain so
// that an agent can pin it at its first contact. A client's certificate is asked for, and its key proved, but it is
// checked with each request: there a refusal can explain itself, in a handshake it cannot.
func (s *Server) TLS() *tls.Config {
	own := &serverCert{ca: s.ca.Serving, said: s.said.latest, names: append(localNames(), s.cfg.Names...), now: s.Now}
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own.get() },
		NextProtos:     []string{"h2", "http/1.1"},
		Time:           s.Now,
	}
}

// serverCert is the server's certificate, in memory alone.
type serverCert struct {
	ca    func() *CA
	said  func() time.Time
	names []string
	now   func() time.Time

	mu      sync.Mutex
	cert    *tls.Certificate
	of      *CA
	renewAt time.Time
}

func (c *serverCert) get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, ca := c.now(), c.ca()
	// A host takes the latest time that it was told for certain. After the clock was wrong and was set back, the
	// certificate has to be good then, too, or every host would take it for one that ran out.
	until := now
	if said := c.said(); said.After(until) {
		until = said
	}
	// A clock that was far ahead and was set back: the certificate is from the future.
	if c.cert != nil && c.of == ca && now.Before(c.renewAt) && now.After(c.cert.Leaf.NotBefore) && until.Before(c.cert.Leaf.NotAfter) {
		return c.cert, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), ca.rand)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Kernwave server"},
		NotBefore: now.Add(-backdate), NotAfter: until.Add(serverCertLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range c.names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	leaf, err := ca.sign(t, &key.PublicKey)
	if err != nil {
		return nil, err
	}
	c.cert = &tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.cert.Raw}, PrivateKey: key, Leaf: leaf}
	c.of = ca
	c.renewAt = now.Add(serverCertLife * 2 / 3)
	return c.cert, nil
}

func localNames() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if h, err := os.Hostname(); err == nil && validSAN(h) && !slices.Contains(names, h) {
		names = append(names, h)
	}
	return names
}

var dnsName = regexp.MustCompile(`^(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

func validSAN(n string) bool {
	return net.ParseIP(n) != nil || len(n) <= 253 && dnsName.MatchString(n)
}
