// Package conf reads small YAML files so strictly that a typo cannot hide, and
// reports every mistake at once, each with its file and line.
//
//	doc := conf.Parse("agent.yaml", data)
//	cfg.Server = doc.String("server")
//	cfg.Labels = doc.Table("labels")
//	return doc.Err() // unknown keys are among the mistakes
package conf

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxBytes bounds a file; maxDepth its nesting. Ours are a screen long and three deep. The parser's time grows with
// the square of some documents: at this size they take a second, at eight times it a minute.
const (
	maxBytes = 32 << 10
	maxDepth = 16
)

// Map is one mapping of a document. Reading a key that is missing gives the zero value and is no mistake.
type Map struct {
	doc    *document
	line   int
	keys   []string // in the order of the file
	values map[string]value
	known  []string
}

type value struct {
	line int
	node ast.Node
}

// document collects the mistakes of one file.
type document struct {
	file     string
	mistakes []mistake
	maps     []*Map
}

type mistake struct {
	line int
	text string
}

// Parse reads one document, whose top is a mapping; an empty one is an empty mapping. What is wrong comes from [Map.Err].
func Parse(file string, data []byte) *Map {
	doc := &document{file: file}
	if len(data) > maxBytes {
		doc.add(0, "%d bytes, at most %d are read", len(data), maxBytes)
		return doc.newMap(0)
	}
	if why := tooDeep(data); why != "" {
		doc.add(0, "%s", why)
		return doc.newMap(0)
	}
	f, err := parser.ParseBytes(data, 0)
	if err != nil {
		var ye yaml.Error
		if errors.As(err, &ye) && ye.GetToken() != nil {
			doc.add(ye.GetToken().Position.Line, "%s", ye.GetMessage())
		} else {
			doc.add(0, "%s", strings.TrimSpace(err.Error()))
		}
		return doc.newMap(0)
	}
	var bodies []ast.Node
	for _, d := range f.Docs {
		if d != nil && d.Body != nil && d.Body.Type() != ast.NullType && d.Body.Type() != ast.CommentType {
			bodies = append(bodies, d.Body)
		}
	}
	switch {
	case len(bodies) == 0:
		return doc.newMap(0)
	case len(bodies) > 1:
		doc.add(lineOf(bodies[1]), "a second document: put everything into one")
	}
	return doc.mapping("the file", bodies[0])
}

// tooDeep bounds what a recursive parser is fed: flow brackets and indentation.
func tooDeep(data []byte) string {
	depth := 0
	for i, line := range bytes.Split(data, []byte("\n")) {
		indent := len(line) - len(bytes.TrimLeft(line, " -?:"))
		depth += bytes.Count(line, []byte("[")) + bytes.Count(line, []byte("{"))
		depth -= bytes.Count(line, []byte("]")) + bytes.Count(line, []byte("}"))
		depth = max(depth, 0)
		if depth > 4*maxDepth || indent > 16*maxDepth || bytes.Count(line, []byte("[")) > 4*maxDepth {
			return fmt.Sprintf("line %d is nested too deep", i+1)
		}
	}
	return ""
}

// Err joins every mistake in the document, unknown keys included, in the order of the lines. Nil: there is none.
func (m *Map) Err() error {
	d := m.doc
	for _, m := range d.maps {
		for _, k := range m.keys {
			if !slices.Contains(m.known, k) {
				d.add(m.values[k].line, "unknown key %q; known here: %s", k, strings.Join(m.known, ", "))
			}
		}
		m.keys = nil // told once
	}
	slices.SortStableFunc(d.mistakes, func(a, b mistake) int { return a.line - b.line })
	var errs []error
	for _, w := range d.mistakes {
		if w.line > 0 {
			errs = append(errs, fmt.Errorf("%s:%d: %s", d.file, w.line, w.text))
		} else {
			errs = append(errs, fmt.Errorf("%s: %s", d.file, w.text))
		}
	}
	return errors.Join(errs...)
}

