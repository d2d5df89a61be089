package cache

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Parse reads the words after the command's name. Every mistake is an *Error that says how the argument is written.
func (c *Command) Parse(words []string) (*Call, error) {
	call := &Call{Command: c, args: map[string]arg{}}
	for _, a := range c.Args {
		if a.Keyword != "" {
			continue
		}
		switch {
		case a.Type == Rest:
			if len(words) == 0 && !a.Optional {
				return nil, c.arity()
			}
			call.args[a.Name] = arg{rest: words, text: strings.Join(words, " "), given: len(words) > 0}
			words = nil
		case len(words) == 0 || a.Optional && c.keyword(words[0]) != nil:
			if !a.Optional {
				return nil, c.arity()
			}
		default:
			v, err := a.read(words[0])
			if err != nil {
				return nil, err
			}
			call.args[a.Name] = v
			words = words[1:]
		}
	}
	for len(words) > 0 {
		a := c.keyword(words[0])
		if a == nil {
			return nil, Errorf(CodeErr, "see "+c.Name+" HELP; usage: "+c.Usage(), "%s takes no argument '%s'", c.Name, clip(words[0]))
		}
		if call.args[a.Name].given {
			return nil, Errorf(CodeErr, "give it once", "%s: %s is given twice", c.Name, a.Keyword)
		}
		if a.Type == Flag {
			call.args[a.Name] = arg{given: true, text: "true"}
			words = words[1:]
			continue
		}
		if len(words) < 2 {
			return nil, Errorf(CodeErr, "usage: "+c.Usage(), "%s: %s needs a value", c.Name, a.Keyword)
		}
		if a.Type == Rest {
			call.args[a.Name] = arg{rest: words[1:], text: strings.Join(words[1:], " "), given: true}
			break
		}
		v, err := a.read(words[1])
		if err != nil {
			return nil, err
		}
		call.args[a.Name] = v
		words = words[2:]
	}
	for _, a := range c.Args {
		if call.args[a.Name].given || a.Type == Flag || a.Type == Rest {
			continue
		}
		if !a.Optional {
			return nil, Errorf(CodeErr, "usage: "+c.Usage(), "%s needs %s", c.Name, a.Keyword)
		}
		if a.Default != "" {
			v, err := a.read(a.Default)
			if err != nil {
				return nil, err
			}
			v.given = false
			call.args[a.Name] = v
		}
	}
	return call, nil
}

func (c *Command) arity() error {
	return Errorf(CodeErr, "usage: "+c.Usage(), "wrong number of arguments for '%s' command", strings.ToLower(c.Name))
}

func (c *Command) keyword(word string) *Arg {
	i := slices.IndexFunc(c.Args, func(a Arg) bool { return a.Keyword != "" && strings.EqualFold(a.Keyword, word) })
	if i < 0 {
		return nil
	}
	return &c.Args[i]
}

// read reads one value.
func (a Arg) read(s string) (arg, error) {
	v := arg{text: s, given: true}
	name := a.Keyword
	if name == "" {
		name = a.Name
	}
	bad := func(want string) (arg, error) {
		return arg{}, Errorf(CodeErr, "give "+want, "%s: '%s' is not allowed", name, clip(s))
	}
	var err error
	var size float64
	switch a.Type {
	case Integer:
		if v.n, err = strconv.ParseInt(s, 10, 64); err != nil {
			return bad("a whole number" + a.bounds(""))
		}
		size = float64(v.n)
	case Decimal:
		if v.f, err = strconv.ParseFloat(s, 64); err != nil || math.IsNaN(v.f) {
			return bad("a number" + a.bounds(""))
		}
		size = v.f
	case Duration:
		if v.d, err = parseDuration(s); err != nil {
			return bad("a duration as 250ms, 5s or 2h" + a.bounds(" s"))
		}
		size = v.d.Seconds()
	case Size:
		if v.n, err = parseSize(s); err != nil {
			return bad("a size as 512, 64kb or 1gb" + a.bounds(" bytes"))
		}
		size = float64(v.n)
	case Selector:
		if v.sel, err = ParseSelect(s); err != nil {
			return arg{}, Errorf(CodeErr, "for example ON cluster:main,role:replica", "%s: %v", name, err)
		}
	case Pattern:
		if s == "" {
			return bad("a pattern as user:*")
		}
	case Text, Flag, Rest:
	}
	if (a.Min != 0 || a.Max != 0) && a.Type != Text && (size < a.Min || size > a.Max) {
		unit := map[ArgType]string{Duration: " s", Size: " bytes"}[a.Type]
		return arg{}, Errorf(CodeErr, "give a value"+a.bounds(unit), "%s: %s is out of bounds", name, clip(s))
	}
	if len(a.Enum) > 0 {
		if !slices.Contains(a.Enum, strings.ToLower(s)) {
			return bad("one of " + strings.Join(a.Enum, ", "))
		}
		v.text = strings.ToLower(s)
	}
	return v, nil
}

func (a Arg) bounds(unit string) string {
	if a.Min == 0 && a.Max == 0 {
		return ""
	}
	return fmt.Sprintf(" from %s to %s%s", formatFloat(a.Min), formatFloat(a.Max), unit)
}

func parseDuration(s string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		if math.IsNaN(f) || f < 0 || f > 1e9 {
			return 0, fmt.Errorf("%q is out of range", s)
		}
		return time.Duration(f * float64(time.Second)), nil
	}
	d, err := time.ParseDuration(s)
	if err == nil && d < 0 {
		err = fmt.Errorf("%q is negative", s)
	}
	return d, err
}

func parseSize(s string) (int64, error) {
	l := strings.ToLower(s)
	mul := int64(1)
	for suffix, m := range map[string]int64{"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30} {
		if n, ok := strings.CutSuffix(l, suffix); ok {
			l, mul = n, m
		}
	}
	n, err := strconv.ParseInt(l, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/mul {
		return 0, fmt.Errorf("%q is no size", s)
	}
	return n * mul, nil
}

// clip keeps what a caller wrote short and on one line in an error.
func clip(s string) string {
	const most = 60
	q := strconv.QuoteToGraphic(s)
	q = q[1 : len(q)-1]
	if r := []rune(q); len(r) > most {
		q = string(r[:most]) + "…"
	}
	return q
}

// Usage is the command's synopsis: CACHE.BIGKEYS [TOP top] [BY mem|items] [ON selector].
func (c *Command) Usage() string {
	parts := []string{c.Name}
	for _, a := range c.Args {
		val := a.Name
		if len(a.Enum) > 0 {
			val = strings.Join(a.Enum, "|")
		}
		if a.Type == Rest {
			val += " …"
		}
		switch {
		case a.Type == Flag:
			val = a.Keyword
		case a.Keyword != "":
			val = a.Keyword + " " + val
		}
		if a.Optional || a.Type == Flag {
			val = "[" + val + "]"
		}
		parts = append(parts, val)
	}
	return strings.Join(parts, " ")
}
