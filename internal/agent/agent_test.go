package agent_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/agent/hook"
)

const soonEnough = 30 * time.Minute

func kernelBehaves(b agenttest.Behaviour) func(*world) {
	return func(w *world) {
		w.host.Change(func(m *agenttest.Machine) { m.Kernels = map[string]agenttest.Behaviour{newRelease: b} })
	}
}

func TestGoodKernelIsCommitted(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.until("in service", time.Minute, func(r fleet.Report) bool { return r.Now.InService })
		w.set(func(w *world) { w.want = update("op-1") })
		r := w.untilEnd(soonEnough)
		if r.Operation.Phase != fleet.PhaseCommitted || r.Now.Release != newRelease || !r.Now.InService || r.Operation.Problem != nil {
			t.Errorf("ended as %+v, %+v", r.Operation, r.Now)
		}
		want := []fleet.Phase{"preparing", "prepared", "draining", "drained", "rebooting", "trial", "passed", "committing", "committed"}
		got := slices.DeleteFunc(slices.Clone(w.phases), func(p fleet.Phase) bool { return !slices.Contains(want, p) })
		if got[len(got)-1] != "committed" || !slices.IsSortedFunc(got, func(a, b fleet.Phase) int {
			return slices.Index(want, a) - slices.Index(want, b)
		}) {
			t.Errorf("phases: got %v, want some of %v in this order", w.phases, want)
		}
		var names []string
		for _, c := range r.Operation.Trial.Checks {
			names = append(names, fmt.Sprint(c.Name, c.Passed))
		}
		if diff := cmp.Diff([]string{"kerneltrue", "boottrue", "systemtrue", "networktrue", "apptrue", "one-shottrue"}, names); diff != "" {
			t.Errorf("checks (-want +got):\n%s", diff)
		}
		m := w.host.Look()
		if m.Default != newRelease || m.OneShot != nil || len(m.Boots) != 2 || m.Facts.Boot.OneShot != fleet.OneShotProven {
			t.Errorf("the machine is left as %+v", m)
		}
		w.host.PowerCut()
		w.until("on the new kernel after a plain boot", soonEnough, func(r fleet.Report) bool {
			return r.Now.BootID == "boot-0003" && r.Now.Release == newRelease && r.Now.InService
		})
	})
}

// TestBadKernels: each is back on the old kernel unaided, in service, and said truthfully.
func TestBadKernels(t *testing.T) {
	for _, c := range []struct {
		name     string
		b        agenttest.Behaviour
		phase    fleet.Phase
		cause    fleet.Cause
		what     string
		evidence string
	}{
		{"panics with pstore", agenttest.Behaviour{Panic: "Kernel panic - not syncing: VFS"}, fleet.PhaseFellBack, fleet.CauseNotBooted, "crashed at boot", "VFS"},
		{"panics without trace", agenttest.Behaviour{Panic: "-"}, fleet.PhaseFellBack, fleet.CauseNotBooted, "was not booted, panicked or hung", ""},
		{"hangs", agenttest.Behaviour{Hang: true}, fleet.PhaseFellBack, fleet.CauseNotBooted, "was not booted, panicked or hung", ""},
		{"has no agent", agenttest.Behaviour{NoAgent: true}, fleet.PhaseFellBack, fleet.CauseDeadMan, "dead-man", ""},
		{"has no network", agenttest.Behaviour{NoNetwork: true}, fleet.PhaseReverted, fleet.CauseNetwork, "link eth0 has no carrier", "eth0: no carrier"},
		{"fails units", agenttest.Behaviour{FailUnits: []string{"app.service"}}, fleet.PhaseReverted, fleet.CauseUnits, "newly failed: app.service", ""},
		{"never gets up", agenttest.Behaviour{NeverUp: true}, fleet.PhaseReverted, fleet.CauseUnits, "still starting", ""},
		{"shows another release", agenttest.Behaviour{Uname: "6.6.6"}, fleet.PhaseReverted, fleet.CauseWrongKernel, "uname -r shows 6.6.6", ""},
		{"cannot write its disk", agenttest.Behaviour{ReadOnly: true}, fleet.PhaseFellBack, fleet.CauseNotBooted, "", ""},
		{"dies in its trial's wait", agenttest.Behaviour{DiesAfter: 3 * time.Minute}, fleet.PhaseFellBack, fleet.CauseNotBooted, "left 6.1.0-2-cloud-amd64 by itself in phase passed", "late death"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, kernelBehaves(c.b), func(w *world) {
				w.set(func(w *world) { w.want, w.auto = update("op-1"), false })
				r := w.untilEnd(soonEnough)
				p := r.Operation.Problem
				if r.Operation.Phase != c.phase || p == nil || p.Cause != c.cause || !strings.Contains(p.What, c.what) || !strings.Contains(p.Evidence, c.evidence) {
					t.Errorf("got %s, %+v; want %s, %s, %q", r.Operation.Phase, p, c.phase, c.cause, c.what)
				}
				if c.evidence == "" && c.phase == fleet.PhaseFellBack && p.NoEvidence == "" {
					t.Errorf("nothing says why there is no evidence: %+v", p)
				}
				if r.Now.Release != oldRelease || !r.Now.InService || w.apps.Drained() {
					t.Errorf("left as %+v", r.Now)
				}
				if m := w.host.Look(); m.Default != oldRelease || m.OneShot != nil {
					t.Errorf("default %q, one-shot %v", m.Default, m.OneShot)
				}
			})
		})
	}
}

