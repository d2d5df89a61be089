package api

import (
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
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
	"github.com/kernwave/kernwave/internal/operator"
)

// member is one host with the agent's own code for identity and TLS, and a clock that it brings.
type member struct {
	*uplink.Uplink
	w    *world
	id   *identity.Identity
	dir  string
	name fleet.HostID
}

// member makes a host, or starts one again from its directory on another boot, with a boot-time clock that stands at
// uptime and a wall clock that nobody asks.
func (w *world) member(name, dir, pin string, built time.Time) *member {
	w.t.Helper()
	id, err := identity.Open(disk.OS{}, dir)
	if err != nil {
		w.t.Fatal(err)
	}
	began := w.clock.Now()
	uptime := func() time.Duration { return max(0, w.clock.Now().Sub(began)) }
	up, err := uplink.New(uplink.Config{
		Server: w.url, Name: fleet.HostID(name), CASHA256: pin, PackagesDir: filepath.Join(dir, "packages"),
		Token: func() (string, error) { return w.enrolToken(1), nil },
	}, id, identity.OpenClock(disk.OS{}, dir, built, "boot-"+began.String(), uptime), slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(up.Close)
	w.ctl.mu.Lock()
	if !slices.ContainsFunc(w.ctl.hosts, func(h operator.Host) bool { return h.ID == fleet.HostID(name) }) {
		w.ctl.hosts = append(w.ctl.hosts, operator.Host{Host: fleet.Host{ID: fleet.HostID(name), Status: fleet.StatusActive}, LastSeen: t0})
	}
	w.ctl.mu.Unlock()
	return &member{Uplink: up, w: w, id: id, dir: dir, name: fleet.HostID(name)}
}

func (m *member) checkIn() error {
	m.w.t.Helper()
	_, err := m.CheckIn(m.w.t.Context(), fleet.Report{Host: m.name, Now: fleet.HostState{BootID: "b", Release: "6.1", InService: true}})
	return err
}

// comesBack says whether a host is heard within a few attempts; attempts at a certificate are a minute apart.
func (m *member) comesBack() error {
	m.w.t.Helper()
	err := errors.New("not tried")
	for i := 0; i < 3 && err != nil; i++ {
		err = m.checkIn()
	}
	return err
}

func (w *world) ca(t *testing.T) *kwv1.GetCAResponse {
	t.Helper()
	res, err := w.fleet(w.admin).GetCA(t.Context(), connect.NewRequest(&kwv1.GetCARequest{}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg
}

func (w *world) rotate(t *testing.T) error {
	t.Helper()
	_, err := w.fleet(w.admin).RotateCA(t.Context(), connect.NewRequest(&kwv1.RotateCARequest{Why: "yearly"}))
	return err
}

func (w *world) retire(t *testing.T, force bool) error {
	t.Helper()
	_, err := w.fleet(w.admin).RetireCA(t.Context(), connect.NewRequest(&kwv1.RetireCARequest{Why: "learned", Force: force}))
	return err
}

// TestRotation: three hosts learn the next authority, one is off meanwhile and one longer than its certificate lasts.
func TestRotation(t *testing.T) {
	w := serve(t, nil)
	pin := w.s.CA().SHA256()
	on := w.member("on", t.TempDir(), pin, time.Time{})
	off := w.member("off", t.TempDir(), pin, time.Time{})
	for _, m := range []*member{on, off} {
		if err := errors.Join(m.Enrol(t.Context()), m.checkIn()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.retire(t, false); err == nil || !strings.Contains(err.Error(), "no other authority is to follow") {
		t.Errorf("retiring without a successor: %v", err)
	}
	if err := w.rotate(t); err != nil {
		t.Fatal(err)
	}
	if err := w.rotate(t); err == nil || !strings.Contains(err.Error(), "a rotation is under way") {
		t.Errorf("rotating twice: %v", err)
	}
	if err := on.checkIn(); err != nil { // is told, and fetches it
		t.Fatal(err)
	}
	if len(on.id.CA()) != 2 {
		t.Fatalf("the host trusts %d authorities, want both", len(on.id.CA()))
	}
	if res := w.ca(t); res.GetReady() != 0 {
		t.Errorf("a host that was given a certificate counts before it has shown it: %v", res)
	}
	if err := on.checkIn(); err != nil { // shows it
		t.Fatal(err)
	}
	res := w.ca(t)
	if res.GetHosts() != 2 || res.GetReady() != 1 || len(res.GetWaiting()) != 1 || res.GetWaiting()[0].GetHost() != "off" {
		t.Errorf("progress %v", res)
	}
	serials := len(w.events("on"))
	for range 3 {
		if err := on.checkIn(); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.events("on"); len(got) != serials {
		t.Errorf("a host that has learned goes on fetching certificates: %v", got)
	}
	// A new host, in the overlap, by the fingerprint of the one that serves.
	late := w.member("late", t.TempDir(), w.s.CA().SHA256(), time.Time{})
	if err := errors.Join(late.Enrol(t.Context()), late.checkIn()); err != nil {
		t.Fatal(err)
	}
	if err := w.retire(t, false); err == nil || !strings.Contains(err.Error(), "off") || strings.Contains(err.Error(), "late") {
		t.Errorf("retiring while a host has not learned: %v", err)
	}
	if d := detail(t, w.retire(t, false)); !strings.Contains(d.GetNext(), "--force") || !strings.Contains(d.GetNext(), "enrol --anew") {
		t.Errorf("next: %q", d.GetNext())
	}
	// It comes back in the overlap, with a certificate that ran out meanwhile.
	w.clock.advance(200 * 24 * time.Hour)
	off = w.member("off", off.dir, pin, time.Time{})
	if err := off.comesBack(); err != nil {
		t.Fatalf("off for 200 days, over the rotation: %v", err)
	}
	// A host asks for a certificate once a minute, of real time: a restart asks at once.
	on, late = w.member("on", on.dir, pin, time.Time{}), w.member("late", late.dir, pin, time.Time{})
	for _, m := range []*member{on, late} {
		if err := m.comesBack(); err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
	}
	if err := errors.Join(off.checkIn(), on.checkIn(), late.checkIn()); err != nil {
		t.Fatal(err)
	}
	if err := w.retire(t, false); err != nil {
		t.Fatal(err)
	}
	if w.s.CA().SHA256() == pin {
		t.Error("the old authority still serves")
	}
	for _, m := range []*member{on, off, late} {
		m.Close() // a new handshake
		if err := m.comesBack(); err != nil {
			t.Errorf("%s after the old one was retired: %v", m.name, err)
		}
	}
	if got := w.ca(t).GetAuthorities(); len(got) != 2 || got[0].GetState() != "serving" || got[1].GetState() != "retired" || got[1].GetSha256() != pin {
		t.Errorf("authorities %v", got)
	}
	// They forget the old one.
	w.clock.advance(2 * time.Minute)
	again := w.member("on", on.dir, pin, time.Time{})
	if err := errors.Join(again.checkIn(), again.checkIn()); err != nil || len(again.id.CA()) != 1 {
		t.Errorf("trusts %d authorities, want the new one alone: %v", len(again.id.CA()), err)
	}
	for _, kind := range []string{"ca.rotated", "ca.retired"} {
		if !slices.Contains(w.events(""), kind) {
			t.Errorf("no event %s", kind)
		}
	}
}

// TestRetiredByForce: a host that was off over the whole rotation cannot come in, both sides say why, and the way back
// works.
func TestRetiredByForce(t *testing.T) {
	w := serve(t, nil)
	pin := w.s.CA().SHA256()
	off := w.member("off", t.TempDir(), pin, time.Time{})
	if err := errors.Join(off.Enrol(t.Context()), off.checkIn()); err != nil {
		t.Fatal(err)
	}
	off.Close()
	if err := errors.Join(w.rotate(t), w.retire(t, true)); err != nil {
		t.Fatal(err)
	}
	err := off.checkIn()
	if err == nil || !strings.Contains(err.Error(), "unknown authority") || !strings.Contains(err.Error(), "enrol --anew") {
		t.Errorf("the host says %v", err)
	}
	// With the new authority in its hands all the same: the server says which one its certificate is of.
	old := &machine{name: "off", key: off.id.TLS().PrivateKey.(*ecdsa.PrivateKey), cert: off.id.Certificate().Raw}
	_, err = w.agent(old).CheckIn(t.Context(), connect.NewRequest(checkIn("off")))
	if err == nil || !strings.Contains(err.Error(), "retired") {
		t.Errorf("the server says %v", err)
	}
	anew, err := identity.OpenAnew(disk.OS{}, off.dir)
	if err != nil {
		t.Fatal(err)
	}
	up, err := uplink.New(uplink.Config{
		Server: w.url, Name: "off", CASHA256: w.s.CA().SHA256(), PackagesDir: t.TempDir(), Leaves: off.id,
		Token: func() (string, error) { return w.enrolToken(1), nil },
	}, anew, identity.OpenClock(disk.OS{}, off.dir, time.Time{}, "x", func() time.Duration { return 0 }), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if err := up.Enrol(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := w.member("off", off.dir, "", time.Time{})
	if err := back.checkIn(); err != nil {
		t.Errorf("enrolled anew: %v", err)
	}
}

// TestKilledWhileRotating: whatever of the files is there when the process ends, the next start works, with the
// authorities of before the step or of after it, and serves hosts of both sides of an overlap.
func TestKilledWhileRotating(t *testing.T) {
	make := func(t *testing.T) (string, *authorities) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "ca")
		as, err := openAuthorities(dir, t0, cryptoRand)
		if err != nil {
			t.Fatal(err)
		}
		return dir, as
	}
	copyOf := func(t *testing.T, dir string) string {
		t.Helper()
		to := filepath.Join(t.TempDir(), "ca")
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		return to
	}
	opens := func(t *testing.T, dir string, serving *CA, next bool) *authorities {
		t.Helper()
		as, err := openAuthorities(dir, t0, cryptoRand)
		if err != nil {
			t.Fatalf("does not open: %v", err)
		}
		if as.serving.SHA256() != serving.SHA256() || (as.next != nil) != next {
			t.Errorf("serving %s, want %s; a next one: %v, want %v", as.serving.SHA256(), serving.SHA256(), as.next != nil, next)
		}
		if again, err := openAuthorities(dir, t0, cryptoRand); err != nil || again.serving.SHA256() != serving.SHA256() {
			t.Errorf("opens differently the second time: %v", err)
		}
		return as
	}
	t.Run("rotate, after the key", func(t *testing.T) {
		dir, as := make(t)
		if _, err := makeKey(filepath.Join(dir, "next-key.pem"), cryptoRand); err != nil {
			t.Fatal(err)
		}
		if err := opens(t, dir, as.serving, false).rotate(t0); err != nil {
			t.Errorf("rotating again: %v", err)
		}
	})
	for _, c := range []struct {
		name  string
		steps func(dir string, next *CA)
		after bool
	}{
		{"retire, before anything", func(string, *CA) {}, false},
		{"retire, after the old certificate was kept", func(string, *CA) {}, false},
		{"retire, after the key", func(dir string, _ *CA) {
			must(t, os.Rename(filepath.Join(dir, "next-key.pem"), filepath.Join(dir, "key.pem")))
		}, true},
		{"retire, after the certificate", func(dir string, _ *CA) {
			must(t, os.Rename(filepath.Join(dir, "next-key.pem"), filepath.Join(dir, "key.pem")))
			must(t, os.Rename(filepath.Join(dir, "next-cert.pem"), filepath.Join(dir, "cert.pem")))
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, as := make(t)
			if err := as.rotate(t0); err != nil {
				t.Fatal(err)
			}
			key := newMachine(t, "web-1").key
			host, err := as.newest().SignHost("web-1", &key.PublicKey, t0, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			old, next, cut := as.serving, as.next, copyOf(t, dir)
			if c.name != "retire, before anything" { // as a whole retirement leaves it
				if err := as.retire(t0); err != nil {
					t.Fatal(err)
				}
				kept, err := filepath.Glob(filepath.Join(dir, "retired-*.pem"))
				if err != nil || len(kept) != 1 {
					t.Fatalf("%v, %v", kept, err)
				}
				b, err := os.ReadFile(kept[0])
				must(t, err)
				must(t, os.WriteFile(filepath.Join(cut, filepath.Base(kept[0])), b, 0o600))
			}
			c.steps(cut, next)
			want := old
			if c.after {
				want = next
			}
			got := opens(t, cut, want, !c.after)
			if _, err := got.VerifyHost(host, t0); err != nil {
				t.Errorf("a host of the next one is refused: %v", err)
			}
			if !c.after {
				if err := got.retire(t0); err != nil {
					t.Errorf("retiring again: %v", err)
				}
			}
			cert, err := loadCert(filepath.Join(cut, "cert.pem"))
			if err != nil || !cert.Equal(next.cert) {
				t.Errorf("cert.pem, which operators copy, is not the one that serves: %v", err)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
