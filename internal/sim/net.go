package sim

import (
	"context"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/api"
	"github.com/kernwave/kernwave/internal/control"
)

// netFault is one fault of the network while it lasts.
type netFault struct {
	Fault
	to time.Duration
}

// hop is what the network does to one message: how late it is, and whether it is lost.
func (w *world) hop(h *host) (late time.Duration, lost bool) {
	c := w.rnd.net
	late = time.Millisecond + c.upTo(10*time.Millisecond)
	for _, f := range w.net {
		if w.now >= f.to || !f.hits(h) || !c.yes(f.Share) {
			continue
		}
		switch f.What {
		case FaultLose:
			w.faulted(FaultLose)
			lost = true
		case FaultDelay:
			w.faulted(FaultDelay)
			late += c.upTo(f.By)
		}
	}
	return late, lost
}

// repeats says how much later a message arrives a second time; zero: it does not.
func (w *world) repeats(h *host) time.Duration {
	for _, f := range w.net {
		if f.What == FaultRepeat && w.now < f.to && f.hits(h) && w.rnd.net.yes(f.Share) {
			w.faulted(FaultRepeat)
			return time.Millisecond + w.rnd.net.upTo(f.By)
		}
	}
	return 0
}

// route is the control plane that h reaches now; nil: none.
func (w *world) route(h *host) *plane {
	if w.other != nil && h.i%2 == 1 {
		return w.other
	}
	return w.main
}

// client is the certificate that h shows.
func (h *host) client() api.Client {
	if h.cert == nil {
		c := api.NewClient(h.id, int64(h.primary().i)+1, epoch, epoch.Add(365*24*time.Hour))
		h.cert = &c
	}
	return *h.cert
}

func (h *host) primary() *host {
	if h.cloneOf != nil {
		return h.cloneOf
	}
	return h
}

// deliver brings something of h to the control plane when it has time, and f its answer back. handle must be called at
// once. The answer is lost where h cannot be reached any more, and refused where nobody answers.
func (w *world) deliver(h *host, late time.Duration, handle func(p *plane), answer func(p *plane, ok bool)) {
	w.queue(h, late, 0, handle, answer)
}

// queue is deliver of something that has waited for so long already, at a control plane that was busy. The wait is in
// w.waited while handle runs: a real control plane reads its clock when a message comes, not when it gets to it.
func (w *world) queue(h *host, late, waited time.Duration, handle func(p *plane), answer func(p *plane, ok bool)) {
	w.after(late, func() {
		p := w.route(h)
		if p == nil || p.dead {
			if answer != nil { // connection refused: at once
				w.after(time.Millisecond, func() { answer(nil, false) })
			}
			return
		}
		if free := p.free(); free > w.now {
			w.queue(h, free-w.now, waited+free-w.now, handle, answer)
			return
		}
		w.waited = waited
		took, alive := p.call(func() { handle(p) })
		if !alive {
			w.killed(p)
		}
		if answer == nil {
			return
		}
		back, lost := w.hop(h)
		if !alive || lost {
			return // the agent waits until it is tired of it
		}
		w.after(took+back, func() {
			if h.reachable() {
				answer(p, true)
			}
		})
	})
}

// sendReport sends a check-in, and hands back its answer, if one comes.
func (w *world) sendReport(h *host, r fleet.Report, sent time.Duration, done func(fleet.Desired, bool)) {
	w.count("check-in")
	if !h.reachable() {
		w.count("unreachable")
		return
	}
	process := h.process
	var d fleet.Desired
	var err error
	handle := func(p *plane) {
		d, err = p.door.CheckIn(context.Background(), h.client(), r)
		if err == nil {
			if !d.Again {
				p.hears(h.primary(), sent+w.waited)
				w.sawReport(p, h, r)
			}
			w.sawAnswer(p, h, r, d)
		} else {
			w.refused(p, h, err)
		}
	}
	late, lost := w.hop(h)
	if again := w.repeats(h); again > 0 {
		// The same bytes once more, later. Nobody waits for their answer.
		w.deliver(h, late+again, func(p *plane) {
			if d, err := p.door.CheckIn(context.Background(), h.client(), r); err == nil {
				if !d.Again {
					p.hears(h.primary(), sent+w.waited)
				}
				w.sawAnswer(p, nil, r, d)
			}
		}, nil)
	}
	if lost {
		return
	}
	w.deliver(h, late, handle, func(_ *plane, ok bool) {
		if h.process == process && h.agentUp {
			done(d, ok && err == nil)
		}
	})
}

// sendQuestion sends the last-moment question.
func (w *world) sendQuestion(h *host, id fleet.OperationID, g fleet.GrantID, done func(fleet.Confirmation, *plane, bool)) {
	w.count("question")
	if !h.reachable() {
		return
	}
	process := h.process
	var c fleet.Confirmation
	var err error
	late, lost := w.hop(h)
	if lost {
		return
	}
	handle := func(p *plane) {
		c, err = p.door.ConfirmReboot(context.Background(), h.client(), h.id, id, g)
		if err != nil {
			w.refused(p, h, err)
			return
		}
		w.sawConfirmation(p, h, id, g, c)
	}
	if again := w.repeats(h); again > 0 {
		w.deliver(h, late+again, func(p *plane) { _, _ = p.door.ConfirmReboot(context.Background(), h.client(), h.id, id, g) }, nil)
	}
	w.deliver(h, late, handle, func(p *plane, ok bool) {
		if h.process == process && h.agentUp {
			done(c, p, ok && err == nil)
		}
	})
}

// refused takes note of an answer that is an error.
func (w *world) refused(p *plane, h *host, err error) {
	w.count("request-failed")
	w.note(&h.ring, p.name, "answers "+h.name+" with an error:", err.Error())
}

// latenessOf is the most that a message can be late by the scenario's faults and be believed: what is repeated may have
// been lost the first time, or have gone to another control plane.
func latenessOf(s Scenario) time.Duration {
	late := 2 * time.Second
	for _, f := range s.Faults {
		switch f.What {
		case FaultDelay, FaultSlowStore:
			late = max(late, 2*time.Second+f.By)
		case FaultRepeat:
			late = max(late, 2*time.Second+min(f.By, control.LateMost))
		}
	}
	return late
}
