package control

import (
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// Reports can come late, twice and out of order, from an earlier boot, from a machine that was put back to an older
// state, and from a second machine with a copy of the certificate. One is believed only if it continues the last one
// that was believed (same boot, higher number), or proves by its echo that it was made after that one was answered.
// Any other changes nothing; its answer says "again", and names itself: whoever is there gives the name back, and that
// is the proof. So a reboot, and a restart of the control plane, cost a host one check-in more.
//
// A report can continue the last one and be late all the same: it went to another control plane, or nowhere, and comes
// the first time when its host has been silent for long. It says how long its host was up when it was made, and proofs
// name an answer that says when it was given, so a message that was on its way for longer than [LateMost] is never
// taken for news.

// LateMost is how long a report can have been on its way and still be a sign of life: an agent gives a check-in up
// after 20 s.
const LateMost = time.Minute

// line is the run of check-ins that counts for a host now. It lives in memory: a control plane that has just started
// believes nobody without an echo of its own.
type line struct {
	id   string
	boot string
	seq  uint64 // of the last report that was believed
	echo uint64 // the seq in that report's echo; 0: it had none
	at   mark   // of its answer
	// began is when the host's boot-time clock was 0, by this clock, as the fastest report of this line says: a later time
	// means that the report was on its way for so much longer. Zero: it does not say.
	began time.Time
	left  *line // the one before, as it was left
}

// turn is what hear makes of one report.
type turn struct {
	counts bool   // the report is believed
	answer answer // the name of its answer
	left   *line  // counts, and a line was left for it: that one
	legacy bool   // from an agent that does not number its reports
}

// String is the answer's name; empty for an agent that does not number its reports.
func (t turn) String() string {
	if t.legacy {
		return ""
	}
	return t.answer.String()
}

// hear puts a report in order that came at now. It is called once for each; l is the row's lineage, for what memory does
// not know.
func (c *Control) hear(rep fleet.Report, l fleet.Lineage, now time.Time) turn {
	if rep.Seq == 0 {
		return turn{counts: true, legacy: true}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers = max(c.answers+1, stamp(now))
	cur, e, m := c.lines[rep.Host], parseAnswer(rep.Answered), c.mark(c.answers)
	next := &line{boot: rep.Now.BootID, seq: rep.Seq, echo: e.seq, at: m, began: beganAt(rep, now)}
	switch {
	case cur != nil && cur.continues(rep, e) && !next.late(cur):
		next.id, next.left = cur.id, cur.left
		if cur.began.Before(next.began) && !cur.began.IsZero() {
			next.began = cur.began
		}
	case e.mark.ours(c.cfg.From) && (cur == nil || e.mark.compare(cur.at) > 0) && e.mark.age(now) <= LateMost:
		next.id = e.line
		if cur != nil && cur.id != e.line {
			left := *cur
			left.left = nil
			next.left = &left
		}
	default:
		return turn{answer: answer{m, lineFor(rep, e, cur, l, m), rep.Seq}}
	}
	c.lines[rep.Host] = next
	return turn{counts: true, answer: answer{m, next.id, rep.Seq}, left: next.left}
}

// beganAt is when a report's host booted, had the report come at once; zero: it does not say how long ago that was.
func beganAt(rep fleet.Report, now time.Time) time.Time {
	if rep.Now.Uptime <= 0 {
		return time.Time{}
	}
	return now.Add(-rep.Now.Uptime)
}

// late says whether a report of cur's line was on its way for much longer than the fastest one.
func (next *line) late(cur *line) bool {
	return !cur.began.IsZero() && !next.began.IsZero() && next.began.Sub(cur.began) > LateMost
}

// continues says whether a report directly follows the last one of this line. An agent that restarted in the same boot
// has no echo. One that has an echo either has no newer one than last time, or the answer to its last report or a later
// one: an answer that it did not have then it never got. So one that turns up with it all the same is another machine,
// with a copy of this one's memory.
func (cur *line) continues(rep fleet.Report, e answer) bool {
	if rep.Now.BootID != cur.boot || rep.Seq <= cur.seq {
		return false
	}
	return e == answer{} || e.line == cur.id && (e.seq >= cur.seq || e.seq == cur.echo)
}

// lineFor names the line of whoever made a report that is not believed yet: the one of its echo, if it can still be
// that one, the one that counts now if the agent has only restarted, else a new one.
func lineFor(rep fleet.Report, e answer, cur *line, l fleet.Lineage, m mark) string {
	last, known := lastLine(l)
	switch {
	case e.line == "":
		if cur == nil && known && last.BootID == rep.Now.BootID && rep.Seq > last.LastSeq {
			return last.ID
		}
		return m.String()
	case cur != nil && e.line == cur.id:
		return m.String() // it does not continue its own line: it was put back, or is another machine's copy
	}
	for _, one := range l.Lines {
		if one.ID == e.line && (one.BootID != rep.Now.BootID || rep.Seq <= one.LastSeq) {
			return m.String()
		}
	}
	return e.line
}

// current says whether nothing newer was believed since hear looked at the report: two of them can be on their way to
// the store at once, and only the last one may get there.
func (c *Control) current(rep fleet.Report, t turn) bool {
	if t.legacy {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cur := c.lines[rep.Host]
	return cur != nil && cur.at == t.answer.mark
}

func lastLine(l fleet.Lineage) (fleet.Line, bool) {
	if len(l.Lines) == 0 {
		return fleet.Line{}, false
	}
	return l.Lines[len(l.Lines)-1], true
}
