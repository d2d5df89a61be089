package cache

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Registry holds the commands by name. It is safe for concurrent use: operators' commands come and go at run time.
type Registry struct {
	mu   sync.RWMutex
	cmds map[string]*Command
}

// NewRegistry returns an empty one.
func NewRegistry() *Registry { return &Registry{cmds: map[string]*Command{}} }

var nameOf = regexp.MustCompile(`^CACHE\.[A-Z][A-Z0-9]*(\.[A-Z][A-Z0-9_-]*)*( [A-Z]+){0,2}$`)

// Put adds c, or takes the place of the command of that name. Calls that run go on with the one they began with.
func (r *Registry) Put(c *Command) error {
	if err := c.check(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cmds[c.Name] = c
	return nil
}

// Remove takes a command out. It says whether there was one.
func (r *Registry) Remove(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.cmds[name]
	delete(r.cmds, name)
	return ok
}

// Find returns the command that words call, which is named by the first three words, two or one, without case, and the
// words that are left. c is nil where there is none.
func (r *Registry) Find(words []string) (c *Command, rest []string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for n := min(3, len(words)); n > 0; n-- {
		if c := r.cmds[strings.ToUpper(strings.Join(words[:n], " "))]; c != nil {
			return c, words[n:]
		}
	}
	return nil, words
}

// Commands returns all, by name.
func (r *Registry) Commands() []*Command {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]*Command, 0, len(r.cmds))
	for _, c := range r.cmds {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *Command) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// check says what is wrong with a command that a program registers.
func (c *Command) check() error {
	switch {
	case !nameOf.MatchString(c.Name):
		return fmt.Errorf("command %q: a name is CACHE.WORD, CACHE.X.WORD or \"CACHE.WORD SUB\", in capitals", c.Name)
	case c.Class.String() == "unknown":
		return fmt.Errorf("command %s: has no class", c.Name)
	case c.Run == nil:
		return fmt.Errorf("command %s: has no handler", c.Name)
	case c.Summary == "":
		return fmt.Errorf("command %s: has no summary", c.Name)
	}
	seen := map[string]bool{}
	for i, a := range c.Args {
		if a.Name == "" || seen[a.Name] {
			return fmt.Errorf("command %s: argument %d: the name %q is empty or taken", c.Name, i+1, a.Name)
		}
		seen[a.Name] = true
		if a.Type == Flag && a.Keyword == "" {
			return fmt.Errorf("command %s: argument %s: a flag needs a keyword", c.Name, a.Name)
		}
	}
	return nil
}
