package resp

import (
	"bytes"
	"errors"
	"io"
)

// Requests reads requests: arrays of bulk strings, as clients send them, and inline commands, as people type them into a
// plain connection. It allocates nothing for requests that fit its buffer. It is not safe for concurrent use, except as
// [Requests.Fill] says.
type Requests struct {
	src    io.Reader
	limits Limits
	buf    []byte
	r, w   int // buf[r:w] has been read from src and not yet been asked for
	args   [][]byte
	err    error // what src ended with

	// How far the array at buf[r] has been parsed: offsets from r, so that moving the buffer does not hurt.
	at, left int
	spans    []span
}

// span is where an argument lies.
type span struct{ from, to int }

// NewRequests reads from src.
func NewRequests(src io.Reader, limits Limits) *Requests {
	return &Requests{src: src, limits: limits.withDefaults(), buf: make([]byte, 4<<10)}
}

// SetLimits applies from the next request on.
func (q *Requests) SetLimits(l Limits) { q.limits = l.withDefaults() }

// Buffered says how many bytes have arrived that no request has taken.
func (q *Requests) Buffered() int { return q.w - q.r }

// Next returns the arguments of the next request, at least one. They are valid until Next is called again. An empty
// line or array is no request and is passed over. The error is the source's (io.EOF only between requests,
// io.ErrUnexpectedEOF within one), or wraps [ErrProtocol].
func (q *Requests) Next() ([][]byte, error) {
	for {
		n, ok, err := q.parse()
		if err != nil {
			return nil, err
		}
		if !ok {
			if err := q.more(); err != nil {
				return nil, err
			}
			continue
		}
		if q.at > 0 { // an array; the words of an inline request are in args already
			q.args = q.args[:0]
			for _, s := range q.spans {
				q.args = append(q.args, q.buf[q.r+s.from:q.r+s.to:q.r+s.to])
			}
			q.at = 0
		}
		q.r += n
		if len(q.args) > 0 {
			return q.args, nil
		}
	}
}

// Ready says whether a whole request has arrived, so that Next would not wait. A request that is broken is ready, too.
func (q *Requests) Ready() bool {
	if q.r == q.w {
		return false
	}
	_, ok, err := q.parse()
	return ok || err != nil
}

// more reads once from the source, making room first.
func (q *Requests) more() error {
	if q.err != nil {
		return q.ended()
	}
	if q.r == q.w {
		q.r, q.w = 0, 0
		if cap(q.buf) > 1<<20 { // one large request must not hold its memory for the life of an idle connection
			q.buf = make([]byte, 4<<10)
		}
	} else if q.w == len(q.buf) {
		if q.r > 0 {
			copy(q.buf, q.buf[q.r:q.w])
			q.r, q.w = 0, q.w-q.r
		} else {
			q.grow()
		}
	}
	n, err := q.src.Read(q.buf[q.w:])
	q.w += n
	if err != nil {
		q.err = err
		if n == 0 {
			return q.ended()
		}
	}
	return nil
}

// ended is the source's error; an end amid a request is an unexpected one.
func (q *Requests) ended() error {
	if errors.Is(q.err, io.EOF) && q.r < q.w {
		return io.ErrUnexpectedEOF
	}
	return q.err
}

// grow doubles the buffer into new memory: arguments handed out before keep pointing into the old one.
func (q *Requests) grow() {
	b := make([]byte, 2*len(q.buf))
	q.w = copy(b, q.buf[q.r:q.w])
	q.r = 0
	q.buf = b
}

// errFull is what Fill returns when it holds as much as it may.
var errFull = errors.New("as much has been read ahead as may be")

// Fill reads once from the source what will be asked for later, without touching the arguments last returned: it may run
// in another goroutine between two calls of Next. It holds at most limit bytes and returns an error when it is full, or
// the source's.
func (q *Requests) Fill(limit int) error {
	if q.err != nil {
		return q.err
	}
	if q.w-q.r >= limit {
		return errFull
	}
	if q.w == len(q.buf) {
		n := max(4<<10, 2*(q.w-q.r))
		b := make([]byte, n)
		q.w = copy(b, q.buf[q.r:q.w])
		q.r = 0
		q.buf = b
	}
	n, err := q.src.Read(q.buf[q.w:min(len(q.buf), q.w+limit-(q.w-q.r))])
	q.w += n
	q.err = err
	return err
}

// forget drops a passing error of the source, such as a deadline that was set to end a Fill.
func (q *Requests) forget() { q.err = nil }

// parse looks for one request at the front of what has arrived, and leaves where its arguments are in q.spans. n is its
// length. It goes on where it ended when more bytes were wanting, so that a request that drips in costs no more.
func (q *Requests) parse() (n int, ok bool, err error) {
	b := q.buf[q.r:q.w]
	if len(b) == 0 {
		return 0, false, nil
	}
	if b[0] != '*' {
		return q.parseInline(b)
	}
	if q.at == 0 {
		count, next, ok, err := header(b, 0, "multibulk length")
		if !ok {
			return 0, false, err
		}
		if count > int64(q.limits.Args) {
			return 0, false, protocol("invalid multibulk length: %d arguments, at most %d", count, q.limits.Args)
		}
		q.at, q.left, q.spans = next, int(max(count, 0)), q.spans[:0]
	}
	for ; q.left > 0; q.left-- {
		if q.at >= len(b) {
			return 0, false, nil
		}
		if b[q.at] != '$' {
			return 0, false, protocol("expected '$', got '%s'", printable(b[q.at]))
		}
		size, from, ok, err := header(b, q.at, "bulk length")
		if !ok {
			return 0, false, err
		}
		if size < 0 || size > int64(q.limits.Bulk) {
			return 0, false, protocol("invalid bulk length: %d bytes, at most %d", size, q.limits.Bulk)
		}
		end := from + int(size)
		if end+2 > q.limits.Request {
			return 0, false, protocol("too big a request: more than %d bytes", q.limits.Request)
		}
		if end+2 > len(b) {
			return 0, false, nil
		}
		if b[end] != '\r' || b[end+1] != '\n' {
			return 0, false, protocol("a bulk string of %d bytes is not followed by CR LF", size)
		}
		q.spans = append(q.spans, span{from, end})
		q.at = end + 2
	}
	return q.at, true, nil
}

