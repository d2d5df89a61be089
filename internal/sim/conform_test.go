package sim

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agent/hook"
	"github.com/kernwave/kernwave/internal/api"
)

// play is one story that a simulated host and the real agent both live through: the same answers of the same control
// plane, the same kernel, the same blows. What comes of it must be the same.
type playbook struct {
	name   string
	real   agenttest.Behaviour // of the new kernel
	kernel KernelFault         // the same, simulated
	drain  bool                // the drain fails
	// blow is what happens a second after the first report of a phase: power-cut, kill-agent, silent, old-server,
	// cancel, revert, no-grant.
	blow map[fleet.Phase]string
	// no is how often the answer at the last moment is no; lost how often there is none.
	no, lost int
	want     []fleet.Phase // what must come of it; for people, and against both being wrong
}

// script answers as a control plane would, whoever asks. Its methods are called by one agent at a time.
type script struct {
	playbook
	mu      sync.Mutex
	from    fleet.Incarnation
	asked   int
	word    fleet.Word
	noGrant bool
	silent  bool
	struck  map[fleet.Phase]bool
	strike  func(what string) // on the machine
}

var errSilent = errors.New("connection refused")

func (s *script) checkIn(r fleet.Report) (fleet.Desired, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent {
		return fleet.Desired{}, errSilent
	}
	d := fleet.Desired{From: s.from, CheckInAfter: 2 * time.Second}
	op := fleet.DesiredOperation{ID: "op-1", Kind: fleet.KindUpdate, Kernel: kernel, TrialDeadline: 5 * time.Minute, Word: s.word}
	if o := r.Operation; o != nil {
		if what := s.blow[o.Phase]; what != "" && !s.struck[o.Phase] {
			s.struck[o.Phase] = true
			s.happens(what)
		}
		op.Word = s.word
		if op.Word == fleet.WordNone && o.Phase == fleet.PhasePassed && s.blow[fleet.PhasePassed] == "" {
			op.Word = fleet.WordCommit
		}
	}
	if op.Word == fleet.WordNone && !s.noGrant {
		op.Grant = &fleet.Grant{ID: "g-1", Life: 30 * time.Second}
	}
	d.Operation = &op
	return d, nil
}

// happens takes what concerns the answers, and leaves the rest to the machine. The caller holds the lock.
func (s *script) happens(what string) {
	switch what {
	case "cancel":
		s.word = fleet.WordCancel
	case "revert":
		s.word = fleet.WordRevert
	case "no-grant":
		s.noGrant = true
	case "old-server":
		s.from.Term--
	case "silent":
		s.silent = true
	default:
		s.strike(what)
	}
}

func (s *script) confirm() (fleet.Confirmation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent {
		return fleet.Confirmation{}, errSilent
	}
	s.asked++
	if s.asked <= s.lost {
		return fleet.Confirmation{}, errors.New("the answer was lost")
	}
	if s.asked <= s.lost+s.no {
		return fleet.Confirmation{From: s.from, WhyNot: "not now"}, nil
	}
	return fleet.Confirmation{From: s.from, Yes: true}, nil
}

func newScript(p playbook, strike func(string)) *script {
	return &script{playbook: p, from: fleet.Incarnation{Incarnation: 1, Term: 7, Instance: "a"}, struck: map[fleet.Phase]bool{}, strike: strike}
}

// lived is what came of a story.
type lived struct {
	Phases  []fleet.Phase
	Boots   []string // release, and "trial" where the one-shot entry was booted
	Running string
	Default string
	Cause   fleet.Cause
	Drained bool
}

// patience is how long a story may take: dead-man, watchdog and the wait of a host that cut itself off included.
const lifetime = 40 * time.Minute

// real lives through it with the real agent on agenttest's machine.
func (p playbook) lived(t *testing.T) (out lived) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		m := agenttest.NewMachine(oldRelease)
		m.Facts.Kernel.Flavour = kernel.Flavour
		m.Takes = map[string]time.Duration{"Install": 30 * time.Second}
		m.Kernels = map[string]agenttest.Behaviour{newRelease: p.real}
		h := agenttest.NewHost(m, agenttest.Options{})
		apps := agenttest.NewPrograms(nil)
		apps.Takes(hook.Drain, 10*time.Second)
		apps.Takes(hook.Check, 10*time.Second)
		if p.drain {
			apps.Fail(hook.Drain, hook.Result{What: "exit status 1"})
		}
		s := newScript(p, func(what string) {
			time.AfterFunc(time.Second, map[string]func(){"power-cut": h.PowerCut, "kill-agent": h.KillAgent}[what])
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- h.Run(ctx, func(ctx context.Context, r *agenttest.Running) error {
				a, err := agent.New(agent.Config{Host: "a1-0001", StateDir: dir}, agent.Parts{
					Controller: &realLink{s, r}, Fetcher: noFetcher{}, System: r, Programs: apps, Disk: r.Disk(disk.OS{}),
				}, slog.New(slog.NewTextHandler(io.Discard, nil)))
				if err != nil {
					return err
				}
				return a.Run(ctx)
			})
		}()
		time.Sleep(lifetime)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		now := h.Look()
		out = lived{Running: now.Running, Default: now.Default, Drained: apps.Drained()}
		for _, b := range now.Boots {
			one := b.Release
			if b.Trial != "" {
				one += " trial"
			}
			out.Boots = append(out.Boots, one)
		}
		recs, errs := agent.History(disk.OS{}, dir)
		for _, err := range errs {
			t.Error(err)
		}
		for _, r := range recs {
			out.Phases = append(out.Phases, r.Phase)
			if r.Problem != nil {
				out.Cause = r.Problem.Cause
			}
		}
		out.Phases = slices.Compact(out.Phases)
	})
	return out
}

