package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/operator"
	"github.com/kernwave/kernwave/internal/store"
	"github.com/kernwave/kernwave/rollout"
)

// leavesService checks promise 1 on the host's side: it leaves under a live grant of the control plane that it obeys.
func (w *world) leavesService(h *host) {
	w.count(SeenChecks)
	w.count("left-service")
	g := h.truth.granted
	id := h.opID()
	const expected = "a host leaves service under a live grant of the control plane that it obeys"
	switch {
	case h.truth.restored || h.a.Phase() != fleet.PhaseDraining:
		return // put back to a state in which it was on its way: it finds its way back
	case g.id == "" || g.op != id:
		w.breaks(1, expected, []*host{h}, nil, "%s drains for %s; the last grant that it was sent is %q for %q", h.name, id, g.id, g.op)
	case w.now >= g.until:
		w.breaks(1, expected, []*host{h}, nil, "%s drains for %s under %s, which ran out %s ago", h.name, id, g.id, w.now-g.until)
	case g.from != h.a.Seen():
		w.breaks(1, expected, []*host{h}, nil, "%s drains under %s from %v and obeys %v", h.name, g.id, g.from, h.a.Seen())
	}
}

// checkGrant checks promise 1 on the control plane's side, at the moment at which a grant is written: with it, no
// group has more hosts out than its limit. A host counts when its control plane could know that it is out:
//
//   - it left service for an operation and is not back, and the grant was this store's, or its report has come since
//     (unless a copy of it has said under its name that it is back);
//   - it holds a grant of this store that has neither ended nor run out: it may leave at any moment;
//   - the control plane has not heard from it since its own start, or for longer than the time of silence (and
//     than messages can be late);
//   - it said that it is not in service, and it is not.
//
// Hosts in maintenance and retired ones do not count: a person has said so. Nor do hosts that have never said what they
// are: nobody knows to which group they belong.
func (w *world) checkGrant(p *plane, g store.Grant) {
	w.count(SeenChecks)
	r := p.dir.rows
	h := w.byID[g.Host]
	if r.stopAt >= 0 {
		w.breaks(1, "nothing is granted while everything is stopped", []*host{h}, p, "%s gives %s to %s, and everything was stopped at %s", p.name, g.ID, g.Host, clock(r.stopAt))
		return
	}
	if why, _ := w.halted(r, g.Operation); why != "" {
		w.breaks(4, "nothing is granted for a rollout that is paused, aborted or over", []*host{h}, p, "%s gives %s to %s for %s, and %s", p.name, g.ID, g.Host, g.Operation, why)
		return
	}
	if c := w.clones[g.Host]; c.detectable(r) {
		w.breaks(7, "a certificate that two machines use gets nothing once that shows", w.machines(g.Host), p,
			"%s gives %s to %s, under whose certificate two machines have taken turns %d times", p.name, g.ID, g.Host, c[r].n)
		return
	}
	limits := map[string]int{operator.BudgetByType: 1}
	for by, n := range r.budgets {
		limits[by] = n
	}
	for _, by := range slices.Sorted(maps.Keys(limits)) {
		limit := limits[by]
		var out []string
		outHosts := []*host{h}
		group := h.group(by)
		for _, x := range w.inGroup(by, group) {
			if x == h {
				continue
			}
			if why := w.knownOut(p, x, g); why != "" {
				out = append(out, x.name+" "+why)
				outHosts = append(outHosts, x)
			}
		}
		if len(out)+1 > limit {
			w.breaks(1, fmt.Sprintf("at most %d hosts of %s %s are out of service because of a grant", limit, strings.TrimPrefix(by, operator.BudgetByLabel), group),
				outHosts, p, "%s lets %s leave service (%s), while %s", p.name, g.Host, g.ID, strings.Join(out, ", "))
			return
		}
	}
}

