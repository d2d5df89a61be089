package cache

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// ApprovalFor is how long an approval, and the question for one, holds. What was true of the fleet half an hour ago
	// may not be any more.
	ApprovalFor = 30 * time.Minute
	// maxAsks bounds how many questions are open.
	maxAsks = 1000
)

// Ask is a question for another person's agreement.
type Ask struct {
	ID      string // given by Ask
	Hash    string // what is agreed to: the plan's, and with it every write in it
	Command string // CACHE.X.STALE
	What    string // one sentence for the person who is asked
	By      string // who wants it
	Author  string // who wrote the code that made the plan; empty for built-in commands
	At      time.Time
	Given   string // who agreed; empty: nobody yet
	GivenAt time.Time
}

// Approvals are the questions that are open. They live in memory: a gateway that was restarted asks again. It is safe for
// concurrent use.
type Approvals struct {
	log Log
	now func() time.Time

	mu   sync.Mutex
	asks []*Ask // oldest first
}

// NewApprovals puts each question and answer on record. now nil means the real clock.
func NewApprovals(log Log, now func() time.Time) *Approvals {
	if now == nil {
		now = time.Now
	}
	return &Approvals{log: log, now: now}
}

// Ask opens a question and returns its id.
func (a *Approvals) Ask(q Ask) (id string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget()
	if len(a.asks) >= maxAsks {
		return "", Errorf(CodeBusy, "wait until some have expired", "%d questions for approval are open", maxAsks)
	}
	q.ID, q.At, q.Given = NewID("p"), a.now().UTC(), ""
	if _, err := a.log.Append(Event{At: q.At, Who: q.By, Kind: "approval.asked", Command: q.Command, What: q.What, Why: q.ID + " " + q.Hash}); err != nil {
		return "", err
	}
	a.asks = append(a.asks, &q)
	return q.ID, nil
}

// NeedsApproval refuses a call without APPROVAL whose plan has the question id: what is to be changed, and what to do.
func NeedsApproval(id, format string, args ...any) *Error {
	return Errorf(CodeApproval, "look at it with DRYRUN; someone else says CACHE.APPROVE "+id+", then call again with APPROVAL "+id, "%s: %s needs another person's approval", id, fmt.Sprintf(format, args...))
}

// Give records that by agrees. It must be someone else than who asked and who wrote the code, and no viewer.
func (a *Approvals) Give(id string, by User) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	q, err := a.find(id)
	switch {
	case err != nil:
		return err
	case !by.Role.May(Write):
		return Errorf(CodeNoPerm, "ask someone who is operator or admin", "user %s is %s and may not approve", by.Name, orNone(string(by.Role)))
	case by.Name == q.By:
		return Errorf(CodeNoPerm, "ask someone else", "%s asked for %s and cannot approve it as well", by.Name, id)
	case by.Name == q.Author:
		return Errorf(CodeNoPerm, "ask someone else", "%s loaded the command and cannot approve what it wants to write", by.Name)
	case q.Given != "":
		return Errorf(CodeErr, "", "%s was approved by %s already", id, q.Given)
	}
	at := a.now().UTC()
	if _, err := a.log.Append(Event{At: at, Who: by.Name, Kind: "approval.given", Command: q.Command, What: q.What, Why: q.ID + " " + q.Hash}); err != nil {
		return err
	}
	q.Given, q.GivenAt = by.Name, at
	return nil
}

// Take uses an approval up: for this hash, by who asked for it, once, while it holds. The error is an *Error that says
// what is wrong and what to do.
func (a *Approvals) Take(id, hash string, by User) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	q, err := a.find(id)
	switch {
	case err != nil:
		return err
	case q.By != by.Name:
		return Errorf(CodeNoPerm, "make a plan of your own", "%s is %s's", id, q.By)
	case q.Given == "":
		return Errorf(CodeApproval, "someone else says CACHE.APPROVE "+id, "%s: nobody has approved it yet", id)
	case q.Hash != hash:
		return Errorf(CodeStale, "make a new plan and ask again", "%s was given for another plan", id)
	}
	a.asks = slices.DeleteFunc(a.asks, func(x *Ask) bool { return x == q })
	_, err = a.log.Append(Event{At: a.now().UTC(), Who: by.Name, Kind: "approval.used", Command: q.Command, What: q.What, Why: q.ID + " " + q.Hash})
	return err
}

// List returns the questions that are open, oldest first.
func (a *Approvals) List() []Ask {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget()
	list := make([]Ask, len(a.asks))
	for i, q := range a.asks {
		list[i] = *q
	}
	return list
}

// find looks a question up; one that has expired is said to be.
func (a *Approvals) find(id string) (*Ask, error) {
	for _, q := range a.asks {
		if strings.EqualFold(q.ID, id) {
			if a.expired(q) {
				return nil, Errorf(CodeApproval, "make a new plan and ask again", "%s has expired: it held for %s", id, ApprovalFor)
			}
			return q, nil
		}
	}
	return nil, Errorf(CodeApproval, "CACHE.APPROVE LIST shows those that are open", "there is no question %s: it was used, or expired, or the gateway was restarted", clip(id))
}

func (a *Approvals) expired(q *Ask) bool {
	from := q.At
	if q.Given != "" {
		from = q.GivenAt
	}
	return a.now().Sub(from) > ApprovalFor
}

// forget drops what expired long ago; what expired lately is kept, so that it can be said to have.
func (a *Approvals) forget() {
	a.asks = slices.DeleteFunc(a.asks, func(q *Ask) bool { return a.now().Sub(q.At) > 4*ApprovalFor })
}
