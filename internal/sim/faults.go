package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kernwave/kernwave/internal/store/sqlite"
)

// planFaults puts the scenario's faults into the queue.
func (w *world) planFaults() {
	for _, f := range w.s.Faults {
		switch f.What {
		case FaultLose, FaultDelay, FaultRepeat:
			w.planNet(f)
			continue
		}
		if f.Every == 0 {
			w.pending++
		}
		w.q.push(f.At, func() { w.strike(f) })
	}
}

// planNet begins a fault of the network; it changes messages, and nothing happens by itself.
func (w *world) planNet(f Fault) {
	w.q.push(f.At, func() {
		n := &netFault{Fault: f, to: w.now + f.For}
		if f.For == 0 {
			n.to = w.s.For + 1
		}
		w.net = slices.DeleteFunc(w.net, func(n *netFault) bool { return n.to <= w.now })
		w.net = append(w.net, n)
		if f.Every > 0 {
			next := f
			next.At = w.now + w.rnd.faults.within(f.Every)
			w.planNet(next)
		}
	})
}

// strike lets a fault happen, and plans the next one.
func (w *world) strike(f Fault) {
	if f.Every > 0 {
		w.after(w.rnd.faults.within(f.Every), func() { w.strike(f) })
	} else {
		w.pending--
	}
	switch f.What {
	case FaultKill, FaultSlowStore, FaultFailingStore, FaultTwoLeaders, FaultRestore, FaultCloneData:
		w.strikeControl(f)
		return
	}
	for _, h := range w.victims(f) {
		h.strike(f)
	}
}

// hits says whether f may hit h.
func (f Fault) hits(h *host) bool {
	return (f.Host == "" || f.Host == h.name) && (len(f.Types) == 0 || slices.Contains(f.Types, h.typ.Name))
}

// victims draws as many hosts as f hits at a time, none twice; half of the time one that has an operation, where most can go
// wrong.
func (w *world) victims(f Fault) []*host {
	var all, busy, drawn []*host
	for _, h := range w.hosts {
		if f.hits(h) {
			all = append(all, h)
			if !h.a.Ended() {
				busy = append(busy, h)
			}
		}
	}
	n := max(f.Hosts, 1)
	if n >= len(all) {
		return all
	}
	c := w.rnd.faults
	was := map[*host]bool{}
	for len(drawn) < n {
		from := all
		if len(busy) > 0 && c.yes(0.5) {
			from = busy
		}
		if h := from[c.IntN(len(from))]; !was[h] {
			was[h] = true
			drawn = append(drawn, h)
		}
	}
	return drawn
}

// strike lets something happen to h.
func (h *host) strike(f Fault) {
	w := h.w
	alive := h.m.on && !h.m.hung
	switch f.What {
	case FaultSilent:
		h.cutTo = max(h.cutTo, w.now+f.For)
		h.note("is cut off for", f.For.String())
	case FaultPowerCut:
		if !alive {
			return
		}
		h.down("a power cut")
	case FaultCrash:
		if !alive {
			return
		}
		h.down("a panic of its own")
	case FaultHang:
		if !alive {
			return
		}
		h.hang("for reasons of its own")
	case FaultDie:
		if !alive {
			return
		}
		h.off("it died")
	case FaultKillAgent:
		if !h.agentUp {
			return
		}
		h.killAgent()
	case FaultUnready:
		h.unreadyTo = max(h.unreadyTo, w.now+f.For)
		h.note("is not ready for", f.For.String())
		h.heard()
		w.sawService(h)
		w.after(h.unreadyTo-w.now, func() { w.sawService(h); h.heard() })
	case FaultDrainFails:
		h.drainFailsTo = w.now + f.For
		if f.For == 0 {
			h.drainFailsTo = w.s.For + 1
		}
	case FaultClock:
		h.wall += f.By
		h.note("its clock jumps by", f.By.String())
	case FaultCloneImage:
		if h.cloneOf != nil || !h.m.on {
			return
		}
		w.cloneImage(h)
	case FaultOldDisk:
		h.oldDisk(f)
		return // it counts when it comes to it
	}
	w.faulted(f.What)
}

// heard makes a change of the ready programs' answer known: they are asked every half minute.
func (h *host) heard() {
	h.w.after(h.rnd.upTo(30*time.Second), h.ifRuns(func() {
		h.nextCheck, h.again = h.w.now, true
		h.turn()
	}))
}

// lostMachine is a machine that only a person can bring back.
func (w *world) lostMachine(h *host) {
	if after := w.s.Operator.PowerCycleAfter; after > 0 {
		life := h.life
		w.after(w.rnd.people.about(after), h.ifAlive(life, h.powerCycle))
	}
}

// powerCycle switches a machine off and on from outside.
func (h *host) powerCycle() {
	h.w.count("power-cycle")
	h.note("is power cycled")
	h.leaves("is power cycled")
	h.newLife()
	h.m.panics = 0
	h.boot()
}

// cloneImage starts a second machine from a copy of h's disk.
func (w *world) cloneImage(h *host) {
	c := &host{
		w: w, i: len(w.hosts), name: h.name + "-clone", id: h.id, typ: h.typ, dc: h.dc, rack: h.rack, unable: h.unable, cloneOf: h,
		machineID: "machine-" + h.name + "-clone", rnd: newChance(w.opt.Seed, h.name+" clone"),
	}
	c.truth.init()
	c.a = h.a.Disk()
	c.m.disk = h.m.disk
	w.hosts = append(w.hosts, c)
	w.clones[h.id] = cloned{}
	h.note("is cloned to", c.name)
	c.boot()
}

