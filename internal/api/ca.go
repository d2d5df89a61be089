package api

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

var cryptoRand = rand.Reader

// backdate is how far certificates reach back: the clocks of machines that boot are often a little late.
const backdate = time.Hour

// caLife is long because replacing a CA means touching every host.
const caLife = 10 * 365 * 24 * time.Hour

// CA signs the certificates of hosts and of the server itself. It speaks for one control plane.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	rand io.Reader
}

// OpenCA reads key.pem and cert.pem in dir, or makes them.
func OpenCA(dir string, now time.Time, random io.Reader) (*CA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the CA: %w", err)
	}
	ca := &CA{rand: random, pool: x509.NewCertPool()}
	keyFile, certFile := filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	var err error
	if ca.key, err = loadKey(keyFile); errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Stat(certFile); e == nil {
			return nil, &fleet.Error{
				Op: "open the CA", Err: fmt.Errorf("%s is there, but its key %s is not", certFile, keyFile),
				Next: "restore the key from a backup; without it no host can be let in",
			}
		}
		// The key first: killed in between, the next start makes the certificate.
		ca.key, err = makeKey(keyFile, random)
	}
	if err != nil {
		return nil, fmt.Errorf("open the CA: %w", err)
	}
	if ca.cert, err = loadCert(certFile); errors.Is(err, fs.ErrNotExist) {
		ca.cert, err = ca.makeCert(certFile, now)
	}
	if err != nil {
		return nil, fmt.Errorf("open the CA: %w", err)
	}
	switch {
	case !ca.key.PublicKey.Equal(ca.cert.PublicKey):
		return nil, &fleet.Error{Op: "open the CA", Err: fmt.Errorf("%s and %s do not belong together", keyFile, certFile), Next: "restore both from one backup"}
	case !ca.cert.IsCA:
		return nil, &fleet.Error{Op: "open the CA", Err: fmt.Errorf("%s is not a CA's certificate", certFile), Next: "restore it from a backup"}
	case now.After(ca.cert.NotAfter):
		return nil, &fleet.Error{
			Op: "open the CA", Err: fmt.Errorf("its certificate ran out at %s", ca.cert.NotAfter.Format(time.RFC3339)),
			Next: "check this machine's clock",
		}
	}
	ca.pool.AddCert(ca.cert)
	return ca, nil
}

// SHA256 is the fingerprint that agents pin at their first contact.
func (ca *CA) SHA256() string {
	sum := sha256.Sum256(ca.cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Cert returns the CA's certificate.
func (ca *CA) Cert() *x509.Certificate { return ca.cert }

func (ca *CA) makeCert(file string, now time.Time) (*x509.Certificate, error) {
	serial, err := ca.serial()
	if err != nil {
		return nil, err
	}
	// The serial in the name keeps the CAs of two control planes apart for people.
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: fmt.Sprintf("Kernwave CA %x", serial.Bytes()[:4])},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(ca.rand, t, t, &ca.key.PublicKey, ca.key)
	if err != nil {
		return nil, err
	}
	if err := writeDurably(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// sign makes a certificate for key from t, which says what it is for and how long.
func (ca *CA) sign(t *x509.Certificate, key any) (*x509.Certificate, error) {
	serial, err := ca.serial()
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.BasicConstraintsValid = true
	der, err := x509.CreateCertificate(ca.rand, t, ca.cert, key, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// SignHost makes a certificate that speaks for one host, and as a client only.
func (ca *CA) SignHost(id fleet.HostID, key *ecdsa.PublicKey, now time.Time, life time.Duration) (*x509.Certificate, error) {
	return ca.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: string(id)}, URIs: []*url.URL{hostURI(id)},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key)
}

// VerifyHost checks that cert is one of ours for a host, valid at the given time, and says for which.
func (ca *CA) VerifyHost(cert *x509.Certificate, at time.Time) (fleet.HostID, error) {
	// Not x509's chain verification: it also wants the CA's certificate to have begun, and a server whose clock is
	// behind the day on which its CA was made would refuse every host.
	if err := cert.CheckSignatureFrom(ca.cert); err != nil {
		return "", err
	}
	switch {
	case cert.IsCA || !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || len(cert.UnhandledCriticalExtensions) > 0:
		return "", x509.CertificateInvalidError{Cert: cert, Reason: x509.IncompatibleUsage}
	case at.Before(cert.NotBefore) || at.After(cert.NotAfter) || at.After(ca.cert.NotAfter):
		return "", x509.CertificateInvalidError{Cert: cert, Reason: x509.Expired}
	}
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "kernwave" || cert.URIs[0].Host != "host" {
		return "", errors.New("it names no host")
	}
	id, err := fleet.ParseHostID(cert.URIs[0].Path[min(1, len(cert.URIs[0].Path)):])
	if err != nil {
		return "", err
	}
	return id, nil
}

func hostURI(id fleet.HostID) *url.URL {
	return &url.URL{Scheme: "kernwave", Host: "host", Path: "/" + string(id)}
}

// serial draws 127 random bits: positive, and never used before.
func (ca *CA) serial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(ca.rand, b); err != nil {
		return nil, fmt.Errorf("draw a serial number: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40 // no leading zeros: it prints the same everywhere
	return new(big.Int).SetBytes(b), nil
}

func serialOf(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

// keySHA256 is how a key is known in the store.
func keySHA256(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func makeKey(file string, random io.Reader) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writeDurably(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

func loadKey(file string) (*ecdsa.PrivateKey, error) {
	der, err := loadPEM(file, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: a %T, not an ECDSA key", file, key)
	}
	return ec, nil
}

func loadCert(file string) (*x509.Certificate, error) {
	der, err := loadPEM(file, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return cert, nil
}

func loadPEM(file, kind string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s: no PEM block %q", file, kind)
	}
	return block.Bytes, nil
}
