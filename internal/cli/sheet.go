package cli

import (
	"io"
	"strings"

	"charm.land/lipgloss/v2"
)

// sheet is a list of names and values, aligned: what is known about one thing.
type sheet struct{ lines []sheetLine }

type sheetLine struct{ name, value string }

// line adds a value and, in brackets, what belongs to it. Without a value it adds nothing.
func (s *sheet) line(name, value string, extra ...string) {
	for _, e := range extra {
		switch {
		case e == "":
		case value == "":
			value = e
		default:
			value += " (" + e + ")"
		}
	}
	if value != "" {
		s.lines = append(s.lines, sheetLine{name, value})
	}
}

// gap adds an empty line, unless nothing stands above it.
func (s *sheet) gap() {
	if n := len(s.lines); n > 0 && s.lines[n-1].name != "" {
		s.lines = append(s.lines, sheetLine{})
	}
}

// print wraps long values under themselves where width is not 0.
func (s *sheet) print(w io.Writer, p palette, _ glyphs, width int) error {
	names := 0
	for _, l := range s.lines {
		names = max(names, lipgloss.Width(l.name))
	}
	var b strings.Builder
	for _, l := range s.lines {
		if l.name == "" {
			b.WriteByte('\n')
			continue
		}
		b.WriteString(p.faint(l.name) + strings.Repeat(" ", names-lipgloss.Width(l.name)+2))
		for i, part := range wrap(l.value, width-names-2) {
			if i > 0 {
				b.WriteString(strings.Repeat(" ", names+2))
			}
			b.WriteString(part + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// leastWrap is the width below which wrapping makes nothing more readable.
const leastWrap = 24

// wrap breaks s between words into lines of at most width columns; a longer word stays whole, to be copied.
func wrap(s string, width int) []string {
	if width < leastWrap || lipgloss.Width(s) <= width && !strings.Contains(s, "\n") {
		return []string{s}
	}
	var lines []string
	line := ""
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ' ' || r == '\n' }) {
		switch {
		case line == "":
			line = word
		case lipgloss.Width(line)+1+lipgloss.Width(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
