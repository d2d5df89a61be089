package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/operator"
)

// holds is a check that keeps a host in its trial as long as the file "hold" is in its root.
var holds = map[string]string{
	"20-hold.yaml": "drain: {argv: ['true']}\nundrain: {argv: ['true']}\ncheck: {argv: [sh, -c, 'while test -e ROOT/hold; do sleep 0.1; done'], timeout: 15m}\n",
}

// absence is one time in which a host was, or may have been, out of service, by its own journal.
type absence struct {
	host     string
	from, to time.Time
	why      string
}

func (f *fake) absences() (out []absence) {
	f.r.t.Helper()
	byOp := map[fleet.OperationID][]agent.Record{}
	var order []fleet.OperationID
	for _, x := range f.records() {
		if byOp[x.Operation] == nil {
			order = append(order, x.Operation)
		}
		byOp[x.Operation] = append(byOp[x.Operation], x)
	}
	for _, id := range order {
		a := absence{host: f.name}
		for _, x := range byOp[id] {
			switch {
			case a.from.IsZero() && x.Phase == fleet.PhaseDraining:
				a.from = x.At
			case !a.from.IsZero() && x.Phase.Ended() && a.to.IsZero():
				a.to, a.why = x.At, fmt.Sprintf("%s %s", id, x.Phase)
			}
		}
		if a.to.IsZero() {
			a.to, a.why = time.Now(), string(id)
		}
		if !a.from.IsZero() {
			out = append(out, a)
		}
	}
	return out
}

// proveBudget shows from the journals of all hosts of a model that at most limit were out at once, whoever let them.
func (r *rig) proveBudget(limit int, hosts ...*fake) {
	r.t.Helper()
	var all []absence
	for _, h := range hosts {
		all = append(all, h.absences()...)
	}
	for _, a := range all {
		var with []string
		for _, b := range all {
			if !b.from.After(a.from) && b.to.After(a.from) { // out at the moment when a left
				with = append(with, fmt.Sprintf("%s (%s, %s to %s)", b.host, b.why, b.from.Format("15:04:05.000"), b.to.Format("15:04:05.000")))
			}
		}
		if len(with) > limit {
			r.t.Errorf("the budget is %d, and out at once were %s", limit, strings.Join(with, ", "))
		}
	}
	if len(all) == 0 {
		r.t.Error("nobody was ever out: this proves nothing")
	}
}

type statusJSON struct {
	Stopped     string            `json:"stopped"`
	Incarnation uint64            `json:"incarnation"`
	Superseded  string            `json:"superseded"`
	Rebuild     *operator.Rebuild `json:"rebuild"`
}

func (r *rig) status() (s statusJSON) {
	r.t.Helper()
	r.json(&s, "status")
	return s
}

func (r *rig) rolloutIs(id, status string) func() bool {
	return func() bool {
		out, err := r.cli("rollout", "status", id, "-o", "json")
		return err == nil && strings.Contains(out, fmt.Sprintf("%q", status))
	}
}

// kernwave runs the program without a control plane.
func (r *rig) kernwave(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(bin, "kernwave"), args...)
	var out output
	cmd.Stdout, cmd.Stderr = &out, &out
	forks.RLock()
	err := cmd.Start()
	forks.RUnlock()
	if err == nil {
		err = cmd.Wait()
	}
	return out.String(), err
}

