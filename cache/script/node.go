package script

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"

	"github.com/kernwave/kernwave/cache"
	"go.starlark.net/starlark"
)

// node is a node as a program sees it: what it is, and three ways to ask it something.
type node struct {
	p     *program
	index string
	about cache.Value // a map
}

func (n *node) String() string        { return n.about.Get("addr").Str }
func (n *node) Type() string          { return "node" }
func (n *node) Freeze()               {}
func (n *node) Truth() starlark.Bool  { return true }
func (n *node) Hash() (uint32, error) { return starlark.String(n.index).Hash() }

// AttrNames are the node's facts and methods.
func (n *node) AttrNames() []string {
	names := []string{"pipe", "read", "scan"}
	for i := 0; i+1 < len(n.about.Items); i += 2 {
		names = append(names, n.about.Items[i].Str)
	}
	slices.Sort(names)
	return names
}

// Attr is one of them.
func (n *node) Attr(name string) (starlark.Value, error) {
	switch name {
	case "read":
		return starlark.NewBuiltin("read", n.read), nil
	case "pipe":
		return starlark.NewBuiltin("pipe", n.pipe), nil
	case "scan":
		return starlark.NewBuiltin("scan", n.scan), nil
	}
	for i := 0; i+1 < len(n.about.Items); i += 2 {
		if n.about.Items[i].Str == name {
			return fromValue(n.about.Items[i+1]), nil
		}
	}
	return nil, nil
}

func word(v starlark.Value) (string, error) {
	switch v := v.(type) {
	case starlark.String:
		return string(v), nil
	case starlark.Bytes:
		return string(v), nil
	case starlark.Int:
		return v.String(), nil
	}
	return "", fmt.Errorf("a word of a command is a string or a number, not %s", v.Type())
}

