package api

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/store"
)

func TestTheCAStaysTheSame(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	first, err := OpenCA(dir, t0, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(filepath.Join(dir, "key.pem"))
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v (%v), want 0600", fi.Mode(), err)
	}
	again, err := OpenCA(dir, t0.Add(time.Hour), rand.Reader)
	if err != nil || again.SHA256() != first.SHA256() {
		t.Errorf("opened again: %v, another CA", err)
	}

	// Killed between key and certificate: the next start makes the certificate, for that key.
	if err := os.Remove(filepath.Join(dir, "cert.pem")); err != nil {
		t.Fatal(err)
	}
	third, err := OpenCA(dir, t0, rand.Reader)
	if err != nil || !third.key.Equal(first.key) {
		t.Errorf("with the key alone: %v, want a certificate for it", err)
	}
}

func TestADamagedCAIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		at     time.Time
		why    string
	}{
		{"the key is gone", func(t *testing.T, dir string) { remove(t, dir, "key.pem") }, t0, "its key"},
		{"the key is torn", func(t *testing.T, dir string) { write(t, dir, "key.pem", "-----BEGIN") }, t0, "no PEM block"},
		{"the certificate is torn", func(t *testing.T, dir string) { write(t, dir, "cert.pem", "") }, t0, "no PEM block"},
		{"another CA's key", func(t *testing.T, dir string) {
			other := t.TempDir()
			if _, err := OpenCA(other, t0, rand.Reader); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(other, "key.pem"))
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "key.pem", string(b))
		}, t0, "do not belong together"},
		{"its time is over", func(*testing.T, string) {}, t0.Add(11 * 365 * 24 * time.Hour), "ran out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := OpenCA(dir, t0, rand.Reader); err != nil {
				t.Fatal(err)
			}
			c.damage(t, dir)
			if _, err := OpenCA(dir, c.at, rand.Reader); err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("got %v, want …%s…", err, c.why)
			}
		})
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOnlyHostsCertificatesSpeakForHosts: the server's own, and the CA's, do not.
func TestOnlyHostsCertificatesSpeakForHosts(t *testing.T) {
	ca, err := OpenCA(t.TempDir(), t0, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, "web-1")
	good, err := ca.SignHost("web-1", &m.key.PublicKey, t0, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := ca.VerifyHost(good, t0); err != nil || id != "web-1" {
		t.Errorf("a host's certificate: %q, %v", id, err)
	}
	server, err := (&serverCert{ca: func() *CA { return ca }, said: (&said{}).latest, names: []string{"localhost"}, now: func() time.Time { return t0 }}).get()
	if err != nil {
		t.Fatal(err)
	}
	nameless, err := ca.sign(&x509.Certificate{NotBefore: t0, NotAfter: t0.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, &m.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*x509.Certificate{"the server's": server.Leaf, "the CA's": ca.cert, "one that names no host": nameless} {
		if id, err := ca.VerifyHost(c, t0); err == nil {
			t.Errorf("%s speaks for %q", name, id)
		}
	}
	for _, at := range []time.Time{t0.Add(-2 * time.Hour), t0.Add(2 * time.Hour)} {
		if _, err := ca.VerifyHost(good, at); err == nil {
			t.Errorf("it is good at %s", at)
		}
	}
}

// TestFirstStart: killed after the token's file and before its row, the next start begins anew; later starts change nothing.
func TestFirstStart(t *testing.T) {
	w := newWorld(t, nil)
	settings, err := os.ReadFile(filepath.Join(w.dir, "operator.yaml"))
	if err != nil || !strings.Contains(string(settings), "server: https://localhost:8443\nca: ca/cert.pem\ntoken_file: admin.token\n") {
		t.Errorf("operator.yaml: %s (%v)", settings, err)
	}
	for _, name := range []string{"operator.yaml", "admin.token"} {
		fi, err := os.Stat(filepath.Join(w.dir, name))
		if err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v (%v), want 0600", name, fi.Mode(), err)
		}
	}
	again := func() string {
		t.Helper()
		if _, err := New(t.Context(), w.s.cfg, Parts{
			Store: w.store, Control: w.ctl, Stop: w.stop, Metrics: NewMetrics(""), Log: slog.New(slog.DiscardHandler), Now: w.clock.Now,
		}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(w.dir, "admin.token"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	if again() != w.admin {
		t.Error("a second start made another token")
	}
	remove(t, w.dir, "admin.token") // an operator put it away: it does not come back
	if got := again(); got != "" {
		t.Errorf("a later start left the token %q", got)
	}
	write(t, w.dir, "admin.token", w.admin+"\n")
	if err := w.store.Update(t.Context(), func(tx store.Tx) error { return tx.DeleteOperator("admin") }); err != nil {
		t.Fatal(err)
	}
	if got := again(); got == w.admin || !strings.HasPrefix(got, operatorToken) {
		t.Errorf("without an operator in the store: token %q, want a new one", got)
	}
}

func TestConfigIsChecked(t *testing.T) {
	c := Config{HostCertLife: time.Second, MaxBlob: -1, Names: []string{"a b"}, EnrolPerSecond: -1, MaxDownloads: -1, MaxRequests: -1, ReenrolWithin: -1, TickWithin: -1}
	c.setDefaults()
	err := c.validate()
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, key := range []string{
		"--data", "--host-certificate-life", "--max-package", "--name", "--enrol-per-second", "--max-downloads", "--max-requests", "--reenrol-within", "--tick-within",
	} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not speak of %s", err, key)
		}
	}
	good := Config{Dir: "/x", Names: []string{"kernwave.example.com", "::1", "*.example.com"}}
	good.setDefaults()
	if err := good.validate(); err != nil {
		t.Error(err)
	}
}

func hostIDOf(name string) fleet.HostID { return fleet.HostID(name) }
