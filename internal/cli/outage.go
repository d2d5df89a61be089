package cli

import (
	"time"
)

// outage follows whether the control plane answers, for commands that go on for long: a restart of the control plane
// must not end them.
type outage struct {
	since time.Time // zero: it answers
	err   error
}

// next takes the outcome of a question. It returns err when there is no point in asking again: it is another error,
// or patience has run out. changed says that the control plane went away or came back.
func (o *outage) next(err error, now time.Time, patience time.Duration) (changed bool, fatal error) {
	switch {
	case err == nil:
		changed = !o.since.IsZero()
		*o = outage{}
		return changed, nil
	case !mayRepeat(err):
		return false, err
	case o.since.IsZero():
		o.since, o.err = now, err
		return true, nil
	case now.Sub(o.since) > patience:
		return false, err
	}
	o.err = err
	return false, nil
}

// saw is next for commands that print lines: it says so when the control plane goes away and comes back.
func (o *outage) saw(a *app, err error, patience time.Duration) error {
	now := a.Now()
	since := o.since
	changed, fatal := o.next(err, now, patience)
	if fatal != nil || !changed {
		return fatal
	}
	if err != nil {
		a.warn("the control plane does not answer, asking on: " + a.shortReason(err))
	} else {
		a.warn("the control plane answers again, after " + shortDuration(now.Sub(since)))
	}
	return nil
}

// shortReason says in a few words why no answer came.
func (a *app) shortReason(err error) string {
	if e, ok := a.explainTransport(err); ok {
		return e.Why
	}
	return err.Error()
}
