package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kernwave/kernwave/cache"
)

// Line is one line of MONITOR. Its words hold customers' data.
type Line struct {
	At     string // seconds since 1970, as the server wrote it
	DB     string
	Client string // address, "lua" or "unix:…"
	Words  []string
}

// ParseLine reads a line of MONITOR: 1339518083.107412 [0 127.0.0.1:60866] "GET" "key".
func ParseLine(s string) (Line, error) {
	at, rest, ok := strings.Cut(s, " [")
	from, rest, ok2 := strings.Cut(rest, "] ")
	if !ok || !ok2 {
		return Line{}, fmt.Errorf("not a line of MONITOR: %.60q", s)
	}
	l := Line{At: at}
	l.DB, l.Client, _ = strings.Cut(from, " ")
	for len(rest) > 0 {
		if rest[0] != '"' {
			return Line{}, fmt.Errorf("not a line of MONITOR: %.60q", s)
		}
		word, n := unquote(rest[1:])
		if n < 0 {
			return Line{}, fmt.Errorf("a word without its end: %.60q", s)
		}
		l.Words = append(l.Words, word)
		rest = strings.TrimPrefix(rest[1+n:], " ")
	}
	return l, nil
}

// unquote reads up to the closing quote and returns how long that is, with it; -1: there is none.
func unquote(s string) (string, int) {
	end := strings.IndexByte(s, '"')
	if end >= 0 && strings.IndexByte(s[:end], '\\') < 0 {
		return s[:end], end + 1
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), i + 1
		case c != '\\' || i+1 == len(s):
			b.WriteByte(c)
		default:
			i++
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			case 'a':
				b.WriteByte('\a')
			case 'b':
				b.WriteByte('\b')
			case 'x':
				if i+2 < len(s) {
					b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
					i += 2
				}
			default:
				b.WriteByte(s[i])
			}
		}
	}
	return "", -1
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

// Burst is one look through MONITOR.
type Burst struct {
	For   time.Duration // how long
	Bytes int64         // and how much: when it is read the look ends early
	Line  func(Line)
}

// Burst runs MONITOR on a connection of its own. At the end that connection is closed, and a second one kills it: a
// MONITOR that is forgotten grows in the server's memory until the server ends. It returns how much was read and how long
// that took.
func (n *Node) Burst(ctx context.Context, b Burst) (read int64, took time.Duration, err error) {
	c, err := n.Dial(ctx)
	if err != nil {
		return 0, 0, err
	}
	id, err := c.Do(ctx, "CLIENT", "ID")
	if err == nil && id.Kind != cache.Int {
		err = errors.New("CLIENT ID: " + id.Str)
	}
	if err != nil {
		return 0, 0, errors.Join(&Failure{Node: n.Addr, Err: err}, c.Close())
	}
	defer func() {
		c.fail()
		kill, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cluster.cfg.Timeout)
		defer cancel()
		_, _ = n.Pipe(kill, []string{"CLIENT", "KILL", "ID", id.Text()}) // it is gone already where all is well
	}()
	ok, err := c.Do(ctx, "MONITOR")
	if err == nil && ok.Kind == cache.Err {
		err = errors.New("MONITOR: " + ok.Str)
	}
	if err != nil {
		return 0, 0, &Failure{Node: n.Addr, Err: err}
	}
	began := time.Now()
	for read < b.Bytes {
		one, cancel := context.WithDeadline(ctx, began.Add(b.For))
		v, err := c.Next(one)
		over := one.Err() != nil
		cancel()
		if over && ctx.Err() == nil {
			break
		}
		if err != nil {
			return read, time.Since(began), &Failure{Node: n.Addr, Err: err}
		}
		read += int64(len(v.Str))
		if l, err := ParseLine(v.Str); err == nil {
			b.Line(l)
		}
		if time.Since(began) >= b.For { // under load an answer is always there, and the deadline is never waited for
			break
		}
	}
	return read, time.Since(began), nil
}
