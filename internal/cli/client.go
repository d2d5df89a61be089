package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"

	"github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
)

// client speaks to one control plane as one operator.
type client struct {
	fleet    kernwavev1connect.FleetServiceClient
	kernels  kernwavev1connect.KernelServiceClient
	rollouts kernwavev1connect.RolloutServiceClient

	base string
	http *http.Client
}

// maxAnswer bounds one answer: 100,000 hosts with their facts are about 200 MB.
const maxAnswer = 512 << 20

// connect checks the settings and builds the client; nothing is sent yet.
func (a *app) connect() (*client, error) {
	if a.got != nil {
		return a.got, nil
	}
	conn, err := a.conn.resolve(a.Getenv)
	if err != nil {
		return nil, err
	}
	base, roots, err := conn.check()
	if err != nil {
		return nil, err
	}
	a.warnOpenToken(conn)
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
	t.ResponseHeaderTimeout = a.timeout
	hc := &http.Client{
		Transport: &bearer{token: conn.token.value, next: t},
		// The control plane never redirects; following one would carry the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	limit := connect.WithReadMaxBytes(maxAnswer)
	a.got = &client{
		fleet:    kernwavev1connect.NewFleetServiceClient(hc, base, limit),
		kernels:  kernwavev1connect.NewKernelServiceClient(hc, base, limit),
		rollouts: kernwavev1connect.NewRolloutServiceClient(hc, base, limit),
		base:     base, http: hc,
	}
	return a.got, nil
}

// warnOpenToken says so when others on this machine can read the token.
func (a *app) warnOpenToken(c connection) {
	name := c.tokenFile
	if name == "" && c.token.from == "token in "+c.file {
		name = c.file
	}
	if name == "" {
		return
	}
	if st, err := os.Stat(name); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o044 != 0 {
		a.note("others can read your token in "+name, "chmod 600 "+name)
	}
}

// bearer adds the operator's token to each request.
type bearer struct {
	token string
	next  http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	r.Header.Set("User-Agent", "kernwave/"+Version())
	return b.next.RoundTrip(r)
}

// call makes one request within the time limit.
func call[Req, Res any](
	ctx context.Context, a *app, method func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req,
) (*Res, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	res, err := method(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

// attempts is how often a request is sent that may be repeated safely and must not get lost: an emergency stop, the
// start of a rollout. The waits between them are 1, 2 and 4 times firstWait.
const (
	attempts  = 4
	firstWait = 250 * time.Millisecond
)

// callAgain is call, repeated while the control plane cannot be reached or cannot answer now.
func callAgain[Req, Res any](
	ctx context.Context, a *app, method func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error), req *Req,
) (*Res, error) {
	wait := a.RetryAfter
	if wait <= 0 {
		wait = firstWait
	}
	for i := 1; ; i++ {
		res, err := call(ctx, a, method, req)
		if err == nil || i == attempts || !mayRepeat(err) {
			return res, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(wait):
		}
		wait *= 2
	}
}

// mayRepeat says whether another try can help. A certificate that is not trusted will not be better a second later.
func mayRepeat(err error) bool {
	if err == nil {
		return false
	}
	if _, _, isTLS := explainTLS(err); isTLS {
		return false
	}
	code := connect.CodeOf(err)
	return code == connect.CodeUnavailable || code == connect.CodeDeadlineExceeded || errors.Is(err, context.DeadlineExceeded)
}