func TestOperatorsCheckFails(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.apps.Fail(hook.Check, hook.Result{What: "exit status 7", Output: "slow disk\n"})
		w.set(func(w *world) { w.want = update("op-1") })
		r := w.untilEnd(soonEnough)
		p := r.Operation.Problem
		if r.Operation.Phase != fleet.PhaseReverted || p.Cause != fleet.CauseCheck || p.Evidence != "slow disk\n" || !strings.Contains(p.What, "exit status 7 (slow disk)") {
			t.Errorf("got %s, %+v", r.Operation.Phase, p)
		}
		if r.Operation.Trial == nil || r.Now.Release != oldRelease {
			t.Errorf("trial %+v on %s", r.Operation.Trial, r.Now.Release)
		}
	})
}

// TestRefused: nothing is drained, and the reason is said.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup func(*world)
		want  string
	}{
		{"wrong checksum", func(w *world) {
			w.fetchErr = fmt.Errorf("fetch linux-image: %w: sha256 is ab, not 00", agent.ErrRefused)
		}, "sha256 is ab, not 00"},
		{"full boot", failing("CanInstall", "no space left in /boot"), "no space left in /boot"},
		{"dpkg locked", failing("CanInstall", "dpkg is locked by apt-get, pid 7"), "dpkg is locked"},
		{"install fails", failing("Install", "dpkg: error"), "dpkg: error"},
		{"no way back", failing("SecureWayBack", "grubenv cannot be written"), "grubenv cannot be written"},
		{"no one-shot", func(w *world) {
			w.host.Change(func(m *agenttest.Machine) {
				m.Facts.Boot.OneShot, m.Facts.Boot.OneShotWhy = fleet.OneShotImpossible, "/boot is on LVM"
			})
		}, "/boot is on LVM"},
		{"one-shot unknown", func(w *world) {
			w.host.Change(func(m *agenttest.Machine) { m.Facts.Boot.OneShot = fleet.OneShotUnknown })
		}, "could not be found out"},
		{"another architecture", func(w *world) {
			w.host.Change(func(m *agenttest.Machine) { m.Facts.Arch = "arm64" })
		}, "the kernel is for amd64, the host is arm64"},
		{"broken hooks", func(w *world) { w.apps.Break(errors.New("app.yaml:3: unknown key")) }, "app.yaml:3"},
		{"rollback to a kernel that is gone", func(w *world) { w.want.Kernel.Packages = nil }, "not installed any more"},
		{"unknown kind", func(w *world) { w.want.Kind = "dance" }, `"dance"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) { w.want = update("op-1"); c.setup(w) }, func(w *world) {
				r := w.untilEnd(soonEnough)
				if r.Operation.Phase != fleet.PhaseRefused || r.Operation.Problem.Cause != fleet.CauseRefused || !strings.Contains(r.Operation.Problem.What, c.want) {
					t.Errorf("got %s, %+v, want %q", r.Operation.Phase, r.Operation.Problem, c.want)
				}
				if !r.Now.InService && c.name != "broken hooks" {
					t.Errorf("not in service: %s", r.Now.NotInServiceWhy)
				}
				if m := w.host.Look(); len(w.apps.Runs(hook.Drain)) != 0 || len(m.Boots) != 1 {
					t.Error("drained or rebooted")
				}
			})
		})
	}
}

func failing(method, why string) func(*world) {
	return func(w *world) {
		w.host.Change(func(m *agenttest.Machine) { m.Fail = map[string]string{method: why} })
	}
}

// TestNoReboot: whatever happens between the grant and the reboot, the host is undrained and has not rebooted.
func TestNoReboot(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup func(*world)
		then  func(*world)
		phase fleet.Phase
		cause fleet.Cause
		what  string
	}{
		{
			"drain fails", func(w *world) { w.apps.Fail(hook.Drain, hook.Result{What: "exit status 1", Output: "busy\n"}) }, nil,
			fleet.PhaseFailed, fleet.CauseDrain, "app drain: exit status 1",
		},
		{
			"drain times out", func(w *world) { w.apps.Takes(hook.Drain, time.Hour) }, nil,
			fleet.PhaseFailed, fleet.CauseDrain, "app drain: timed out after 30s",
		},
		{"control plane lost while draining", func(w *world) { w.apps.Takes(hook.Drain, 25*time.Second) }, func(w *world) {
			w.untilPhase(fleet.PhaseDraining, soonEnough)
			w.set(func(w *world) { w.silent = true })
			time.Sleep(2 * time.Minute)
			if w.apps.Drained() {
				w.t.Error("still drained, two minutes after the control plane was lost")
			}
			w.set(func(w *world) { w.silent = false; w.grants = false })
		}, fleet.PhaseCancelled, fleet.CauseGrant, "ran out"},
		{"grant taken back", func(w *world) { w.apps.Takes(hook.Drain, 25*time.Second) }, func(w *world) {
			w.untilPhase(fleet.PhaseDraining, soonEnough)
			w.set(func(w *world) { w.grants = false })
		}, fleet.PhaseCancelled, fleet.CauseGrant, "took the grant back"},
		{"cancelled while draining", func(w *world) { w.apps.Takes(hook.Drain, 25*time.Second) }, func(w *world) {
			w.untilPhase(fleet.PhaseDraining, soonEnough)
			w.set(func(w *world) { w.want.Word, w.want.WordWhy = fleet.WordCancel, "rollout r-1 is paused" })
		}, fleet.PhaseCancelled, fleet.CauseTold, "rollout r-1 is paused"},
		{"no longer wanted while draining", func(w *world) { w.apps.Takes(hook.Drain, 25*time.Second) }, func(w *world) {
			w.untilPhase(fleet.PhaseDraining, soonEnough)
			w.set(func(w *world) { w.want = nil })
		}, fleet.PhaseCancelled, fleet.CauseTold, "no longer wants"},
		{"the last moment's answer is no", func(w *world) {
			w.confirm = func() (fleet.Confirmation, error) {
				return fleet.Confirmation{WhyNot: "stopped by anna", From: w.from}, nil
			}
		}, nil, fleet.PhaseCancelled, fleet.CauseTold, "stopped by anna"},
		{"the answer comes from an older control plane", func(w *world) {
			w.confirm = func() (fleet.Confirmation, error) {
				return fleet.Confirmation{Yes: true, From: fleet.Incarnation{Incarnation: 1, Term: 0}}, nil
			}
		}, func(w *world) {
			w.untilPhase(fleet.PhaseDrained, soonEnough)
			time.Sleep(time.Minute)
			w.set(func(w *world) {
				w.grants = false
				if w.left == 0 {
					w.promiseBroken("the host stays connected to the older control plane")
				}
			})
		}, fleet.PhaseCancelled, fleet.CauseGrant, ""},
		{"the answer comes too late", func(w *world) { w.slow = 6 * time.Second }, func(w *world) {
			w.untilPhase(fleet.PhaseDrained, soonEnough)
			time.Sleep(time.Minute)
			w.set(func(w *world) { w.grants = false })
		}, fleet.PhaseCancelled, fleet.CauseGrant, ""},
		{"arming fails", failing("ArmTrial", "grubenv is full"), nil, fleet.PhaseFailed, fleet.CauseBroken, "grubenv is full"},
		{"rebooting fails", failing("Reboot", "Access denied"), nil, fleet.PhaseFailed, fleet.CauseBroken, "Access denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(w *world) { w.want = update("op-1"); c.setup(w) }, func(w *world) {
				if c.then != nil {
					c.then(w)
				}
				r := w.untilEnd(soonEnough)
				p := r.Operation.Problem
				if r.Operation.Phase != c.phase || p.Cause != c.cause || !strings.Contains(p.What, c.what) {
					t.Errorf("got %s, %+v; want %s, %s, %q", r.Operation.Phase, p, c.phase, c.cause, c.what)
				}
				m := w.host.Look()
				if w.apps.Drained() || !r.Now.InService || len(m.Boots) != 1 || m.OneShot != nil {
					t.Errorf("drained %v, in service %v (%s), %d boots, one-shot %v", w.apps.Drained(), r.Now.InService, r.Now.NotInServiceWhy, len(m.Boots), m.OneShot)
				}
			})
		})
	}
}

func TestUndrainIsRetriedAndReported(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.apps.Fail(hook.Drain, hook.Result{What: "exit status 1"})
		w.apps.Fail(hook.Undrain, hook.Result{What: "exit status 9", Output: "no route to balancer\n"})
		w.set(func(w *world) { w.want = update("op-1") })
		r := w.until("saying why it is out", soonEnough, func(r fleet.Report) bool {
			return strings.Contains(r.Now.NotInServiceWhy, "no route to balancer")
		})
		if r.Now.InService || r.Operation.Phase != fleet.PhaseUndraining {
			t.Errorf("got %+v, %s", r.Now, r.Operation.Phase)
		}
		w.apps.Fail(hook.Undrain, hook.Result{})
		w.apps.Fail(hook.Ready, hook.Result{What: "exit status 2", Output: "warming up\n"})
		w.until("saying that it is not ready", soonEnough, func(r fleet.Report) bool {
			return !r.Now.InService && strings.Contains(r.Now.NotInServiceWhy, "warming up")
		})
		w.apps.Fail(hook.Ready, hook.Result{})
		if r := w.untilEnd(soonEnough); r.Operation.Phase != fleet.PhaseFailed || !r.Now.InService {
			t.Errorf("got %s, %+v", r.Operation.Phase, r.Now)
		}
	})
}

func TestIdleHostSaysThatItIsDown(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.until("in service", time.Minute, func(r fleet.Report) bool { return r.Now.InService })
		w.apps.Fail(hook.Ready, hook.Result{What: "exit status 2", Output: "replica broken\n"})
		w.until("not in service", time.Minute, func(r fleet.Report) bool {
			return !r.Now.InService && r.Now.NotInServiceWhy == "app ready: exit status 2 (replica broken)"
		})
	})
}

func TestToldToRevert(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.set(func(w *world) { w.want, w.auto = update("op-1"), false })
		w.untilPhase(fleet.PhasePassed, soonEnough)
		w.set(func(w *world) { w.want.Word, w.want.WordWhy = fleet.WordRevert, "rollout r-1 was aborted" })
		r := w.untilEnd(soonEnough)
		if r.Operation.Phase != fleet.PhaseReverted || r.Operation.Problem.Cause != fleet.CauseTold || r.Now.Release != oldRelease || !r.Now.InService {
			t.Errorf("got %+v, %+v", r.Operation, r.Now)
		}
	})
}

// TestSilentControlPlaneIsNoFailedTrial: a day without control plane, then it commits.
func TestSilentControlPlaneIsNoFailedTrial(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.set(func(w *world) { w.want, w.auto = update("op-1"), false })
		w.untilPhase(fleet.PhasePassed, soonEnough)
		w.set(func(w *world) { w.silent = true })
		time.Sleep(24 * time.Hour)
		if m := w.host.Look(); m.Running != newRelease || m.Default != oldRelease || !w.apps.Drained() {
			t.Errorf("runs %s, default %s, drained %v", m.Running, m.Default, w.apps.Drained())
		}
		w.set(func(w *world) { w.silent, w.auto = false, true })
		if r := w.untilEnd(soonEnough); r.Operation.Phase != fleet.PhaseCommitted {
			t.Errorf("got %s", r.Operation.Phase)
		}
	})
}

func TestBrokenNetworkRevertsByItself(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.set(func(w *world) { w.want, w.auto = update("op-1"), false })
		w.untilPhase(fleet.PhasePassed, soonEnough)
		w.host.Change(func(m *agenttest.Machine) { m.Network.Gateways[0].Answers = false })
		w.set(func(w *world) { w.silent = true })
		time.Sleep(2 * time.Minute)
		w.host.Change(func(m *agenttest.Machine) { m.Network.Gateways[0].Answers = true }) // a short break is none
		time.Sleep(10 * time.Minute)
		if m := w.host.Look(); m.Running != newRelease {
			t.Fatal("reverted for a break of two minutes")
		}
		w.host.Change(func(m *agenttest.Machine) { m.Network.Gateways[0].Answers = false })
		time.Sleep(10 * time.Minute)
		w.host.Change(func(m *agenttest.Machine) { m.Network.Gateways[0].Answers = true })
		w.set(func(w *world) { w.silent = false })
		r := w.untilEnd(soonEnough)
		if r.Operation.Phase != fleet.PhaseReverted || r.Operation.Problem.Cause != fleet.CauseNetwork || r.Now.Release != oldRelease {
			t.Errorf("got %s, %+v on %s", r.Operation.Phase, r.Operation.Problem, r.Now.Release)
		}
	})
}

func TestAlreadyRunning(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.set(func(w *world) {
			w.want = update("op-1")
			w.want.Kernel.Release = oldRelease
		})
		r := w.untilEnd(soonEnough)
		if r.Operation.Phase != fleet.PhaseCommitted || len(w.host.Look().Boots) != 1 || r.Operation.Trial.Checks[0].Name != "already-running" {
			t.Errorf("got %+v", r.Operation)
		}
	})
}

// TestUpdateThenRollback also shows that a host goes on after a commit without another boot in between.
func TestUpdateThenRollback(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.set(func(w *world) { w.want = update("op-1") })
		w.untilEnd(soonEnough)
		back := update("op-2")
		back.Kernel.Release, back.Kernel.ID, back.Kernel.Packages = oldRelease, oldRelease, nil
		w.set(func(w *world) { w.want, w.phases = back, nil })
		r := w.until("rolled back", soonEnough, func(r fleet.Report) bool { return r.Operation.ID == "op-2" && r.Operation.Phase.Ended() })
		if r.Operation.Phase != fleet.PhaseCommitted || r.Now.Release != oldRelease || w.host.Look().Default != oldRelease {
			t.Errorf("got %+v on %s", r.Operation, r.Now.Release)
		}
		w.set(func(w *world) { w.want, w.phases = update("op-1"), nil }) // a restored control plane wants it again
		time.Sleep(time.Hour)
		if r := w.last(); r.Operation.ID != "op-2" {
			t.Errorf("an operation that is over was begun again: %+v", r.Operation)
		}
	})
}

// TestControlReboot is the other kind: the same kernel, through the same machine.
func TestControlReboot(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.set(func(w *world) { w.want = &fleet.DesiredOperation{ID: "op-1", Kind: fleet.KindReboot} })
		r := w.untilEnd(soonEnough)
		if r.Operation.Phase != fleet.PhaseCommitted || r.Now.Release != oldRelease || r.Now.BootID != "boot-0002" {
			t.Errorf("got %+v, %+v", r.Operation, r.Now)
		}
	})
}

func TestCancelledBeforeItBeganIsAnswered(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.set(func(w *world) { w.want = update("op-1"); w.want.Word = fleet.WordCancel })
		if r := w.untilEnd(soonEnough); r.Operation.Phase != fleet.PhaseCancelled {
			t.Errorf("got %+v", r.Operation)
		}
	})
}

func TestOlderControlPlaneIsRefused(t *testing.T) {
	inWorld(t, func(w *world) { w.from = fleet.Incarnation{Incarnation: 2, Term: 5, Instance: "a"} }, func(w *world) {
		w.until("checked in", time.Minute, func(r fleet.Report) bool { return r.Seen.Term == 5 })
		for _, from := range []fleet.Incarnation{
			{Incarnation: 1, Term: 9, Instance: "b"}, {Incarnation: 2, Term: 4, Instance: "b"}, {Incarnation: 2, Term: 5, Instance: "b"},
		} {
			w.set(func(w *world) { w.from, w.want = from, update("op-1") })
			time.Sleep(5 * time.Minute)
			w.host.KillAgent() // what was obeyed is on disk
			time.Sleep(5 * time.Minute)
			if r := w.last(); r.Operation != nil {
				t.Fatalf("%+v was obeyed", from)
			}
			w.set(func(w *world) {
				if w.left == 0 {
					t.Errorf("the host stays connected to %+v", from)
				}
				w.left = 0
			})
		}
		w.set(func(w *world) { w.from = fleet.Incarnation{Incarnation: 2, Term: 6, Instance: "b"} })
		w.untilPhase(fleet.PhaseCommitted, soonEnough)
	})
}

func TestDamagedJournalParks(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.set(func(w *world) { w.want = update("op-1"); w.apps.Takes(hook.Drain, 20*time.Second) })
		w.untilPhase(fleet.PhaseDraining, soonEnough)
		path := w.journalPath("op-1")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[20] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		w.host.KillAgent()
		r := w.until("parked and in service", soonEnough, func(r fleet.Report) bool { return r.Now.Parked != "" && r.Now.InService })
		if !strings.Contains(r.Now.Parked, path) || !strings.Contains(r.Now.Parked, "offset 0") || !strings.Contains(r.Now.Parked, "next: ") || w.apps.Drained() {
			t.Errorf("got %+v, drained %v", r.Now, w.apps.Drained())
		}
		time.Sleep(time.Hour)
		if m := w.host.Look(); len(m.Boots) != 1 || m.OneShot != nil {
			t.Errorf("a parked host did something: %+v", m)
		}
	})
}

func TestFactsAreSentWhenTheyChange(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		time.Sleep(time.Hour)
		count := func() (n int) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, r := range w.reports {
				if r.Facts != nil {
					n++
				}
			}
			return n
		}
		if n := count(); n != 1 {
			t.Errorf("facts were sent %d times in a quiet hour, want once", n)
		}
		w.host.Change(func(m *agenttest.Machine) { m.Facts.MemoryBytes *= 2 })
		time.Sleep(time.Hour)
		if n := count(); n != 2 {
			t.Errorf("facts were sent %d times, want twice", n)
		}
	})
}
