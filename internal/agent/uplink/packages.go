package uplink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
)

const (
	// maxPackage bounds a package: the largest kernel packages are a few hundred MB.
	maxPackage = 4 << 30
	// stalledAfter ends a download on which nothing has come for so long; it is resumed.
	stalledAfter = time.Minute
)

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Fetch brings a package onto the machine and returns its path. What an earlier attempt left behind is gone on with;
// what does not have its checksum is removed and refused.
func (u *Uplink) Fetch(ctx context.Context, p fleet.Package) (string, error) {
	refuse := func(next, format string, args ...any) error {
		return &fleet.Error{
			Op: "fetch " + p.Name + " " + p.Version, Err: fmt.Errorf("%w: %w", agent.ErrRefused, fmt.Errorf(format, args...)), Next: next,
		}
	}
	switch {
	case !sha256Hex.MatchString(p.SHA256):
		return "", refuse("add the kernel again: kernwave kernel add", "%q is no SHA-256", p.SHA256)
	case p.Size <= 0 || p.Size > maxPackage:
		return "", refuse("add the kernel again: kernwave kernel add", "its size is %d bytes, 1 to %d are allowed", p.Size, int64(maxPackage))
	}
	if err := os.MkdirAll(u.cfg.PackagesDir, 0o700); err != nil {
		return "", fmt.Errorf("make packages directory: %w", err)
	}
	path := filepath.Join(u.cfg.PackagesDir, p.SHA256)
	if ok, err := whole(path, p); err != nil {
		return "", err
	} else if ok {
		return path, nil
	}
	part := path + ".part"
	_, statErr := os.Stat(part)
	sum, err := u.download(ctx, p, part)
	if statErr == nil && (errors.Is(err, errWrong) || err == nil && sum != p.SHA256) {
		// What was left behind may be what is wrong: a power cut in the middle of writing it.
		_ = os.Remove(part)
		sum, err = u.download(ctx, p, part)
	}
	switch {
	case errors.Is(err, errWrong):
		_ = os.Remove(part)
		return "", refuse("see who changed the package on the control plane, then retry the host", "%v", err)
	case errors.Is(err, errGone):
		_ = os.Remove(part)
		return "", refuse("add the kernel again: kernwave kernel add", "%v", err)
	case errors.Is(err, syscall.ENOSPC):
		_ = os.Remove(part)
		return "", refuse(fmt.Sprintf("free %d MB in %s, then retry the host", p.Size>>20+1, u.cfg.PackagesDir), "no space left for %d bytes", p.Size)
	case err != nil:
		return "", err
	case sum != p.SHA256:
		_ = os.Remove(part)
		return "", refuse("see who changed the package on the control plane, then retry the host",
			"what came has SHA-256 %s, wanted is %s", sum, p.SHA256)
	}
	if err := os.Rename(part, path); err != nil {
		return "", fmt.Errorf("keep package: %w", err)
	}
	return path, nil
}

// Forget removes every package.
func (u *Uplink) Forget() error {
	if err := os.RemoveAll(u.cfg.PackagesDir); err != nil {
		return fmt.Errorf("remove packages: %w", err)
	}
	return nil
}

// whole says whether the file is there with the right content. A wrong one is removed.
func whole(path string, p fleet.Package) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at package: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return false, fmt.Errorf("read package: %w", err)
	}
	if hex.EncodeToString(h.Sum(nil)) == p.SHA256 {
		return true, nil
	}
	return false, os.Remove(path)
}

var (
	errWrong = errors.New("wrong content")
	errGone  = errors.New("the control plane does not have it")
)

// download goes on with part until it has p.Size bytes, synced, and returns the SHA-256 of all of it.
func (u *Uplink) download(ctx context.Context, p fleet.Package, part string) (sum string, err error) {
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("open package: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	h := sha256.New()
	have, err := io.Copy(h, f)
	if err != nil {
		return "", fmt.Errorf("read package: %w", err)
	}
	if have > p.Size {
		if have, err = startOver(f, h); err != nil {
			return "", err
		}
	}
	if have < p.Size {
		if err := u.get(ctx, p, f, h, have); err != nil {
			return "", err
		}
	}
	if err := f.Sync(); err != nil {
		return "", fmt.Errorf("sync package: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func startOver(f *os.File, h hash.Hash) (int64, error) {
	h.Reset()
	if err := f.Truncate(0); err != nil {
		return 0, err
	}
	_, err := f.Seek(0, io.SeekStart)
	return 0, err
}

// get asks for what is missing after have bytes and writes it to f and h.
func (u *Uplink) get(ctx context.Context, p fleet.Package, f *os.File, h hash.Hash, have int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stalledAfter, func() { cancel(fmt.Errorf("nothing came for %s", stalledAfter)) })
	defer stalled.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.base+"/v1/blobs/sha256/"+p.SHA256, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "identity") // packages are compressed, and a range is one of bytes
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	resp, err := u.packages.Do(req)
	if err != nil {
		return orCause(ctx, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusOK && have > 0: // it does not do ranges
		if _, err := startOver(f, h); err != nil {
			return err
		}
		have = 0
	case resp.StatusCode == http.StatusOK:
	case resp.StatusCode == http.StatusPartialContent && have > 0 &&
		strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have)):
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w: %s", errGone, whyNot(resp))
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w: the control plane has fewer than the %d bytes that the kernel's record says", errWrong, p.Size)
	default:
		return fmt.Errorf("fetch package: HTTP status %s: %s", resp.Status, whyNot(resp))
	}
	body := &progress{r: io.LimitReader(resp.Body, p.Size-have+1), on: func() { stalled.Reset(stalledAfter) }}
	n, err := io.Copy(io.MultiWriter(f, h), body)
	switch {
	case err != nil:
		return fmt.Errorf("fetch package, after %d of %d bytes: %w", have+n, p.Size, orCause(ctx, err))
	case have+n > p.Size:
		return fmt.Errorf("%w: more than %d bytes came", errWrong, p.Size)
	case have+n < p.Size:
		return fmt.Errorf("%w: only %d of %d bytes came", errWrong, have+n, p.Size)
	}
	return nil
}

// whyNot reads the explanation of a plain HTTP refusal.
func whyNot(resp *http.Response) string {
	data, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return err.Error()
	}
	var e struct{ Message, Next string }
	if json.Unmarshal(data, &e) == nil && e.Message != "" {
		return e.Message
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(data[:min(len(data), 200)]), "�"))
}

func orCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

type progress struct {
	r  io.Reader
	on func()
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if n > 0 {
		p.on()
	}
	return n, err
}
