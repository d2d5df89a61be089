package agent_test

import (
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/agent/hook"
)

// event is one thing that happens to a host, its agent or its control plane.
type event struct {
	name string
	do   func(*world)
}

// events is what may happen, in any order, at any time.
func events() []event {
	return []event{
		{"kill agent", func(w *world) { w.host.KillAgent() }},
		{"power cut", func(w *world) { w.host.PowerCut() }},
		{"control plane gone", func(w *world) { w.set(func(w *world) { w.silent = true }) }},
		{"control plane back", func(w *world) { w.set(func(w *world) { w.silent = false }) }},
		{"no grants", func(w *world) { w.set(func(w *world) { w.grants = false }) }},
		{"grants", func(w *world) { w.set(func(w *world) { w.grants = true }) }},
		{"cancel", func(w *world) { w.word(fleet.WordCancel) }},
		{"revert", func(w *world) { w.word(fleet.WordRevert) }},
		{"next operation", func(w *world) { w.nextOperation() }},
		{"nothing wanted", func(w *world) { w.set(func(w *world) { w.want, w.phases = nil, nil }) }},
		{"slow answers", func(w *world) { w.set(func(w *world) { w.slow = 4900 * time.Millisecond }) }},
		{"too slow answers", func(w *world) { w.set(func(w *world) { w.slow = 5100 * time.Millisecond }) }},
		{"fast answers", func(w *world) { w.set(func(w *world) { w.slow = 0 }) }},
		{"stop", func(w *world) {
			w.set(func(w *world) {
				w.confirm = func() (fleet.Confirmation, error) {
					return fleet.Confirmation{WhyNot: "stopped", From: fleet.Incarnation{Incarnation: 1, Term: 1, Instance: "a"}}, nil
				}
			})
		}},
		{"lift stop", func(w *world) { w.set(func(w *world) { w.confirm = nil }) }},
		{"commit by hand only", func(w *world) { w.set(func(w *world) { w.auto = false }) }},
		{"commit what passed", func(w *world) { w.set(func(w *world) { w.auto = true }) }},
		{"drain fails", func(w *world) { w.apps.Fail(hook.Drain, hook.Result{What: "exit status 1"}) }},
		{"drain works", func(w *world) { w.apps.Fail(hook.Drain, hook.Result{}) }},
		{"drain is slow", func(w *world) { w.apps.Takes(hook.Drain, 20*time.Second) }},
		{"undrain fails", func(w *world) { w.apps.Fail(hook.Undrain, hook.Result{What: "exit status 1"}) }},
		{"undrain works", func(w *world) { w.apps.Fail(hook.Undrain, hook.Result{}) }},
		{"check fails", func(w *world) { w.apps.Fail(hook.Check, hook.Result{What: "exit status 1"}) }},
		{"check works", func(w *world) { w.apps.Fail(hook.Check, hook.Result{}) }},
		{"not ready", func(w *world) { w.apps.Fail(hook.Ready, hook.Result{What: "exit status 1"}) }},
		{"ready", func(w *world) { w.apps.Fail(hook.Ready, hook.Result{}) }},
		{"arming fails", func(w *world) { w.method("ArmTrial", "no") }},
		{"commit fails", func(w *world) { w.method("Commit", "no") }},
		{"network breaks", func(w *world) { w.gateway(false) }},
		{"network is back", func(w *world) { w.gateway(true) }},
		{"machine works", func(w *world) { w.host.Change(func(m *agenttest.Machine) { m.Fail = nil }) }},
	}
}

func (w *world) word(word fleet.Word) {
	w.set(func(w *world) {
		if w.want != nil && w.want.Word == fleet.WordNone {
			op := *w.want
			op.Word = word
			w.want = &op
		}
	})
}

func (w *world) nextOperation() {
	w.set(func(w *world) {
		w.ops++
		op := update(fleet.OperationID(fmt.Sprintf("op-%d", w.ops)))
		if w.ops%2 == 0 {
			op.Kernel.Release, op.Kernel.ID, op.Kernel.Packages = oldRelease, oldRelease, nil
		}
		w.want, w.phases = op, nil
	})
}

func (w *world) method(name, why string) {
	w.host.Change(func(m *agenttest.Machine) { m.Fail = map[string]string{name: why} })
}

func (w *world) gateway(answers bool) {
	w.host.Change(func(m *agenttest.Machine) {
		gs := append(m.Network.Gateways[:0:0], m.Network.Gateways...)
		gs[0].Answers = answers
		m.Network.Gateways = gs
	})
}

