package control

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/kernwave/kernwave/fleet"
)

// mark orders the answers of all control planes that a fleet ever had: by incarnation, term, and then one after another.
type mark struct{ inc, term, n uint64 }

func (m mark) compare(o mark) int {
	return cmp.Or(cmp.Compare(m.inc, o.inc), cmp.Compare(m.term, o.term), cmp.Compare(m.n, o.n))
}

func (m mark) String() string { return fmt.Sprintf("%d.%d.%d", m.inc, m.term, m.n) }

// answer is what fleet.Desired.Answer says: which answer, to which report of which line. A host gives it back as it is.
// It needs no signature: a host that forges one can only deceive about itself.
type answer struct {
	mark mark
	line string
	seq  uint64 // of the report that it answered
}

func (a answer) String() string { return fmt.Sprintf("%s/%s/%d", a.mark, a.line, a.seq) }

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
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return m, false
	}
	for i, v := range []*uint64{&m.inc, &m.term, &m.n} {
		if *v, ok = number(parts[i]); !ok {
			return mark{}, false
		}
	}
	return m, true
}

// number reads a number only as we print it, so that equal ones are equal as text.
func number(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && strconv.FormatUint(n, 10) == s
}

func (c *Control) mark(n uint64) mark {
	return mark{c.cfg.From.Incarnation, c.cfg.From.Term, n}
}

// ours says whether this very control plane gave m.
func (m mark) ours(from fleet.Incarnation) bool {
	return m.inc == from.Incarnation && m.term == from.Term && m.n > 0
}
