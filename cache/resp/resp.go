// Package resp speaks the Redis protocol, versions 2 and 3: a codec, and the front end of a server that answers with
// the commands of a [cache.Gateway]. It knows connections and replies; it knows no commands but those that every client
// expects of a server (HELLO, AUTH, PING, CLIENT, COMMAND and their like).
//
// It never keeps data, never speaks to a cache node, and trusts no byte that it reads: each size, depth and count has a
// bound in [Limits].
//
//	srv, err := resp.NewServer(resp.Config{}, gateway, slog.Default())
//	…
//	ln, err := net.Listen("tcp", "127.0.0.1:6380")
//	…
//	err = srv.Serve(ctx, ln) // until ctx ends
//
// Source: the protocol as https://redis.io/docs/latest/develop/reference/protocol-spec/ describes it.
package resp

import (
	"errors"
	"fmt"
)

// What a value begins with on the wire. RESP2 has the first five, and a null of its own.
const (
	simple    = '+'
	failure   = '-'
	integer   = ':'
	bulk      = '$'
	array     = '*'
	null      = '_'
	boolean   = '#'
	double    = ','
	bigNumber = '('
	bulkError = '!'
	verbatim  = '='
	dict      = '%'
	set       = '~'
	push      = '>'
	attribute = '|'
)

// nameOf is what to call each in an error.
var nameOf = map[byte]string{
	bulk: "a bulk string", array: "an array", bulkError: "a bulk error", verbatim: "a verbatim string",
	dict: "a map", set: "a set", push: "a push", attribute: "an attribute",
}

// Limits bounds what is read. The zero value of each field means its default.
type Limits struct {
	// Args is the number of arguments of a request, the command's name included. Default 65,536.
	Args int
	// Bulk is the size of one argument or string in bytes. Default 16 MiB: the largest bundle of a custom command fits.
	Bulk int
	// Request is the size of a whole request in bytes. Default 32 MiB.
	Request int
	// Inline is the length of a line: an inline command, or the header of a value. Default 64 KiB, as in Redis.
	Inline int
	// Depth is how deep values may nest when replies are read. Default 32.
	Depth int
	// Elements is how many values one reply may hold in all. Default 16 M.
	Elements int
}

func (l Limits) withDefaults() Limits {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&l.Args, 1<<16)
	def(&l.Bulk, 16<<20)
	def(&l.Request, 32<<20)
	def(&l.Inline, 64<<10)
	def(&l.Depth, 32)
	def(&l.Elements, 16<<20)
	return l
}

// stranger bounds what someone may send who has not logged in, as Redis bounds it.
var stranger = Limits{Args: 10, Bulk: 16 << 10, Request: 64 << 10}.withDefaults()

// ErrProtocol is what every error of a reader wraps that says that the bytes are not RESP, or more than the limits
// allow. The stream cannot be read on after it.
var ErrProtocol = errors.New("protocol error")

func protocol(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}