// header reads a line such as "*3" or "$10" that begins at b[at], and returns its number and where the next line begins.
func header(b []byte, at int, what string) (v int64, next int, ok bool, err error) {
	end := bytes.IndexByte(b[at:], '\n')
	if end < 0 {
		if len(b)-at > 32 { // longer than any number and its CR
			return 0, 0, false, protocol("invalid %s", what)
		}
		return 0, 0, false, nil
	}
	end += at
	if end-at > 32 || end == at || b[end-1] != '\r' {
		return 0, 0, false, protocol("invalid %s", what)
	}
	v, good := parseInt(b[at+1 : end-1])
	if !good {
		return 0, 0, false, protocol("invalid %s", what)
	}
	return v, end + 1, true, nil
}

// parseInt reads a decimal number as the protocol has it: digits, perhaps with a sign, nothing else.
func parseInt(b []byte) (int64, bool) {
	neg := false
	if len(b) > 0 && (b[0] == '-' || b[0] == '+') {
		neg = b[0] == '-'
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	var v uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + uint64(c-'0')
	}
	if neg {
		if v > 1<<63 {
			return 0, false
		}
		return -int64(v), true
	}
	if v > 1<<63-1 {
		return 0, false
	}
	return int64(v), true
}

func printable(c byte) string {
	if c < ' ' || c > '~' {
		return "?"
	}
	return string(rune(c))
}

// parseInline reads a line of words, quoted as redis-cli quotes them.
func (q *Requests) parseInline(b []byte) (n int, ok bool, err error) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		if len(b) > q.limits.Inline {
			return 0, false, protocol("too big inline request: more than %d bytes", q.limits.Inline)
		}
		return 0, false, nil
	}
	if end > q.limits.Inline {
		return 0, false, protocol("too big inline request: more than %d bytes", q.limits.Inline)
	}
	q.args = q.args[:0]
	line := bytes.TrimSuffix(b[:end], []byte{'\r'})
	for {
		line = bytes.TrimLeft(line, " \t\r\v\f\x00")
		if len(line) == 0 {
			return end + 1, true, nil
		}
		if len(q.args) == q.limits.Args {
			return 0, false, protocol("too many words in an inline request: at most %d", q.limits.Args)
		}
		var word []byte
		if word, line, ok = nextWord(line); !ok {
			return 0, false, protocol("unbalanced quotes in request")
		}
		if len(word) > q.limits.Bulk {
			return 0, false, protocol("invalid bulk length: %d bytes, at most %d", len(word), q.limits.Bulk)
		}
		q.args = append(q.args, word)
	}
}

// nextWord takes the first word off line, which begins with one. Words in quotes are copied, the others not.
func nextWord(line []byte) (word, rest []byte, ok bool) {
	plain := bytes.IndexAny(line, " \t\r\v\f\x00\"'")
	if plain < 0 {
		return line, nil, true
	}
	if c := line[plain]; c != '"' && c != '\'' {
		return line[:plain:plain], line[plain:], true
	}
	word = append(word, line[:plain]...)
	for i := plain; i < len(line); {
		switch c := line[i]; c {
		case ' ', '\t', '\r', '\v', '\f', 0:
			return word, line[i:], true
		case '"', '\'':
			for i++; ; i++ {
				if i >= len(line) {
					return nil, nil, false
				}
				if line[i] == c {
					break
				}
				if line[i] == '\\' && i+1 < len(line) {
					var skip int
					word, skip = unescape(word, line[i:], c)
					i += skip
					continue
				}
				word = append(word, line[i])
			}
			i++
			if i < len(line) && bytes.IndexByte([]byte(" \t\r\v\f\x00"), line[i]) < 0 {
				return nil, nil, false // a closing quote ends the word
			}
		default:
			word = append(word, c)
			i++
		}
	}
	return word, nil, true
}

// unescape appends what the escape at the front of b stands for, and says how many bytes it took beside the first.
func unescape(word, b []byte, quote byte) ([]byte, int) {
	if quote == '\'' {
		if b[1] == '\'' {
			return append(word, '\''), 1
		}
		return append(word, '\\'), 0
	}
	if b[1] == 'x' && len(b) > 3 {
		if hi, lo := hex(b[2]), hex(b[3]); hi >= 0 && lo >= 0 {
			return append(word, byte(hi<<4|lo)), 3
		}
	}
	c := b[1]
	switch c {
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'b':
		c = '\b'
	case 'a':
		c = '\a'
	}
	return append(word, c), 1
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
