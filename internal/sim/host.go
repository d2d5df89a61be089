package sim

import (
	"fmt"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/api"
)

// host is one machine with its agent. The agent decides with the real agent's code (agent.Model); this file is the
// loop around it: what is due when, as internal/agent has it.
type host struct {
	w         *world
	i         int
	name      string // of the machine
	id        fleet.HostID
	typ       *hostType
	dc, rack  string
	machineID string
	unable    bool // its boot loader cannot boot a kernel just once
	cloneOf   *host
	cert      *api.Client // nil: not made yet
	rnd       chance
	ring      ring
	m         machine
	life      int           // of the boot; each ends what an earlier one began
	wall      time.Duration // what its wall clock is wrong by

	a       agent.Model
	agentUp bool
	process int // of the agent

	// What goes wrong with it, until when.
	cutTo, unreadyTo, drainFailsTo time.Duration

	// The agent's memory.
	checking  bool
	again     bool
	nextCheck time.Duration
	tries     int
	lastGood  time.Duration
	hash      string // of the facts, as they were found out last; empty: look
	found     fleet.Facts
	said      string // what the control plane has
	answered  string
	history   bool
	seq       uint64
	step      string // that is running
	stepNo    int
	workNext  time.Duration
	workTries int
	badSince  time.Duration // its network, while it is on trial without a control plane
	wake      time.Duration // of the timer that is set; zero: none is

	truth hostTruth
}

// What an agent does by itself: see internal/agent, Config.
const (
	checkInWithin  = 20 * time.Second
	backoffMax     = time.Minute
	backoffMaxOp   = 5 * time.Second
	askEvery       = time.Second
	readyEvery     = 2 * time.Second
	settleNetwork  = 90 * time.Second
	watchSilent    = time.Minute
	watchEvery     = 30 * time.Second
	revertNetwork  = 5 * time.Minute
	minCheckIn     = 200 * time.Millisecond
	maxCheckIn     = 10 * time.Minute
	agentRestart   = 3 * time.Second // by systemd
	maxRetryOfStep = 30 * time.Second
)

func (w *world) makeHosts() {
	for i, t := range w.s.Fleet.Types {
		typ := &hostType{Type: t, i: i}
		w.types = append(w.types, typ)
		for n := range t.Hosts {
			name := fmt.Sprintf("%s-%04d", t.Name, n+1)
			h := &host{w: w, i: len(w.hosts), name: name, id: fleet.HostID(name), typ: typ, machineID: "machine-" + name}
			h.dc = fmt.Sprintf("dc-%d", n%w.s.Fleet.Datacenters+1)
			h.rack = fmt.Sprintf("%s-r%d", h.dc, n/w.s.Fleet.Datacenters%w.s.Fleet.Racks+1)
			h.unable = n >= t.Hosts-t.Unable
			h.rnd = newChance(w.opt.Seed, name)
			h.truth.init()
			h.m = machine{disk: bootDisk{def: oldRelease}, boots: 1, bootID: name + "-1", running: oldRelease, on: true}
			h.m.bootedAt = -time.Hour // long before
			h.agentUp, h.life, h.process = true, 1, 1
			h.nextCheck = h.rnd.upTo(min(w.s.Control.IdlePace, time.Minute))
			h.lastGood = time.Hour
			w.hosts = append(w.hosts, h)
			w.byID[h.id] = h
			if typ.id == "" {
				typ.id = fleet.TypeOf(h.facts()).ID
			}
			h.setTimer()
		}
	}
}

func (h *host) note(what string, more ...string) { h.w.note(&h.ring, h.name, what, more...) }

// startAgent is the start of the agent's process: only what is on the disk is there.
func (h *host) startAgent() {
	h.process++
	h.agentUp = true
	h.checking, h.again, h.nextCheck, h.tries, h.lastGood = false, false, h.w.now, 0, 0
	h.hash, h.said, h.answered, h.history = "", "", "", false
	h.step, h.workNext, h.workTries, h.badSince, h.wake = "", 0, 0, 0, 0
	h.stepNo++
	before := h.a.Phase()
	h.a.Start(h.moment(), agent.LastBoot{DeadMan: h.m.disk.deadMan != "" && h.m.disk.deadMan == h.opID(), NoCrash: "pstore is empty"})
	h.moved(before)
	h.w.sawService(h)
	h.turn()
}

func (h *host) opID() fleet.OperationID { id, _, _ := h.a.Operation(); return id }

// killAgent ends the agent's process; systemd starts it again.
func (h *host) killAgent() {
	if !h.agentUp {
		return
	}
	h.note("agent is killed")
	h.process++
	h.agentUp = false
	life := h.life
	h.w.after(agentRestart, h.ifAlive(life, func() {
		if !h.agentUp {
			h.startAgent()
		}
	}))
}

// ifRuns is f, as long as this process of the agent runs.
func (h *host) ifRuns(f func()) func() {
	process := h.process
	return func() {
		if h.process == process && h.agentUp {
			f()
		}
	}
}

// moved takes note of a new phase, as the agent's move does.
func (h *host) moved(before fleet.Phase) {
	after := h.a.Phase()
	if before == after {
		return
	}
	h.workNext, h.workTries = 0, 0
	h.nextCheck, h.again = 0, true
	h.hash = ""
	h.badSince = 0
	why := ""
	if p := h.a.Problem(); p != nil {
		why = p.What
	}
	h.note("phase "+string(after), string(h.opID()), why)
	h.w.sawPhase(h, before, after)
}