type realLink struct {
	s *script
	r *agenttest.Running
}

func (l *realLink) up() bool {
	_, err := l.r.BootID()
	return err == nil && l.r.Online()
}

func (l *realLink) CheckIn(_ context.Context, r fleet.Report) (fleet.Desired, error) {
	if !l.up() {
		return fleet.Desired{}, errSilent
	}
	return l.s.checkIn(r)
}

func (l *realLink) ConfirmReboot(context.Context, fleet.OperationID, fleet.GrantID) (fleet.Confirmation, error) {
	if !l.up() {
		return fleet.Confirmation{}, errSilent
	}
	return l.s.confirm()
}

func (l *realLink) Reconnect() {}

type noFetcher struct{}

func (noFetcher) Fetch(_ context.Context, p fleet.Package) (string, error) {
	return "/" + p.SHA256, nil
}
func (noFetcher) Forget() error { return nil }

// simulated lives through it with a simulated host.
func (p playbook) simulated(t *testing.T, seed uint64) (out lived) {
	typ := Type{Name: "a1", Hosts: 1, Kernel: p.kernel, Drain: 10 * time.Second, Checks: 10 * time.Second, Boot: 20 * time.Second}
	w := &world{
		s: withDefaults(Scenario{Fleet: Fleet{Types: []Type{typ}}, For: lifetime}), opt: Options{Seed: seed}, scripted: true,
		byID: map[fleet.HostID]*host{}, clones: map[fleet.HostID]cloned{}, owners: map[fleet.OperationID]string{}, unstopped: -1,
	}
	w.res = Result{Faults: map[string]int{}, Seen: map[string]int{}}
	w.rnd.net, w.rnd.store = newChance(seed, "network"), newChance(seed, "store")
	w.makeHosts()
	h := w.hosts[0]
	if p.drain {
		h.drainFailsTo = lifetime
	}
	s := newScript(p, func(what string) {
		w.after(time.Second, map[string]func(){"power-cut": func() { h.down("a power cut") }, "kill-agent": h.killAgent}[what])
	})
	w.main = &plane{w: w, name: "script", dir: &dataDir{rows: newRows()}, door: scriptDoor{s}, heard: []time.Duration{-1}, saidOut: []bool{false}}
	w.onPhase = func(_ *host, ph fleet.Phase) { out.Phases = append(out.Phases, ph) }
	out.Boots = []string{oldRelease}
	w.onBoot = func(h *host) {
		one := h.m.running
		if h.m.trial != nil {
			one += " trial"
		}
		out.Boots = append(out.Boots, one)
	}
	if err := w.play(t.Context()); err != nil {
		t.Fatal(err)
	}
	out.Running, out.Default, out.Drained = h.m.running, h.m.disk.def, h.a.Drained()
	if pr := h.a.Problem(); pr != nil {
		out.Cause = pr.Cause
	}
	return out
}

type scriptDoor struct{ s *script }

func (d scriptDoor) CheckIn(_ context.Context, _ api.Client, r fleet.Report) (fleet.Desired, error) {
	return d.s.checkIn(r)
}

func (d scriptDoor) ConfirmReboot(context.Context, api.Client, fleet.HostID, fleet.OperationID, fleet.GrantID) (fleet.Confirmation, error) {
	return d.s.confirm()
}

var atOnce time.Duration

