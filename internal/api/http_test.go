package api

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	rpc "github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
)

func (w *world) do(c *http.Client, method, path string, body io.Reader, header ...string) *http.Response {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { res.Body.Close() })
	return res
}

// rpcRefusal reads what curl would print for a refused RPC.
func rpcRefusal(t *testing.T, res *http.Response) (code, op, why, next string) {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	p := struct {
		Code    string
		Details []struct {
			Debug struct{ Op, Why, Next string }
		}
		Op, Why, Next string
	}{}
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatalf("the answer is no JSON: %v: %s", err, b)
	}
	if len(p.Details) == 1 {
		p.Op, p.Why, p.Next = p.Details[0].Debug.Op, p.Details[0].Debug.Why, p.Details[0].Debug.Next
	}
	if p.Code == "" || p.Op == "" || p.Why == "" || p.Next == "" {
		t.Errorf("the refusal does not explain itself: %s", b)
	}
	return p.Code, p.Op, p.Why, p.Next
}

// TestBadRequests sends what the RPC library refuses by itself, before any handler of ours.
func TestBadRequests(t *testing.T) {
	w := serve(t, nil)
	c := w.client(nil, w.admin)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(bytes.Repeat([]byte(" "), 4*maxRequest)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	const hosts = rpc.FleetServiceListHostsProcedure
	for _, b := range []struct {
		name, method, path, contentType, body string
		encoding                              string
		status                                int
		code, why                             string
	}{
		{"malformed JSON", "POST", hosts, "application/json", "{", "", 400, "invalid_argument", "unmarshal"},
		{"a typo in a field", "POST", hosts, "application/json", `{"selecter":"a=b"}`, "", 400, "invalid_argument", `unknown field "selecter"`},
		{"a field of the wrong type", "POST", hosts, "application/json", `{"selector":7}`, "", 400, "invalid_argument", "unmarshal"},
		{"malformed protobuf", "POST", hosts, "application/proto", "\xff\xff\xff", "", 400, "invalid_argument", "unmarshal"},
		{"invalid UTF-8", "POST", hosts, "application/proto", "\x0a\x01\xff", "", 400, "invalid_argument", "UTF-8"},
		{"too large", "POST", hosts, "application/json", strings.Repeat(" ", maxRequest+1), "", 429, "resource_exhausted", "larger than configured max 1048576"},
		{"too large when unpacked", "POST", hosts, "application/json", zipped.String(), "gzip", 429, "resource_exhausted", "1048576"},
		{"an encoding that there is not", "POST", hosts, "application/json", "{}", "br", 501, "unimplemented", "compression"},
		{"GET", "GET", hosts, "", "", "", 405, "unimplemented", "POST"},
		{"a content type that there is not", "POST", hosts, "text/plain", "{}", "", 415, "unimplemented", "content type"},
		{"gRPC-Web", "POST", hosts, "application/grpc-web+proto", "", "", 415, "unimplemented", "gRPC-Web"},
		{"an RPC that there is not", "POST", "/kernwave.v1.FleetService/Dance", "application/json", "{}", "", 404, "not_found", "nothing at this path"},
		{"a path that there is not", "GET", "/admin.php", "", "", "", 404, "not_found", "nothing at this path"},
		{"the root", "GET", "/", "", "", "", 404, "not_found", "nothing at this path"},
	} {
		t.Run(b.name, func(t *testing.T) {
			header := []string{}
			if b.contentType != "" {
				header = append(header, "Content-Type", b.contentType)
			}
			if b.encoding != "" {
				header = append(header, "Content-Encoding", b.encoding)
			}
			calls := w.ctl.count()
			res := w.do(c, b.method, b.path, strings.NewReader(b.body), header...)
			code, _, why, _ := rpcRefusal(t, res)
			if res.StatusCode != b.status || code != b.code || !strings.Contains(why, b.why) {
				t.Errorf("got %d %s %q, want %d %s …%s…", res.StatusCode, code, why, b.status, b.code, b.why)
			}
			if w.ctl.count() != calls {
				t.Error("control heard of it")
			}
		})
	}
}

// TestGRPCRefusalsExplainThemselves: gRPC's errors travel in trailers.
func TestGRPCRefusalsExplainThemselves(t *testing.T) {
	w := serve(t, nil)
	f := rpc.NewFleetServiceClient(w.client(nil, w.admin), w.url, connect.WithGRPC())
	_, err := f.GetHost(t.Context(), connect.NewRequest(&kwv1.GetHostRequest{Id: strings.Repeat("x", maxRequest)}))
	refused(t, err, connect.CodeResourceExhausted, "larger than configured max")
	_, err = f.GetHost(t.Context(), connect.NewRequest(&kwv1.GetHostRequest{Id: "a b"}))
	refused(t, err, connect.CodeInvalidArgument, "character ' '")
	_, err = rpc.NewFleetServiceClient(w.client(nil, ""), w.url, connect.WithGRPC()).GetHost(t.Context(), connect.NewRequest(&kwv1.GetHostRequest{Id: "a"}))
	refused(t, err, connect.CodeUnauthenticated, "no operator's token")
}

func TestCurlableJSON(t *testing.T) {
	w := serve(t, nil)
	w.ctl.hosts = []operator.Host{{Host: fleet.Host{ID: "web-1"}}}
	for _, body := range []string{`{}`, ``, `{"selector":"workload=web"}`} {
		res := w.do(w.client(nil, w.admin), "POST", rpc.FleetServiceListHostsProcedure, strings.NewReader(body), "Content-Type", "application/json")
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 || !strings.Contains(string(b), `"web-1"`) {
			t.Errorf("body %q: %d %s (%v)", body, res.StatusCode, b, err)
		}
	}
}

func TestPanicsAreAnswered(t *testing.T) {
	w := serve(t, nil)
	m := w.enrol("web-1")
	w.ctl.panics = true
	_, err := w.agent(m).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1")))
	refused(t, err, connect.CodeInternal, "the control plane made a mistake")
	if strings.Contains(err.Error(), "wanted") {
		t.Errorf("the panic's text got out: %v", err)
	}
	w.ctl.panics = false
	if _, err := w.agent(m).CheckIn(t.Context(), connect.NewRequest(checkIn("web-1"))); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

func TestOnlyNewTLS(t *testing.T) {
	w := serve(t, nil)
	c := w.client(nil, w.admin)
	c.Transport.(withToken).RoundTripper.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS12
	if _, err := c.Get(w.url + "/healthz"); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: got %v, want a refusal", err)
	}
	res, err := http.Get("http" + strings.TrimPrefix(w.url, "https") + "/healthz")
	if err == nil {
		defer res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP: got %s, want a refusal", res.Status)
		}
	}
}