// turn does everything that is due: the agent's step.
func (h *host) turn() {
	if !h.agentUp {
		return
	}
	if h.a.Drained() {
		before := h.a.Phase()
		h.a.Lapse(h.moment())
		h.moved(before)
	}
	h.work()
	if !h.agentUp { // it rebooted
		return
	}
	h.watch()
	if !h.checking && h.nextCheck <= h.w.now {
		h.checkIn()
	}
	h.setTimer()
}

// setTimer wakes the loop when something is due next.
func (h *host) setTimer() {
	at := h.w.now + 10*time.Minute
	if !h.checking {
		at = min(at, max(h.nextCheck, h.w.now))
	}
	if h.step == "" && h.workNext > h.w.now {
		at = min(at, h.workNext)
	}
	switch n := h.moment(); h.a.Phase() {
	case fleet.PhaseDraining, fleet.PhaseDrained, fleet.PhaseRebooting:
		if _, until := h.a.Grant(); h.a.GrantLive(n) && !h.a.Leaving(n) {
			at = min(at, h.m.bootedAt+until)
		}
	}
	if h.watching() {
		at = min(at, h.w.now+watchEvery)
	}
	if h.wake > h.w.now && h.wake <= at {
		return
	}
	h.wake = at
	h.w.q.push(at, h.ifRuns(func() {
		if h.wake == at {
			h.wake = 0
			h.turn()
		}
	}))
}

// reachable says whether h has a network, on both of its ends.
func (h *host) reachable() bool { return !h.m.netLost && h.cutTo <= h.w.now }

// ready is what the ready programs say.
func (h *host) ready() bool { return h.unreadyTo <= h.w.now }

// checkIn sends a report.
func (h *host) checkIn() {
	h.checking, h.again = true, false
	n := h.moment()
	r := fleet.Report{Host: h.id, Seen: h.a.Seen(), Answered: h.answered, Operation: h.a.Report(n)}
	h.seq = max(h.seq+1, uint64(n.Uptime))
	r.Seq = h.seq
	r.Now = fleet.HostState{BootID: n.BootID, Release: n.Release, Uptime: n.Uptime, InService: h.ready()}
	switch {
	case h.a.Drained():
		r.Now.InService, r.Now.NotInServiceWhy = false, fmt.Sprintf("%s, operation %s", h.a.Phase(), r.Operation.ID)
	case !h.ready():
		r.Now.NotInServiceWhy = "app: not ready"
	}
	if h.history {
		r.History = h.a.History()
	}
	if h.hash == "" {
		h.found = h.facts()
		h.found.Normalize()
		h.hash = h.found.Hash()
	}
	r.FactsHash = h.hash
	if h.hash != h.said {
		f := h.found
		r.Facts = &f
	}
	asked, sent := n.Uptime, h.w.now
	open := true // the agent waits for the answer
	within := h.ifRuns(func() {
		if open {
			open = false
			h.checkInFailed()
		}
	})
	h.w.after(checkInWithin, within)
	hash, hadFacts := h.hash, r.Facts != nil
	h.w.sendReport(h, r, sent, func(d fleet.Desired, ok bool) {
		if !open {
			return
		}
		open = false
		if !ok || !h.a.Obeys(d.From) {
			if ok {
				h.w.count("answer-refused")
				h.note("refuses an answer", fmt.Sprintf("from %d.%d", d.From.Incarnation, d.From.Term))
			}
			h.checkInFailed()
			return
		}
		h.w.sawObeyed(h, d.From)
		h.checking = false
		if d.Answer != "" {
			h.answered = d.Answer
		}
		h.tries, h.lastGood = 0, h.moment().Uptime
		wait := 30 * time.Second
		if d.Again {
			wait = minCheckIn
		} else {
			if hadFacts {
				h.said = hash
			}
			if d.WantFacts {
				h.said = ""
			}
			before := h.a.Phase()
			h.a.Answered(d, asked, h.moment())
			h.moved(before)
			if d.CheckInAfter > 0 {
				wait = min(max(d.CheckInAfter, minCheckIn), maxCheckIn)
			}
			h.history = d.WantHistory
			if d.WantFacts || d.WantHistory {
				wait = minCheckIn
			}
		}
		h.nextCheck = h.w.now + h.jitter(wait)
		if h.again {
			h.nextCheck = h.w.now
		}
		h.turn()
	})
}

func (h *host) checkInFailed() {
	h.checking = false
	h.tries++
	most := backoffMax
	if !h.a.Ended() {
		most = backoffMaxOp
	}
	h.nextCheck = h.w.now + h.jitter(backoff(h.tries, most))
	h.turn()
}

func (h *host) jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*h.rnd.Float64()))
}

func backoff(tries int, most time.Duration) time.Duration {
	return min(time.Second<<min(max(tries-1, 0), 16), most)
}

// watching says whether a passed trial looks after its own network, because nobody answers.
func (h *host) watching() bool {
	return h.a.Phase() == fleet.PhasePassed && h.moment().Uptime-h.lastGood >= watchSilent
}

// watch takes a host back that cut itself off.
func (h *host) watch() {
	switch {
	case !h.watching() || !h.m.netLost:
		h.badSince = 0
	case h.badSince == 0:
		h.badSince = h.w.now
	case h.w.now-h.badSince >= revertNetwork:
		before := h.a.Phase()
		h.a.CutOff("eth0 has no carrier", h.moment())
		h.moved(before)
		h.work()
	}
}
