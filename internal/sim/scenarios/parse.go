package scenarios

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/kernwave/kernwave/internal/sim"
)

// Bounds of a file. The parser's time grows with the square of some documents, and it is recursive.
const (
	// MaxBytes is the longest file that is read: a scenario of five hundred faults, each on a line.
	MaxBytes = 32 << 10
	maxDepth = 16 // ours are five deep
)

// Mistakes is what is wrong with a file, in the order of its lines.
type Mistakes struct {
	File string
	List []Mistake
}

// Mistake is one of them.
type Mistake struct {
	Line int    `json:"line,omitempty"` // from 1; 0: the file as a whole
	Path string `json:"path,omitempty"` // the key, such as fleet.types[2].hosts; list items count from 0
	Why  string `json:"why"`
}

func (m *Mistakes) Error() string {
	lines := make([]string, len(m.List))
	for i, x := range m.List {
		lines[i] = x.In(m.File)
	}
	return strings.Join(lines, "\n")
}

// In prints a mistake with its place: FILE:LINE: path: why.
func (m Mistake) In(file string) string {
	place := file
	if m.Line > 0 {
		place = fmt.Sprintf("%s:%d", file, m.Line)
	}
	if m.Path == "" {
		return place + ": " + m.Why
	}
	return place + ": " + m.Path + ": " + m.Why
}

// Parse reads one scenario. The error is a [*Mistakes] with everything that is wrong: unknown keys, wrong types,
// duplicates, and what [sim.Scenario.Validate] says, at its line.
func Parse(file string, data []byte) (sim.Scenario, error) {
	d := &decoder{lines: map[string]int{}}
	s := d.scenario(data)
	if d.root {
		d.validate(s)
	}
	if len(d.mistakes) == 0 {
		return s, nil
	}
	slices.SortStableFunc(d.mistakes, func(a, b Mistake) int { return a.Line - b.Line })
	return sim.Scenario{}, &Mistakes{file, d.mistakes}
}

func (d *decoder) scenario(data []byte) (s sim.Scenario) {
	body, why := root(data)
	if why != nil {
		d.mistakes = append(d.mistakes, *why)
		return s
	}
	switch body.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		d.root = true
	}
	d.into(body, "", &s)
	return s
}

// root finds the one mapping that a file consists of.
func root(data []byte) (ast.Node, *Mistake) {
	if len(data) > MaxBytes {
		return nil, &Mistake{Why: fmt.Sprintf("the file is larger than %d KiB, which is more than is read", MaxBytes>>10)}
	}
	if line := badText(data); line > 0 {
		return nil, &Mistake{Line: line, Why: "is no UTF-8 text"}
	}
	if line := tooDeep(data); line > 0 {
		return nil, &Mistake{Line: line, Why: "is nested too deep for a scenario"}
	}
	f, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey()) // duplicates are reported with the rest
	if err != nil {
		var ye yaml.Error
		if errors.As(err, &ye) && ye.GetToken() != nil && ye.GetToken().Position != nil {
			return nil, &Mistake{Line: ye.GetToken().Position.Line, Why: "is no YAML: " + oneLine(ye.GetMessage())}
		}
		return nil, &Mistake{Why: "is no YAML: " + oneLine(err.Error())}
	}
	var bodies []ast.Node
	for _, d := range f.Docs {
		if d != nil && d.Body != nil && d.Body.Type() != ast.NullType && d.Body.Type() != ast.CommentType {
			bodies = append(bodies, d.Body)
		}
	}
	switch {
	case len(bodies) == 0:
		return nil, &Mistake{Line: 1, Why: `is empty: a scenario has a name, a fleet and rollouts; "kernwave sim show healthy" prints one`}
	case len(bodies) > 1:
		return nil, &Mistake{Line: lineOf(bodies[1]), Why: "begins a second document: a file holds one scenario"}
	}
	return bodies[0], nil
}

// validate adds what only the whole can show, but nothing about a key that could not be read.
func (d *decoder) validate(s sim.Scenario) {
	err := s.Validate()
	if err == nil {
		return
	}
	all := []error{err}
	if j, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // errors.Join has no other way in
		all = j.Unwrap()
	}
	unread := slices.Clone(d.mistakes)
	for _, e := range all {
		m, ok := errors.AsType[*sim.Mistake](e)
		if !ok {
			d.add(1, "", "%s", e)
			continue
		}
		if !slices.ContainsFunc(unread, func(u Mistake) bool {
			return within(m.Path, u.Path) || within(u.Path, m.Path) || within(m.Path, d.meant[u.Path])
		}) {
			d.add(d.lineFor(m.Path), m.Path, "%s", m.Why)
		}
	}
}

// within says whether path is outer, or inside it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && outer != "" && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// lineFor is the line of a key or, where it is missing, of what it would stand in.
func (d *decoder) lineFor(path string) int {
	for path != "" {
		if l, ok := d.lines[path]; ok {
			return l
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return max(d.lines[""], 1)
}

// badText is the first line that is no UTF-8. 0: there is none.
func badText(data []byte) int {
	for i, line := range bytes.Split(data, []byte("\n")) {
		if !utf8.Valid(line) {
			return i + 1
		}
	}
	return 0
}

// tooDeep bounds what a recursive parser is fed, flow brackets and indentation, and gives the line. 0: all is well.
func tooDeep(data []byte) int {
	depth := 0
	for i, line := range bytes.Split(data, []byte("\n")) {
		indent := len(line) - len(bytes.TrimLeft(line, " -?:"))
		depth += bytes.Count(line, []byte("[")) + bytes.Count(line, []byte("{"))
		opened := depth
		depth -= bytes.Count(line, []byte("]")) + bytes.Count(line, []byte("}"))
		depth = max(depth, 0)
		if depth > maxDepth || opened > 8*maxDepth || indent > 8*maxDepth {
			return i + 1
		}
	}
	return 0
}

func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1
	}
	// The token of a block of keys is its first colon; a value that begins a line later is where its key is looked for.
	return n.GetToken().Position.Line
}

// oneLine is what the YAML library says, on one line and without characters that nobody sees.
func oneLine(s string) string {
	s = strings.ReplaceAll(s, "character '\t' that cannot start any token", "a tab: YAML is indented with spaces")
	return strings.Join(strings.Fields(s), " ")
}

// quoted says whether a scalar stands in quotes.
func quoted(t *token.Token) bool {
	return t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType
}