// Mistake adds one that only the caller can see, at the line of key.
func (m *Map) Mistake(key, format string, args ...any) {
	line := m.line
	if v, ok := m.values[key]; ok {
		line = v.line
	}
	m.doc.add(line, key+": "+format, args...)
}

// Has says whether key is there and not null.
func (m *Map) Has(key string) bool {
	v, ok := m.look(key)
	return ok && v.node != nil && v.node.Type() != ast.NullType
}

// String reads a scalar as it is written: 08, yes and 1.10 stay what they are.
func (m *Map) String(key string) string {
	if !m.Has(key) {
		return ""
	}
	s, ok := scalar(m.values[key].node)
	if !ok {
		m.Mistake(key, "must be text, not %s", kindOf(m.values[key].node))
	}
	return s
}

// Duration reads a Go duration: 30s, 5m.
func (m *Map) Duration(key string) time.Duration {
	s := m.String(key)
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		m.Mistake(key, "%q is no duration; write it like 30s or 5m", s)
	}
	return d
}

// Strings reads a list of texts.
func (m *Map) Strings(key string) []string {
	if !m.Has(key) {
		return nil
	}
	seq, ok := m.values[key].node.(*ast.SequenceNode)
	if !ok {
		m.Mistake(key, "must be a list, like [one, two]; not %s", kindOf(m.values[key].node))
		return nil
	}
	var out []string
	for _, n := range seq.Values {
		s, ok := scalar(n)
		if !ok {
			m.doc.add(lineOf(n), "%s: must be a list of texts, holds %s", key, kindOf(n))
			continue
		}
		out = append(out, s)
	}
	return out
}

// Map reads a mapping whose keys the caller knows.
func (m *Map) Map(key string) *Map {
	if !m.Has(key) {
		return m.doc.newMap(m.line)
	}
	return m.doc.mapping(key, m.values[key].node)
}

// Table reads a mapping of any keys to texts.
func (m *Map) Table(key string) map[string]string {
	if !m.Has(key) {
		return nil
	}
	sub := m.Map(key)
	if len(sub.keys) == 0 {
		return nil
	}
	out := make(map[string]string, len(sub.keys))
	for _, k := range sub.keys {
		out[k] = sub.String(k)
	}
	return out
}

func (m *Map) look(key string) (value, bool) {
	if !slices.Contains(m.known, key) {
		m.known = append(m.known, key)
	}
	v, ok := m.values[key]
	return v, ok
}

func (d *document) add(line int, format string, args ...any) {
	d.mistakes = append(d.mistakes, mistake{line, fmt.Sprintf(format, args...)})
}

func (d *document) newMap(line int) *Map {
	m := &Map{doc: d, line: line, values: map[string]value{}}
	d.maps = append(d.maps, m)
	return m
}

func (d *document) mapping(what string, n ast.Node) *Map {
	m := d.newMap(lineOf(n))
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		d.add(lineOf(n), "%s must be keys with values, not %s", what, kindOf(n))
	}
	for _, p := range pairs {
		key, ok := "", false
		if kn, isNode := p.Key.(ast.Node); isNode {
			key, ok = scalar(kn)
		}
		if !ok {
			d.add(lineOf(p), "a key must be plain text")
			continue
		}
		line := p.Key.GetToken().Position.Line
		if _, twice := m.values[key]; twice {
			d.add(line, "key %q is there twice", key)
			continue
		}
		m.keys = append(m.keys, key)
		m.values[key] = value{line, p.Value}
	}
	return m
}

func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func kindOf(n ast.Node) string {
	if n == nil {
		return "nothing"
	}
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "keys with values"
	case ast.SequenceType:
		return "a list"
	case ast.NullType:
		return "nothing"
	case ast.AliasType, ast.AnchorType, ast.TagType, ast.MergeKeyType:
		return "an alias, anchor or tag, which are not read here"
	}
	return "a single value"
}

func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0
	}
	return n.GetToken().Position.Line
}
