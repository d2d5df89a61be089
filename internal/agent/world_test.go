package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agent/hook"
)

const (
	oldRelease = "6.1.0-1-cloud-amd64"
	newRelease = "6.1.0-2-cloud-amd64"
	grantLife  = 30 * time.Second
)

// world is one host, its agent and its control plane, in virtual time. It
// checks the promises while it goes: see audit.
type world struct {
	t    testing.TB
	host *agenttest.Host
	apps *agenttest.Programs
	disk disk.FS // under the agent; nil: a temporary directory of the machine
	dir  string
	log  io.Writer

	mu     sync.Mutex
	broken []string // promises that were

	// The control plane.
	silent   bool // unreachable
	forgot   bool // asks for the history
	doubts   int  // that many check-ins more are not believed
	want     *fleet.DesiredOperation
	grants   bool // renew the grant at each check-in
	auto     bool // commit what has passed
	from     fleet.Incarnation
	confirm  func() (fleet.Confirmation, error)
	slow     time.Duration // how long an answer to the last-moment question takes
	fetchErr error
	reports  []fleet.Report
	grant    struct{ until time.Time }
	yes      []time.Time // when questions were asked that got a yes which is not used up
	phases   []fleet.Phase
	ops      int
	left     int // how often the host left whoever answered, to connect anew
	stop     context.CancelFunc
	ended    chan error
}

func kernel() fleet.Kernel {
	return fleet.Kernel{
		ID: newRelease, Version: "6.1.0-2", Release: newRelease, Family: "debian", Arch: "amd64", Flavour: "cloud-amd64",
		Packages: []fleet.Package{{Name: "linux-image", Version: "6.1.0-2", Arch: "amd64", SHA256: "00", Size: 1}},
	}
}

func update(id fleet.OperationID) *fleet.DesiredOperation {
	return &fleet.DesiredOperation{ID: id, Kind: fleet.KindUpdate, Kernel: kernel(), TrialDeadline: 5 * time.Minute}
}

// inWorld runs f in a bubble of virtual time with a host that is up and checked in.
func inWorld(t *testing.T, setup func(*world), f func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir())
		if setup != nil {
			setup(w)
		}
		w.start()
		f(w)
		w.end()
	})
}

func newWorld(t testing.TB, dir string) *world {
	w := &world{t: t, dir: dir, grants: true, auto: true, from: fleet.Incarnation{Incarnation: 1, Term: 1, Instance: "a"}, log: io.Discard}
	w.apps = agenttest.NewPrograms(w.sawProgram)
	w.host = agenttest.NewHost(agenttest.NewMachine(oldRelease), agenttest.Options{OnEvent: w.sawMachine})
	w.host.Change(func(m *agenttest.Machine) { m.Takes = map[string]time.Duration{"Install": 40 * time.Second} })
	return w
}

func (w *world) start() {
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.ended = cancel, make(chan error, 1)
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() {
		w.ended <- w.host.Run(ctx, func(ctx context.Context, r *agenttest.Running) error {
			base := w.disk
			if base == nil {
				base = disk.OS{}
			}
			a, err := agent.New(agent.Config{Host: "web-1", StateDir: w.dir}, agent.Parts{
				Controller: link{w, r}, Fetcher: fetcher{w}, System: r, Programs: w.apps, Disk: r.Disk(base),
			}, log)
			if err != nil {
				return err
			}
			return a.Run(ctx)
		})
	}()
}

