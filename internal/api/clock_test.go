package api

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// TestWrongClocks: whatever clock is wrong, and whenever, each host is heard again, and can fetch packages. The wall
// clock of a host is not asked at all; its boot-time clock starts at zero with each boot, and the agent may not know
// when it was built.
func TestWrongClocks(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, c := range []struct {
		name    string
		enrolAt time.Duration // the server's error while the host enrols
		workAt  time.Duration // while it works
		after   time.Duration // from then on
		restart bool          // of the host, before it has to be heard again
		built   time.Time
	}{
		{name: "all right, first contact with a dead clock battery"},
		{name: "an agent that was built long ago", built: t0.Add(-5 * year), restart: true},
		{name: "an agent from the server's future", built: t0.Add(30 * 24 * time.Hour)},
		{name: "server a year ahead for a while", workAt: year},
		{name: "server a year ahead for a while, host reboots", workAt: year, restart: true},
		{name: "server a year ahead while the host enrols", enrolAt: year, workAt: year},
		{name: "server a year ahead while the host enrols, host reboots", enrolAt: year, workAt: year, restart: true},
		{name: "server a year behind for a while", workAt: -year},
		{name: "server a year behind for a while, host reboots", workAt: -year, restart: true},
		{name: "server a year behind, and from then on", workAt: -year, after: -year, restart: true},
		{name: "server ahead for good", workAt: year, after: year, restart: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := serve(t, nil)
			body := []byte("package")
			p := fleet.Package{Name: "linux-image", Version: "1", SHA256: sumOf(body), Size: int64(len(body))}
			if res := w.do(w.client(nil, w.admin), "PUT", blobPath(p.SHA256), bytes.NewReader(body)); res.StatusCode != 201 {
				t.Fatal(res.Status)
			}
			set := func(wrong time.Duration) { w.clock.advance(t0.Add(wrong).Sub(w.clock.Now())) }
			set(c.enrolAt)
			m := w.member("web-1", t.TempDir(), w.s.CA().SHA256(), c.built)
			if err := errors.Join(m.Enrol(t.Context()), m.checkIn()); err != nil {
				t.Fatal(err)
			}
			set(c.workAt)
			m = w.member("web-1", m.dir, "", c.built) // attempts at a certificate are a minute apart in one process
			if err := m.comesBack(); err != nil {
				t.Fatalf("while it works: %v", err)
			}
			set(c.after)
			m.Close()
			if c.restart {
				m = w.member("web-1", m.dir, "", c.built)
			}
			err := m.comesBack()
			if err != nil { // a minute later it asks for a certificate again
				m = w.member("web-1", m.dir, "", c.built)
				err = m.comesBack()
			}
			if err != nil {
				t.Fatalf("is not heard any more: %v", err)
			}
			if _, err := m.Fetch(t.Context(), p); err != nil {
				t.Errorf("cannot fetch a package: %v", err)
			}
			// And it settles: no certificate with each check-in.
			before := len(w.events("web-1"))
			for range 3 {
				m = w.member("web-1", m.dir, "", c.built)
				if err := m.checkIn(); err != nil {
					t.Error(err)
				}
			}
			if got := w.events("web-1"); len(got) > before+1 {
				t.Errorf("goes on fetching certificates: %v", slices.Clone(got))
			}
		})
	}
}
