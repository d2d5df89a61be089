package grub

import (
	"fmt"
	"slices"
	"strings"
)

// maxNesting bounds blocks within blocks; grub-mkconfig makes three.
const maxNesting = 20

// A statement of a script, with the conditions that it stands under. Only what decides about the next boot is kept
// apart: functions are left out, loops are read as if they ran once.
type statement struct {
	words []string
	// under lists the conditions, outermost first: the words after if or elif.
	under []branch
	// header and body are the source of a menuentry's or submenu's parts: words up to the brace, and what is between the braces.
	header, body string
	block        []statement // a menuentry's or submenu's statements
}

type branch struct {
	cond     string
	isElse   bool // the else of an if: cond is the last one before it
	elifSeen bool
}

// parseScript reads src as far as this package needs it.
func parseScript(src string) ([]statement, error) {
	ts, err := lex(src)
	if err != nil {
		return nil, err
	}
	p := &parser{src: src, ts: ts}
	cs, err := p.statements(0)
	if err != nil {
		return nil, err
	}
	if p.at < len(p.ts) {
		return nil, fmt.Errorf("line %d: a } that closes nothing", lineOf(src, p.ts[p.at].from))
	}
	return cs, nil
}

type parser struct {
	src string
	ts  []token
	at  int
}

// statements reads until the end or a closing brace, which it leaves.
func (p *parser) statements(depth int) ([]statement, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("line %d: blocks are nested deeper than %d", lineOf(p.src, p.ts[p.at].from), maxNesting)
	}
	var cs []statement
	var under []branch
	for p.at < len(p.ts) && p.ts[p.at].sep != '}' {
		if p.ts[p.at].sep == '{' {
			return nil, fmt.Errorf("line %d: a { that opens nothing known", lineOf(p.src, p.ts[p.at].from))
		}
		first, words := p.line()
		before := slices.Clone(under)
		words, isCond, ok := keywords(words, &under)
		if !ok {
			return nil, fmt.Errorf("line %d: %s without if", lineOf(p.src, first), words[0])
		}
		if len(words) == 0 {
			continue
		}
		c := statement{words: words, under: slices.Clone(under)}
		if isCond { // a condition is a command too: if linux …
			c.under = before
		}
		if p.at < len(p.ts) && p.ts[p.at].sep == '{' {
			if err := p.blockOf(&c, first, depth); err != nil {
				return nil, err
			}
			if words[0] == "function" {
				continue
			}
		}
		cs = append(cs, c)
	}
	if len(under) > 0 {
		return nil, fmt.Errorf("an if (%s) has no fi", under[len(under)-1].cond)
	}
	return cs, nil
}

// keywords takes off what stands before a command on the same line ("then insmod x") and keeps under up to date. It
// is not ok when the first word that is left closes what was not opened.
func keywords(words []string, under *[]branch) (rest []string, isCond, ok bool) {
	for len(words) > 0 {
		last := len(*under) - 1
		switch words[0] {
		case "if":
			*under = append(*under, branch{cond: strings.Join(words[1:], " ")})
			return words[1:], true, true
		case "elif", "else", "fi":
			switch {
			case last < 0:
				return words, false, false
			case words[0] == "elif":
				(*under)[last] = branch{cond: strings.Join(words[1:], " "), elifSeen: true}
				return words[1:], true, true
			case words[0] == "else":
				(*under)[last].isElse = true
			default:
				*under = (*under)[:last]
			}
		case "for", "while", "until":
			return nil, false, true
		case "then", "do", "done":
		default:
			return words, false, true
		}
		words = words[1:]
	}
	return nil, false, true
}

// line takes words up to a separator. It stops before a brace and swallows any other separator.
func (p *parser) line() (from int, words []string) {
	from = p.ts[p.at].from
	for p.at < len(p.ts) {
		switch t := p.ts[p.at]; t.sep {
		case 0:
			words = append(words, t.text)
		case '{', '}':
			return from, words
		default:
			p.at++
			return from, words
		}
		p.at++
	}
	return from, words
}

// blockOf reads the { … } that follows c's words.
func (p *parser) blockOf(c *statement, from, depth int) error {
	open := p.ts[p.at]
	p.at++
	block, err := p.statements(depth + 1)
	if err != nil {
		return err
	}
	if p.at >= len(p.ts) {
		return fmt.Errorf("line %d: the { of %s is not closed", lineOf(p.src, open.from), c.words[0])
	}
	c.header, c.body, c.block = p.src[from:open.from], p.src[open.to:p.ts[p.at].from], block
	p.at++
	return nil
}
