package identity

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/disk"
)

// enrolled gives id a certificate that it signed itself.
func enrolled(t *testing.T, id *Identity, host fleet.HostID) {
	t.Helper()
	csr, err := id.Request(host)
	if err != nil {
		t.Fatal(err)
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: string(host)}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, req.PublicKey.(*ecdsa.PublicKey), id.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.Take(host, der, [][]byte{der}); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *Identity {
	t.Helper()
	id, err := Open(disk.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestCopied(t *testing.T) {
	hw := func(id, serial, vendor string) fleet.Facts {
		return fleet.Facts{MachineID: id, Hardware: fleet.Hardware{Serial: serial, Vendor: vendor}}
	}
	first := hw("aaaaaaaaaa", "S1", "Dell")
	for _, c := range []struct {
		name        string
		first, then fleet.Facts
		copied      bool
	}{
		{"the same", first, first, false},
		{"other hardware", first, hw("bbbb", "S2", "Dell"), true},
		{"virtual machines without serial numbers", hw("aaaa", "", "QEMU"), hw("bbbb", "", "QEMU"), true},
		{"machine-id drawn anew on the same hardware", first, hw("bbbb", "S1", "Dell"), false},
		{"a kernel that cannot read the firmware", first, hw("bbbb", "", ""), false},
		{"one that can, at last", hw("bbbb", "", ""), first, false},
		{"a serial number that was hidden before", hw("aaaa", "", "Dell"), hw("bbbb", "S1", "Dell"), false},
		{"facts without a machine id", first, hw("", "S2", "Dell"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			id := open(t, dir)
			if why := id.Copied(c.first); why != "" {
				t.Errorf("a machine that is not enrolled is a copy: %s", why)
			}
			enrolled(t, id, "web-1")
			if why := id.Copied(c.first); why != "" {
				t.Errorf("the first machine is a copy: %s", why)
			}
			enrolled(t, id, "web-1") // a renewal keeps it
			why := open(t, dir).Copied(c.then)
			if (why != "") != c.copied {
				t.Errorf("copied: %q, want %v", why, c.copied)
			}
			if c.copied && !strings.Contains(why, fleet.MachineName(c.then.MachineID, c.then.Hardware.Serial)) {
				t.Errorf("%q does not name the machine", why)
			}
			id = open(t, dir)
			if err := id.Moved(); err != nil {
				t.Fatal(err)
			}
			if why := open(t, dir).Copied(c.then); why != "" {
				t.Errorf("moved on purpose: %s", why)
			}
		})
	}
}

// TestAnewKilledAnywhere: until there is a new certificate the old identity counts, from then on the new one.
func TestAnewKilledAnywhere(t *testing.T) {
	dir := t.TempDir()
	old := open(t, dir)
	enrolled(t, old, "web-1")
	anew, err := OpenAnew(disk.OS{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := anew.Request("web-2"); err != nil {
		t.Fatal(err)
	}
	if got := open(t, dir); got.Host() != "web-1" {
		t.Errorf("a key alone makes the host %s", got.Host())
	}
	again, err := OpenAnew(disk.OS{}, dir) // its key stays, so that a token is used once
	if err != nil || !again.key.Equal(anew.key) {
		t.Errorf("another attempt makes another key: %v", err)
	}
	enrolled(t, again, "web-2")
	// Killed after the key has moved.
	if err := os.Rename(filepath.Join(dir, anewDir, keyFile), filepath.Join(dir, keyFile)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := open(t, dir); got.Host() != "web-2" || !got.key.Equal(again.key) {
			t.Errorf("the host is %s", got.Host())
		}
	}
}

// TestClockFollowsTheControlPlane: ahead at once, a little back never, long back because the last time was wrong.
func TestClockFollowsTheControlPlane(t *testing.T) {
	const year = 365 * 24 * time.Hour
	t0 := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	dir, up := t.TempDir(), time.Duration(0)
	c := OpenClock(disk.OS{}, dir, t0.Add(-year), "b1", func() time.Duration { return up })
	for _, step := range []struct {
		name        string
		learn, want time.Time
	}{
		{"before anything", time.Time{}, t0.Add(-year)},
		{"the first time", t0, t0},
		{"a little back", t0.Add(-time.Minute), t0},
		{"a year ahead", t0.Add(year), t0.Add(year)},
		{"and corrected", t0.Add(time.Minute), t0.Add(time.Minute)},
		{"before the agent was built", t0.Add(-2 * year), t0.Add(time.Minute)},
	} {
		if !step.learn.IsZero() {
			c.Learn(step.learn)
		}
		if got := c.Now(); !got.Equal(step.want) {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
	up = 0 // another boot, on a machine without a clock
	if got := OpenClock(disk.OS{}, dir, t0.Add(-year), "b2", func() time.Duration { return up }).Now(); !got.Equal(t0.Add(time.Minute)) {
		t.Errorf("after a reboot: %s", got)
	}
}