// TestTheChainCarriesTheCA: an agent pins the CA by its fingerprint at the first contact.
func TestTheChainCarriesTheCA(t *testing.T) {
	w := serve(t, func(c *Config) { c.Names = []string{"kernwave.example", "192.0.2.7"} })
	res := w.do(w.client(nil, ""), "GET", "/healthz", nil)
	chain := res.TLS.PeerCertificates
	if len(chain) != 2 || !chain[1].Equal(w.s.CA().Cert()) {
		t.Fatalf("the chain has %d certificates, want the server's and the CA's", len(chain))
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "kernwave.example", "192.0.2.7"} {
		if err := chain[0].VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if res.ProtoMajor != 2 {
		t.Errorf("spoke %s, want HTTP/2", res.Proto)
	}
}

func TestServerCertificateRenewsItself(t *testing.T) {
	w := serve(t, nil)
	first := w.do(w.client(nil, ""), "GET", "/healthz", nil).TLS.PeerCertificates[0]
	w.clock.advance(59 * 24 * 3600 * 1e9)
	if !w.do(w.client(nil, ""), "GET", "/healthz", nil).TLS.PeerCertificates[0].Equal(first) {
		t.Error("it was renewed before two thirds of its life")
	}
	w.clock.advance(2 * 24 * 3600 * 1e9)
	if w.do(w.client(nil, ""), "GET", "/healthz", nil).TLS.PeerCertificates[0].Equal(first) {
		t.Error("it was not renewed after two thirds of its life")
	}
}

func TestTooMuchAtOnce(t *testing.T) {
	w := serve(t, func(c *Config) { c.MaxRequests = 1 })
	w.s.busy <- struct{}{}
	_, err := w.fleet(w.admin).GetStatus(t.Context(), connect.NewRequest(&kwv1.GetStatusRequest{}))
	refused(t, err, connect.CodeResourceExhausted, "1 requests are being answered already")
	if res := w.do(w.client(nil, ""), "GET", "/nothing", nil); res.StatusCode != 503 || readPlain(t, res).Why == "" {
		t.Errorf("plain: %s", res.Status)
	}
	if res := w.do(w.client(nil, ""), "GET", "/healthz", nil); res.StatusCode != 200 {
		t.Errorf("health: %s", res.Status)
	}
	if _, err := w.fleet(w.admin).Stop(t.Context(), connect.NewRequest(&kwv1.StopRequest{Why: "now"})); err != nil {
		t.Errorf("a stop was too much: %v", err)
	}
	<-w.s.busy
}
