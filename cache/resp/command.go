package resp

import (
	"path"
	"slices"
	"strings"

	"github.com/kernwave/kernwave/cache"
)

// entry is a command as COMMAND describes it: one of the front end, one of the gateway, or the common first word of
// several of the gateway.
type entry struct {
	name string // lower case
	own  *own
	cmd  *cache.Command
	subs []*cache.Command // by name
}

// entries lists all commands as they are registered now, by name.
func (s *Server) entries() []*entry {
	by := map[string]*entry{}
	for _, o := range ownCommands {
		by[o.lower] = &entry{name: o.lower, own: o}
	}
	for _, c := range s.gw.Registry.Commands() {
		first, _, sub := strings.Cut(strings.ToLower(c.Name), " ")
		e := by[first]
		if e == nil {
			e = &entry{name: first}
			by[first] = e
		}
		if sub {
			e.subs = append(e.subs, c)
		} else {
			e.cmd = c
		}
	}
	list := make([]*entry, 0, len(by))
	for _, e := range by {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *entry) int { return strings.Compare(a.name, b.name) })
	return list
}

func commandCommand(c *conn, args [][]byte) {
	all := c.srv.entries()
	sub := ""
	if len(args) > 1 {
		sub = strings.ToUpper(string(args[1]))
	}
	var names []string
	for i := 2; i < len(args); i++ {
		names = append(names, strings.ToLower(string(args[i])))
	}
	switch sub {
	case "":
		c.w.Array(len(all))
		for _, e := range all {
			e.info(c.w)
		}
	case "COUNT":
		c.w.Int(int64(len(all)))
	case "INFO":
		if len(names) == 0 {
			c.w.Array(len(all))
			for _, e := range all {
				e.info(c.w)
			}
			return
		}
		c.w.Array(len(names))
		for _, n := range names {
			if e, sub := find(all, n); e == nil {
				c.w.Null()
			} else if sub != nil {
				commandInfo(c.w, subName(sub), sub)
			} else {
				e.info(c.w)
			}
		}
	case "DOCS":
		if len(names) > 0 {
			all = slices.DeleteFunc(all, func(e *entry) bool { return !slices.Contains(names, e.name) })
		}
		c.w.Map(len(all))
		for _, e := range all {
			c.w.Bulk(e.name)
			e.docs(c.w)
		}
	case "LIST":
		if len(names) == 3 && names[0] == "filterby" && names[1] == "pattern" {
			all = slices.DeleteFunc(all, func(e *entry) bool { ok, err := path.Match(names[2], e.name); return err != nil || !ok })
		} else if len(names) > 0 {
			c.w.Error("ERR syntax error; COMMAND LIST [FILTERBY PATTERN pattern]")
			return
		}
		c.w.Array(len(all))
		for _, e := range all {
			c.w.Bulk(e.name)
		}
	case "GETKEYS", "GETKEYSANDFLAGS":
		c.w.Error("ERR The command has no key arguments")
	default:
		c.w.Errorf("ERR unknown subcommand '%s'. Try COMMAND DOCS.", clip(string(args[1])))
	}
}

// find looks up "cache.nodes" or "cache.key|explain".
func find(all []*entry, name string) (*entry, *cache.Command) {
	first, _, isSub := strings.Cut(name, "|")
	i := slices.IndexFunc(all, func(e *entry) bool { return e.name == first })
	if i < 0 {
		return nil, nil
	}
	if !isSub {
		return all[i], nil
	}
	for _, s := range all[i].subs {
		if subName(s) == name {
			return all[i], s
		}
	}
	return nil, nil
}

func subName(c *cache.Command) string {
	return strings.ReplaceAll(strings.ToLower(c.Name), " ", "|")
}

// info writes the ten fields of COMMAND INFO.
func (e *entry) info(w *Writer) {
	switch {
	case e.own != nil:
		arity := e.own.min
		if e.own.max != e.own.min {
			arity = -arity
		}
		flags := []string{"loading", "stale", "fast"}
		if e.own.stranger {
			flags = append(flags, "no_auth")
		}
		infoFields(w, e.name, arity, flags, []string{"@connection"}, nil)
	case e.cmd != nil:
		commandInfo(w, e.name, e.cmd, e.subs...)
	default:
		infoFields(w, e.name, -2, nil, nil, e.subs)
	}
}

