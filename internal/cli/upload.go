package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
)

// upload puts one package into the control plane's store, if it is not there.
func (a *app) upload(ctx context.Context, c *client, file string, p fleet.Package) error {
	url := c.base + "/v1/blobs/sha256/" + p.SHA256
	there, err := a.hasBlob(ctx, c, url)
	if err != nil {
		return err
	}
	name := filepath.Base(file)
	if there {
		a.progressf("%s is already there\n", clean(name))
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return fileError("", plainPathError(err), "check the file's name")
	}
	defer f.Close()
	bar := a.newUploadBar(name, p.Size)
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, &countingReader{r: f, bar: bar})
	if err != nil {
		return fmt.Errorf("upload %s: %w", name, err)
	}
	req.ContentLength = p.Size
	req.Header.Set("Content-Type", "application/octet-stream")
	res, err := c.http.Do(req)
	if err != nil {
		bar.stop()
		return fmt.Errorf("upload %s: %w", name, err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		bar.stop()
		return blobError(res, "upload "+name)
	}
	bar.done()
	return nil
}

func (a *app) hasBlob(ctx context.Context, c *client, url string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return false, fmt.Errorf("ask for a package: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return false, fmt.Errorf("ask for a package: %w", err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	}
	return false, blobError(res, "ask for a package")
}

// maxBlobError bounds the explanation of a refused upload.
const maxBlobError = 64 << 10

// blobError reads the explanation of a refusal: the fields of ErrorDetail as JSON, else text. It becomes the error of
// a call, so that it is explained in the same way.
func blobError(res *http.Response, op string) error {
	code := connect.CodeUnknown
	switch res.StatusCode {
	case http.StatusUnauthorized:
		code = connect.CodeUnauthenticated
	case http.StatusForbidden:
		code = connect.CodePermissionDenied
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		code = connect.CodeUnavailable
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusConflict, http.StatusUnprocessableEntity:
		code = connect.CodeInvalidArgument
	case http.StatusNotFound:
		code = connect.CodeUnimplemented
	}
	detail := &kwv1.ErrorDetail{Op: op}
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxBlobError)) // what could not be read is explained by the status
	var said struct{ Op, Host, Why, Next string }
	if json.Unmarshal(body, &said) == nil && said.Why != "" {
		detail = &kwv1.ErrorDetail{Op: orElse(said.Op, op), Host: said.Host, Why: said.Why, Next: said.Next}
	} else if text := strings.TrimSpace(string(body)); text != "" && len(text) < 500 {
		detail.Why = text
	} else {
		detail.Why = whyOfStatus(res)
	}
	err := connect.NewError(code, errors.New(detail.Why))
	if d, derr := connect.NewErrorDetail(detail); derr == nil {
		err.AddDetail(d)
	}
	return err
}

// whyOfStatus explains a refusal that says nothing itself, as answers to HEAD cannot.
func whyOfStatus(res *http.Response) string {
	switch res.StatusCode {
	case http.StatusUnauthorized:
		return "the control plane does not know your token, or it has run out"
	case http.StatusForbidden:
		return "your role does not allow it"
	}
	return "the control plane answered " + res.Status
}

// progressf tells how far a long command is, on standard error.
func (a *app) progressf(format string, args ...any) {
	if !a.quiet && !a.json() {
		fmt.Fprintf(a.Err, format, args...)
	}
}

// uploadBar shows one upload: a line that moves on a terminal, and one line at its end everywhere else.
type uploadBar struct {
	a       *app
	name    string
	size    int64
	sent    int64
	live    bool
	started time.Time
	shown   time.Time
}

// barEvery is how often the moving line is drawn again.
const barEvery = 100 * time.Millisecond

func (a *app) newUploadBar(name string, size int64) *uploadBar {
	return &uploadBar{a: a, name: clean(name), size: size, started: time.Now(), live: isTerminal(a.Err) && !a.quiet && !a.json()}
}

func (b *uploadBar) add(n int) {
	b.sent += int64(n)
	if now := time.Now(); b.live && now.Sub(b.shown) >= barEvery {
		b.shown = now
		fmt.Fprint(b.a.Err, "\r\x1b[K"+b.line(now.Sub(b.started)))
	}
}

func (b *uploadBar) line(took time.Duration) string {
	done := float64(b.sent) / float64(max(b.size, 1))
	speed := ""
	if took > time.Second {
		speed = "  " + sizeText(int64(float64(b.sent)/took.Seconds())) + "/s"
	}
	return fmt.Sprintf("%s  %s %3.0f %%%s", cutMiddle(b.name, 40, b.a.glyphs()), bar(done, 20, b.a.glyphs()), 100*done, speed)
}

func (b *uploadBar) done() {
	b.stop()
	b.a.progressf("%s uploaded, %s\n", b.name, sizeText(b.size))
}

// stop takes the moving line away.
func (b *uploadBar) stop() {
	if b.live {
		fmt.Fprint(b.a.Err, "\r\x1b[K")
	}
}

// countingReader tells the bar what was sent.
type countingReader struct {
	r   io.Reader
	bar *uploadBar
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.bar.add(n)
	return n, err
}

// bar draws a share, from 0 to 1, width characters wide. Full means full: 99.9 % leaves a gap.
func bar(share float64, width int, g glyphs) string {
	full := int(min(max(share, 0), 1) * float64(width))
	return strings.Repeat(g.full, full) + strings.Repeat(g.empty, width-full)
}
