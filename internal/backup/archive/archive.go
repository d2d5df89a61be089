// Package archive is the form of a backup: a tar file that begins with a
// manifest and ends in the checksums of everything in it, for tar and sha256sum
// as well. It knows which names may be in one, and opens no file by itself.
//
//	w := archive.NewWriter(out)
//	err := w.Manifest(m)
//	err = w.File("kernwave.db", f)
//	err = w.Close()
//	m, err := archive.Read(in, func(name string, content io.Reader) error { … })
package archive

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Format is the newest version of the file that this program writes and reads.
const Format = 1

// Names in the file. The manifest comes first, the checksums last.
const (
	ManifestName = "kernwave-backup.json"
	SumsName     = "SHA256SUMS"
	DBName       = "kernwave.db"
	TokenName    = "admin.token"
	CADir        = "ca"
	BlobsDir     = "blobs/sha256"
)

// Manifest says what a file holds.
type Manifest struct {
	Format int       `json:"format"`
	MadeAt time.Time `json:"made_at"`
	MadeBy string    `json:"made_by"` // "kernwave 1.2 on ctl-1"
	// Packages says whether the kernels' packages are in it.
	Packages bool `json:"packages"`

	// Of the database.
	Schema       int    `json:"schema"`
	Incarnation  uint64 `json:"incarnation"`
	Term         uint64 `json:"term"`
	Hosts        int    `json:"hosts"`
	OpenRollouts int    `json:"open_rollouts"`
	LastEvent    int64  `json:"last_event"`
}

// Writer writes one file.
type Writer struct {
	out   counter
	tar   *tar.Writer
	sums  []byte
	files int
	at    time.Time
}

// NewWriter begins a file with its manifest.
func NewWriter(out io.Writer, m Manifest) (*Writer, error) {
	w := &Writer{out: counter{w: out}, at: m.MadeAt}
	w.tar = tar.NewWriter(&w.out)
	m.Format = Format
	head, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return w, w.bytes(ManifestName, append(head, '\n'))
}

func (w *Writer) bytes(name string, b []byte) error {
	sum := sha256.Sum256(b)
	w.sum(name, sum[:])
	if err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(b)), ModTime: w.at}); err != nil {
		return err
	}
	_, err := w.tar.Write(b)
	return err
}

// sum adds a line as sha256sum writes it.
func (w *Writer) sum(name string, sum []byte) {
	w.sums = fmt.Appendf(w.sums, "%s  %s\n", hex.EncodeToString(sum), name)
}

// File adds what is in f, from its beginning, under a name that [Allowed] allows.
func (w *Writer) File(name string, f *os.File) error {
	if err := Allowed(name); err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: fi.Size(), ModTime: fi.ModTime()}); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(w.tar, h), f, fi.Size()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	w.sum(name, h.Sum(nil))
	w.files++
	return nil
}

// Files is how many were added, the manifest left out.
func (w *Writer) Files() int { return w.files }

// Close ends the file with the checksums, and says how long it is. It does not close what it writes to.
func (w *Writer) Close() (n int64, err error) {
	sums := w.sums
	err = errors.Join(w.bytes(SumsName, sums), w.tar.Close())
	return w.out.n, err
}

// counter counts what goes through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