// TestYesterdaysBackup: a backup of the running control plane is put back while one host is out of service under an
// operation that it does not know, one has fallen back from the kernel, and one says nothing.
func TestYesterdaysBackup(t *testing.T) {
	r := newRig(t)
	data, file := filepath.Join(r.dir, "data"), filepath.Join(r.dir, "k.backup")
	r.addKernel(newRelease)
	panics := func(m *agenttest.Machine) {
		m.Kernels = map[string]agenttest.Behaviour{newRelease: {Panic: "Kernel panic - not syncing: DMI large"}}
	}
	var small, large []*fake
	for i := range 3 {
		h := r.host(fmt.Sprintf("small-%d", i), "small", holds, nil)
		h.write("hold", "")
		small = append(small, h)
	}
	for i := range 2 {
		large = append(large, r.host(fmt.Sprintf("large-%d", i), "large", nil, panics))
	}
	r.untilHosts(5)
	if out, err := r.kernwave("backup", "--data", data, file); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.start()
	var inTrial, fellBack *fake
	r.until("one in its trial, one back from it", func() bool {
		for _, h := range small {
			if h.last().Phase == fleet.PhaseTrial {
				inTrial = h
			}
		}
		for _, h := range large {
			if h.last().Phase == fleet.PhaseFellBack {
				fellBack = h
			}
		}
		return inTrial != nil && fellBack != nil
	})
	lost := inTrial.last().Operation
	if out, err := r.kernwave("restore", "--data", data, "--force", file); err == nil || !strings.Contains(out, "has it open") {
		t.Fatalf("restored under a running server: %v\n%s", err, out)
	}
	r.server.kill(syscall.SIGKILL)
	if out, err := r.kernwave("restore", "--data", data, file); err == nil || !strings.Contains(out, "--force") {
		t.Fatalf("restored over what is there: %v\n%s", err, out)
	}
	out, err := r.kernwave("restore", "--data", data, "--force", file)
	if err != nil || !strings.Contains(out, "5 hosts") || !strings.Contains(out, "what happens next") {
		t.Fatalf("%v\n%s", err, out)
	}
	silent := small[slices.IndexFunc(small, func(h *fake) bool { return h != inTrial })]
	silent.proc.kill(syscall.SIGKILL)
	r.startServer()

	r.until("all that can have reported", func() bool { s := r.status(); return s.Rebuild != nil && s.Rebuild.Reported == 4 })
	s := r.status()
	if s.Incarnation != 2 || !strings.Contains(s.Stopped, "the backup that kernwave") || s.Rebuild.Hosts != 5 || s.Rebuild.Waiting[0].Host != fleet.HostID(silent.name) {
		t.Errorf("status: %+v, %+v", s, s.Rebuild)
	}
	_, err = r.cli("stop", "lift", "--why", "hurry")
	if want := "rebuilding after a restore: 4 of 5 hosts have reported; waiting for " + silent.name; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("lifted: %v, want %q", err, want)
	}
	if out := r.must("why", silent.name); !strings.Contains(out, "has not told its journal") {
		t.Errorf("why %s: %s", silent.name, out)
	}
	// The operation that nobody remembers is known again, and brought to its end: back to the old kernel.
	for _, h := range small {
		if err := os.Remove(filepath.Join(h.root, "hold")); err != nil {
			t.Error(err)
		}
	}
	inTrial.untilPhase(fleet.PhaseReverted)
	if m := inTrial.machine(); m.Running != oldRelease || m.Default != oldRelease {
		t.Errorf("%s runs %s, default %s", inTrial.name, m.Running, m.Default)
	}
	r.until("the store knows how it ended", func() bool {
		out, err := r.cli("host", "show", inTrial.name, "-o", "json")
		return err == nil && strings.Contains(out, string(lost)) && strings.Contains(out, `"reverted"`)
	})
	if out := r.must("host", "show", fellBack.name, "-o", "json"); !strings.Contains(out, `"fell-back"`) || !strings.Contains(out, "DMI large") {
		t.Errorf("%s is shown as\n%s", fellBack.name, out)
	}
	silent.start()
	r.until("the rebuild is over", func() bool { return r.status().Rebuild == nil })
	r.must("stop", "lift", "--why", "all are heard")

	// A new rollout; its id is none that was drawn before. The type that panics stops it at a canary again.
	r.start()
	var list struct {
		Rollouts []struct {
			ID string `json:"id"`
		} `json:"rollouts"`
	}
	r.json(&list, "rollout", "list")
	if len(list.Rollouts) != 1 || !strings.HasPrefix(list.Rollouts[0].ID, "r-1-") {
		t.Fatalf("rollouts: %+v", list)
	}
	id := list.Rollouts[0].ID
	r.until("paused", r.rolloutIs(id, "paused"))
	var typ struct {
		Host struct {
			Type struct {
				ID string `json:"id"`
			} `json:"type"`
		} `json:"host"`
	}
	r.json(&typ, "host", "show", fellBack.name)
	r.must("rollout", "leave-out", id, typ.Host.Type.ID, "--why", "panics there")
	r.must("rollout", "resume", id)
	r.until("done", r.rolloutIs(id, "done"))
	for _, h := range r.hosts {
		h.proveGrants()
		if want := map[bool]string{true: newRelease, false: oldRelease}[slices.Contains(small, h)]; h.machine().Running != want || h.machine().Default != want {
			t.Errorf("%s runs %s, default %s", h.name, h.machine().Running, h.machine().Default)
		}
		if s := h.service(); s != "" && !strings.HasSuffix(s, "undrain") {
			t.Errorf("%s: %s", h.name, s)
		}
	}
	r.proveBudget(1, small...)
	r.proveBudget(1, large...)
}

// fork leads each connection to one of several control planes, by chance, and cuts it after a moment: hosts reach all of
// them. (In turn would not do: with an even number of hosts, each finds the same one for ever.) A host leaves the one
// that it must not obey by itself.
type fork struct {
	ln net.Listener

	mu    sync.Mutex
	to    []string // addresses
	conns sync.WaitGroup
}

// cutAfter makes hosts connect anew often.
const cutAfter = 3 * time.Second

func newFork(t *testing.T, to string) *fork {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fork{ln: ln, to: []string{to}}
	f.conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			to := f.to[rand.IntN(len(f.to))]
			f.mu.Unlock()
			f.conns.Go(func() { join(c, to) })
		}
	})
	t.Cleanup(func() { ln.Close(); f.conns.Wait() })
	return f
}