// end stops the world, and says which promises were broken in it.
func (w *world) end() {
	w.t.Helper()
	w.stop()
	if err := <-w.ended; err != nil {
		w.t.Errorf("the host ended: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.broken {
		w.t.Error("broken promise: ", b)
	}
}

func (w *world) promiseBroken(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// set changes the control plane.
func (w *world) set(f func(*world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

// sawProgram checks that nobody drains without a live grant.
func (w *world) sawProgram(r agenttest.Run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Kind == hook.Drain && !r.At.Before(w.grant.until) {
		w.promiseBroken("a drain began %s after the last grant ran out", r.At.Sub(w.grant.until))
	}
}

// sawMachine checks that each reboot into a trial has an answer of its own, younger than 5 s.
// And that a host that leaves a trial does not serve there.
func (w *world) sawMachine(e agenttest.Event) {
	if strings.HasPrefix(e.What, "requested: back to ") || e.What == "dead-man" {
		serves := !w.apps.Drained()
		w.mu.Lock()
		if serves {
			w.promiseBroken("%s, while the host served", e.What)
		}
		w.mu.Unlock()
	}
	if len(e.What) < len(trialReboot) || e.What[:len(trialReboot)] != trialReboot {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.yes) == 0 {
		w.promiseBroken("a reboot into a trial without an answer of its own")
		return
	}
	if age := e.At.Sub(w.yes[len(w.yes)-1]); age >= fleet.ConfirmLife {
		w.promiseBroken("a reboot into a trial on an answer %s old", age)
	}
	w.yes = nil
	if !e.At.Before(w.grant.until) {
		w.promiseBroken("a reboot into a trial without a live grant")
	}
}

const trialReboot = "requested: trial of "

// link is one process's way to the control plane.
type link struct {
	w *world
	r *agenttest.Running
}

// online is false for a process that has ended: it says nothing any more.
func (l link) online() bool {
	_, err := l.r.BootID()
	return err == nil && l.r.Online()
}

func (l link) Reconnect() { l.w.set(func(w *world) { w.left++ }) }

// answerName is what the nth answer is called.
func answerName(n int) string { return fmt.Sprint("answer-", n) }

var errUnreachable = errors.New("connection refused")

func (l link) CheckIn(_ context.Context, r fleet.Report) (fleet.Desired, error) {
	w := l.w
	asked := time.Now()
	online := l.online()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.silent || !online {
		return fleet.Desired{}, errUnreachable
	}
	w.reports = append(w.reports, r)
	name := answerName(len(w.reports))
	if w.doubts > 0 {
		w.doubts--
		return fleet.Desired{From: w.from, ServerTime: asked, CheckInAfter: 200 * time.Millisecond, Again: true, Answer: name}, nil
	}
	d := fleet.Desired{From: w.from, Answer: name, ServerTime: asked, CheckInAfter: 2 * time.Second, WantFacts: r.Facts == nil && len(w.reports) == 1, WantHistory: w.forgot}
	if w.want != nil {
		op := *w.want
		if r.Operation != nil && r.Operation.ID == op.ID {
			if n := len(w.phases); n == 0 || w.phases[n-1] != r.Operation.Phase {
				if n > 0 && !w.phases[n-1].CanBecome(r.Operation.Phase) {
					w.promiseBroken("phase %s followed %s", r.Operation.Phase, w.phases[n-1])
				}
				w.phases = append(w.phases, r.Operation.Phase)
			}
			if r.Operation.Phase.Ended() && w.apps.Drained() {
				w.promiseBroken("drained at the end %s", r.Operation.Phase)
			}
			if op.Word == fleet.WordCancel && r.Operation.Phase == fleet.PhasePassed {
				op.Word = fleet.WordRevert // cancel means nothing any more; a control plane says what it means
			}
			if w.auto && r.Operation.Phase == fleet.PhasePassed && op.Word == fleet.WordNone {
				op.Word = fleet.WordCommit
			}
		}
		if w.grants && op.Word == fleet.WordNone {
			op.Grant = &fleet.Grant{ID: "g-" + fleet.GrantID(op.ID), Life: grantLife}
			w.grant.until = asked.Add(grantLife)
		}
		d.Operation = &op
	}
	return d, nil
}

func (l link) ConfirmReboot(ctx context.Context, _ fleet.OperationID, _ fleet.GrantID) (fleet.Confirmation, error) {
	w := l.w
	asked := time.Now()
	online := l.online()
	w.mu.Lock()
	silent, slow, confirm, from := w.silent || !online, w.slow, w.confirm, w.from
	w.mu.Unlock()
	if silent {
		return fleet.Confirmation{}, errUnreachable
	}
	select {
	case <-time.After(slow): // ctx is not looked at: an answer may come late all the same
	case <-ctx.Done():
		if slow < time.Hour {
			time.Sleep(time.Until(asked.Add(slow)))
		}
	}
	c, err := fleet.Confirmation{Yes: true, From: from}, error(nil)
	if confirm != nil {
		c, err = confirm()
	}
	if err == nil && c.Yes {
		w.set(func(w *world) { w.yes = append(w.yes, asked) })
	}
	return c, err
}

type fetcher struct{ w *world }

func (f fetcher) Fetch(_ context.Context, p fleet.Package) (string, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return "/packages/" + p.SHA256, f.w.fetchErr
}

func (fetcher) Forget() error { return nil }

// heard is how many reports have come.
func (w *world) heard() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.reports)
}

// last is the newest report.
func (w *world) last() fleet.Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.reports) == 0 {
		return fleet.Report{}
	}
	return w.reports[len(w.reports)-1]
}

// until waits, in virtual time, until a report is as ok says.
func (w *world) until(what string, within time.Duration, ok func(fleet.Report) bool) fleet.Report {
	w.t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
		if r := w.last(); ok(r) {
			return r
		}
		if time.Now().After(end) {
			r := w.last()
			w.t.Fatalf("not %s within %s; last report: %+v, operation %+v", what, within, r.Now, r.Operation)
		}
	}
}

func (w *world) untilPhase(p fleet.Phase, within time.Duration) fleet.Report {
	w.t.Helper()
	return w.until("in phase "+string(p), within, func(r fleet.Report) bool { return r.Operation != nil && r.Operation.Phase == p })
}

func (w *world) untilEnd(within time.Duration) fleet.Report {
	w.t.Helper()
	return w.until("at an end", within, func(r fleet.Report) bool { return r.Operation != nil && r.Operation.Phase.Ended() })
}

func (w *world) journalPath(id fleet.OperationID) string {
	return filepath.Join(w.dir, "operations", string(id)+".journal")
}
