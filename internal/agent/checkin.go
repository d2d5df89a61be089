package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

const (
	// minCheckIn and maxCheckIn bound the pace that a control plane may set.
	minCheckIn = 200 * time.Millisecond
	maxCheckIn = 10 * time.Minute
	// firstWithin is how long the first check-in waits for the ready programs' first answer: saying "not in service"
	// for want of an answer would make a restart of the agent look like an outage.
	firstWithin = 5 * time.Second
	// maxSentence and maxUnits keep a report well below what a control plane accepts (128 KiB).
	maxSentence = 4 << 10
	maxUnits    = 200
	// maxOperationID bounds what becomes a file's name.
	maxOperationID = 100
	// maxAnswer bounds what of an answer is given back.
	maxAnswer = 200
)

// nextCopied is what a person does about a machine that has another one's certificate.
const nextCopied = "if this is a copy: kernwave-agent enrol --anew --name NAME, with a new token; if its disk was moved or its hardware replaced: kernwave-agent enrol --moved"

type checkInState struct {
	busy     bool
	again    bool // something changed while one was on its way
	next     time.Time
	tries    int
	lastGood time.Duration // on the boot-time clock; zero: none in this run
	began    time.Time     // when the agent began to want one

	factsOld  bool // look them up again
	factsAt   time.Time
	facts     *fleet.Facts
	factsHash string
	saidHash  string // what the control plane has

	wantHistory bool // the last answer asked for it

	seq      uint64 // of the last report
	answered string // the name of the last answer that was obeyed
	copied   string // what was said in the log
	unproven int    // answers in a row that asked for proof that the host is there
}

// soon makes the next check-in due now.
func (c *checkInState) soon() {
	c.next = time.Time{}
	c.again = true
}

// startCheckIn starts a check-in when one is due.
func (a *Agent) startCheckIn(ctx context.Context) {
	c := &a.checkIn
	if c.began.IsZero() {
		c.began = time.Now()
	}
	if c.busy || time.Now().Before(c.next) {
		return
	}
	if !a.ready.known && !a.op.drained() && time.Since(c.began) < firstWithin {
		c.next = c.began.Add(firstWithin)
		return
	}
	c.busy, c.again = true, false
	n := a.now()
	// The boot-time clock numbers the reports: it rises over restarts of the agent, too.
	c.seq = max(c.seq+1, uint64(max(n.Uptime, 0)))
	r := fleet.Report{Host: a.cfg.Host, Seen: a.seen, Seq: c.seq, Answered: c.answered}
	r.Now = fleet.HostState{BootID: n.BootID, Release: n.Release, Uptime: n.Uptime, Parked: a.parked}
	r.Now.InService, r.Now.NotInServiceWhy = a.inService(n)
	r.Now.NotInServiceWhy = clip(r.Now.NotInServiceWhy, maxSentence)
	if a.parked == "" {
		r.Operation = a.op.report(n)
	}
	if c.wantHistory {
		r.History = a.ended.history()
	}
	facts, hash, said := c.facts, c.factsHash, c.saidHash
	old := facts == nil || c.factsOld || time.Since(c.factsAt) >= a.cfg.FactsEvery
	c.factsOld = false
	ctx, cancel := context.WithTimeoutCause(ctx, a.cfg.CheckInWithin, errNoAnswer)
	a.beside(func() func() {
		defer cancel()
		var looked bool
		if old {
			f, err := a.lookUpFacts(ctx)
			if err != nil {
				a.log.WarnContext(ctx, "facts cannot be found out, the last ones stand", "err", err)
			} else {
				facts, hash, looked = &f, f.Hash(), true
			}
		}
		// A kernel on trial may see the hardware differently: its host must be heard.
		if a.copied != nil && facts != nil && a.trialBoot == "" {
			if r.Copied = clip(a.copied(*facts), maxSentence); r.Copied != "" {
				r.Operation, r.History = nil, nil
			}
		}
		r.FactsHash = hash
		if hash != said {
			r.Facts = facts
		}
		if s, err := a.sys.SystemState(ctx); err != nil {
			a.log.WarnContext(ctx, "failed units cannot be listed", "err", err)
		} else {
			r.Now.FailedUnits = s.FailedUnits[:min(len(s.FailedUnits), maxUnits)]
		}
		asked := a.sys.Uptime()
		d, err := a.ctl.CheckIn(ctx, r)
		return func() {
			c.busy = false
			if r.Copied != "" && r.Copied != c.copied {
				a.log.ErrorContext(ctx, "this machine has another one's certificate and keeps away", "why", r.Copied, "next", nextCopied)
			}
			c.copied = r.Copied
			if looked {
				c.facts, c.factsHash, c.factsAt = facts, hash, time.Now()
			} else if old {
				c.factsOld = true
			}
			if err != nil {
				a.checkInFailed(ctx, err, backoff(c.tries+1, a.mostBackoff()))
				return
			}
			if !a.obeys(d.From) {
				a.checkInFailed(ctx, errRefusedAnswer, slackening(a.refusals, a.mostBackoff()))
				return
			}
			c.tries, c.lastGood = 0, a.sys.Uptime()
			c.answered = clip(d.Answer, maxAnswer)
			if d.Again {
				a.proveSoon(d)
				return
			}
			c.unproven = 0
			if r.Facts != nil || hash == "" {
				c.saidHash = hash
			}
			if d.WantFacts {
				c.saidHash = ""
			}
			a.answered(d, asked)
			wait := a.cfg.CheckInEvery
			if d.CheckInAfter > 0 {
				wait = min(max(d.CheckInAfter, minCheckIn), maxCheckIn)
			}
			c.wantHistory = d.WantHistory
			if d.WantFacts || d.WantHistory {
				wait = minCheckIn
			}
			c.next = time.Now().Add(a.jitter(wait))
			if c.again {
				c.next = time.Time{}
			}
		}
	})
}

