package api

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	kwv1 "github.com/kernwave/kernwave/api/gen/kernwave/v1"
	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agent/identity"
	"github.com/kernwave/kernwave/internal/agent/uplink"
)

// TestTheAgentsOwnWayIn uses the agent's code against this server, from the first contact, at which it knows the CA by
// its fingerprint alone, to a re-enrolment with a certificate that ran out.
func TestTheAgentsOwnWayIn(t *testing.T) {
	w := serve(t, nil)
	dir := t.TempDir()
	id, err := identity.Open(disk.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	uptime := func() time.Duration { return w.clock.Now().Sub(t0) }
	up, err := uplink.New(uplink.Config{
		Server: w.url, Name: "web-1", CASHA256: w.s.CA().SHA256(), PackagesDir: t.TempDir(),
		Token: func() (string, error) { return w.enrolToken(1), nil },
	}, id, identity.OpenClock(disk.OS{}, dir, t0, "boot", uptime), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if err := up.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	report := fleet.Report{Host: "web-1", Now: fleet.HostState{BootID: "b", Release: "6.1", InService: true}}
	checkIn := func() error {
		t.Helper()
		_, err := up.CheckIn(t.Context(), report)
		return err
	}
	if err := checkIn(); err != nil {
		t.Fatal(err)
	}

	body := bytes.Repeat([]byte("package"), 10_000)
	p := fleet.Package{Name: "linux-image", Version: "1", SHA256: sumOf(body), Size: int64(len(body))}
	if _, err := up.Fetch(t.Context(), p); err == nil || !strings.Contains(err.Error(), "there is no package") {
		t.Errorf("a package that there is not: %v", err)
	}
	if res := w.do(w.client(nil, w.admin), "PUT", blobPath(p.SHA256), bytes.NewReader(body)); res.StatusCode != 201 {
		t.Fatal(res.Status)
	}
	file, err := up.Fetch(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, body) {
		t.Errorf("fetched %d bytes (%v), want %d", len(got), err, len(body))
	}

	w.clock.advance(61 * 24 * time.Hour)
	first := id.Certificate().SerialNumber
	if err := checkIn(); err != nil {
		t.Fatal(err)
	}
	if id.Certificate().SerialNumber.Cmp(first) == 0 {
		t.Error("the certificate was not renewed after two thirds of its life")
	}

	report.Host = "web-2"
	err = checkIn()
	if e, ok := errors.AsType[*fleet.Error](err); !ok || !strings.Contains(err.Error(), "speaks for web-1 only") || e.Next == "" {
		t.Errorf("speaking for another host: %v", err)
	}
	report.Host = "web-1"

	if _, err := w.fleet(w.admin).RevokeHost(t.Context(), connect.NewRequest(&kwv1.RevokeHostRequest{Id: "web-1"})); err != nil {
		t.Fatal(err)
	}
	if err := checkIn(); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("a revoked host: %v", err)
	}
	if got := w.events("web-1"); !slices.Equal(got, []string{"host.enrolled", "host.renewed", "host.revoked"}) {
		t.Errorf("events %v", got)
	}
}

// TestTheAgentComesBackAfterItsCertificateRanOut: it was switched off for longer than that.
func TestTheAgentComesBackAfterItsCertificateRanOut(t *testing.T) {
	w := serve(t, nil)
	dir := t.TempDir()
	id, err := identity.Open(disk.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	up, err := uplink.New(uplink.Config{
		Server: w.url, Name: "web-1", CASHA256: w.s.CA().SHA256(), PackagesDir: t.TempDir(),
		Token: func() (string, error) { return w.enrolToken(1), nil },
	}, id, identity.OpenClock(disk.OS{}, dir, t0, "boot", func() time.Duration { return 0 }), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if err := up.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	up.Close()
	w.clock.advance(200 * 24 * time.Hour)
	report := fleet.Report{Host: "web-1", Now: fleet.HostState{BootID: "b", InService: true}}
	_, first := up.CheckIn(t.Context(), report) // its clock stood still: it learns of the time here
	if _, err := up.CheckIn(t.Context(), report); err != nil {
		t.Errorf("it did not come back: %v, after %v", err, first)
	}
	if got := w.events("web-1"); !slices.Equal(got, []string{"host.enrolled", "host.reenrolled"}) {
		t.Errorf("events %v", got)
	}
}
