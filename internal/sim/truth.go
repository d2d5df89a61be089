package sim

import (
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// hostTruth is what really happened to a host, whatever anybody was told.
type hostTruth struct {
	out      bool // of service
	outSince time.Duration
	outWhy   string
	longest  Outage

	byOp      fleet.OperationID // for which it left service, and is not back
	byOpAt    time.Duration
	byOpRows  *rows                     // whose grant it was
	boots     map[fleet.OperationID]int // into the trial
	reboots   map[fleet.OperationID]int // that the agent asked for, into the trial
	passed    map[fleet.OperationID]bool
	told      map[fleet.OperationID]bool // to commit
	committed map[string]bool            // rollouts that brought it the kernel for good
	ever      bool                       // it has committed the new kernel
	failed    map[string]goneBack        // rollouts whose kernel it has gone back from, and no person has said retry
	retried   map[fleet.OperationID]bool // a person has said retry when these had failed, or were open: whatever else becomes of them
	restored  bool                       // its disk was put back to an older state
	obeyed    fleet.Incarnation          // the control plane that it obeyed last; zero: none since its disk was put back
	granted   grantSeen
	harmed    *Harm
	harmEnds  time.Duration
}

// grantSeen is the newest grant that was on its way to a host.
type grantSeen struct {
	id    fleet.GrantID
	op    fleet.OperationID
	from  fleet.Incarnation
	until time.Duration
	rows  *rows
}

func (t *hostTruth) init() {
	t.boots, t.reboots = map[fleet.OperationID]int{}, map[fleet.OperationID]int{}
	t.passed, t.told = map[fleet.OperationID]bool{}, map[fleet.OperationID]bool{}
	t.committed, t.failed, t.retried = map[string]bool{}, map[string]goneBack{}, map[fleet.OperationID]bool{}
}

// goneBack is that a host has gone back from a rollout's kernel.
type goneBack struct {
	why       string
	op        fleet.OperationID
	at        time.Duration
	forgotten bool // its disk was put back to what it was before
}

// forget notes that h's disk is what it was at taken.
func (t *hostTruth) forget(taken time.Duration) {
	t.restored, t.obeyed = true, fleet.Incarnation{}
	for rollout, g := range t.failed {
		g.forgotten = g.forgotten || g.at >= taken
		t.failed[rollout] = g
	}
}

// breaks ends the simulation: a promise was broken.
func (w *world) breaks(promise int, expected string, hosts []*host, p *plane, format string, args ...any) {
	if w.fail != nil || w.scripted {
		return
	}
	b := &Broken{Promise: promise, What: fmt.Sprintf(format, args...), Expected: expected, At: w.now}
	rings := []*ring{&w.ring}
	for _, one := range w.planes {
		rings = append(rings, &one.ring)
	}
	if p != nil {
		rings = append(rings, &p.ring)
	}
	for _, h := range hosts {
		b.Hosts = append(b.Hosts, h.name)
		rings = append(rings, &h.ring)
	}
	b.Trace = story(rings...)
	w.fail = b
}

// leaves notes that h is out of service.
func (h *host) leaves(why string) {
	t := &h.truth
	if t.out {
		return
	}
	t.out, t.outSince, t.outWhy = true, h.w.now, why
}

// sawService looks whether h serves now.
func (w *world) sawService(h *host) {
	serves := h.agentUp && !h.a.Drained() && h.ready() && h.m.on && !h.m.hung
	if !serves {
		h.leaves("is not ready")
		return
	}
	t := &h.truth
	if !t.out {
		return
	}
	t.out = false
	if d := w.now - t.outSince; d > t.longest.For {
		t.longest = Outage{Host: h.name, For: d, Why: t.outWhy}
	}
	if t.harmed != nil && t.harmEnds == 0 {
		t.harmEnds = w.now
	}
}

// sawPhase checks what a new phase means.
func (w *world) sawPhase(h *host, before, after fleet.Phase) {
	t := &h.truth
	id := h.opID()
	w.count("phase-" + string(after))
	if w.onPhase != nil {
		w.onPhase(h, after)
	}
	if h.a.Drained() && t.byOp != id {
		t.byOp, t.byOpAt, t.byOpRows = id, w.now, t.granted.rows
		h.leaves("operation " + string(id))
		w.leavesService(h)
	}
	switch after {
	case fleet.PhasePassed:
		t.passed[id] = true
	case fleet.PhaseCommitted:
		w.sawCommitted(h, id)
	case fleet.PhaseReverted, fleet.PhaseFellBack:
		w.sawGoneBack(h, id, after)
	}
	if h.a.Ended() {
		t.byOp = ""
		w.sawService(h)
	}
}

func (w *world) sawCommitted(h *host, id fleet.OperationID) {
	w.count(SeenChecks)
	_, release, _ := h.a.Operation()
	if owner := w.ownerOf(id); owner != "" {
		h.truth.committed[owner] = release == newRelease
	}
	if release == newRelease {
		h.truth.ever = true
	}
	if h.m.running != release && !h.typ.Kernel.WrongRelease || h.m.disk.def != h.m.running {
		w.breaks(2, "committed means: it runs the kernel, and a plain boot does", []*host{h}, nil,
			"%s says that %s is committed; it runs %s, and a plain boot would run %s", h.name, release, h.m.running, h.m.disk.def)
	}
}

// sawGoneBack checks the second half of promise 2: whoever failed is back on the old kernel.
func (w *world) sawGoneBack(h *host, id fleet.OperationID, phase fleet.Phase) {
	w.count(SeenChecks)
	p := h.a.Problem()
	if p != nil && p.Cause != fleet.CauseTold && p.Cause != fleet.CauseGrant && p.Cause != fleet.CauseInterrupted {
		if owner := w.ownerOf(id); owner != "" && !h.truth.retried[id] {
			h.truth.failed[owner] = goneBack{why: p.What, op: id, at: w.now}
		}
	}
	if h.truth.restored {
		return
	}
	if from := h.a.FromRelease(); h.m.running != from || h.m.disk.def != from {
		w.breaks(2, "a failed trial is back on the old kernel, which a plain boot runs", []*host{h}, nil,
			"%s says %s; it runs %s, a plain boot would run %s, it came from %s", h.name, phase, h.m.running, h.m.disk.def, from)
	}
}

// sawTrialBoot checks that the kernel on trial is booted once.
func (w *world) sawTrialBoot(h *host, t *trialBoot) {
	w.count(SeenChecks)
	w.count("trial-boot")
	h.truth.boots[t.op]++
	if n := h.truth.boots[t.op]; n > 1 && !h.truth.restored {
		w.breaks(2, "a kernel on trial is booted once for an operation", []*host{h}, nil, "%s boots %s on trial for the %s time for %s", h.name, t.release, ordinal(n), t.op)
	}
}

func ordinal(n int) string { return fmt.Sprintf("%d.", n) }

// sawDefault checks that a kernel becomes the default only after the control plane said so.
func (w *world) sawDefault(h *host, release string, op fleet.OperationID) {
	w.count(SeenChecks)
	t := &h.truth
	ok := t.told[op]
	if op == "" { // the way back, which names what runs
		ok = release == oldRelease || t.ever
	}
	if !ok && !t.restored {
		w.breaks(2, "a kernel becomes the default only after its trial passed and the control plane said commit", []*host{h}, nil,
			"%s makes %s its default (operation %q) without having been told", h.name, release, op)
	}
}

// sawObeyed checks the hosts' half of promise 6: after one control plane none is obeyed that is older, or another of the same term.
// It compares for itself: the agent does it with [fleet.Incarnation.Refuses].
func (w *world) sawObeyed(h *host, from fleet.Incarnation) {
	w.count(SeenChecks)
	last := h.truth.obeyed
	older := from.Incarnation < last.Incarnation || from.Incarnation == last.Incarnation && from.Term < last.Term
	other := from.Incarnation == last.Incarnation && from.Term == last.Term && from.Instance != last.Instance
	if older || other && last.Instance != "" {
		w.breaks(6, "a host obeys no control plane that is older than one it has obeyed, nor another one of the same term", []*host{h}, nil,
			"%s obeys incarnation %d, term %d, instance %s, after %d, %d, %s", h.name, from.Incarnation, from.Term, from.Instance, last.Incarnation, last.Term, last.Instance)
	}
	h.truth.obeyed = from
}

// sawReport notes what a control plane was told.
func (w *world) sawReport(p *plane, h *host, r fleet.Report) {
	one := h.primary()
	if one.i < len(p.heard) {
		p.saidOut[one.i] = !r.Now.InService
	}
	if c := w.clones[h.id]; c != nil {
		c.heard(p.dir.rows, h)
	}
}

// sawAnswer checks one answer to a check-in before the network gets it. h is nil where nobody waits for it.
func (w *world) sawAnswer(p *plane, h *host, r fleet.Report, d fleet.Desired) {
	w.count(SeenChecks)
	op := d.Operation
	if op == nil {
		return
	}
	rows := p.dir.rows
	hs := []*host{w.byID[r.Host]}
	row, known := rows.ops[op.ID]
	if !known || row.Host != r.Host {
		w.breaks(6, "an operation is a row before anybody hears of it", hs, p, "%s tells %s of operation %s, which is not in its store", p.name, r.Host, op.ID)
		return
	}
	if op.Word == fleet.WordCommit {
		passed := false
		for _, m := range w.machines(r.Host) {
			passed = passed || m.truth.passed[op.ID]
			m.truth.told[op.ID] = true
		}
		if !passed {
			w.breaks(2, "commit is said to hosts whose trial passed", hs, p, "%s tells %s to commit %s, and its trial has not passed", p.name, r.Host, op.ID)
		}
	}
	if op.Grant == nil {
		return
	}
	g, ok := rows.grants[op.Grant.ID]
	switch {
	case !ok, g.Host != r.Host, g.Operation != op.ID:
		w.breaks(1, "a grant that a host gets is in the store, for this host and operation", hs, p, "%s gives %s grant %s for %s; the store has it as %+v", p.name, r.Host, op.Grant.ID, op.ID, g)
	case !g.EndedAt.IsZero() || !w.time().Before(g.ExpiresAt):
		w.breaks(1, "a grant that a host gets is live", hs, p, "%s gives %s grant %s, which ended at %s (%s), expired at %s", p.name, r.Host, op.Grant.ID, g.EndedAt, g.EndedWhy, g.ExpiresAt)
	}
	if h != nil {
		h.truth.granted = grantSeen{id: op.Grant.ID, op: op.ID, from: d.From, until: w.now + op.Grant.Life, rows: rows}
	}
}

// machines are all that hold the certificate of id.
func (w *world) machines(id fleet.HostID) []*host {
	ms := []*host{w.byID[id]}
	if w.clones[id] == nil {
		return ms
	}
	for _, h := range w.hosts {
		if h.cloneOf == ms[0] {
			ms = append(ms, h)
		}
	}
	return ms
}

// ownerOf is the rollout of an operation, in whichever store knows it.
func (w *world) ownerOf(id fleet.OperationID) string {
	return w.owners[id]
}
