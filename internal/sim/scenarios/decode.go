package scenarios

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/kernwave/kernwave/internal/near"
)

// decoder fills a struct from a document after the yaml names of its fields, and goes on after each mistake.
type decoder struct {
	root     bool           // the document has keys at its top
	lines    map[string]int // of each key and list item, by path
	mistakes []Mistake
	meant    map[string]string // an unknown key's path to that of the one it was probably meant to be
}

func (d *decoder) add(line int, path, format string, args ...any) {
	d.mistakes = append(d.mistakes, Mistake{line, path, fmt.Sprintf(format, args...)})
}

// into decodes n, which stands at path, into what to points to.
func (d *decoder) into(n ast.Node, path string, to any) { d.value(n, path, reflect.ValueOf(to).Elem()) }

var durationType = reflect.TypeFor[time.Duration]()

func (d *decoder) value(n ast.Node, path string, v reflect.Value) {
	line := lineOf(n)
	if _, known := d.lines[path]; !known {
		d.lines[path] = line
	}
	switch {
	case n == nil || n.Type() == ast.NullType:
		d.add(d.lines[path], path, "has no value: give it one, or leave the key out")
		return
	case n.Type() == ast.AliasType, n.Type() == ast.AnchorType, n.Type() == ast.TagType, n.Type() == ast.MergeKeyType:
		d.add(line, path, "is an alias, anchor or tag, which are not read here: write the value out")
		return
	}
	switch {
	case v.Type() == durationType:
		d.duration(n, path, v)
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		d.value(n, path, p.Elem())
		v.Set(p)
	case v.Kind() == reflect.Struct:
		d.mapping(n, path, v)
	case v.Kind() == reflect.Slice:
		d.sequence(n, path, v)
	case v.Kind() == reflect.String:
		d.text(n, path, v)
	case v.Kind() == reflect.Int:
		d.number(n, path, v)
	case v.Kind() == reflect.Float64:
		d.share(n, path, v)
	case v.Kind() == reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.wrong(n, path, "true or false")
			return
		}
		v.SetBool(b.Value)
	default:
		panic(fmt.Sprintf("scenarios: no way to read a %s (%s)", v.Type(), path)) // a new type of field
	}
}

// wrong says that a value is of the wrong kind.
func (d *decoder) wrong(n ast.Node, path, want string) {
	d.add(lineOf(n), path, "must be %s, not %s", want, kindOf(n))
}

// keyName is the YAML name of a field.
func keyName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

func (d *decoder) mapping(n ast.Node, path string, v reflect.Value) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		d.wrong(n, path, "keys with values")
		return
	}
	fields := map[string]int{}
	var known []string
	for i := range v.NumField() {
		name := keyName(v.Type().Field(i))
		fields[name] = i
		known = append(known, name)
	}
	seen := map[string]int{}
	for _, p := range pairs {
		line := p.Key.GetToken().Position.Line
		kn, isText := p.Key.(*ast.StringNode)
		if !isText {
			d.add(line, path, "a key must be plain text: one of %s", strings.Join(known, ", "))
			continue
		}
		at := join(path, kn.Value)
		if first, twice := seen[kn.Value]; twice {
			d.add(line, at, "is there twice, first in line %d: keep one", first)
			continue
		}
		seen[kn.Value] = line
		i, ok := fields[kn.Value]
		if !ok {
			d.unknown(line, path, at, kn.Value, known)
			continue
		}
		d.lines[at] = line
		d.value(p.Value, at, v.Field(i))
	}
}

func (d *decoder) unknown(line int, path, at, key string, known []string) {
	hint := ""
	if names := near.Names(key, known); len(names) > 0 {
		hint = "did you mean " + strings.Join(names, " or ") + "? "
		if d.meant == nil {
			d.meant = map[string]string{}
		}
		d.meant[at] = join(path, names[0])
	}
	d.add(line, at, "is not known: %sknown here: %s", hint, strings.Join(known, ", "))
}

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)

// join adds a key to a path; one that could not be read there is quoted.
func join(path, key string) string {
	if !plainKey.MatchString(key) {
		key = strconv.Quote(shorten(key))
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func (d *decoder) sequence(n ast.Node, path string, v reflect.Value) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.wrong(n, path, "a list")
		return
	}
	if len(seq.Values) == 0 {
		return // as if it were not there
	}
	list := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		d.value(item, fmt.Sprintf("%s[%d]", path, i), list.Index(i))
	}
	v.Set(list)
}

func (d *decoder) text(n ast.Node, path string, v reflect.Value) {
	switch n := n.(type) {
	case *ast.StringNode:
		v.SetString(n.Value)
	case *ast.LiteralNode:
		v.SetString(n.Value.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		d.add(lineOf(n), path, "must be text, not %s: in quotes it is text", kindOf(n))
	default:
		d.wrong(n, path, "text")
	}
}

var (
	wholeNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	anyNumber   = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
)

// bare is a scalar without quotes, as it is written.
func bare(n ast.Node) (string, bool) {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, !quoted(n.GetToken())
	}
	return "", false
}

func (d *decoder) number(n ast.Node, path string, v reflect.Value) {
	s, ok := bare(n)
	if !ok || !wholeNumber.MatchString(s) {
		d.wrong(n, path, "a whole number, such as 20")
		return
	}
	i, err := strconv.Atoi(s)
	if err != nil {
		d.add(lineOf(n), path, "%s is too large", s)
		return
	}
	v.SetInt(int64(i))
}

func (d *decoder) share(n ast.Node, path string, v reflect.Value) {
	s, ok := bare(n)
	if !ok || !anyNumber.MatchString(s) {
		d.wrong(n, path, "a number from 0 to 1, such as 0.05")
		return
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		d.add(lineOf(n), path, "%s is too large: a share from 0 to 1, such as 0.05", s)
		return
	}
	if f == 0 {
		f = 0 // -0 is none
	}
	v.SetFloat(f)
}

func (d *decoder) duration(n ast.Node, path string, v reflect.Value) {
	const like = "write it like 90s, 15m or 36h"
	s, ok := bare(n)
	if text, isText := n.(*ast.StringNode); isText {
		s, ok = text.Value, true
	}
	if !ok {
		d.wrong(n, path, "a time, such as 90s, 15m or 36h")
		return
	}
	t, err := time.ParseDuration(s)
	switch {
	case err == nil:
		v.SetInt(int64(t))
	case anyNumber.MatchString(s):
		d.add(lineOf(n), path, "%s has no unit: %s", s, like)
	case strings.HasSuffix(s, "d"):
		d.add(lineOf(n), path, "%q is no time: there are hours, but no days; %s", shorten(s), like)
	default:
		d.add(lineOf(n), path, "%q is no time, or too long: %s", shorten(s), like)
	}
}

func kindOf(n ast.Node) string {
	switch n := n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys with values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.LiteralNode:
		return "a text of several lines"
	case *ast.StringNode:
		if quoted(n.GetToken()) {
			return "the text " + strconv.Quote(shorten(n.Value))
		}
		return strconv.Quote(shorten(n.Value))
	}
	return shorten(n.GetToken().Value)
}

// shorten keeps a value that was typed by mistake from filling the screen.
func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}