// knownOut is why p must count x as out; empty: it need not.
func (w *world) knownOut(p *plane, x *host, g store.Grant) string {
	r := p.dir.rows
	if r.status[x.id] != fleet.StatusActive || !r.known[x.id] {
		return ""
	}
	t := &x.truth
	// Of a machine that was copied while it was away, the copy may have said that it is back: nobody could know better.
	toldBack := w.clones[x.id] != nil && r.ops[t.byOp].Phase.Ended()
	if t.byOp != "" && (t.byOpRows == r || p.heard[x.i] >= t.byOpAt) && !toldBack {
		return fmt.Sprintf("is out since %s for %s", clock(t.byOpAt), t.byOp)
	}
	if id, ok := r.live[x.id]; ok {
		if one := r.grants[id]; w.time().Before(one.ExpiresAt) && one.ID != g.ID && !r.ops[one.Operation].Phase.Ended() {
			return "holds grant " + string(id)
		}
	}
	if p.silent(x) {
		if p.heard[x.i] < 0 {
			return "was not heard since the start of " + p.name
		}
		return "is silent since " + clock(p.heard[x.i])
	}
	if t.out && p.saidOut[x.i] {
		return "said that it is not in service"
	}
	return ""
}

// inGroup are the machines of a group, in their order. Copies do not count, and nobody else comes later.
func (w *world) inGroup(by, group string) []*host {
	if w.groups[by] == nil {
		w.groups[by] = map[string][]*host{}
		for _, x := range w.hosts {
			if x.cloneOf == nil {
				w.groups[by][x.group(by)] = append(w.groups[by][x.group(by)], x)
			}
		}
	}
	return w.groups[by][group]
}

// group is the value by which a budget groups h.
func (h *host) group(by string) string {
	switch by {
	case operator.BudgetByType:
		return h.typ.Name
	case "label:datacenter":
		return h.dc
	case "label:rack":
		return h.rack
	case "label:workload":
		return h.typ.Workload
	}
	return ""
}

// sawConfirmation checks a yes at the last moment: nothing that was acknowledged before forbids it.
func (w *world) sawConfirmation(p *plane, h *host, id fleet.OperationID, g fleet.GrantID, c fleet.Confirmation) {
	w.count(SeenChecks)
	if !c.Yes {
		w.count("last-moment-no")
		w.note(&h.ring, p.name, "says no to "+h.name+":", c.WhyNot)
		return
	}
	w.count("last-moment-yes")
	w.note(&h.ring, p.name, "says yes to "+h.name)
	r := p.dir.rows
	if why, _ := w.halted(r, id); why != "" {
		w.breaks(4, "after a stop is acknowledged, the answer at the last moment is no", []*host{h}, p, "%s says yes to %s for %s, and %s", p.name, h.name, id, why)
	}
	if gr := r.grants[g]; gr.Host != h.id || gr.Operation != id || !gr.EndedAt.IsZero() || !w.time().Before(gr.ExpiresAt) {
		w.breaks(1, "a yes at the last moment needs the live grant of this operation", []*host{h}, p, "%s says yes to %s for %s under %s: %+v", p.name, h.name, id, g, gr)
	}
	if w.clones[h.id].detectable(r) {
		w.breaks(7, "a certificate that two machines use gets nothing once that shows", w.machines(h.id), p, "%s says yes to %s (%s)", p.name, h.name, id)
	}
}

// halted says why operation id must not reboot into its trial, and since when.
func (w *world) halted(r *rows, id fleet.OperationID) (why string, since time.Duration) {
	if r.stopAt >= 0 {
		return "everything was stopped at " + clock(r.stopAt), r.stopAt
	}
	op, ok := r.ops[id]
	if !ok {
		return "", 0
	}
	row := r.rollouts[op.Owner]
	if row.status == "running" || row.status == "rolling-back" && op.Stage == fleet.RollbackStage {
		return "", 0
	}
	return fmt.Sprintf("%s is %s since %s", row.id, row.status, clock(row.since)), row.since
}

// sawTrialReboot checks the moment of no return: promises 3, 4 and 6.
func (w *world) sawTrialReboot(h *host, id fleet.OperationID, from *plane) {
	w.count(SeenChecks)
	w.count("trial-reboot")
	hs := []*host{h}
	h.truth.reboots[id]++
	if n := h.truth.reboots[id]; n > 1 && !h.truth.restored {
		w.breaks(6, "an operation reboots its host into the trial once", hs, from, "%s reboots into its trial for the %s time for %s", h.name, ordinal(n), id)
		return
	}
	if from == nil {
		return
	}
	r := from.dir.rows
	if why, since := w.halted(r, id); why != "" && w.now > since+fleet.ConfirmLife {
		w.breaks(4, fmt.Sprintf("no host begins a reboot into the new kernel later than %s after a stop", fleet.ConfirmLife), hs, from,
			"%s reboots into its trial (%s), %s after %s", h.name, id, w.now-since, why)
	}
	w.checkOrder(h, r.ops[id], r, from)
}

