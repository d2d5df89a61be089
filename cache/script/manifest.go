package script

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/kernwave/kernwave/cache"
)

// Manifest says what a command is, may do and may cost. docs/reference/cache-manifest.md describes the file.
type Manifest struct {
	Name    string // CACHE.X.STALE
	Summary string
	Help    string
	Version string // for people: 1.2.0; what counts is the bundle's hash
	Class   cache.Class
	Owner   string
	Args    []cache.Arg
	// Select must choose a node, beside what the caller selects, for the program to see it.
	Select cache.Select
	// MaxNodes is how many nodes one call may look at.
	MaxNodes int
	// Commands are what the program may send to nodes: "TTL", "MEMORY USAGE", "SCAN".
	Commands []string
	// Writes are what its plan may hold: unlink, expire.
	Writes  []string
	Budgets Budgets
	Reply   []cache.Field
	Tests   []Test
}

// Budgets bound one run. Each has a default and a most.
type Budgets struct {
	Wall     time.Duration // default 10s, at most 1h
	Steps    int64         // of Starlark; default 10 million, at most 10 thousand million
	Memory   int64         // bytes of the program's values; default 64 MiB, at most 1 GiB
	Output   int64         // bytes of rows and plan; default 1 MiB, at most 64 MiB
	Commands int64         // sent to nodes; default 100,000, at most 100 million
	Writes   int64         // entries of the plan; default 10,000, at most 1 million
	// Busy is the part of the time that a node may be kept busy, in (0,1]; default 0.5.
	Busy float64
}

// Test is one case: what is in the throwaway server, how the command is called, and what must come out.
type Test struct {
	Name  string
	Setup [][]string // commands of Redis
	Args  []string
	Rows  *int     // how many rows; nil: any
	Has   []string // texts, each of which must be in some row, as JSON
	Plan  []string // the plan, as "UNLINK key", in any order; nil: any
	Error string   // a text that the error must have; empty: no error
	Line  int
}

// budget describes one of Budgets for reading.
type budget struct {
	key       string
	def, most float64
	kind      cache.ArgType
	set       func(*Budgets, float64)
}

var budgets = []budget{
	{"wall", 10, 3600, cache.Duration, func(b *Budgets, v float64) { b.Wall = time.Duration(v * float64(time.Second)) }},
	{"steps", 10e6, 10e9, cache.Integer, func(b *Budgets, v float64) { b.Steps = int64(v) }},
	{"memory", 64 << 20, 1 << 30, cache.Size, func(b *Budgets, v float64) { b.Memory = int64(v) }},
	{"output", 1 << 20, 64 << 20, cache.Size, func(b *Budgets, v float64) { b.Output = int64(v) }},
	{"commands", 100e3, 100e6, cache.Integer, func(b *Budgets, v float64) { b.Commands = int64(v) }},
	{"writes", 10e3, 1e6, cache.Integer, func(b *Budgets, v float64) { b.Writes = int64(v) }},
	{"busy", 0.5, 1, cache.Decimal, func(b *Budgets, v float64) { b.Busy = v }},
}

// readable are the commands that a manifest may ask for: each costs a node little and bounded time for one call, and
// changes nothing. KEYS, HGETALL, SMEMBERS and their like are not among them.
var readable = []string{
	"SCAN", "TTL", "PTTL", "TYPE", "EXISTS", "DBSIZE", "INFO", "TIME", "PING", "ROLE",
	"EXPIRETIME", "PEXPIRETIME",
	"MEMORY USAGE", "OBJECT ENCODING", "OBJECT FREQ", "OBJECT IDLETIME", "OBJECT REFCOUNT",
	"STRLEN", "HLEN", "LLEN", "SCARD", "ZCARD", "XLEN", "PFCOUNT",
	"GET", "GETRANGE", "HGET", "HMGET", "HEXISTS", "HSCAN", "SSCAN", "ZSCAN", "SISMEMBER", "ZSCORE", "ZRANK", "LINDEX", "HRANDFIELD", "SRANDMEMBER",
	"CONFIG GET", "CLIENT LIST", "CLIENT INFO", "SLOWLOG GET", "SLOWLOG LEN", "COMMANDLOG GET", "LATENCY LATEST", "LATENCY HISTOGRAM",
	"CLUSTER INFO", "CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER COUNTKEYSINSLOT", "CLUSTER GETKEYSINSLOT", "CLUSTER KEYSLOT", "CLUSTER SLOT-STATS",
	"XINFO STREAM", "XINFO GROUPS", "XPENDING", "XINFO CONSUMERS", "MEMORY STATS",
}

