package script

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// reader walks the file and collects mistakes instead of stopping at the first.
type reader struct{ found []finding }

type finding struct {
	line int
	text string
}

func (r *reader) bad(line int, format string, args ...any) {
	r.found = append(r.found, finding{line, fmt.Sprintf(format, args...)})
}

func lineOf(n ast.Node) int {
	if n == nil || n.GetToken() == nil {
		return 1
	}
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 { // its own token is a colon, lines below in nested maps
		return m.Values[0].Key.GetToken().Position.Line
	}
	return n.GetToken().Position.Line
}

// fields returns a mapping's values by key, and reports keys that are unknown or come twice.
func (r *reader) fields(n ast.Node, what string, known ...string) map[string]ast.Node {
	out := map[string]ast.Node{}
	var values []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		values = m.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{m}
	default:
		r.bad(lineOf(n), "%s: keys and values are wanted here", what)
		return out
	}
	for _, v := range values {
		key := v.Key.GetToken().Value
		line := v.Key.GetToken().Position.Line
		switch {
		case !slices.Contains(known, key):
			r.bad(line, "%s has no %q; it has %s", what, key, strings.Join(known, ", "))
		case out[key] != nil:
			r.bad(line, "%s: %s is there twice", what, key)
		default:
			out[key] = v.Value
		}
	}
	return out
}

func (r *reader) list(n ast.Node, what string) []ast.Node {
	if n == nil {
		return nil
	}
	if _, ok := n.(*ast.NullNode); ok {
		return nil
	}
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		r.bad(lineOf(n), "%s: a list is wanted here", what)
		return nil
	}
	return s.Values
}

// scalar is a value's text, whatever YAML takes it for.
func (r *reader) scalar(n ast.Node, what string) string {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value
	case *ast.LiteralNode:
		return v.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value
	case *ast.NullNode:
		return ""
	case *ast.SequenceNode:
		if what == "setup" {
			return ""
		}
	}
	r.bad(lineOf(n), "%s: a text or a number is wanted here", what)
	return ""
}

func (r *reader) text(f map[string]ast.Node, key string, must bool) string {
	n := f[key]
	if n == nil {
		if must {
			r.bad(firstLine(f), "%s is missing", key)
		}
		return ""
	}
	s := strings.TrimSpace(r.scalar(n, key))
	if must && s == "" {
		r.bad(lineOf(n), "%s is empty", key)
	}
	return s
}

func firstLine(f map[string]ast.Node) int {
	lines := []int{}
	for _, n := range f {
		lines = append(lines, lineOf(n))
	}
	if len(lines) == 0 {
		return 1
	}
	return slices.Min(lines)
}

func (r *reader) integer(n ast.Node, what string) (int, bool) {
	v, err := strconv.Atoi(strings.ReplaceAll(r.scalar(n, what), "_", ""))
	if err != nil {
		r.bad(lineOf(n), "%s: a whole number is wanted here", what)
	}
	return v, err == nil
}
