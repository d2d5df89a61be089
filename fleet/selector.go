package fleet

import (
	"fmt"
	"path"
	"strings"
)

// Selector chooses hosts: every term must hold. The zero value chooses all.
type Selector struct{ terms []term }

type term struct {
	key, pattern string
	not          bool
}

// hostKeys are the keys of a selector that are not labels.
var hostKeys = map[string]func(Host) string{
	"id":       func(h Host) string { return string(h.ID) },
	"type":     func(h Host) string { return string(h.Type.ID) },
	"status":   func(h Host) string { return string(h.Status) },
	"vendor":   func(h Host) string { return h.Facts.Hardware.Vendor },
	"model":    func(h Host) string { return h.Facts.Hardware.Model },
	"os":       func(h Host) string { return strings.TrimSpace(h.Facts.OS.ID + " " + h.Facts.OS.Version) },
	"arch":     func(h Host) string { return h.Facts.Arch },
	"flavour":  func(h Host) string { return h.Facts.Kernel.Flavour },
	"release":  func(h Host) string { return h.Now.Release },
	"loader":   func(h Host) string { return h.Facts.Boot.Loader },
	"one-shot": func(h Host) string { return string(h.Facts.Boot.OneShot) },
}

// ParseSelector reads "KEY=PATTERN,KEY!=PATTERN": a key is one of id, type, status, vendor, model, os, arch,
// flavour, release, loader and one-shot, or a label's. A pattern may hold * and ?; all terms must hold.
func ParseSelector(s string) (Selector, error) {
	var sel Selector
	if strings.TrimSpace(s) == "" {
		return sel, nil
	}
	for i, part := range strings.Split(s, ",") {
		part = strings.TrimSpace(part)
		key, pattern, ok := strings.Cut(part, "=")
		not := strings.HasSuffix(key, "!")
		key = strings.TrimSpace(strings.TrimSuffix(key, "!"))
		pattern = strings.TrimSpace(pattern)
		if !ok || key == "" {
			return Selector{}, fmt.Errorf("selector term %d (%q): must be KEY=PATTERN or KEY!=PATTERN", i+1, part)
		}
		if err := checkName(key); err != nil { // no label is called that, and id=… may be meant
			return Selector{}, fmt.Errorf("selector term %d (%q): key %q: %w", i+1, part, key, err)
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return Selector{}, fmt.Errorf("selector term %d (%q): the pattern is malformed", i+1, part)
		}
		sel.terms = append(sel.terms, term{key, pattern, not})
	}
	return sel, nil
}

// Matches says whether h is chosen.
func (s Selector) Matches(h Host) bool {
	for _, t := range s.terms {
		value := h.Facts.Labels[t.key]
		if get, ok := hostKeys[t.key]; ok {
			value = get(h)
		}
		if match(t.pattern, value) == t.not {
			return false
		}
	}
	return true
}

// match is path.Match, with '/' as a character like any other.
func match(pattern, value string) bool {
	const slash = "\x00"
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", slash), strings.ReplaceAll(value, "/", slash))
	return ok && err == nil
}

// String prints the selector so that ParseSelector reads it back.
func (s Selector) String() string {
	var parts []string
	for _, t := range s.terms {
		op := "="
		if t.not {
			op = "!="
		}
		parts = append(parts, t.key+op+t.pattern)
	}
	return strings.Join(parts, ",")
}
