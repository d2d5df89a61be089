package agent

import (
	"context"
	"errors"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// job is the one step of the operation that may run beside the loop.
type job struct {
	busy   bool
	doing  action
	number int // of the newest start; a result of an older one is not wanted any more
	cancel context.CancelCauseFunc
	next   time.Time // not before
	tries  int
	said   string // why the last try failed
}

// result is how a step ended: next is where the operation stands now, retry is why the step must be tried again. With
// neither the machine is going down.
type result struct {
	next  *operation
	retry error
	after time.Duration // with retry: a fixed pause instead of a growing one
	then  func()        // instead of all: what the loop is to do
}

func (r result) moved() bool { return r.next != nil }

// startWork starts what the operation needs next.
func (a *Agent) startWork(ctx context.Context) {
	n := a.now()
	act := todo(a.op, n)
	if a.work.busy {
		if act != a.work.doing && a.work.doing != doGo && a.work.doing != doReturn {
			a.work.cancel(errOvertaken)
		}
		return
	}
	if a.goAhead {
		a.goAhead = false
		a.launch(ctx, doGo, a.goIntoTrial)
		return
	}
	if act == doNothing || time.Now().Before(a.work.next) {
		return
	}
	steps := map[action]func(context.Context, operation, now) result{
		doPrepare: a.prepare, doDrain: a.drain, doLook: a.look, doArm: a.arm, doTry: a.try, doCommit: a.commit,
		doReturn: a.goBackByReboot, doDisarm: a.disarm, doUndrain: a.undrain, doReady: a.askReady,
	}
	if act == doAsk {
		a.startAsk(ctx)
		return
	}
	if act == doArm {
		next := *a.op
		next.Arming, next.ArmedAt = true, time.Now().UTC()
		if !a.move(next) {
			a.work.next = time.Now().Add(time.Second)
			return
		}
	}
	if act == doReturn {
		// The attempt is written before the reboot, so that reboots can be counted.
		next := *a.op
		next.Returns++
		next.Reboot = &reboot{BootID: n.BootID, Why: "back to " + next.FromRelease + ": " + what(next.Problem), Began: n.Uptime}
		a.move(next)
	}
	a.launch(ctx, act, steps[act])
}

// launch runs one step beside the loop, on a copy of the operation.
func (a *Agent) launch(ctx context.Context, act action, f func(context.Context, operation, now) result) {
	ctx, cancel := context.WithCancelCause(ctx)
	a.work.busy, a.work.doing, a.work.cancel = true, act, cancel
	a.work.number++
	number, o, n := a.work.number, *a.op, a.now()
	a.log.DebugContext(ctx, "step", "operation", o.ID, "step", act)
	a.beside(func() func() {
		r := f(ctx, o, n)
		return func() {
			cancel(nil)
			a.work.busy = false
			if a.op == nil || a.op.ID != o.ID || a.op.Phase != o.Phase || number != a.work.number || context.Cause(ctx) == errOvertaken {
				return // the operation went elsewhere meanwhile
			}
			a.applied(act, r)
		}
	})
}

// applied takes over a step's result.
func (a *Agent) applied(act action, r result) {
	if r.then != nil {
		r.then()
		return
	}
	if r.moved() {
		next := *r.next
		// What check-ins changed while the step ran is newer than the step's copy.
		next.Grant = a.op.Grant
		if a.move(next) {
			a.work.reset()
			if act == doReady {
				a.ready = readiness{known: true, ok: true, next: time.Now().Add(a.cfg.ReadyIdleEvery)}
			}
			return
		}
		r.retry = errUnwritten
	}
	if r.retry == nil {
		return
	}
	if act == doReturn { // it did not happen
		next := *a.op
		next.Reboot, next.Returns = nil, next.Returns-1
		a.move(next)
	}
	a.work.tries++
	a.work.said = r.retry.Error()
	pause := r.after
	if pause == 0 {
		pause = backoff(a.work.tries, a.cfg.RetryMax)
	}
	a.work.next = time.Now().Add(pause)
	level := a.log.Warn
	if act == doReady || act == doAsk {
		level = a.log.Debug // expected to need patience
	}
	level("step did not succeed, will retry", "operation", a.op.ID, "step", act, "err", r.retry, "retry_in", pause)
}

func (j *job) reset() { j.next, j.tries, j.said = time.Time{}, 0, "" }

// stop cuts the running step short.
func (j *job) stop(context.Context) {
	if j.busy {
		j.cancel(errStopped)
	}
}

// errOvertaken is why a step was cut short when the operation went elsewhere: cancelled, or the grant ran out.
var errOvertaken = errors.New("the operation was called off")

// backoff doubles from one second to most.
func backoff(tries int, most time.Duration) time.Duration {
	return min(time.Second<<min(max(tries-1, 0), 16), most)
}

// problemOf makes an error the reason why an operation did not go on.
func problemOf(cause fleet.Cause, err error) *fleet.Problem {
	return &fleet.Problem{Cause: cause, What: clip(err.Error(), maxSentence), Next: fleet.NextOf(err, "")}
}
