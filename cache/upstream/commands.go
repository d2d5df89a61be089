package upstream

import (
	"context"
	"strings"

	"github.com/kernwave/kernwave/cache"
)

// KeySpec says where a command's keys stand among its words, the command's name being word 0, and whether it writes.
type KeySpec struct {
	First, Last, Step int
	Write             bool
	Movable           bool // where they are depends on the words: EVAL, XREAD
}

// CommandTable says of each command of a server, in lower case, where its keys are. Subcommands are "object|encoding".
type CommandTable map[string]KeySpec

// Commands asks the node for its table.
func (n *Node) Commands(ctx context.Context) (CommandTable, error) {
	v, err := n.Do(ctx, "COMMAND")
	if err != nil {
		return nil, err
	}
	t := CommandTable{}
	t.read(v)
	return t, nil
}

func (t CommandTable) read(v cache.Value) {
	for _, c := range v.Items {
		if len(c.Items) < 6 {
			continue
		}
		s := KeySpec{First: int(c.Items[3].Int), Last: int(c.Items[4].Int), Step: int(c.Items[5].Int)}
		for _, f := range c.Items[2].Items {
			s.Write = s.Write || f.Str == "write"
			s.Movable = s.Movable || f.Str == "movablekeys"
		}
		t[strings.ToLower(c.Items[0].Str)] = s
		if len(c.Items) >= 10 {
			t.read(c.Items[9])
		}
	}
}

// Keys returns the keys among the words of a call, and whether it writes. A call whose keys cannot be found has none.
func (t CommandTable) Keys(words []string) (keys []string, write bool) {
	if len(words) == 0 {
		return nil, false
	}
	name := strings.ToLower(words[0])
	s, ok := t[name]
	if len(words) > 1 {
		if sub, is := t[name+"|"+strings.ToLower(words[1])]; is {
			s, ok = sub, true
		}
	}
	switch {
	case !ok:
		return nil, false
	case s.First <= 0:
		if s.Movable {
			return movable(name, words), s.Write
		}
		return nil, s.Write
	}
	last := s.Last
	if last < 0 {
		last = len(words) + last
	}
	for i := s.First; i <= last && i < len(words); i += max(1, s.Step) {
		keys = append(keys, words[i])
	}
	return keys, s.Write
}

// movable finds the keys of commands that say how many there are.
func movable(name string, words []string) []string {
	at := map[string]int{"eval": 2, "evalsha": 2, "eval_ro": 2, "evalsha_ro": 2, "fcall": 2, "fcall_ro": 2, "zunion": 1, "zinter": 1, "zdiff": 1, "sintercard": 1, "zintercard": 1, "lmpop": 1, "zmpop": 1}[name]
	if at > 0 && at < len(words) {
		n := number(words[at])
		return words[min(at+1, len(words)):min(at+1+n, len(words))]
	}
	if name == "xread" || name == "xreadgroup" {
		for i, w := range words {
			if strings.EqualFold(w, "streams") {
				rest := words[i+1:]
				return rest[:len(rest)/2]
			}
		}
	}
	return nil
}