// mend makes everything work again: now the host must come to an end by itself.
func (w *world) mend() {
	for _, k := range []hook.Kind{hook.Drain, hook.Undrain, hook.Check, hook.Ready} {
		w.apps.Fail(k, hook.Result{})
	}
	w.host.Change(func(m *agenttest.Machine) { m.Fail = nil })
	w.gateway(true)
	w.set(func(w *world) {
		w.silent, w.slow, w.confirm, w.auto, w.grants = false, 0, nil, true, true
	})
}

// TestAnyOrderOfEvents throws events at a host in random order and checks, while they happen, that it never drains
// without a live grant nor reboots into a trial without an answer of its own younger than five seconds (sawProgram,
// sawMachine), that its phases follow one another (CheckIn); and, when everything works again, that it ends
// truthfully: in service, undrained, nothing armed, the running kernel the default.
func TestAnyOrderOfEvents(t *testing.T) {
	dirs := t.TempDir()
	all := events()
	rapid.Check(t, func(rt *rapid.T) {
		kernel := rapid.SampledFrom([]agenttest.Behaviour{
			{},
			{},
			{},
			{Panic: "-"},
			{Hang: true},
			{NoAgent: true},
			{NoNetwork: true},
			{FailUnits: []string{"x.service"}},
			{ReadOnly: true},
			{DiesAfter: 3 * time.Minute},
			{Uname: "other"},
		}).Draw(rt, "kernel")
		type timed struct {
			After time.Duration
			Event int
		}
		script := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) timed {
			return timed{
				time.Duration(rapid.SampledFrom([]int{0, 1, 300, 1000, 2500, 6000, 20_000, 60_000, 400_000}).Draw(rt, "after_ms")) * time.Millisecond,
				rapid.IntRange(0, len(all)-1).Draw(rt, "event"),
			}
		}), 1, 25).Draw(rt, "script")
		dir, err := os.MkdirTemp(dirs, "")
		if err != nil {
			rt.Fatal(err)
		}
		var failed string
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, dir)
			w.host.Change(func(m *agenttest.Machine) { m.Kernels = map[string]agenttest.Behaviour{newRelease: kernel} })
			w.start()
			w.nextOperation()
			trace := ""
			for _, s := range script {
				time.Sleep(s.After)
				trace += fmt.Sprintf("%s, then %s\n", s.After, all[s.Event].name)
				all[s.Event].do(w)
			}
			w.mend()
			if why := w.settles(); why != "" {
				failed = fmt.Sprintf("kernel %+v\n%s%s", kernel, trace, why)
			}
			w.stop()
			if err := <-w.ended; err != nil {
				failed += fmt.Sprintf("\nthe host ended: %v", err)
			}
			w.set(func(w *world) {
				for _, b := range w.broken {
					failed += "\nbroken promise: " + b
				}
			})
			if failed != "" {
				failed = trace + failed
			}
		})
		if failed != "" {
			rt.Fatal(failed)
		}
	})
}

// settles waits until the host has come to rest and says what is wrong with how it rests.
func (w *world) settles() string {
	rested := func() (string, bool) {
		r, m := w.last(), w.host.Look()
		var want *fleet.DesiredOperation
		w.set(func(w *world) { want = w.want })
		switch {
		case want != nil && (r.Operation == nil || r.Operation.ID != want.ID || !r.Operation.Phase.Ended()):
			return fmt.Sprintf("wanted is %s %q; the host reports %+v, %+v", want.ID, want.Word, r.Operation, r.Now), false
		case want == nil && r.Operation != nil && !r.Operation.Phase.Ended() && r.Operation.Phase != fleet.PhasePassed:
			return fmt.Sprintf("nothing is wanted; the host reports %+v", r.Operation), false
		case want == nil && r.Operation != nil && r.Operation.Phase == fleet.PhasePassed:
			return "", true // it waits for a word, for ever: on trial, and counted
		case !r.Now.InService || w.apps.Drained():
			return fmt.Sprintf("not in service: %q, drained %v", r.Now.NotInServiceWhy, w.apps.Drained()), false
		case m.OneShot != nil:
			return "a trial is armed", false
		case m.Default != m.Running || r.Now.Release != m.Running:
			return fmt.Sprintf("runs %s, says %s, default %s", m.Running, r.Now.Release, m.Default), false
		case r.Operation != nil && r.Operation.Phase == fleet.PhaseCommitted && r.Now.Release != r.Operation.Release:
			return fmt.Sprintf("committed %s and runs %s", r.Operation.Release, r.Now.Release), false
		case r.Operation != nil && r.Operation.Phase != fleet.PhaseCommitted && r.Operation.Problem == nil:
			return fmt.Sprintf("ended %s without saying why", r.Operation.Phase), false
		}
		return "", true
	}
	for end := time.Now().Add(4 * time.Hour); ; time.Sleep(5 * time.Second) {
		why, ok := rested()
		if ok {
			return ""
		}
		if time.Now().After(end) {
			return "never came to rest: " + why
		}
	}
}
