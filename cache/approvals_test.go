package cache

import (
	"errors"
	"testing"
	"time"
)

func TestApprovals(t *testing.T) {
	now := time.Unix(1e9, 0)
	log := &MemLog{}
	a := NewApprovals(log, func() time.Time { return now })
	ada, bob, vi, eve := User{"ada", Operator}, User{"bob", Admin}, User{"vi", Viewer}, User{"eve", Operator}
	ask := func() string {
		id, err := a.Ask(Ask{Hash: "h", Command: "CACHE.X.A", What: "unlink 3 keys", By: "ada", Author: "eve"})
		must(t, err)
		return id
	}
	code := func(err error) string {
		if e, ok := errors.AsType[*Error](err); ok {
			return e.Code
		}
		return ""
	}
	id := ask()
	for _, tc := range []struct {
		what string
		err  error
		want string
	}{
		{"nobody agreed", a.Take(id, "h", ada), CodeApproval},
		{"who asked", a.Give(id, ada), CodeNoPerm},
		{"who wrote it", a.Give(id, eve), CodeNoPerm},
		{"a viewer", a.Give(id, vi), CodeNoPerm},
		{"no such question", a.Give("p-1", bob), CodeApproval},
		{"someone else", a.Give(id, bob), ""},
		{"twice", a.Give(id, bob), CodeErr},
		{"another's", a.Take(id, "h", bob), CodeNoPerm},
		{"another plan", a.Take(id, "x", ada), CodeStale},
		{"this plan", a.Take(id, "h", ada), ""},
		{"once more", a.Take(id, "h", ada), CodeApproval},
	} {
		if got := code(tc.err); got != tc.want || (tc.want == "") != (tc.err == nil) {
			t.Errorf("%s: %v, want %q", tc.what, tc.err, tc.want)
		}
	}
	id = ask()
	must(t, a.Give(id, bob))
	now = now.Add(ApprovalFor + time.Second)
	if err := a.Take(id, "h", ada); code(err) != CodeApproval {
		t.Errorf("an expired one: %v", err)
	}
	if n := len(a.List()); n != 1 {
		t.Errorf("%d questions are open", n)
	}
	events, _ := log.Tail(10)
	if len(events) != 5 {
		t.Errorf("%d events are on record: %+v", len(events), events)
	}
}
