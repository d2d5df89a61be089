package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// servers is how many control planes run at once, each with one host at a time.
const servers = 8

// TestKillTheServer ends the control plane's process with kill -9 at each write, before each commit and after it, in a
// whole operation of one host; and starts it again, as systemd would.
func TestKillTheServer(t *testing.T) {
	for _, s := range stories() {
		t.Run(s.name, func(t *testing.T) {
			s.maySkip(t)
			began := time.Now()
			points := countServerPoints(t, s)
			take := sample(points, s.name == "good")
			queue := make(chan string, len(take))
			for _, p := range take {
				queue <- p
			}
			close(queue)
			var missed sync.Map
			t.Run("at", func(t *testing.T) {
				for n := range min(servers, len(take)) {
					t.Run(fmt.Sprint(n), func(t *testing.T) {
						t.Parallel()
						r := newServerRig(t)
						for p := range queue {
							// Some points depend on what two processes do first: they have a second chance.
							if !killServer(r, s, p) && !t.Failed() && !killServer(r, s, p) {
								missed.Store(p, true)
							}
							if t.Failed() {
								break
							}
						}
					})
				}
			})
			n := 0
			missed.Range(func(p, _ any) bool { t.Logf("never reached this time: %s", p); n++; return true })
			if n > len(take)/5 {
				t.Errorf("%d of %d points were never reached: too many for what depends on time alone", n, len(take))
			}
			t.Logf("%s: %d points, killed at %d of them, in %s", s.name, len(points), len(take)-n, time.Since(began).Round(time.Second))
		})
	}
}

func newServerRig(t *testing.T) *rig {
	r := newRigOf(t, "faultserver")
	r.addKernel(newRelease)
	return r
}

// countServerPoints lets a story happen twice without a death and lists what the server wrote both times: what it writes only
// when two processes are quick or slow is no point that can be aimed at.
func countServerPoints(t *testing.T, s story) []string {
	t.Helper()
	r := newServerRig(t)
	var points []string
	for i := range 2 {
		killServer(r, s, "")
		if t.Failed() {
			t.FailNow()
		}
		again := r.serverPoints()
		if i == 0 {
			points = again
		}
		points = slices.DeleteFunc(points, func(p string) bool { return !slices.Contains(again, p) })
	}
	if len(points) < 40 {
		t.Fatalf("a whole operation passes %d points only: this test looks at nothing", len(points))
	}
	return points
}

func (r *rig) pointsFile() string { return filepath.Join(r.dir, "points") }

// serverPoints are those since the server was armed.
func (r *rig) serverPoints() []string {
	r.t.Helper()
	data, err := os.ReadFile(r.pointsFile())
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), "armed\n")
	return strings.FieldsFunc(after, func(c rune) bool { return c == '\n' })
}

// killServer lets the story happen on a new host, kills the server at the point (empty: nowhere), and proves what came
// of it. It says whether the point was reached.
func killServer(r *rig, s story, point string) (reached bool) {
	r.t.Helper()
	// A server that dies at the point, and then one that does not.
	r.endServer()
	if err := os.RemoveAll(r.pointsFile()); err != nil {
		r.t.Fatal(err)
	}
	r.kept = nil
	plain := slices.Clone(r.args)
	r.args = append(slices.Clone(plain), "--points", r.pointsFile(), "--cut", point)
	r.startServer()
	r.args = plain
	r.keepServer()

	name := fmt.Sprintf("h%d", len(r.hosts))
	f := r.install(name, name, s.apps, s.machine)
	f.keep(death{})
	r.until(name+" in service", func() bool {
		out, err := r.cli("hosts", "-q", "--selector", "id="+name)
		return err == nil && strings.Contains(out, name)
	})
	r.server.signal(syscall.SIGUSR1)
	r.until("the server armed", func() bool {
		data, err := os.ReadFile(r.pointsFile())
		return err == nil && strings.Contains(string(data), "armed")
	})
	key := fmt.Sprintf("%s-%d", name, time.Now().UnixNano())
	r.until("the rollout started", func() bool {
		out, err := r.cli("rollout", "start", newRelease, "-q", "--selector", "workload="+name, "--soak", "1s",
			"--waves", "100", "--trial-deadline", "1m", "--idempotency-key", key)
		f.rollout = strings.TrimSpace(out)
		return err == nil
	})
	r.untilEnded(func(*fake) bool { return s.pauses }, []*fake{f})
	x := r.stopAndRead()
	wrong, _ := f.prove(x, s.end(false))
	if n := f.kept.deaths(); n > 0 {
		wrong = append(wrong, fmt.Sprintf("the agent ended %d times", n))
	}
	if n := r.kept.deaths(); n > 1 || n == 1 && point == "" {
		wrong = append(wrong, fmt.Sprintf("the server ended %d times", n))
	}
	if len(wrong) > 0 {
		r.t.Errorf("%s, the server killed at %q:\n  %s\n%s", s.name, point, strings.Join(wrong, "\n  "), tailOf(f.out.String()))
	}
	f.end()
	return r.kept.deaths() > 0
}

// keepServer has the server that runs started again when it ends.
func (r *rig) keepServer() {
	first, out := r.server, r.server.out
	r.kept = keep(func(again bool) *proc {
		if !again {
			return first
		}
		return startProc(r.t, out, r.args[0], r.serverArgs()...)
	})
}
