package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// HelpReply is what CACHE.NAME HELP answers: lines for people.
func (c *Command) HelpReply() Value {
	lines := []string{c.Usage(), c.Summary + " (" + c.Class.String() + ")"}
	if c.Help != "" {
		lines = append(lines, strings.Split(c.Help, "\n")...)
	}
	for _, a := range c.Args {
		word := a.Keyword
		if word == "" {
			word = a.Name
		}
		line := "  " + word + ": " + a.Help
		if a.Default != "" {
			line += " (default " + a.Default + ")"
		}
		lines = append(lines, line)
	}
	for _, gd := range c.Guards {
		lines = append(lines, "guard: "+gd)
	}
	for _, e := range c.Examples {
		lines = append(lines, "example: "+e)
	}
	return Strings(lines...)
}

// Redact is the call for the record: names of keys and patterns are hashed, the same way each time, because they may
// hold customers' data.
func (c *Command) Redact(words []string) string {
	out := []string{c.Name}
	pos := 0
	var positional []Arg
	for _, a := range c.Args {
		if a.Keyword == "" {
			positional = append(positional, a)
		}
	}
	for i := 0; i < len(words); i++ {
		if a := c.keyword(words[i]); a != nil && (pos >= len(positional) || positional[pos].Optional) {
			out = append(out, a.Keyword)
			if a.Type != Flag && i+1 < len(words) {
				i++
				out = append(out, a.shown(words[i]))
			}
			continue
		}
		if pos < len(positional) {
			out = append(out, positional[pos].shown(words[i]))
			if positional[pos].Type != Rest {
				pos++
			}
			continue
		}
		out = append(out, HashArg(words[i]))
	}
	return strings.Join(out, " ")
}

func (a Arg) shown(s string) string {
	if len(a.Enum) > 0 || a.Type != Text && a.Type != Pattern && a.Type != Rest || a.Public {
		return clip(s)
	}
	return HashArg(s)
}

// HashArg is what the record shows of an argument that may hold customers' data: 12 digits of its SHA-256.
func HashArg(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "#" + hex.EncodeToString(sum[:6])
}
