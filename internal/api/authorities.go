package api

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// authorities are the CA that counts, and during a rotation the one that is to follow it. What is on disk says where a
// rotation is, and each step is one rename:
//
//	key.pem, cert.pem              one authority
//	and next-key.pem               a rotation that was cut short: nobody has seen it, the next one begins anew
//	and next-key, next-cert.pem    both are trusted; hosts get certificates of the next one, the server shows the first one's
//	key.pem is the next one's      the old one is retired; the next start moves next-cert.pem to cert.pem
//
// retired-HEX.pem keep certificates, without keys, of those that count no more, so that their hosts can be told why.
type authorities struct {
	dir  string
	rand io.Reader

	mu      sync.RWMutex
	serving *CA
	next    *CA // nil: no rotation is under way
	retired []retiredCA
}

type retiredCA struct {
	cert *x509.Certificate
	at   time.Time
}

const retiredAt = "Retired-At"

func openAuthorities(dir string, now time.Time, random io.Reader) (*authorities, error) {
	as := &authorities{dir: dir, rand: random}
	if err := as.finishRetiring(); err != nil {
		return nil, fmt.Errorf("open the CA: %w", err)
	}
	var err error
	if as.serving, err = OpenCA(dir, now, random); err != nil {
		return nil, err
	}
	if _, err := os.Stat(as.file("next-cert.pem")); err == nil {
		if as.next, err = loadCA(as.file("next-key.pem"), as.file("next-cert.pem"), random); err != nil {
			return nil, &fleet.Error{Op: "open the CA that is to follow", Err: err, Next: "restore the directory " + dir + " from one backup"}
		}
	}
	files, err := filepath.Glob(as.file("retired-*.pem"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		r, err := loadRetired(f)
		if err != nil {
			return nil, fmt.Errorf("open the CA: %w", err)
		}
		if !r.cert.Equal(as.serving.cert) { // else it was about to be retired
			as.retired = append(as.retired, r)
		}
	}
	return as, nil
}

func (as *authorities) file(name string) string { return filepath.Join(as.dir, name) }

// finishRetiring ends a retirement that was cut short after the key had moved.
func (as *authorities) finishRetiring() error {
	next, err := loadCert(as.file("next-cert.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	key, err := loadKey(as.file("key.pem"))
	if err != nil || !key.PublicKey.Equal(next.PublicKey) {
		return nil //nolint:nilerr // OpenCA says what is wrong with it
	}
	if err := os.Rename(as.file("next-cert.pem"), as.file("cert.pem")); err != nil {
		return err
	}
	return syncDir(as.dir)
}

func loadCA(keyFile, certFile string, random io.Reader) (*CA, error) {
	ca := &CA{rand: random, pool: x509.NewCertPool()}
	var err error
	if ca.key, err = loadKey(keyFile); err != nil {
		return nil, err
	}
	if ca.cert, err = loadCert(certFile); err != nil {
		return nil, err
	}
	if !ca.key.PublicKey.Equal(ca.cert.PublicKey) {
		return nil, fmt.Errorf("%s and %s do not belong together", keyFile, certFile)
	}
	ca.pool.AddCert(ca.cert)
	return ca, nil
}

func loadRetired(file string) (r retiredCA, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return r, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return r, fmt.Errorf("%s: no PEM block", file)
	}
	if r.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return r, fmt.Errorf("%s: %w", file, err)
	}
	r.at, err = time.Parse(time.RFC3339, block.Headers[retiredAt])
	if err != nil {
		return r, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// Serving is the authority that the server shows.
func (as *authorities) Serving() *CA {
	as.mu.RLock()
	defer as.mu.RUnlock()
	return as.serving
}

// newest is the one that gives certificates to hosts.
func (as *authorities) newest() *CA {
	as.mu.RLock()
	defer as.mu.RUnlock()
	if as.next != nil {
		return as.next
	}
	return as.serving
}

// rotating is the authority that is to follow; nil: none is.
func (as *authorities) rotating() *CA {
	as.mu.RLock()
	defer as.mu.RUnlock()
	return as.next
}

// bundle is what hosts shall trust, all of it.
func (as *authorities) bundle() (ders [][]byte) {
	as.mu.RLock()
	defer as.mu.RUnlock()
	for _, ca := range []*CA{as.serving, as.next} {
		if ca != nil {
			ders = append(ders, ca.cert.Raw)
		}
	}
	return ders
}

// VerifyHost checks that cert is one of ours for a host, valid at the given time, and says for which.
func (as *authorities) VerifyHost(cert *x509.Certificate, at time.Time) (fleet.HostID, error) {
	as.mu.RLock()
	defer as.mu.RUnlock()
	if as.next != nil && cert.CheckSignatureFrom(as.next.cert) == nil {
		return as.next.VerifyHost(cert, at)
	}
	id, err := as.serving.VerifyHost(cert, at)
	if err == nil {
		return id, nil
	}
	for _, r := range as.retired {
		if cert.CheckSignatureFrom(r.cert) == nil {
			return "", fmt.Errorf("it is of the authority %s, which was retired at %s", r.cert.Subject.CommonName, r.at.UTC().Format(time.RFC3339))
		}
	}
	return "", err
}

// outdated says whether a host with this certificate does not know yet, or not only, whom to trust now.
func (as *authorities) outdated(cert *x509.Certificate) bool {
	as.mu.RLock()
	defer as.mu.RUnlock()
	if as.next != nil {
		return cert.CheckSignatureFrom(as.next.cert) != nil
	}
	given := cert.NotBefore.Add(backdate)
	return slices.ContainsFunc(as.retired, func(r retiredCA) bool { return !given.After(r.at) })
}

// rotate makes the authority that is to follow.
func (as *authorities) rotate(now time.Time) error {
	const op = "rotate the CA"
	as.mu.Lock()
	defer as.mu.Unlock()
	if as.next != nil {
		return refuse(operator.ErrState, op, "", "a rotation is under way: "+as.next.cert.Subject.CommonName+" is to follow",
			"see how far it has come: kernwave ca show")
	}
	ca := &CA{rand: as.rand, pool: x509.NewCertPool()}
	var err error
	if ca.key, err = makeKey(as.file("next-key.pem"), as.rand); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	if ca.cert, err = ca.makeCert(as.file("next-cert.pem"), now); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	ca.pool.AddCert(ca.cert)
	as.next = ca
	return nil
}

// retire puts the next authority into the place of the one that counted.
func (as *authorities) retire(now time.Time) error {
	const op = "retire the CA"
	as.mu.Lock()
	defer as.mu.Unlock()
	if as.next == nil {
		return refuse(operator.ErrState, op, "", "no other authority is to follow", "make it first, and let the hosts learn it: kernwave ca rotate")
	}
	old := retiredCA{cert: as.serving.cert, at: now.UTC().Truncate(time.Second)}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{retiredAt: old.at.Format(time.RFC3339)}, Bytes: old.cert.Raw})
	if err := writeDurably(as.file("retired-"+as.serving.SHA256()[:16]+".pem"), text, 0o644); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	// The rename of the key is the step; what follows it the next start would do, too.
	if err := os.Rename(as.file("next-key.pem"), as.file("key.pem")); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	as.serving, as.next, as.retired = as.next, nil, append(as.retired, old)
	if err := errors.Join(syncDir(as.dir), as.finishRetiring()); err != nil {
		return fmt.Errorf("%s: it is done, but for %s: %w", op, as.file("cert.pem"), err)
	}
	return nil
}

func sumOfDER(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// some names at most n of ids.
func some(ids []fleet.HostID, n int) string {
	var s []string
	for i, id := range ids {
		if i == n {
			s = append(s, fmt.Sprintf("and %d more", len(ids)-n))
			break
		}
		s = append(s, string(id))
	}
	return strings.Join(s, ", ")
}
