package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// WaitsFor says in one sentence what the rollout waits for.
func WaitsFor(v View, now time.Time) string {
	s := newStepper(v)
	s.now = now
	st := s.r.State
	switch {
	case st.Outcome != "":
		return "nothing: " + st.Status()
	case v.Stopped() != "":
		return "the stop to be lifted: " + v.Stopped()
	case st.Paused != "":
		return "a person, because: " + st.Paused
	case st.Goal == GoalAbort:
		return s.countOpen().String()
	case st.Goal == GoalRollback:
		return s.countBack().String()
	}
	return s.waitsFor()
}

// waitsFor says what the running stage waits for.
func (s *stepper) waitsFor() string {
	st := s.r.State
	if cur := st.Stages[st.Stage]; !cur.SoakUntil.IsZero() && s.now.Before(cur.SoakUntil) {
		return fmt.Sprintf("soaking until %s", cur.SoakUntil.UTC().Format("15:04:05Z"))
	}
	if why := s.unwell(); why != "" {
		return why + "; the next stage waits for it"
	}
	if st.Stage == 0 {
		return s.countCanaries().String()
	}
	return s.countWave().String()
}

// counts says how many hosts are where, and names what needs somebody.
type counts struct {
	busy, wait int
	ready      []string // hosts that wait for a grant
	stuck      []string
	more       int // stuck, and not named
}

// maxStuck is how many of the stuck are named.
const maxStuck = 3

func (c *counts) needs(who, why string) {
	if len(c.stuck) == maxStuck {
		c.more++
		return
	}
	c.stuck = append(c.stuck, fmt.Sprintf("%s (%s)", who, why))
}

// working counts a host with an open operation. One that is silent, and was not told to reboot just now, may never
// come back.
func (s *stepper) working(c *counts, op *fleet.Operation) {
	if s.v.Unheard(op.Host).IsZero() || s.rebooting(op) && op.Problem == nil {
		if op.Phase == fleet.PhasePrepared && op.Word == fleet.WordNone {
			c.ready = append(c.ready, string(op.Host))
		} else {
			c.busy++
		}
		return
	}
	c.needs(string(op.Host), s.explainOpen(op, nil).Why)
}

// host counts one host by its progress.
func (s *stepper) host(c *counts, h PlanHost, p progress, why string) {
	switch p {
	case waiting:
		c.wait++
	case blocked:
		c.needs(string(h.ID), why)
	case working:
		op, _ := s.open(h.ID)
		s.working(c, op)
	case done, given:
	}
}

func (s *stepper) countCanaries() (c counts) {
	for _, t := range s.awaited() {
		speakers := s.speakers(t)
		for _, id := range speakers {
			h := PlanHost{ID: id, Type: t.ID}
			p, why := s.progress(h)
			s.host(&c, h, p, why)
		}
		if len(speakers) == 0 {
			c.needs("type "+string(t.ID), fmt.Sprintf("every host that could try the kernel for it was given up; kernwave rollout leave-out %s %s --why …", s.r.ID, t.ID))
		}
	}
	return c
}

func (s *stepper) countWave() (c counts) {
	said := map[fleet.HostTypeID]bool{}
	for _, h := range s.r.Plan.Hosts {
		if h.Stage > s.r.State.Stage {
			break
		}
		p, why := s.progress(h)
		if p != waiting || s.trusted(h.Type) {
			s.host(&c, h, p, why)
		} else if !said[h.Type] {
			said[h.Type] = true
			c.needs(string(h.ID), fmt.Sprintf("the kernel is not approved for type %s any more", h.Type))
		}
	}
	return c
}

// countOpen is for an abort: it waits for what is open.
func (s *stepper) countOpen() (c counts) {
	for h := range s.openHosts() {
		if op, ok := s.open(h.ID); ok && s.waitedFor(op) {
			s.working(&c, op)
		}
	}
	return c
}

// countBack is for a rollback: it waits for what is open, and for the hosts that have to go back.
func (s *stepper) countBack() counts {
	c := s.countOpen()
	for _, h := range s.r.Plan.Hosts {
		if op, ok := s.open(h.ID); ok && s.waitedFor(op) || s.backTo(h.ID) == "" {
			continue
		}
		p, why := s.offeredBack(h)
		s.host(&c, h, p, why)
	}
	return c
}

// String is one sentence without full stop.
func (c counts) String() string {
	var parts []string
	if c.busy > 0 {
		parts = append(parts, hosts(c.busy)+" at work")
	}
	if n := len(c.ready); n > 0 {
		parts = append(parts, fmt.Sprintf("%s ready to leave service when the budget lets them (see kernwave why %s)", hosts(n), c.ready[0]))
	}
	if c.wait > 0 {
		parts = append(parts, hosts(c.wait)+" whose turn comes")
	}
	if len(c.stuck) > 0 {
		stuck := "held up by " + strings.Join(c.stuck, "; ")
		if c.more > 0 {
			stuck += fmt.Sprintf(" and %d more", c.more)
		}
		parts = append(parts, stuck)
	}
	if len(parts) == 0 {
		return "the next tick"
	}
	return strings.Join(parts, ", ")
}

func hosts(n int) string {
	if n == 1 {
		return "1 host"
	}
	return fmt.Sprintf("%d hosts", n)
}
