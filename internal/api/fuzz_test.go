package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	rpc "github.com/kernwave/kernwave/api/gen/kernwave/v1/kernwavev1connect"
	"github.com/kernwave/kernwave/internal/store"
)

// target is a server in memory that fuzzing sends requests to, as a host and as an admin.
type target struct {
	*world
	handler http.Handler
	cert    *x509.Certificate
}

func newTarget(t testing.TB) *target {
	w := newWorld(t, nil)
	m := newMachine(t, "web-1")
	token := "kwe_seed"
	if err := w.store.Update(context.Background(), func(tx store.Tx) error {
		return tx.PutEnrolToken(store.EnrolToken{Hash: hashToken(token), Uses: 1, UsesLeft: 1, CreatedBy: "admin", CreatedAt: t0, ExpiresAt: t0.AddDate(1, 0, 0)})
	}); err != nil {
		t.Fatal(err)
	}
	x := &target{world: w, handler: w.s.Handler()}
	b, err := proto.Marshal(&kwv1.EnrolRequest{Token: token, Name: "web-1", CsrDer: csr(t, m.key)})
	if err != nil {
		t.Fatal(err)
	}
	res := x.send(rpc.EnrolServiceEnrolProcedure, "application/proto", b)
	var enrolled kwv1.EnrolResponse
	if err := proto.Unmarshal(res.Body.Bytes(), &enrolled); err != nil || res.Code != 200 {
		t.Fatalf("enrol: %d %s (%v)", res.Code, res.Body, err)
	}
	if x.cert, err = x509.ParseCertificate(enrolled.GetCertificateDer()); err != nil {
		t.Fatal(err)
	}
	return x
}

// send calls the handler as it hangs on the port, without a socket.
func (x *target) send(path, contentType string, body []byte) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Authorization", "Bearer "+x.admin)
	req.TLS = &tls.ConnectionState{HandshakeComplete: true}
	if x.cert != nil {
		req.TLS.PeerCertificates = []*x509.Certificate{x.cert}
	}
	res := httptest.NewRecorder()
	x.handler.ServeHTTP(res, req)
	return res
}

