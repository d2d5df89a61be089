package control

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// mark orders the answers of all control planes that a fleet ever had: by incarnation, term, and then one after another,
// by numbers that also say when: n is the [stamp] of the answer, or one more than the answer's before.
type mark struct{ inc, term, n uint64 }

func (m mark) compare(o mark) int {
	return cmp.Or(cmp.Compare(m.inc, o.inc), cmp.Compare(m.term, o.term), cmp.Compare(m.n, o.n))
}

// stamp is the lowest number of an answer that is given at now: milliseconds since 1970.
func stamp(now time.Time) uint64 { return uint64(max(now.UnixMilli(), 0)) }

// age is how long ago m was given, to a millisecond; negative if a clock went back since.
func (m mark) age(now time.Time) time.Duration {
	return now.Sub(time.UnixMilli(int64(min(m.n, math.MaxInt64))))
}

func (m mark) String() string { return string(m.appendTo(nil)) }

func (m mark) appendTo(b []byte) []byte {
	b = append(strconv.AppendUint(b, m.inc, 10), '.')
	b = append(strconv.AppendUint(b, m.term, 10), '.')
	return strconv.AppendUint(b, m.n, 10)
}

// answer is what fleet.Desired.Answer says: which answer, to which report of which line. A host gives it back as it is.
// It needs no signature: a host that forges one can only deceive about itself.
type answer struct {
	mark mark
	line string
	seq  uint64 // of the report that it answered
}

func (a answer) String() string {
	b := append(a.mark.appendTo(make([]byte, 0, 64)), '/')
	b = append(append(b, a.line...), '/')
	return string(strconv.AppendUint(b, a.seq, 10))
}

// maxAnswer bounds what is read of an echo: six numbers of at most twenty digits.
const maxAnswer = 160

// parseAnswer reads an echo. What is not one of ours counts as none: the zero value.
func parseAnswer(s string) answer {
	m, rest, ok := strings.Cut(s, "/")
	line, seq, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 || len(s) > maxAnswer {
		return answer{}
	}
	var a answer
	if a.mark, ok = parseMark(m); !ok {
		return answer{}
	}
	if _, ok := parseMark(line); !ok {
		return answer{}
	}
	a.line = line
	if a.seq, ok = number(seq); !ok {
		return answer{}
	}
	return a
}

func parseMark(s string) (m mark, ok bool) {
	inc, rest, _ := strings.Cut(s, ".")
	term, n, _ := strings.Cut(rest, ".")
	var ok1, ok2, ok3 bool
	m.inc, ok1 = number(inc)
	m.term, ok2 = number(term)
	m.n, ok3 = number(n)
	if !ok1 || !ok2 || !ok3 {
		return mark{}, false
	}
	return m, true
}

// number reads a number only as we print it, so that equal ones are equal as text.
func number(s string) (uint64, bool) {
	if len(s) == 0 || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

func (c *Control) mark(n uint64) mark {
	return mark{c.cfg.From.Incarnation, c.cfg.From.Term, n}
}

// ours says whether this very control plane gave m.
func (m mark) ours(from fleet.Incarnation) bool {
	return m.inc == from.Incarnation && m.term == from.Term && m.n > 0
}
