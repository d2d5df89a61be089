package sim

import (
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// work starts what the operation needs next, as internal/agent's startWork does.
func (h *host) work() {
	for h.agentUp {
		n := h.moment()
		todo := h.a.Todo(n)
		if h.step != "" {
			if todo == h.step {
				return
			}
			h.step = "" // overtaken: the operation went elsewhere
			h.stepNo++
		}
		if todo == "" || h.workNext > h.w.now {
			return
		}
		if !h.begin(todo) {
			return
		}
	}
}

// begin starts a step, and says whether it is over already.
func (h *host) begin(todo string) (over bool) {
	var takes time.Duration
	switch todo {
	case "prepare":
		takes = h.rnd.about(h.typ.Prepare)
	case "drain":
		takes = h.rnd.about(h.typ.Drain)
	case "look", "disarm":
		takes = 20 * time.Millisecond
	case "arm":
		h.a.Arming(h.moment())
		takes = h.rnd.about(200 * time.Millisecond)
	case "ask":
		h.ask()
		return false
	case "try":
		takes = h.rnd.about(h.typ.Checks)
		if h.m.netLost {
			takes += settleNetwork
		}
	case "commit":
		takes = h.rnd.about(500 * time.Millisecond)
	case "undrain":
		takes = h.rnd.about(h.typ.Drain) / 2
	case "ready":
		if h.ready() {
			h.ended("ready")
			return true
		}
		h.workNext = h.w.now + readyEvery
		return false
	case "return":
		h.a.Returning(h.moment())
		h.down("the agent goes back")
		return false
	}
	h.step = todo
	h.stepNo++
	no := h.stepNo
	h.w.after(takes, h.ifRuns(func() {
		if h.stepNo == no && h.step == todo {
			h.step = ""
			h.ended(todo)
			h.turn()
		}
	}))
	return false
}

// ended takes over what came of a step.
func (h *host) ended(step string) {
	n, before := h.moment(), h.a.Phase()
	id, release, deadline := h.a.Operation()
	d := &h.m.disk
	switch step {
	case "prepare":
		switch {
		case h.unable:
			h.a.Refused("the boot loader cannot boot a kernel for one boot only", n)
		case h.m.trial != nil && d.def != h.m.running:
			h.a.Refused("the host runs "+n.Release+" on trial, and it was not committed", n)
		default:
			h.setDefault(h.m.running, "") // the way back
			already := n.Release == release
			if !already {
				d.installed = true
			}
			h.a.Prepared(already, n)
		}
	case "drain":
		why := ""
		if h.drainFailsTo > h.w.now {
			why = "app drain: exit status 1"
		}
		h.a.DrainEnded(why, n)
	case "look":
		h.a.Looked(n)
	case "arm":
		h.setDefault(h.m.running, "")
		d.oneShot = &trialBoot{op: id, release: release, deadline: deadline}
		h.a.Armed()
	case "try":
		h.tried(release)
	case "commit":
		h.setDefault(h.m.running, id)
		h.a.Committed()
	case "disarm":
		d.oneShot = nil
		h.a.Disarmed()
	case "undrain":
		h.a.Undrained()
	case "ready":
		h.a.Ready(n)
	}
	h.workNext, h.workTries = 0, 0
	h.moved(before)
}

// tried is the end of the trial's checks.
func (h *host) tried(release string) {
	n := h.moment()
	t := fleet.Trial{BootSec: h.typ.Boot.Seconds(), Checks: []fleet.Check{{Name: "kernel", Passed: n.Release == release}}}
	f := KernelFault{}
	if h.newKernel() {
		f = h.typ.Kernel
	}
	switch {
	case n.Release != release:
		h.harm("wrong-release")
		h.a.Tried(t, fleet.CauseWrongKernel, "check kernel: uname -r shows "+n.Release, n)
	case h.m.netLost:
		h.a.Tried(t, fleet.CauseNetwork, "check network: eth0 has no carrier", n)
	case h.rnd.yes(f.FailChecks):
		h.harm("checks")
		h.w.faulted("kernel-checks")
		h.a.Tried(t, fleet.CauseCheck, "check app: exit status 1", n)
	default:
		h.m.passed, h.m.disk.proven = true, true
		h.a.Tried(t, "", "", n)
	}
}

// setDefault makes release the one that a plain boot runs; op is whose commit does it.
func (h *host) setDefault(release string, op fleet.OperationID) {
	if h.m.disk.def != release {
		h.w.sawDefault(h, release, op)
	}
	h.m.disk.def = release
}

// ask puts the last-moment question.
func (h *host) ask() {
	n := h.moment()
	if !h.a.GrantLive(n) {
		return // it lapses in this turn or the next
	}
	grant, _ := h.a.Grant()
	id := h.opID()
	h.step = "ask"
	h.stepNo++
	no := h.stepNo
	again := func() {
		if h.stepNo == no && h.step == "ask" {
			h.step = ""
			h.workNext = h.w.now + askEvery
			h.turn()
		}
	}
	h.w.after(fleet.ConfirmLife, h.ifRuns(again))
	asked := n.Uptime
	h.w.sendQuestion(h, id, grant, func(c fleet.Confirmation, from *plane, ok bool) {
		if h.stepNo != no || h.step != "ask" {
			return
		}
		if !ok {
			again()
			return
		}
		before := h.a.Phase()
		if !h.a.Confirmed(c, asked, grant, h.moment()) {
			if h.a.Phase() == before {
				again()
				return
			}
			h.step = ""
			h.moved(before)
			h.turn()
			return
		}
		h.step = ""
		h.w.sawObeyed(h, c.From)
		h.moved(before)
		h.w.sawTrialReboot(h, id, from)
		h.down("into the trial")
	})
}