// lastEvent is how far the record goes.
func (x *target) lastEvent(t testing.TB) int64 {
	var seq int64
	if err := x.store.View(context.Background(), func(r store.Reader) error {
		es, err := r.Events(store.EventQuery{Newest: true, Limit: 1})
		if len(es) > 0 {
			seq = es[0].Seq
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return seq
}

// check sends one body and holds the answer to what every answer must be: no panic, and a refusal that explains itself
// and has changed nothing.
func (x *target) check(t *testing.T, path, contentType string, body []byte) {
	before := x.lastEvent(t)
	res := x.send(path, contentType, body)
	if res.Code == http.StatusOK {
		return
	}
	var said struct {
		Code    string
		Details []struct {
			Type  string
			Debug struct{ Op, Why, Next string }
		}
	}
	if err := json.Unmarshal(res.Body.Bytes(), &said); err != nil || said.Code == "" {
		t.Fatalf("%s: %d without a code: %q (%v)", path, res.Code, res.Body, err)
	}
	if len(said.Details) != 1 || said.Details[0].Debug.Op == "" || said.Details[0].Debug.Why == "" || said.Details[0].Debug.Next == "" {
		t.Fatalf("%s: %d does not explain itself: %s", path, res.Code, res.Body)
	}
	if said.Code == "internal" || strings.Contains(res.Body.String(), errPanic.Error()) {
		t.Fatalf("%s: our own failure: %s", path, res.Body)
	}
	if after := x.lastEvent(t); after != before {
		t.Fatalf("%s: refused (%s), and yet the record went from %d to %d", path, said.Code, before, after)
	}
}

func protoSeed(f *testing.F, m proto.Message) (binary, text []byte) {
	binary, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	if text, err = protojson.Marshal(m); err != nil {
		f.Fatal(err)
	}
	return binary, text
}

// FuzzAgent sends what a host could send that has a valid certificate and means harm, or is broken.
func FuzzAgent(f *testing.F) {
	paths := []string{
		rpc.AgentServiceCheckInProcedure, rpc.AgentServiceConfirmRebootProcedure, rpc.AgentServiceRenewProcedure,
		rpc.EnrolServiceEnrolProcedure, rpc.EnrolServiceReenrolProcedure,
	}
	full := checkIn("web-1")
	full.Facts = &kwv1.Facts{Arch: "amd64", Labels: map[string]string{"rack": "r1"}, Disks: []*kwv1.Disk{{Name: "sda"}}}
	full.Operation = &kwv1.OperationReport{
		Id: "o-1", Phase: "trial", PhaseAge: durationpb.New(1), Problem: &kwv1.Problem{Cause: "check", Evidence: "x"}, Trial: &kwv1.Trial{BootSec: 1},
	}
	full.Seen = &kwv1.Incarnation{Term: 1}
	for i, m := range []proto.Message{
		full, &kwv1.ConfirmRebootRequest{Host: "web-1", Operation: "o-1", Grant: "g-1"}, &kwv1.RenewRequest{CsrDer: csr(f, newMachine(f, "x").key)},
		&kwv1.EnrolRequest{Token: "kwe_seed", Name: "web-1", CsrDer: []byte{0x30}}, &kwv1.ReenrolRequest{OldCertificateDer: []byte{0x30}, Signature: []byte{1}},
	} {
		binary, text := protoSeed(f, m)
		f.Add(uint8(i), false, binary)
		f.Add(uint8(i), true, text)
	}
	f.Add(uint8(0), true, []byte(`{"host":"web-1","now":{},"operation":{"id":"o","trial":{"bootSec":"NaN"}}}`))
	f.Add(uint8(0), true, []byte(`{"host":"web-1","now":{"uptime":"-1s"}}`))
	f.Add(uint8(0), true, []byte(`{`))
	x := newTarget(f)
	f.Fuzz(func(t *testing.T, which uint8, asJSON bool, body []byte) {
		contentType := "application/proto"
		if asJSON {
			contentType = "application/json"
		}
		x.check(t, paths[int(which)%len(paths)], contentType, body)
		x.ctl.mu.Lock()
		defer x.ctl.mu.Unlock()
		for _, r := range x.ctl.reports {
			if r.Host != "web-1" {
				t.Fatalf("control heard web-1 speak for %q", r.Host)
			}
			if _, err := json.Marshal(r); err != nil { // it will be kept as JSON
				t.Fatalf("what control heard cannot be kept: %v", err)
			}
		}
		x.ctl.reports = nil
	})
}

// FuzzOperator sends what an admin could send by mistake.
func FuzzOperator(f *testing.F) {
	var paths []string
	for p, row := range procedures {
		if row.who == whoOperator && p != rpc.FleetServiceStopProcedure { // a stop never refuses
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	at := func(p string) uint8 { return uint8(slices.Index(paths, p)) }
	for p, m := range map[string]proto.Message{
		rpc.FleetServiceListHostsProcedure:        &kwv1.ListHostsRequest{Selector: "workload=web"},
		rpc.FleetServiceSetHostStatusProcedure:    &kwv1.SetHostStatusRequest{Id: "web-1", Status: "maintenance", Why: "w"},
		rpc.FleetServiceRevokeHostProcedure:       &kwv1.RevokeHostRequest{Id: "web-2"},
		rpc.FleetServiceCreateEnrolTokenProcedure: &kwv1.CreateEnrolTokenRequest{Life: durationpb.New(1e12), Uses: 3, Note: "n"},
		rpc.FleetServiceCreateOperatorProcedure:   &kwv1.CreateOperatorRequest{Name: "bob", Role: "viewer"},
		rpc.FleetServiceSetBudgetProcedure:        &kwv1.SetBudgetRequest{Budget: &kwv1.Budget{By: "label:rack", Limit: 2}},
		rpc.FleetServiceListEventsProcedure:       &kwv1.ListEventsRequest{After: 1, Limit: 5, Newest: true},
		rpc.KernelServiceAddKernelProcedure: &kwv1.AddKernelRequest{Kernel: &kwv1.Kernel{Release: "6.1", Version: "6.1-1", Family: "debian", Arch: "amd64", Packages: []*kwv1.Package{
			{Name: "linux-image", Version: "6.1-1", Arch: "amd64", Sha256: sumOf(nil), Size: 1},
		}}},
		rpc.RolloutServiceStartRolloutProcedure:  &kwv1.StartRolloutRequest{Spec: &kwv1.RolloutSpec{Kernel: "k", Waves: []int32{1, 100}, Soak: durationpb.New(0)}, IdempotencyKey: "k"},
		rpc.RolloutServiceChangeRolloutProcedure: &kwv1.ChangeRolloutRequest{Id: "r-1", Action: "skip", Host: "web-1"},
	} {
		binary, text := protoSeed(f, m)
		f.Add(at(p), false, binary)
		f.Add(at(p), true, text)
	}
	x := newTarget(f)
	f.Fuzz(func(t *testing.T, which uint8, asJSON bool, body []byte) {
		contentType := "application/proto"
		if asJSON {
			contentType = "application/json"
		}
		x.check(t, paths[int(which)%len(paths)], contentType, body)
	})
}

// FuzzPlainPaths asks for any path, with any method and header, and without any right.
func FuzzPlainPaths(f *testing.F) {
	f.Add("GET", "/v1/blobs/sha256/"+sumOf(nil), "")
	f.Add("PUT", "/v1/blobs/sha256/../../admin.token", "Bearer kwo_x")
	f.Add("GET", "/v1/blobs/sha256/%2e%2e%2fadmin.token", "Basic x")
	f.Add("POST", "/kernwave.v1.FleetService/Stop", "Bearer ")
	f.Add("OPTIONS", "*", "")
	f.Add("GET", "//healthz", "")
	x := newTarget(f)
	x.cert = nil
	f.Fuzz(func(t *testing.T, method, path, auth string) {
		req, err := http.NewRequest(method, "https://localhost/"+strings.TrimPrefix(path, "/"), strings.NewReader("{}"))
		if err != nil || strings.Contains(auth, x.admin) {
			return
		}
		req.RequestURI = req.URL.RequestURI()
		req.Header.Set("Authorization", auth)
		before := x.lastEvent(t)
		res := httptest.NewRecorder()
		x.handler.ServeHTTP(res, req)
		open := slices.Contains([]string{"/metrics", "/healthz", "/readyz"}, req.URL.Path)
		if res.Code < 300 && !open {
			t.Fatalf("%s %q was answered with %d: %.200s", method, path, res.Code, res.Body)
		}
		if res.Code >= 500 && res.Code != http.StatusServiceUnavailable && res.Code != http.StatusNotImplemented {
			t.Fatalf("%s %q: our own failure %d: %.200s", method, path, res.Code, res.Body)
		}
		if x.lastEvent(t) != before {
			t.Fatalf("%s %q changed something", method, path)
		}
	})
}