func commandInfo(w *Writer, name string, c *cache.Command, subs ...*cache.Command) {
	words := strings.Count(c.Name, " ") + 1
	arity, exact := words, true
	for _, a := range c.Args {
		switch {
		case a.Optional || a.Type == cache.Flag || a.Type == cache.Rest && a.Optional:
			exact = false
		case a.Keyword != "":
			arity += 2
		default:
			arity++
		}
		exact = exact && a.Type != cache.Rest
	}
	if !exact {
		arity = -arity
	}
	flags := []string{"admin", "noscript"}
	if c.Class >= cache.Write {
		flags = append(flags, "write")
	} else {
		flags = append(flags, "readonly")
	}
	infoFields(w, name, arity, flags, []string{"@" + c.Class.String()}, subs)
}

func infoFields(w *Writer, name string, arity int, flags, categories []string, subs []*cache.Command) {
	w.Array(10)
	w.Bulk(name)
	w.Int(int64(arity))
	w.Set(len(flags))
	for _, f := range flags {
		w.Simple(f)
	}
	w.Int(0)
	w.Int(0)
	w.Int(0)
	w.Set(len(categories))
	for _, f := range categories {
		w.Simple(f)
	}
	w.Array(0) // tips
	w.Array(0) // key specifications: the gateway's arguments are no keys of its own
	w.Array(len(subs))
	for _, s := range subs {
		commandInfo(w, subName(s), s)
	}
}

// docs writes the map of COMMAND DOCS, which redis-cli's hints and HELP are made of.
func (e *entry) docs(w *Writer) {
	switch {
	case e.own != nil:
		w.Map(2)
		docPair(w, "summary", e.own.summary)
		docPair(w, "group", "connection")
	case e.cmd != nil:
		commandDocs(w, e.cmd, e.subs)
	default:
		w.Map(3)
		docPair(w, "summary", "A container for "+strings.ToUpper(e.name)+" commands.")
		docPair(w, "group", "cache")
		subDocs(w, e.subs)
	}
}

func docPair(w *Writer, k, v string) {
	w.Bulk(k)
	w.Bulk(v)
}

func subDocs(w *Writer, subs []*cache.Command) {
	w.Bulk("subcommands")
	w.Map(len(subs))
	for _, s := range subs {
		w.Bulk(subName(s))
		commandDocs(w, s, nil)
	}
}

func commandDocs(w *Writer, c *cache.Command, subs []*cache.Command) {
	n := 3
	if len(c.Args) > 0 {
		n++
	}
	if len(subs) > 0 {
		n++
	}
	w.Map(n)
	docPair(w, "summary", c.Summary)
	docPair(w, "group", "cache")
	docPair(w, "complexity", c.Class.String()+" command; "+strings.ToLower(c.Name)+" HELP says what bounds it")
	if len(c.Args) > 0 {
		w.Bulk("arguments")
		w.Array(len(c.Args))
		for _, a := range c.Args {
			argDocs(w, a)
		}
	}
	if len(subs) > 0 {
		subDocs(w, subs)
	}
}

// argType is what Redis calls each type of argument.
var argType = map[cache.ArgType]string{cache.Integer: "integer", cache.Decimal: "double", cache.Flag: "pure-token", cache.Pattern: "pattern"}

func argDocs(w *Writer, a cache.Arg) {
	typ := argType[a.Type]
	if typ == "" {
		typ = "string"
	}
	if len(a.Enum) > 0 {
		typ = "oneof"
	}
	n := 2
	optional, multiple := a.Optional || a.Type == cache.Flag, a.Type == cache.Rest
	shown := typ != "pure-token" && typ != "oneof"
	for _, more := range []bool{shown, a.Keyword != "", optional || multiple, typ == "oneof"} {
		if more {
			n++
		}
	}
	w.Map(n)
	docPair(w, "name", a.Name)
	docPair(w, "type", typ)
	if shown {
		docPair(w, "display_text", a.Name)
	}
	if a.Keyword != "" {
		docPair(w, "token", a.Keyword)
	}
	if optional || multiple {
		w.Bulk("flags")
		var flags []string
		if optional {
			flags = append(flags, "optional")
		}
		if multiple {
			flags = append(flags, "multiple")
		}
		w.Set(len(flags))
		for _, f := range flags {
			w.Simple(f)
		}
	}
	if typ == "oneof" {
		w.Bulk("arguments")
		w.Array(len(a.Enum))
		for _, v := range a.Enum {
			w.Map(3)
			docPair(w, "name", v)
			docPair(w, "type", "pure-token")
			docPair(w, "token", strings.ToUpper(v))
		}
	}
}
