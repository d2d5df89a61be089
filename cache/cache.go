// Package cache runs custom commands over whole fleets of Redis and Valkey nodes, off the customers' data path.
//
// A [Registry] holds the commands: built-in ones (package builtin) and those that operators load at run time
// (package script). A [Gateway] carries out one call: it finds the command, parses the arguments against its schema,
// checks the caller's role and approvals, runs the handler and records what happened. The doors (package resp, and
// "kernwave cache" on the command line) know nothing but the gateway, so a call means the same through each of them.
//
// The package opens no socket itself; package upstream speaks to the nodes.
package cache

import "context"

// Class says what a command may do to a customer, from harmless to disruptive. It decides which role may call it and
// whether a second person must agree.
type Class uint8

// The classes, in order of what they can do to a customer. The zero value is none of them: a command must say.
const (
	Read       Class = iota + 1 // looks, at a cost nobody feels
	LoadRead                    // looks, at a cost that must be throttled
	Write                       // changes keys or settings
	Disruptive                  // moves traffic
)

var classNames = [...]string{"", "read", "loadread", "write", "disruptive"}

// String is the class as manifests and tables write it: read, loadread, write, disruptive.
func (c Class) String() string {
	if int(c) < len(classNames) && c > 0 {
		return classNames[c]
	}
	return "unknown"
}

// ParseClass reads what String prints.
func ParseClass(s string) (Class, bool) {
	for i, name := range classNames {
		if i > 0 && s == name {
			return Class(i), true
		}
	}
	return 0, false
}

// Handler carries out one call. It obeys ctx within 100 ms and leaves nothing running behind. What it returns is the
// reply; an [*Error] is sent as it is, any other error as -ERR. Partial results are a reply with coverage below 1,
// not an error.
type Handler func(ctx context.Context, c *Call) (Value, error)

// Command is one entry of the registry. It is not changed once it is registered.
type Command struct {
	Name    string // upper case, with its subcommand: CACHE.BIGKEYS, "CACHE.KEY EXPLAIN", CACHE.X.STALE
	Summary string // one line
	Help    string // paragraphs, may be empty
	Class   Class
	Args    []Arg
	Guards  []string // what bounds its impact, one sentence each, for people
	Needs   string   // what the nodes must offer: "4.0", "7.0; commandstats before"
	Reply   []Field  // columns of the rows, or keys of the reply's map
	// Examples are whole calls: "CACHE.BIGKEYS TOP 10 ON cluster:prod".
	Examples []string
	// Version of an operator's own command: the hash of its bundle. Empty for a built-in one.
	Version string
	// Plans says that a write first makes a plan: DRYRUN gives its hash, and an approval is bound to that.
	Plans bool
	Run   Handler
}

// Field is one column of a reply.
type Field struct {
	Name string `json:"name"` // snake_case, with its unit where the type has none: bytes, ttl_ms
	Type string `json:"type"` // string, int, double, bool, map, array
	Help string `json:"help"`
}
