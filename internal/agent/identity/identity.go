// Package identity is who a host is to the control plane: a key that never
// leaves the machine, a certificate that speaks for one host, the authorities
// it trusts, and the latest time that it can be sure has come.
//
// The key is on disk before anyone sees its public half; the rest is one file
// that is replaced whole.
package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/disk"
)

// Identity is safe for concurrent use.
type Identity struct {
	fs  disk.FS
	dir string

	mu  sync.Mutex
	key *ecdsa.PrivateKey
	own certificates
}

// certificates is what is on disk beside the key.
type certificates struct {
	Host fleet.HostID `json:"host"`
	Cert []byte       `json:"certificate_der"`
	CA   [][]byte     `json:"ca_der"`
	// Machine is the hardware that the certificate belongs to; its zero value: not known yet.
	Machine machine `json:"machine,omitzero"`

	leaf *x509.Certificate
	ca   []*x509.Certificate
}

const (
	keyFile  = "host.key"
	certFile = "identity.json"
)

// Open reads the identity in dir, making the directory. A machine that has none yet is not enrolled.
func Open(fsys disk.FS, dir string) (*Identity, error) {
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	if err := adopt(fsys, dir); err != nil {
		return nil, err
	}
	id := &Identity{fs: fsys, dir: dir}
	data, err := fsys.ReadFile(filepath.Join(dir, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read host key: %w", err)
	}
	if id.key, err = parseKey(data); err != nil {
		return nil, id.broken(keyFile, err)
	}
	data, err = fsys.ReadFile(filepath.Join(dir, certFile))
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	var c certificates
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, id.broken(certFile, err)
	}
	if err := c.parse(id.key); err != nil {
		return nil, id.broken(certFile, err)
	}
	id.own = c
	return id, nil
}

func (id *Identity) broken(file string, err error) error {
	path := filepath.Join(id.dir, file)
	return &fleet.Error{
		Op: "read " + path, Err: err,
		Next: "move the file away and enrol the host again: kernwave-agent enrol",
	}
}

// Enrolled says whether there is a certificate, of whatever age.
func (id *Identity) Enrolled() bool {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.own.leaf != nil
}

// Host is who the certificate speaks for; empty: not enrolled.
func (id *Identity) Host() fleet.HostID {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.own.Host
}

// Certificate is the newest; nil: not enrolled.
func (id *Identity) Certificate() *x509.Certificate {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.own.leaf
}

// CA is what the host trusts; empty: not enrolled.
func (id *Identity) CA() []*x509.Certificate {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.own.ca
}

// TLS is the certificate with its key. Without one it is empty, which TLS takes for none.
func (id *Identity) TLS() *tls.Certificate {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.own.leaf == nil {
		return &tls.Certificate{}
	}
	return &tls.Certificate{Certificate: [][]byte{id.own.Cert}, PrivateKey: id.key, Leaf: id.own.leaf}
}

// Request makes a certificate request for the host's key, making the key first if there is none.
func (id *Identity) Request(host fleet.HostID) (csrDER []byte, err error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.key == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make host key: %w", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("encode host key: %w", err)
		}
		data := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		if err := disk.Replace(id.fs, filepath.Join(id.dir, keyFile), data, 0o600); err != nil {
			return nil, fmt.Errorf("write host key: %w", err)
		}
		id.key = key
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: string(host)}}, id.key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return csr, nil
}

// Sign proves to the control plane that the old key is here. message is hashed with SHA-256.
func (id *Identity) Sign(message []byte) ([]byte, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.key == nil {
		return nil, errors.New("there is no host key")
	}
	sum := sha256.Sum256(message)
	return ecdsa.SignASN1(rand.Reader, id.key, sum[:])
}

// Take keeps a new certificate, on disk before it is used. It must be for the host's key.
func (id *Identity) Take(host fleet.HostID, certDER []byte, caDER [][]byte) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	c := certificates{Host: host, Cert: certDER, CA: caDER, Machine: id.own.Machine}
	if err := c.parse(id.key); err != nil {
		return fmt.Errorf("the certificate that the control plane gave: %w", err)
	}
	if err := id.write(c); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	id.own = c
	return nil
}

// RenewAt is when two thirds of the certificate's life are over; zero: not enrolled.
func (id *Identity) RenewAt() time.Time {
	leaf := id.Certificate()
	if leaf == nil {
		return time.Time{}
	}
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
}

func (c *certificates) parse(key *ecdsa.PrivateKey) (err error) {
	if c.leaf, err = x509.ParseCertificate(c.Cert); err != nil {
		return err
	}
	if pub, ok := c.leaf.PublicKey.(*ecdsa.PublicKey); !ok || key == nil || !pub.Equal(&key.PublicKey) {
		return errors.New("it is for another key than the host's")
	}
	if _, err := fleet.ParseHostID(string(c.Host)); err != nil {
		return err
	}
	for _, der := range c.CA {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		c.ca = append(c.ca, cert)
	}
	if len(c.ca) == 0 {
		return errors.New("no authority to trust came with it")
	}
	return nil
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("it holds no PEM block")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("it is no ECDSA key")
	}
	return key, nil
}
