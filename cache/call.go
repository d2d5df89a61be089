package cache

import (
	"time"
)

// Request is a call as a door hands it in.
type Request struct {
	User User
	Args []string // the command's name first, one or two words, any case
	From string   // the door and the peer, for the record: "resp 127.0.0.1:5001", "cli"
	// Progress is called with the progress of a long job, by one goroutine at a time; nil: nobody listens.
	Progress func(Value)
}

// Call is a request once its arguments are read: what a handler gets.
type Call struct {
	Job     string // id, unique in the gateway's life and after
	Command *Command
	User    User
	From    string
	Began   time.Time

	args     map[string]arg
	progress func(Value)
}

// arg is one argument that was given, or its default.
type arg struct {
	text  string
	rest  []string
	n     int64
	f     float64
	d     time.Duration
	sel   Select
	given bool
}

// Given says whether the caller gave the argument.
func (c *Call) Given(name string) bool { return c.args[name].given }

// Text returns an argument as it was written, or its default.
func (c *Call) Text(name string) string { return c.args[name].text }

// Int returns an Integer, or a Size in bytes.
func (c *Call) Int(name string) int64 { return c.args[name].n }

// Float returns a Decimal.
func (c *Call) Float(name string) float64 { return c.args[name].f }

// Duration returns a Duration.
func (c *Call) Duration(name string) time.Duration { return c.args[name].d }

// Flag says whether a Flag was given.
func (c *Call) Flag(name string) bool { return c.args[name].given }

// Rest returns the words of a Rest argument.
func (c *Call) Rest(name string) []string { return c.args[name].rest }

// Select returns a Selector; the zero value chooses all nodes.
func (c *Call) Select(name string) Select { return c.args[name].sel }

// Progress tells whoever listens how far the job is. Handlers may call it as often as they like, from one goroutine
// at a time.
func (c *Call) Progress(v Value) {
	if c.progress != nil {
		c.progress(v)
	}
}