// playbooks are the stories.
var playbooks = []playbook{
	{name: "good", want: []fleet.Phase{"preparing", "prepared", "draining", "drained", "rebooting", "trial", "passed", "committing", "committed"}},
	{name: "panics", real: agenttest.Behaviour{Panic: "-"}, kernel: KernelFault{Boots: "panic"}, want: []fleet.Phase{"rebooting", "reverting", "fell-back"}},
	{name: "hangs", real: agenttest.Behaviour{Hang: true}, kernel: KernelFault{Boots: "hang"}, want: []fleet.Phase{"rebooting", "reverting", "fell-back"}},
	{name: "no network", real: agenttest.Behaviour{NoNetwork: true}, kernel: KernelFault{NetworkLostAfter: &atOnce}, want: []fleet.Phase{"trial", "reverting", "reverted"}},
	{name: "wrong release", real: agenttest.Behaviour{Uname: newRelease + ".wrong"}, kernel: KernelFault{WrongRelease: true}, want: []fleet.Phase{"trial", "reverting", "reverted"}},
	{name: "slow", real: agenttest.Behaviour{NoAgent: true}, kernel: KernelFault{SlowBoot: time.Hour}, want: []fleet.Phase{"rebooting", "reverting", "fell-back"}},
	{name: "drain fails", drain: true, want: []fleet.Phase{"draining", "undraining", "failed"}},
	{name: "no at the last moment", no: 1, want: []fleet.Phase{"drained", "undraining", "cancelled"}},
	{name: "answers lost at the last moment", lost: 3, want: []fleet.Phase{"drained", "rebooting", "trial", "passed", "committing", "committed"}},
	{name: "cancelled while preparing", blow: map[fleet.Phase]string{"preparing": "cancel"}, want: []fleet.Phase{"preparing", "cancelled"}},
	{name: "cancelled while draining", blow: map[fleet.Phase]string{"draining": "cancel"}, want: []fleet.Phase{"draining", "undraining", "cancelled"}},
	{name: "cancelled in the trial", blow: map[fleet.Phase]string{"trial": "cancel", "passed": "cancel"}, want: []fleet.Phase{"trial", "passed"}},
	{name: "grant taken back", blow: map[fleet.Phase]string{"draining": "no-grant"}, want: []fleet.Phase{"draining", "undraining", "cancelled"}},
	{name: "silent while draining", blow: map[fleet.Phase]string{"draining": "silent"}, want: []fleet.Phase{"draining", "drained", "undraining", "cancelled"}},
	{name: "an older control plane answers while draining", blow: map[fleet.Phase]string{"draining": "old-server"}, want: []fleet.Phase{"draining", "drained", "undraining", "cancelled"}},
	{name: "silent after the trial", blow: map[fleet.Phase]string{"passed": "silent"}, want: []fleet.Phase{"trial", "passed"}},
	{name: "reverted after the trial", blow: map[fleet.Phase]string{"passed": "revert"}, want: []fleet.Phase{"passed", "reverting", "reverted"}},
	{name: "reverted in the trial", blow: map[fleet.Phase]string{"trial": "revert", "passed": "revert"}, want: []fleet.Phase{"trial", "reverting", "reverted"}},
	{name: "agent killed while preparing", blow: map[fleet.Phase]string{"preparing": "kill-agent"}, want: []fleet.Phase{"preparing", "prepared", "draining", "drained", "rebooting", "trial", "passed", "committing", "committed"}},
	{name: "agent killed while draining", blow: map[fleet.Phase]string{"draining": "kill-agent"}, want: []fleet.Phase{"draining", "drained", "rebooting", "trial", "passed", "committing", "committed"}},
	{name: "agent killed in the trial", blow: map[fleet.Phase]string{"trial": "kill-agent"}, want: []fleet.Phase{"trial", "passed", "committing", "committed"}},
	{name: "power cut while preparing", blow: map[fleet.Phase]string{"preparing": "power-cut"}, want: []fleet.Phase{"preparing", "prepared", "draining", "drained", "rebooting", "trial", "passed", "committing", "committed"}},
	{name: "power cut while draining", blow: map[fleet.Phase]string{"draining": "power-cut"}, want: []fleet.Phase{"draining", "undraining", "failed"}},
	{name: "power cut in the trial", blow: map[fleet.Phase]string{"trial": "power-cut"}, want: []fleet.Phase{"trial", "reverting", "fell-back"}},
	{name: "power cut after the trial", blow: map[fleet.Phase]string{"passed": "power-cut"}, want: []fleet.Phase{"passed", "reverting", "fell-back"}},
}

// TestSimulatedHostIsTheRealAgent lets both live through the same stories.
func TestSimulatedHostIsTheRealAgent(t *testing.T) {
	for _, p := range playbooks {
		t.Run(strings.ReplaceAll(p.name, " ", "-"), func(t *testing.T) {
			want := p.lived(t)
			if n := len(p.want); len(want.Phases) < n || !slices.Equal(want.Phases[len(want.Phases)-n:], p.want) {
				t.Errorf("the real agent went through %v; the story was to end in %v", want.Phases, p.want)
			}
			for seed := range uint64(5) {
				if diff := cmp.Diff(want, p.simulated(t, seed)); diff != "" {
					t.Fatalf("seed %d: the simulated host does not do what the agent does (-agent +simulated):\n%s", seed, diff)
				}
			}
		})
	}
}