// checkOrder checks promise 3: canaries first, and waves only when every type is approved or left out by a person.
func (w *world) checkOrder(h *host, op fleet.Operation, r *rows, p *plane) {
	w.count(SeenChecks)
	row, ok := r.rollouts[op.Owner]
	if !ok || row.plan == nil {
		return
	}
	if op.Stage == fleet.RollbackStage {
		if !w.asked[op.Owner+" rollback"] {
			w.breaks(3, "a rollback is a person's decision", []*host{h}, p, "%s goes back in %s, and nobody asked for it", h.name, op.Owner)
		}
		return
	}
	w.checkWave(h, op, row, p)
	for _, t := range row.plan.Types {
		if op.Stage == 0 && (t.ID != h.typ.id || slices.Contains(t.Canaries, h.id) || r.standIns[op.ID]) {
			continue
		}
		if w.asked[op.Owner+" leave-out "+string(t.ID)] {
			continue
		}
		missing, passed := w.canariesOf(t, op.Owner, r)
		if op.Stage == 0 && missing == "" && passed == 0 {
			continue // its canaries were given up: it takes their place
		}
		if missing == "" && (passed > 0 || w.anyCommitted(t.ID)) {
			continue
		}
		w.breaks(3, "no host of a type gets the kernel before that type's canaries passed; waves wait for every type", []*host{h}, p,
			"%s reboots into the new kernel in stage %d of %s, and type %s is not proven: canary %s has not committed", h.name, op.Stage, op.Owner, t.ID, missing)
	}
}

// canariesOf says how many canaries of a type committed, and names one that did not and that nobody gave up.
func (w *world) canariesOf(t rollout.TypePlan, owner string, r *rows) (missing string, passed int) {
	for _, c := range t.Canaries {
		switch {
		case w.didCommit(c, owner):
			passed++
		case w.asked[owner+" skip "+string(c)], r.status[c] != fleet.StatusActive, r.excused[owner+" "+string(c)]:
		default:
			missing = w.byID[c].name
		}
	}
	return missing, passed
}

// standsIn notes an operation that begins on a host in the place of its type's canaries, which have all been given up.
// One that comes back later finds it under way.
func (w *world) standsIn(op fleet.Operation, r *rows) {
	row, ok := r.rollouts[op.Owner]
	if !ok || row.plan == nil || op.Stage != 0 {
		return
	}
	for _, t := range row.plan.Types {
		if t.ID != w.byID[op.Host].typ.id || slices.Contains(t.Canaries, op.Host) {
			continue
		}
		if missing, passed := w.canariesOf(t, op.Owner, r); missing == "" && passed == 0 {
			r.standIns[op.ID] = true
		}
	}
}

func (w *world) didCommit(id fleet.HostID, rollout string) bool {
	for _, m := range w.machines(id) {
		if _, ok := m.truth.committed[rollout]; ok {
			return true
		}
	}
	return false
}

func (w *world) anyCommitted(t fleet.HostTypeID) bool {
	return slices.ContainsFunc(w.hosts, func(h *host) bool { return h.typ.id == t && h.truth.ever })
}

// acknowledged checks that what a person was told is done has been written.
func (w *world) acknowledged(p *plane, id, action string) {
	w.count(SeenChecks)
	w.count("acknowledged-" + action)
	row, ok := p.dir.rows.rollouts[id]
	want := map[string][]string{
		operator.ActionPause: {"paused"}, operator.ActionAbort: {"aborting", "aborted"}, operator.ActionRollback: {"rolling-back", "rolled-back"},
	}[action]
	if !ok || want != nil && !slices.Contains(want, row.status) {
		w.breaks(6, "what is acknowledged is written", nil, p, "%s of %s was acknowledged by %s, and the store has it as %q", action, id, p.name, row.status)
	}
}