func words(it starlark.Iterable) ([]string, error) {
	var out []string
	iter := it.Iterate()
	defer iter.Done()
	var v starlark.Value
	for iter.Next(&v) {
		w, err := word(v)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}

// read is node.read("TTL", key): one command, its answer. An error of Redis ends the program.
func (n *node) read(_ *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kw []starlark.Tuple) (starlark.Value, error) {
	if len(kw) > 0 || len(args) == 0 {
		return nil, errors.New(`read: give the words of a command: node.read("TTL", key)`)
	}
	ws, err := words(args)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	v, err := n.p.ask(append([]string{"READ", n.index, "1", strconv.Itoa(len(ws))}, ws...)...)
	if err != nil {
		return nil, err
	}
	if v = v.Items[0]; v.Kind == cache.Err {
		return nil, fmt.Errorf("read: %s: %s", ws[0], v.Str)
	}
	return fromValue(v), nil
}

// pipe is node.pipe([["TTL", k] for k in keys]): many commands in one go. None stands where Redis answered with an error.
func (n *node) pipe(_ *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kw []starlark.Tuple) (starlark.Value, error) {
	var list starlark.Iterable
	if err := starlark.UnpackArgs(b.Name(), args, kw, "commands", &list); err != nil {
		return nil, err
	}
	req := []string{"READ", n.index, ""}
	count := 0
	iter := list.Iterate()
	defer iter.Done()
	var v starlark.Value
	for iter.Next(&v) {
		it, ok := v.(starlark.Iterable)
		if !ok {
			return nil, fmt.Errorf("pipe: a command is a list of words, not %s", v.Type())
		}
		ws, err := words(it)
		if err != nil {
			return nil, fmt.Errorf("pipe: %w", err)
		}
		req = append(append(req, strconv.Itoa(len(ws))), ws...)
		count++
	}
	if count == 0 {
		return starlark.NewList(nil), nil
	}
	if count > maxPipe {
		return nil, fmt.Errorf("pipe: %d commands at once, at most %d", count, maxPipe)
	}
	req[2] = strconv.Itoa(count)
	got, err := n.p.ask(req...)
	if err != nil {
		return nil, err
	}
	out := make([]starlark.Value, len(got.Items))
	for i, v := range got.Items {
		out[i] = fromValue(v)
	}
	return starlark.NewList(out), nil
}

// scan is node.scan(match = "user:*"): its keys, page by page, each at least once.
func (n *node) scan(t *starlark.Thread, b *starlark.Builtin, args starlark.Tuple, kw []starlark.Tuple) (starlark.Value, error) {
	match := "*"
	if err := starlark.UnpackArgs(b.Name(), args, kw, "match?", &match); err != nil {
		return nil, err
	}
	return &pages{n: n, thread: t, match: match}, nil
}

// pages iterates over the pages of keys of a scan: lists of keys, so that a program can ask about a page in one go.
type pages struct {
	n      *node
	thread *starlark.Thread
	match  string
}

func (p *pages) String() string        { return "scan" }
func (p *pages) Type() string          { return "scan" }
func (p *pages) Freeze()               {}
func (p *pages) Truth() starlark.Bool  { return true }
func (p *pages) Hash() (uint32, error) { return 0, errors.New("unhashable: scan") }

// Iterate begins a scan.
func (p *pages) Iterate() starlark.Iterator { return &pageIter{p: p, cursor: "0"} }

type pageIter struct {
	p      *pages
	cursor string
	ended  bool
}

// Next fetches a page that is not empty.
func (it *pageIter) Next(out *starlark.Value) bool {
	for !it.ended {
		v, err := it.p.n.p.ask("SCAN", it.p.n.index, it.cursor, it.p.match)
		if err != nil {
			it.ended = true
			it.p.thread.Cancel(err.Error()) // an iterator has no other way to fail
			return false
		}
		it.cursor = v.Items[0].Str
		it.ended = it.cursor == "0"
		if keys := v.Items[1].Items; len(keys) > 0 {
			list := make([]starlark.Value, len(keys))
			for i, k := range keys {
				list[i] = starlark.String(k.Str)
			}
			*out = starlark.NewList(list)
			return true
		}
	}
	return false
}

// Done ends the scan.
func (it *pageIter) Done() {}

// fromValue is a reply in Starlark.
func fromValue(v cache.Value) starlark.Value {
	switch v.Kind {
	case cache.Simple, cache.Bulk, cache.Verbatim:
		return starlark.String(v.Str)
	case cache.Int:
		return starlark.MakeInt64(v.Int)
	case cache.Double:
		return starlark.Float(v.Float)
	case cache.Bool:
		return starlark.Bool(v.Int != 0)
	case cache.BigNumber:
		if n, ok := new(big.Int).SetString(v.Str, 10); ok {
			return starlark.MakeBigInt(n)
		}
	case cache.Map:
		d := starlark.NewDict(len(v.Items) / 2)
		for i := 0; i+1 < len(v.Items); i += 2 {
			_ = d.SetKey(starlark.String(v.Items[i].Text()), fromValue(v.Items[i+1])) // strings hash
		}
		return d
	case cache.Array, cache.Set, cache.Push:
		out := make([]starlark.Value, len(v.Items))
		for i, e := range v.Items {
			out[i] = fromValue(e)
		}
		return starlark.NewList(out)
	case cache.Null, cache.Err:
	}
	return starlark.None
}

// toValue is a column of a row.
func toValue(v starlark.Value, depth int) (cache.Value, error) {
	if depth > 8 {
		return cache.Value{}, errors.New("values nest deeper than 8")
	}
	switch v := v.(type) {
	case starlark.NoneType:
		return cache.Value{}, nil
	case starlark.String:
		return cache.String(string(v)), nil
	case starlark.Bytes:
		return cache.String(string(v)), nil
	case starlark.Bool:
		return cache.Truth(bool(v)), nil
	case starlark.Int:
		if n, ok := v.Int64(); ok {
			return cache.Number(n), nil
		}
		return cache.Value{}, errors.New("an integer beyond 64 bits")
	case starlark.Float:
		return cache.Real(float64(v)), nil
	case *node:
		return cache.String(v.String()), nil
	case *starlark.Dict:
		out := cache.Value{Kind: cache.Map}
		for _, kv := range v.Items() {
			k, err := word(kv[0])
			if err != nil {
				return cache.Value{}, err
			}
			e, err := toValue(kv[1], depth+1)
			if err != nil {
				return cache.Value{}, err
			}
			out.Add(k, e)
		}
		return out, nil
	case starlark.Iterable:
		out := cache.Value{Kind: cache.Array}
		iter := v.Iterate()
		defer iter.Done()
		var e starlark.Value
		for iter.Next(&e) {
			x, err := toValue(e, depth+1)
			if err != nil {
				return cache.Value{}, err
			}
			out.Items = append(out.Items, x)
		}
		return out, nil
	}
	return cache.Value{}, fmt.Errorf("a %s cannot be shown", v.Type())
}