var writable = []string{"unlink", "expire"}

var (
	nameForm = regexp.MustCompile(`^CACHE\.X\.[A-Z][A-Z0-9_-]{0,31}$`)
	argForm  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	keyForm  = regexp.MustCompile(`^[A-Z][A-Z0-9-]{0,31}$`)
	version  = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`)
	types    = map[string]cache.ArgType{"text": cache.Text, "integer": cache.Integer, "decimal": cache.Decimal, "duration": cache.Duration, "size": cache.Size, "flag": cache.Flag, "pattern": cache.Pattern}
	// taken are the arguments that every operator's command has.
	taken = []string{"on", "format", "dryrun", "approval"}
)

// ParseManifest reads a manifest. The error is [Findings]: every mistake, with its line.
func ParseManifest(text []byte) (m Manifest, err error) {
	r := &reader{}
	defer func() {
		sort.SliceStable(r.found, func(i, j int) bool { return r.found[i].line < r.found[j].line })
		var all Findings
		for _, f := range r.found {
			all = append(all, fmt.Sprintf("%s:%d: %s", manifestFile, f.line, f.text))
		}
		if len(all) > 0 {
			err = all
		}
	}()
	file, perr := parser.ParseBytes(text, 0)
	if perr != nil {
		line := 1
		if e, ok := errors.AsType[yaml.Error](perr); ok && e.GetToken() != nil {
			line = e.GetToken().Position.Line
			r.bad(line, "%s", e.GetMessage())
		} else {
			r.bad(line, "%v", perr)
		}
		return m, nil
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		r.bad(1, "a manifest is one YAML document, and this file holds %d", len(file.Docs))
		return m, nil
	}
	top := r.fields(file.Docs[0].Body, "the manifest", "name", "summary", "help", "version", "class", "owner", "args", "select", "max_nodes", "commands", "writes", "budgets", "reply", "tests")
	m.read(r, top)
	return m, nil
}

func (m *Manifest) read(r *reader, top map[string]ast.Node) {
	m.Name = r.text(top, "name", true)
	if n := top["name"]; n != nil && !nameForm.MatchString(m.Name) {
		r.bad(lineOf(n), "name: %q is no name; write CACHE.X.WORD in capitals", m.Name)
	}
	m.Summary = r.text(top, "summary", true)
	m.Help = r.text(top, "help", false)
	m.Version = r.text(top, "version", true)
	if n := top["version"]; n != nil && !version.MatchString(m.Version) {
		r.bad(lineOf(n), "version: %q is no version; write three numbers, as 1.0.0", m.Version)
	}
	m.Owner = r.text(top, "owner", true)
	if s := r.text(top, "class", true); s != "" {
		var ok bool
		if m.Class, ok = cache.ParseClass(s); !ok || m.Class == cache.Disruptive {
			r.bad(lineOf(top["class"]), "class: %q is no class; use read, loadread or write", s)
			m.Class = 0
		}
	}
	if s := r.text(top, "select", false); s != "" {
		var err error
		if m.Select, err = cache.ParseSelect(s); err != nil {
			r.bad(lineOf(top["select"]), "select: %v", err)
		}
	}
	m.MaxNodes = 100
	if n := top["max_nodes"]; n != nil {
		if v, ok := r.integer(n, "max_nodes"); ok {
			m.MaxNodes = v
			if v < 1 || v > 10_000 {
				r.bad(lineOf(n), "max_nodes: %d is out of bounds; give a value from 1 to 10000", v)
			}
		}
	}
	for _, n := range r.list(top["commands"], "commands") {
		s := strings.ToUpper(r.scalar(n, "commands"))
		switch {
		case !slices.Contains(readable, s):
			r.bad(lineOf(n), "commands: %s is not allowed to programs; docs/reference/cache-manifest.md lists what is, and changes go into the plan", s)
		case slices.Contains(m.Commands, s):
			r.bad(lineOf(n), "commands: %s is there twice", s)
		}
		m.Commands = append(m.Commands, s)
	}
	for _, n := range r.list(top["writes"], "writes") {
		s := r.scalar(n, "writes")
		if !slices.Contains(writable, s) {
			r.bad(lineOf(n), "writes: %q is no write; use %s", s, strings.Join(writable, ", "))
		}
		m.Writes = append(m.Writes, s)
	}
	switch {
	case m.Class == cache.Write && len(m.Writes) == 0:
		r.bad(lineOf(top["class"]), "class: write, and writes names nothing that it may write")
	case m.Class != cache.Write && m.Class != 0 && len(m.Writes) > 0:
		r.bad(lineOf(top["writes"]), "writes: the class is %s; make it write, or leave this out", m.Class)
	}
	if m.Class == cache.Read && slices.Contains(m.Commands, "SCAN") {
		r.bad(lineOf(top["class"]), "class: read, and the program may SCAN; make it loadread, so that it is throttled")
	}
	m.args(r, top["args"])
	m.budgets(r, top["budgets"])
	for _, n := range r.list(top["reply"], "reply") {
		f := r.fields(n, "reply", "name", "type", "help")
		m.Reply = append(m.Reply, cache.Field{Name: r.text(f, "name", true), Type: r.text(f, "type", true), Help: r.text(f, "help", false)})
	}
	m.tests(r, top["tests"], top["name"])
}

func (m *Manifest) args(r *reader, list ast.Node) {
	for _, n := range r.list(list, "args") {
		f := r.fields(n, "args", "name", "keyword", "type", "optional", "default", "min", "max", "enum", "help")
		a := cache.Arg{Name: r.text(f, "name", true), Keyword: r.text(f, "keyword", false), Default: r.text(f, "default", false), Help: r.text(f, "help", true)}
		line := lineOf(n)
		switch {
		case a.Name != "" && !argForm.MatchString(a.Name):
			r.bad(line, "args: the name %q is not lower case, digits and _", a.Name)
		case slices.Contains(taken, a.Name):
			r.bad(line, "args: every command has an argument %s already", a.Name)
		case slices.ContainsFunc(m.Args, func(o cache.Arg) bool { return o.Name == a.Name }):
			r.bad(line, "args: %s is there twice", a.Name)
		}
		if a.Keyword != "" && !keyForm.MatchString(a.Keyword) {
			r.bad(line, "args: %s: the keyword %q is not in capitals", a.Name, a.Keyword)
		}
		t := r.text(f, "type", true)
		var ok bool
		if a.Type, ok = types[t]; !ok && t != "" {
			r.bad(lineOf(f["type"]), "args: %s: there is no type %q; use text, integer, decimal, duration, size, flag or pattern", a.Name, t)
		}
		if a.Type == cache.Flag && a.Keyword == "" {
			r.bad(line, "args: %s: a flag needs a keyword", a.Name)
		}
		a.Optional = r.text(f, "optional", false) == "true" || a.Default != "" || a.Type == cache.Flag
		for key, p := range map[string]*float64{"min": &a.Min, "max": &a.Max} {
			if v := f[key]; v != nil {
				if *p, ok = number(r.scalar(v, key), a.Type); !ok {
					r.bad(lineOf(v), "args: %s: %s is no %s", a.Name, key, t)
				}
			}
		}
		if a.Min > a.Max {
			r.bad(line, "args: %s: min is above max", a.Name)
		}
		for _, e := range r.list(f["enum"], "enum") {
			a.Enum = append(a.Enum, strings.ToLower(r.scalar(e, "enum")))
		}
		if a.Default != "" && len(r.found) == 0 {
			c := cache.Command{Name: m.Name, Args: []cache.Arg{{Name: "x", Type: a.Type, Min: a.Min, Max: a.Max, Enum: a.Enum}}}
			if _, err := c.Parse([]string{a.Default}); err != nil {
				r.bad(lineOf(f["default"]), "args: %s: the default %q is not allowed by its own bounds", a.Name, a.Default)
			}
		}
		m.Args = append(m.Args, a)
	}
	seen := false
	for _, a := range m.Args { // cache reads the positional ones in order
		if a.Keyword == "" {
			if seen && !a.Optional {
				r.bad(lineOf(list), "args: %s comes after an optional one and must be optional, or have a keyword", a.Name)
			}
			seen = seen || a.Optional
		}
	}
}

func (m *Manifest) budgets(r *reader, n ast.Node) {
	names := make([]string, len(budgets))
	for i, b := range budgets {
		b.set(&m.Budgets, b.def)
		names[i] = b.key
	}
	if n == nil {
		return
	}
	f := r.fields(n, "budgets", names...)
	for _, b := range budgets {
		v := f[b.key]
		if v == nil {
			continue
		}
		s := r.scalar(v, b.key)
		x, ok := number(s, b.kind)
		if !ok || x <= 0 || x > b.most {
			r.bad(lineOf(v), "budgets: %s: %q is not allowed; give a value above 0, up to %s", b.key, s, inUnits(b.most, b.kind))
			continue
		}
		b.set(&m.Budgets, x)
	}
}

func inUnits(v float64, t cache.ArgType) string {
	switch t {
	case cache.Duration:
		return time.Duration(v * float64(time.Second)).String()
	case cache.Size:
		return strconv.FormatInt(int64(v)>>20, 10) + "mb"
	default:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
}

func (m *Manifest) tests(r *reader, list, name ast.Node) {
	if list == nil {
		r.bad(max(1, lineOf(name)), "tests: there is none; a command that nobody tried is not promoted")
		return
	}
	for _, n := range r.list(list, "tests") {
		f := r.fields(n, "tests", "name", "setup", "args", "rows", "has", "plan", "error")
		t := Test{Name: r.text(f, "name", true), Error: r.text(f, "error", false), Line: lineOf(n)}
		for _, s := range r.list(f["setup"], "setup") {
			words := strings.Fields(r.scalar(s, "setup"))
			if seq, ok := s.(*ast.SequenceNode); ok { // for arguments with blanks
				words = nil
				for _, w := range seq.Values {
					words = append(words, r.scalar(w, "setup"))
				}
			}
			if len(words) == 0 {
				r.bad(lineOf(s), "tests: setup: an empty command")
				continue
			}
			t.Setup = append(t.Setup, words)
		}
		for _, s := range r.list(f["args"], "args") {
			t.Args = append(t.Args, r.scalar(s, "args"))
		}
		for _, s := range r.list(f["has"], "has") {
			t.Has = append(t.Has, r.scalar(s, "has"))
		}
		if p := f["plan"]; p != nil {
			t.Plan = []string{}
			for _, s := range r.list(p, "plan") {
				t.Plan = append(t.Plan, r.scalar(s, "plan"))
			}
		}
		if v := f["rows"]; v != nil {
			if n, ok := r.integer(v, "rows"); ok {
				t.Rows = &n
			}
		}
		if t.Rows == nil && t.Has == nil && t.Plan == nil && t.Error == "" {
			r.bad(t.Line, "tests: %s expects nothing; say rows, has, plan or error", t.Name)
		}
		m.Tests = append(m.Tests, t)
	}
}

// number reads a number as arguments of that type are written.
func number(s string, t cache.ArgType) (float64, bool) {
	if t != cache.Integer && t != cache.Decimal && t != cache.Duration && t != cache.Size {
		return 0, false
	}
	c := cache.Command{Name: "CACHE.X", Args: []cache.Arg{{Name: "x", Type: t}}}
	call, err := c.Parse([]string{strings.ReplaceAll(s, "_", "")})
	if err != nil {
		return 0, false
	}
	switch t {
	case cache.Decimal:
		return call.Float("x"), true
	case cache.Duration:
		return call.Duration("x").Seconds(), true
	default:
		return float64(call.Int("x")), true
	}
}
