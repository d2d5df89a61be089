package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

// keepFree is what uploads leave of the disk: the store lies on it too, and a store that cannot write grants nothing.
const keepFree = 256 << 20

// slowest is the slowest transfer of a package that is waited for, in bytes a second.
const slowest = 32 << 10

// blobStore keeps packages by what they are: DIR/sha256/ab/abcd…. A file under that name has that content, whole.
type blobStore struct {
	dir string
	max int64
}

func openBlobs(dir string, max int64) (*blobStore, error) {
	b := &blobStore{dir: dir, max: max}
	// What an upload left behind that was cut off.
	if err := os.RemoveAll(b.tmp()); err != nil {
		return nil, fmt.Errorf("open the packages' store: %w", err)
	}
	if err := errors.Join(os.MkdirAll(b.tmp(), 0o700), os.MkdirAll(filepath.Join(dir, "sha256"), 0o700)); err != nil {
		return nil, fmt.Errorf("open the packages' store: %w", err)
	}
	return b, nil
}

func (b *blobStore) tmp() string { return filepath.Join(b.dir, "tmp") }

func (b *blobStore) path(sum string) string { return filepath.Join(b.dir, "sha256", sum[:2], sum) }

// size returns operator.ErrNotFound when there is no such blob.
func (b *blobStore) size(sum string) (int64, error) {
	fi, err := os.Stat(b.path(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, operator.ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

const opUpload = "store a package"

// put keeps what r gives if it is what sum says. After a crash at any point it is there whole, or not at all.
func (b *blobStore) put(sum string, r io.Reader) error {
	f, err := os.CreateTemp(b.tmp(), "upload-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, b.max+1))
	switch {
	case err != nil:
		return fmt.Errorf("after %d bytes: %w", n, err)
	case n > b.max:
		return b.tooLarge()
	case n == 0:
		return refuse(operator.ErrInvalid, opUpload, "", "it is empty", "check the file")
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		return refuse(operator.ErrInvalid, opUpload, "", fmt.Sprintf("its SHA-256 is %s, not %s", got, sum), "upload it again; if that does not help, the file or its name is wrong")
	}
	if err := errors.Join(f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return err
	}
	path := b.path(sum)
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

func (b *blobStore) tooLarge() error {
	return refuse(errTooLarge, opUpload, "", fmt.Sprintf("it is larger than %d bytes", b.max), "start the server with a larger --max-package, if it is meant to be")
}

// room says whether n more bytes leave enough of the disk.
func (b *blobStore) room(n int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(b.dir, &st); err != nil {
		return fmt.Errorf("look at the disk: %w", err)
	}
	free := int64(st.Bavail) * st.Bsize
	if free-n < keepFree {
		return &fleet.Error{
			Op:   opUpload,
			Err:  fmt.Errorf("the control plane's disk has %d MiB free; %d MiB must stay free after it", free>>20, keepFree>>20),
			Next: "make room in the control plane's data directory",
		}
	}
	return nil
}

// serveBlob is GET, HEAD and PUT of one package.
func (s *Server) serveBlob(w http.ResponseWriter, r *http.Request) {
	sum := r.PathValue("sha256")
	op := "fetch a package"
	if r.Method == http.MethodPut {
		op = opUpload
	}
	err := s.blob(w, r, op, sum)
	if err == nil {
		return
	}
	s.note(r.Context(), op, err)
	writeRefusal(w, op, err)
}

func (s *Server) blob(w http.ResponseWriter, r *http.Request, op, sum string) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if err := s.mayFetch(op, r); err != nil {
			return err
		}
	case http.MethodPut:
		if _, err := s.authorise(r.Context(), procedure{whoOperator, operator.RoleOperator, op}, r.Header); err != nil {
			return err
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT")
		return refuse(operator.ErrInvalid, op, "", "a package is fetched with GET and stored with PUT, not with "+clip(r.Method, 20), "use GET, HEAD or PUT")
	}
	if !sha256Hex.MatchString(sum) {
		return refuse(operator.ErrInvalid, op, "", "its name is not a SHA-256", "use 64 lower-case hex digits")
	}
	if r.Method == http.MethodPut {
		return s.putBlob(w, r, sum)
	}
	return s.getBlob(w, r, op, sum)
}

// mayFetch lets hosts in by their certificate and operators by their token.
func (s *Server) mayFetch(op string, r *http.Request) error {
	p := procedure{whoHost, "", op}
	if r.Header.Get("Authorization") != "" {
		p = procedure{whoOperator, operator.RoleViewer, op}
	}
	_, err := s.authorise(r.Context(), p, r.Header)
	return err
}

func (s *Server) putBlob(w http.ResponseWriter, r *http.Request, sum string) error {
	if _, err := s.blobs.size(sum); err == nil {
		w.WriteHeader(http.StatusOK) // it is there, and can only be the same
		return nil
	} else if !errors.Is(err, operator.ErrNotFound) {
		return err
	}
	if r.ContentLength > s.blobs.max {
		return s.blobs.tooLarge()
	}
	if err := s.blobs.room(max(r.ContentLength, 0)); err != nil {
		return err
	}
	within(w, transferTime(max(r.ContentLength, 0)))
	if err := s.blobs.put(sum, r.Body); err != nil {
		return err
	}
	s.Log.InfoContext(r.Context(), "package stored", "sha256", sum)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Server) getBlob(w http.ResponseWriter, r *http.Request, op, sum string) error {
	if r.Method == http.MethodGet {
		select {
		case s.downloads <- struct{}{}:
			defer func() { <-s.downloads }()
		default:
			return refuse(errBusy, op, "", fmt.Sprintf("%d packages are being sent already", cap(s.downloads)), "try again in a few seconds")
		}
	}
	f, err := os.Open(s.blobs.path(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(operator.ErrNotFound, op, "", "there is no package "+sum, "upload it: kernwave kernel add")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	within(w, transferTime(fi.Size()))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+sum+`"`) // it never changes: a broken download may always be resumed
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// transferTime bounds a transfer of n bytes, or of an unknown number (0).
func transferTime(n int64) time.Duration {
	if n == 0 {
		return time.Hour
	}
	return time.Minute + time.Duration(n/slowest)*time.Second
}