// stopped notes that a stop is in force, and lifting that it may not be any more.
func (w *world) stopped(p *plane) { p.dir.rows.stopAt = w.now }
func (w *world) lifting(p *plane) { p.dir.rows.stopAt = -1; p.dir.rows.lifted = true }

// sawStart checks promise 6 at the start of a control plane: what was committed before is there.
func (w *world) sawStart(p, before *plane) {
	w.count(SeenChecks)
	r := p.dir.rows
	if before == nil {
		if p.moved {
			w.count("start-moved")
			if _, stopped := p.stop.Stopped(); !stopped {
				w.breaks(6, "a restored or cloned store starts with everything stopped", nil, p, "%s began on a copy and stopped nothing", p.name)
			}
			r.stopAt, r.lifted = w.now, false
		}
		return
	}
	w.count("start-again")
	var lost []string
	err := p.st.View(context.Background(), func(s store.Reader) error {
		for _, id := range slices.Sorted(maps.Keys(r.ops)) {
			op, err := s.Operation(id)
			if err != nil || op.Phase != r.ops[id].Phase || op.Word != r.ops[id].Word {
				lost = append(lost, fmt.Sprintf("operation %s (%s): now %s %v", id, r.ops[id].Phase, op.Phase, err))
			}
		}
		for _, id := range slices.Sorted(maps.Keys(r.grants)) {
			g, err := s.Grant(id)
			if err != nil || !g.EndedAt.Equal(r.grants[id].EndedAt) || !g.ExpiresAt.Equal(r.grants[id].ExpiresAt) {
				lost = append(lost, fmt.Sprintf("grant %s: now %+v %v", id, g, err))
			}
		}
		for _, id := range slices.Sorted(maps.Keys(r.rollouts)) {
			row, err := s.Rollout(id)
			if err != nil || row.Status != r.rollouts[id].status {
				lost = append(lost, fmt.Sprintf("rollout %s (%s): now %s %v", id, r.rollouts[id].status, row.Status, err))
			}
		}
		for _, id := range slices.Sorted(maps.Keys(r.status)) {
			if h, err := s.Host(id); err != nil || h.Status != r.status[id] {
				lost = append(lost, fmt.Sprintf("host %s (%s): now %s %v", id, r.status[id], h.Status, err))
			}
		}
		es, err := s.Events(store.EventQuery{Limit: 1, Newest: true})
		if err == nil && r.events > 0 && (len(es) == 0 || es[0].Seq < r.events) {
			lost = append(lost, fmt.Sprintf("events after %d", r.events))
		}
		return err
	})
	if err != nil {
		w.broken(fmt.Errorf("read the store after a start: %w", err))
	}
	if len(lost) > 0 {
		w.breaks(6, "whatever was committed survives a kill", nil, p, "after its start %s misses %s", p.name, strings.Join(lost, "; "))
	}
	if _, stopped := p.stop.Stopped(); r.stopAt >= 0 && !stopped {
		w.breaks(6, "a stop survives a kill", nil, p, "everything was stopped at %s, and %s does not know it", clock(r.stopAt), p.name)
	}
}

// impostor lets one host speak for another: promise 7 says that nobody listens.
func (w *world) impostor() {
	p := w.main
	if p == nil || len(w.byID) < 2 || w.now < p.busy {
		return
	}
	c := w.rnd.faults
	a, b := w.hosts[c.IntN(len(w.byID))], w.hosts[c.IntN(len(w.byID))]
	if a.id == b.id {
		return
	}
	w.count("impostor")
	w.count(SeenChecks)
	lie := fleet.Report{Host: b.id, Now: fleet.HostState{BootID: "lie", Release: newRelease, InService: true}, Operation: b.a.Report(b.moment())}
	var err, err2 error
	if _, alive := p.call(func() {
		_, err = p.api.CheckIn(context.Background(), a.client(), lie)
		_, err2 = p.api.ConfirmReboot(context.Background(), a.client(), b.id, b.opID(), "g")
	}); !alive {
		w.killed(p)
		return
	}
	if err == nil || err2 == nil {
		w.breaks(7, "a certificate speaks for its own host only", []*host{a, b}, p, "%s was believed when it spoke for %s", a.name, b.name)
	}
}