func join(c net.Conn, to string) {
	defer c.Close()
	s, err := net.DialTimeout("tcp", to, time.Second)
	if err != nil {
		return
	}
	defer s.Close()
	end := time.Now().Add(cutAfter)
	_, _ = c.SetDeadline(end), s.SetDeadline(end)
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(s, c); s.Close() })
	both.Go(func() { _, _ = io.Copy(c, s); c.Close() })
	both.Wait()
}

// TestClonedDataDirectory: a copy of the data directory is started beside the original, in the middle of a rollout, and
// the hosts reach now the one and now the other.
func TestClonedDataDirectory(t *testing.T) {
	r := newRig(t)
	r.addKernel(newRelease)
	server := r.addr
	way := newFork(t, server)
	r.addr = way.ln.Addr().String()
	var small []*fake
	for i := range 4 {
		h := r.host(fmt.Sprintf("small-%d", i), "small", holds, nil)
		small = append(small, h)
	}
	r.untilHosts(4)
	small[0].write("hold", "")
	for _, h := range small {
		h.write("hold", "")
	}
	r.start("--trial-deadline", "15m") // it waits in its trial until all hosts have found the copy
	var inTrial *fake
	r.until("one in its trial", func() bool {
		for _, h := range small {
			if h.last().Phase == fleet.PhaseTrial {
				inTrial = h
			}
		}
		return inTrial != nil
	})
	// The original is started again as it was; the copy has its own directory and port, and nobody tells it what it is.
	r.addr = server
	r.server.kill(syscall.SIGKILL)
	clone := &rig{t: t, dir: filepath.Join(r.dir, "clone"), args: r.args, addr: "127.0.0.1:0", hosts: map[string]*fake{}}
	if err := os.Mkdir(clone.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", filepath.Join(r.dir, "data"), clone.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.startServer()
	clone.startServer()
	t.Cleanup(func() {
		if t.Failed() {
			show, _ := clone.cli("rollout", "status", "r-1")
			events, _ := clone.cli("events")
			t.Logf("the copy's rollout and record:\n%s\n%s", show, events)
		}
		clone.endServer()
		if t.Failed() {
			t.Logf("clone:\n%s", tailOf(clone.server.out.String()))
		}
	})
	if s := clone.status(); s.Incarnation != 2 || !strings.Contains(s.Stopped, "its directory is another one than last time") {
		t.Errorf("the copy: %+v", s)
	}
	if s := r.status(); s.Incarnation != 1 || s.Stopped != "" {
		t.Errorf("the original: %+v", s)
	}
	way.mu.Lock()
	way.to = append(way.to, clone.addr)
	way.mu.Unlock()

	r.until("the original has noticed", func() bool { return r.status().Superseded != "" })
	s := r.status()
	if !strings.Contains(s.Superseded, "has obeyed another control plane: incarnation 2") || !strings.Contains(s.Stopped, "another control plane") {
		t.Errorf("the original: %+v", s)
	}
	if out := r.must("events"); !strings.Contains(out, "control.superseded") && !strings.Contains(out, "another control plane is obeyed") {
		t.Errorf("its record:\n%s", out)
	}
	if _, err := r.cli("stop", "lift", "--why", "x"); err == nil || !strings.Contains(err.Error(), "another control plane") {
		t.Errorf("its stop was lifted: %v", err)
	}
	r.until("the copy knows all", func() bool { return clone.status().Rebuild == nil })
	for _, h := range small {
		if err := os.Remove(filepath.Join(h.root, "hold")); err != nil {
			t.Error(err)
		}
	}
	inTrial.untilEnd()
	reboots := 0
	for _, h := range small {
		reboots += len(h.machine().Boots)
	}
	clone.must("stop", "lift", "--why", "this is the one")
	clone.must("rollout", "resume", "r-1")
	r.until("done", clone.rolloutIs("r-1", "done"))
	for _, h := range small {
		h.proveGrants()
		if m := h.machine(); m.Running != newRelease || m.Default != newRelease || len(m.Boots) != 2 {
			t.Errorf("%s runs %s, default %s, %d boots", h.name, m.Running, m.Default, len(m.Boots))
		}
	}
	r.proveBudget(1, small...)
	for _, h := range small { // the original is not obeyed, and does not decide either
		if h == inTrial {
			continue
		}
		if out := r.must("host", "show", h.name, "-o", "json"); strings.Contains(out, `"committed"`) {
			t.Errorf("the original followed %s:\n%s", h.name, out)
		}
	}
}

// TestTwoServersOnOneDirectory: the second is refused, with the first one's process, and the first does not notice.
func TestTwoServersOnOneDirectory(t *testing.T) {
	r := newRig(t)
	out, err := r.kernwave("server", "--data", filepath.Join(r.dir, "data"), "--listen", "127.0.0.1:0")
	if want := fmt.Sprintf("another kernwave server (process %d) has it open", r.server.cmd.Process.Pid); err == nil || !strings.Contains(out, want) || !strings.Contains(out, "next: ") {
		t.Errorf("%v\n%s", err, out)
	}
	if s := r.status(); s.Stopped != "" || s.Incarnation != 1 {
		t.Errorf("the first: %+v", s)
	}
}
