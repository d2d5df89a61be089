package script

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// Write is one entry of a plan.
type Write struct {
	Op      string // unlink, expire
	Cluster string
	Node    string // HOST:PORT of the primary that holds the key
	Key     string
	Seconds int64 // of expire
}

// String is the entry as people and tests read it: "UNLINK key", "EXPIRE key 60".
func (w Write) String() string {
	if w.Op == "expire" {
		return fmt.Sprintf("EXPIRE %s %d", w.Key, w.Seconds)
	}
	return "UNLINK " + w.Key
}

// words is the command that carries it out.
func (w Write) words() []string {
	if w.Op == "expire" {
		return []string{"EXPIRE", w.Key, fmt.Sprint(w.Seconds)}
	}
	return []string{"UNLINK", w.Key}
}

// Plan is what one run of a program wants written, in order. Nothing has been written while there is a plan only.
type Plan struct {
	Command string // CACHE.X.STALE
	Version string // hash of the bundle
	Author  string // who loaded the bundle
	By      string // who asked for the plan
	Call    string // its arguments, as they were given
	At      time.Time
	Writes  []Write
}

// Hash names the plan: it covers who asked for what by which version, and every write. An approval is bound to it.
func (p *Plan) Hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q %d\n", p.Command, p.Version, p.Author, p.By, p.Call, p.At.UnixNano())
	for _, w := range p.Writes {
		fmt.Fprintf(h, "%q %q %q %q %d\n", w.Op, w.Cluster, w.Node, w.Key, w.Seconds)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// value describes the plan in a reply: how much of what, and the first keys.
func (p *Plan) value(id string) cache.Value {
	count := map[string]int{}
	for _, w := range p.Writes {
		count[w.Op]++
	}
	first := cache.List()
	for _, w := range p.Writes[:min(10, len(p.Writes))] {
		first.Items = append(first.Items, cache.String(w.String()))
	}
	v := cache.Dict("id", cache.String(id), "hash", cache.String(p.Hash()))
	for _, op := range writable {
		v.Add(op, cache.Number(count[op]))
	}
	v.Add("first", first)
	return v
}
