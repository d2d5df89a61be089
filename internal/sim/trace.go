package sim

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// line is one event of the world, kept cheaply: most are never printed.
type line struct {
	at   time.Duration
	seq  uint64
	who  string
	what string
	more [3]string
	n    int           // how often, when it is said again and again
	last time.Duration // the last time
}

func (l line) String() string {
	s := fmt.Sprintf("%s  %-14s %s", clock(l.at), l.who, l.what)
	for _, m := range l.more {
		if m != "" {
			s += " " + m
		}
	}
	if l.n > 0 {
		s += fmt.Sprintf(" (and %d times more until %s)", l.n, clock(l.last))
	}
	return s
}

// ring keeps the newest lines of one host or control plane.
type ring struct {
	lines []line
	next  int
}

// kept is how many lines a host or a control plane keeps: one operation, and what came right before it.
const kept = 40

func (r *ring) add(l line) {
	if n := len(r.lines); n > 0 {
		newest := &r.lines[(r.next+n-1)%n]
		if newest.who == l.who && newest.what == l.what && newest.more == l.more {
			newest.n++
			newest.last = l.at
			return
		}
	}
	if len(r.lines) < kept {
		r.lines = append(r.lines, l)
		return
	}
	r.lines[r.next] = l
	r.next = (r.next + 1) % kept
}

// note writes down what happened to r's owner.
func (w *world) note(r *ring, who, what string, more ...string) {
	w.lines++
	l := line{at: w.now, seq: w.lines, who: who, what: what}
	copy(l.more[:], more)
	r.add(l)
	if w.opt.Trace != nil {
		io.WriteString(w.opt.Trace, l.String()+"\n") //nolint:errcheck // a trace that cannot be written is not read either
	}
}

// told is how many lines a person is shown.
const told = 60

// story is the newest lines of all of rs, in order.
func story(rs ...*ring) []string {
	var all []line
	for _, r := range rs {
		all = append(all, r.lines...)
	}
	slices.SortFunc(all, func(a, b line) int { return int(int64(a.seq) - int64(b.seq)) })
	all = slices.CompactFunc(all, func(a, b line) bool { return a.seq == b.seq })
	if len(all) > told {
		all = all[len(all)-told:]
	}
	out := make([]string, len(all))
	for i, l := range all {
		out[i] = strings.TrimRight(l.String(), " ")
	}
	return out
}