// oldDisk restores h's disk to what it was some time ago.
func (h *host) oldDisk(f Fault) {
	a, disk, taken := h.a.Disk(), h.m.disk, h.w.now
	h.w.after(f.By, func() {
		if !h.m.on || h.m.hung {
			return
		}
		h.w.faulted(FaultOldDisk)
		h.note("its disk is put back to what it was before by", f.By.String())
		h.leaves("its disk is restored")
		h.newLife()
		h.a, h.m.disk = a, disk
		h.truth.forget(taken)
		h.boot()
	})
}

// strikeControl lets something happen to the control plane.
func (w *world) strikeControl(f Fault) {
	p := w.main
	if p == nil || w.other != nil {
		return // it is in trouble already
	}
	c := w.rnd.faults
	switch f.What {
	case FaultKill:
		if p.killIn > 0 {
			return
		}
		w.faulted(FaultKill)
		p.killIn, p.down = 1+c.IntN(12), f.For
		w.after(5*time.Minute, func() { // nothing to write: then so
			if !p.dead && p.killIn > 0 {
				w.note(&p.ring, p.name, "killed while it had nothing to write")
				p.end()
				w.killed(p)
			}
		})
	case FaultSlowStore:
		w.faulted(FaultSlowStore)
		p.slowTo, p.slowBy = w.now+f.For, f.By
		w.note(&p.ring, p.name, "its store is slow for", f.For.String())
	case FaultFailingStore:
		w.faulted(FaultFailingStore)
		p.sickTo, p.sickness = w.now+f.For, f.Share
		w.note(&p.ring, p.name, "its store fails for", f.For.String())
	case FaultTwoLeaders:
		w.faulted(FaultTwoLeaders)
		w.twoLeaders(p, f)
	case FaultRestore, FaultCloneData:
		snap, err := p.st.Snapshot(context.Background())
		if err != nil {
			w.broken(fmt.Errorf("keep a backup: %w", err))
			return
		}
		rows := p.dir.rows.clone()
		w.pending++
		w.note(&p.ring, p.name, "is backed up")
		w.after(f.By, func() {
			w.pending--
			w.comeBack(f, snap, rows)
		})
	}
}

// raise is a person who starts the control plane anew, as restored, because hosts have obeyed a copy of it.
func (w *world) raise() {
	p := w.main
	if p == nil || !w.s.Operator.ResumeRestored {
		return
	}
	if why, stopped := p.stop.Stopped(); !stopped || !strings.Contains(why, "obeyed another") {
		return
	}
	w.note(&p.ring, p.name, "is started anew, as restored")
	p.end()
	w.restart(p.dir, true, nil)
}

// killed starts the control plane again, some time after it died. One that ran beside it is gone for good.
func (w *world) killed(p *plane) {
	w.count("control-plane-died")
	if !p.wasMain {
		return
	}
	w.after(max(p.down, 100*time.Millisecond), func() {
		if w.main == nil && !w.restoring {
			w.restart(p.dir, false, p)
		}
	})
}

// restart begins a process on d, and tries again when it fails to.
func (w *world) restart(d *dataDir, raise bool, before *plane) {
	p, err := w.start(d, raise)
	if err != nil {
		w.broken(fmt.Errorf("start the control plane again: %w", err))
		return
	}
	w.main = p
	w.sawStart(p, before)
}

// twoLeaders lets a second process begin on the same store, while the first still answers half of the hosts.
func (w *world) twoLeaders(old *plane, f Fault) {
	old.linger = true
	fresh, err := w.start(old.dir, false)
	if err != nil {
		w.broken(fmt.Errorf("start a second control plane: %w", err))
		return
	}
	w.main, w.other = fresh, old
	w.sawStart(fresh, old)
	w.after(max(f.For, time.Second), func() {
		w.note(&old.ring, old.name, "is ended")
		old.end()
	})
}

// comeBack puts a backup back in place of what there is, or starts it elsewhere besides.
func (w *world) comeBack(f Fault, snap sqlite.Snapshot, rows *rows) {
	old := w.main
	if old == nil || w.other != nil {
		return
	}
	w.faulted(f.What)
	d, err := w.newDir()
	if err == nil {
		d.rows = rows
		err = snap.PutInto(d.path)
	}
	if err != nil {
		w.broken(fmt.Errorf("put a backup back: %w", err))
		return
	}
	if f.What == FaultCloneData {
		p, err := w.start(d, false)
		if err != nil {
			w.broken(fmt.Errorf("start a cloned control plane: %w", err))
			return
		}
		w.other = p
		w.sawStart(p, nil)
		w.after(max(f.For, time.Second), func() {
			w.note(&p.ring, p.name, "is ended")
			p.end()
			w.lose(d)
			w.after(w.s.Operator.After, w.raise)
		})
		return
	}
	w.note(&old.ring, old.name, "is lost with its disk")
	old.end()
	w.lose(old.dir)
	w.restoring = true
	w.after(max(f.For, time.Second), func() {
		w.restoring = false
		w.restart(d, true, nil)
	})
}
