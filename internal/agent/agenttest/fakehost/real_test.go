package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
)

func (r *rig) untilHosts(n int) {
	r.t.Helper()
	r.until(fmt.Sprintf("%d hosts in service", n), func() bool {
		out, err := r.cli("hosts", "-o", "json")
		return err == nil && strings.Count(out, `"in_service": true`)+strings.Count(out, `"in_service":true`) >= n
	})
}

func (r *rig) start(args ...string) {
	r.t.Helper()
	r.must(append([]string{"rollout", "start", newRelease, "--soak", "1s", "--waves", "50,100", "--trial-deadline", "1m"}, args...)...)
}

// TestGoodKernelOnEveryHost also kills agents and the control plane on the way: nothing is lost, nothing is done twice.
func TestGoodKernelOnEveryHost(t *testing.T) {
	r := newRig(t)
	r.addKernel(newRelease)
	for i, model := range []string{"small", "small", "small", "large", "large"} {
		r.host(fmt.Sprintf("h%d", i), model, nil, nil)
	}
	r.untilHosts(5)
	r.start()
	began := time.Now()
	for n := 0; ; n++ {
		committed := 0
		for _, h := range r.hosts {
			if h.last().Phase == fleet.PhaseCommitted {
				committed++
			}
		}
		if committed == len(r.hosts) {
			break
		}
		if time.Since(began) > 2*patience {
			t.Fatalf("%d of %d hosts committed after %s", committed, len(r.hosts), time.Since(began))
		}
		if n%12 == 5 { // kill whoever is in an operation
			for _, h := range r.hosts {
				if p := h.last().Phase; p != "" && !p.Ended() {
					h.proc.kill(syscall.SIGKILL)
					h.start()
				}
			}
		}
		if n%40 == 20 {
			r.server.kill(syscall.SIGKILL)
			r.startServer()
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, h := range r.hosts {
		h.proveGrants()
		if m := h.machine(); m.Running != newRelease || m.Default != newRelease || m.OneShot != nil || len(m.Boots) != 2 {
			t.Errorf("%s: runs %s, default %s, %d boots", h.name, m.Running, m.Default, len(m.Boots))
		}
		if s := h.service(); !strings.HasSuffix(s, "undrain") {
			t.Errorf("%s: service %q", h.name, s)
		}
	}
}

func TestPanicOnOneTypeStopsEverything(t *testing.T) {
	r := newRig(t)
	r.addKernel(newRelease)
	panics := func(m *agenttest.Machine) {
		m.Kernels = map[string]agenttest.Behaviour{newRelease: {Panic: "Kernel panic - not syncing: DMI large"}}
	}
	for i := range 2 {
		r.host(fmt.Sprintf("small-%d", i), "small", nil, nil)
		r.host(fmt.Sprintf("large-%d", i), "large", nil, panics)
	}
	r.untilHosts(4)
	r.start()
	r.until("paused", func() bool {
		out, err := r.cli("rollout", "status", "-o", "json")
		return err == nil && strings.Contains(out, `"paused"`)
	})
	time.Sleep(3 * time.Second) // longer than several ticks and check-ins: nobody goes on
	touched := 0
	for name, h := range r.hosts {
		h.proveGrants()
		m := h.machine()
		if m.Kernels != nil && h.last().Operation != "" {
			touched++
			if p := h.untilEnd(); p.Phase != fleet.PhaseFellBack || m.Running != oldRelease || !strings.Contains(p.Problem.Evidence, "DMI large") {
				t.Errorf("%s: ended %s on %s, %+v", name, p.Phase, m.Running, p.Problem)
			}
		}
		if m.Kernels != nil && m.Default != oldRelease {
			t.Errorf("%s: default %s", name, m.Default)
		}
	}
	if touched != 1 {
		t.Errorf("%d hosts of the panicking type were touched", touched)
	}
	if out := r.must("incidents"); !strings.Contains(out, newRelease) {
		t.Errorf("incidents:\n%s", out)
	}
}

// TestRefusals: each is refused with its reason, the host in service, undrained, on its old kernel.
func TestRefusals(t *testing.T) {
	fails := func(method, why string) func(*agenttest.Machine) {
		return func(m *agenttest.Machine) { m.Fail = map[string]string{method: why} }
	}
	for _, c := range []struct {
		name    string
		apps    map[string]string
		machine func(*agenttest.Machine)
		before  func(*rig, *fake)
		during  func(*rig, *fake)
		phase   fleet.Phase
		want    string
		service string
	}{
		{name: "wrong checksum", before: func(r *rig, _ *fake) {
			blobs, err := filepath.Glob(filepath.Join(r.dir, "data", "*", "sha256", "*", "*"))
			if err != nil || len(blobs) != 1 {
				r.t.Fatalf("blobs %v, %v", blobs, err)
			}
			b, err := os.ReadFile(blobs[0])
			if err != nil {
				r.t.Fatal(err)
			}
			b[len(b)/2] ^= 1
			if err := os.WriteFile(blobs[0], b, 0o600); err != nil {
				r.t.Fatal(err)
			}
		}, phase: fleet.PhaseRefused, want: "what came has SHA-256"},
		{name: "full boot", machine: fails("CanInstall", "/boot has 3 MiB free, 60 MiB are needed"), phase: fleet.PhaseRefused, want: "/boot has 3 MiB free"},
		{name: "dpkg locked", machine: fails("CanInstall", "dpkg is locked by another process"), phase: fleet.PhaseRefused, want: "dpkg is locked"},
		{name: "no saved default", machine: fails("SecureWayBack", "the default entry does not read back"), phase: fleet.PhaseRefused, want: "does not read back"},
		{name: "failing drain", apps: map[string]string{
			"10-bad.yaml": "drain: {argv: [sh, -c, 'echo three clients left; exit 4']}\nundrain: {argv: ['true']}\n",
		}, phase: fleet.PhaseFailed, want: "10-bad drain: exit status 4", service: "drain undrain"},
		{name: "drain that hangs", apps: map[string]string{
			"10-bad.yaml": "drain: {argv: [sleep, '600'], timeout: 500ms}\nundrain: {argv: ['true']}\n",
		}, phase: fleet.PhaseFailed, want: "timed out after 500ms", service: "drain undrain"},
		{name: "expired grant", apps: map[string]string{
			"10-slow.yaml": "drain: {argv: [sh, -c, 'touch ROOT/draining; sleep 600'], timeout: 10m}\nundrain: {argv: ['true']}\n",
		}, during: func(r *rig, f *fake) {
			r.until("draining", func() bool { _, err := os.Stat(filepath.Join(f.root, "draining")); return err == nil })
			r.server.kill(syscall.SIGKILL)
		}, phase: fleet.PhaseCancelled, want: "the grant ran out", service: "drain undrain"},
		{
			name: "hooks that cannot be read", apps: map[string]string{"10-bad.yaml": "dran: {argv: [x]}\n"}, before: func(r *rig, _ *fake) {},
			phase: fleet.PhaseRefused, want: `unknown key "dran"`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.addKernel(newRelease)
			f := r.host("web-1", "small", nil, c.machine)
			r.untilHosts(1)
			for file, text := range c.apps {
				f.write("etc/kernwave/hooks.d/"+file, strings.ReplaceAll(text, "ROOT", f.root))
			}
			if c.before != nil {
				c.before(r, f)
			}
			r.start()
			if c.during != nil {
				c.during(r, f)
			}
			e := f.untilEnd()
			if e.Phase != c.phase || e.Problem == nil || !strings.Contains(e.Problem.What, c.want) {
				t.Errorf("ended %s, %+v; want %s, %q", e.Phase, e.Problem, c.phase, c.want)
			}
			if s := f.service(); s != c.service {
				t.Errorf("service: %q, want %q", s, c.service)
			}
			if m := f.machine(); len(m.Boots) != 1 || m.Running != oldRelease || m.Default != oldRelease || m.OneShot != nil {
				t.Errorf("machine: %d boots, runs %s, default %s, armed %v", len(m.Boots), m.Running, m.Default, m.OneShot)
			}
			if c.during == nil {
				r.until("the operator is told", func() bool {
					out, err := r.cli("host", "show", "web-1", "-o", "json")
					return err == nil && strings.Contains(out, strings.ReplaceAll(c.want, `"`, `\"`))
				})
			}
		})
	}
}

// TestAnotherHostsCertificate: a copied identity speaks for its owner only.
func TestAnotherHostsCertificate(t *testing.T) {
	r := newRig(t)
	a, b := r.host("a", "small", nil, nil), r.host("b", "small", nil, nil)
	r.untilHosts(2)
	b.proc.kill(syscall.SIGTERM)
	// The thief has a's certificate, and tries it with its own key, and with b's name.
	id, err := os.ReadFile(filepath.Join(a.root, "var/lib/kernwave/identity.json"))
	if err != nil {
		t.Fatal(err)
	}
	b.write("var/lib/kernwave/identity.json", string(id))
	b.start()
	<-b.proc.done
	if out := b.out.String(); !strings.Contains(out, "it is for another key than the host's") {
		t.Errorf("the agent says:\n%s", tailOf(out))
	}
	id2 := strings.Replace(string(id), `"host":"a"`, `"host":"b"`, 1)
	key, err := os.ReadFile(filepath.Join(a.root, "var/lib/kernwave/host.key"))
	if err != nil {
		t.Fatal(err)
	}
	b.write("var/lib/kernwave/identity.json", id2)
	b.write("var/lib/kernwave/host.key", string(key))
	b.start()
	r.until("refused with the reason", func() bool {
		return strings.Contains(b.out.String(), "this certificate speaks for a only")
	})
}