// quickTries is how many tries follow each other at once before the pace slackens.
const quickTries = 10

// slackening is the wait before the next of tries that are expected to succeed soon: short, and doubling to most when
// they do not.
func slackening(tries int, most time.Duration) time.Duration {
	return min(minCheckIn<<min(max(tries-quickTries, 0), 10), most)
}

// proveSoon checks in again, with the answer's name as the proof that this host is there now. Nothing was learned and
// nothing said: a grant that is held runs out by itself. A control plane that asks for ever is asked less and less.
func (a *Agent) proveSoon(d fleet.Desired) {
	c := &a.checkIn
	// The proof holds only until another machine with this name is believed again, so it has to come at once.
	least := slackening(c.unproven, a.cfg.CheckInEvery)
	c.unproven++
	c.next = time.Now().Add(a.jitter(min(max(d.CheckInAfter, least), maxCheckIn)))
	if c.again && c.unproven == 1 {
		c.next = time.Time{}
	}
}

// clip keeps the beginning of a text.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// mostBackoff bounds the wait after failed check-ins.
func (a *Agent) mostBackoff() time.Duration {
	if !a.op.ended() {
		return a.cfg.BackoffMaxInOperation
	}
	return a.cfg.BackoffMax
}

func (a *Agent) checkInFailed(ctx context.Context, err error, wait time.Duration) {
	c := &a.checkIn
	c.tries++
	wait = a.jitter(wait)
	c.next = time.Now().Add(wait)
	args := []any{"err", err, "retry_in", wait}
	if next := fleet.NextOf(err, ""); next != "" {
		args = append(args, "next", next)
	}
	a.log.WarnContext(ctx, "check-in failed, will retry", args...)
}

// jitter spreads a fleet's check-ins: up to a tenth earlier or later.
func (a *Agent) jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*a.cfg.Chance()))
}

func (a *Agent) lookUpFacts(ctx context.Context) (fleet.Facts, error) {
	f, err := a.sys.Facts(ctx)
	if err != nil {
		return fleet.Facts{}, err
	}
	f.Labels, f.AgentVersion = a.cfg.Labels, a.cfg.Version
	f.Normalize()
	return f, nil
}

// answered obeys an answer. asked is when the question was put, on the boot-time clock: a grant lives from there.
func (a *Agent) answered(d fleet.Desired, asked time.Duration) {
	if a.parked != "" {
		return
	}
	n := a.now()
	a.grant = nil
	if op := d.Operation; op != nil && op.Grant != nil && a.op != nil && op.ID == a.op.ID {
		a.grant = &heldGrant{ID: op.Grant.ID, BootID: n.BootID, Asked: asked, Until: asked + min(op.Grant.Life, maxGrantLife)}
	}
	if !a.op.ended() {
		a.move(obey(*a.op, d.Operation, a.grant, n))
		return
	}
	if d.Operation != nil {
		a.beginOperation(*d.Operation, n)
	}
}

// beginOperation begins what the control plane wants, unless it has been here before.
func (a *Agent) beginOperation(d fleet.DesiredOperation, n now) {
	if a.past[d.ID] || d.ID == "" || len(d.ID) > maxOperationID {
		if (a.op == nil || a.op.ID != d.ID) && a.refused != d.ID {
			a.refused = d.ID
			a.log.Warn("an operation is not begun: it has been here before, or its id cannot be used", "operation", d.ID)
		}
		return
	}
	seq := 1
	if a.op != nil {
		seq = a.op.Seq + 1
	}
	o := obey(begin(d, seq, n), &d, nil, n) // called off before it began: that is an answer, too
	if a.move(o) {
		return
	}
	o.enter(fleet.PhaseRefused, n)
	o.Problem = &fleet.Problem{
		Cause: fleet.CauseRefused, What: "the journal cannot be written", Next: "make " + a.cfg.StateDir + " writable",
	}
	a.move(o)
}

// inService is the host's own word on whether it serves, and why not.
func (a *Agent) inService(n now) (bool, string) {
	if a.parked != "" && a.op.ended() || !a.op.drained() {
		return a.ready.ok, a.ready.why
	}
	why := fmt.Sprintf("%s, operation %s", a.op.Phase, a.op.ID)
	switch {
	case a.parked != "":
		why = "going back into service after a damaged journal"
	case a.op.Phase == fleet.PhaseReverting && a.op.onTrial(n) && a.op.Returns >= maxReturns && !a.op.leaving(n):
		why = fmt.Sprintf("%d reboots led back into the trial of %s: the boot loader does not forget it; a person must look", a.op.Returns, a.op.Kernel.Release)
	case a.op.leaving(n) && n.Uptime-a.op.Reboot.Began > a.cfg.RebootWithin:
		why = fmt.Sprintf("a reboot was requested %s ago and has not happened", (n.Uptime - a.op.Reboot.Began).Round(time.Second))
	case a.work.said != "":
		why += ": " + a.work.said
	}
	return false, why
}
