package resp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"math/big"
	"strconv"

	"github.com/kernwave/kernwave/cache"
)

// Reader reads values, as servers send them, in both protocols. Streamed aggregates, which no server sends, are refused, and what is said about a
// value beside it (attributes) is passed over.
type Reader struct {
	src    *bufio.Reader
	limits Limits
	left   int // how many elements the value that is being read may still have
}

// NewReader reads from src.
func NewReader(src io.Reader, limits Limits) *Reader {
	return &Reader{src: bufio.NewReaderSize(src, 16<<10), limits: limits.withDefaults()}
}

// Buffered says how many bytes have arrived and have not been read.
func (r *Reader) Buffered() int { return r.src.Buffered() }

// Next returns the next value. The error is the source's (io.EOF only between values), or wraps [ErrProtocol].
func (r *Reader) Next() (cache.Value, error) {
	r.left = r.limits.Elements
	v, err := r.value(0)
	return v, err
}

func (r *Reader) value(depth int) (cache.Value, error) {
	if depth > r.limits.Depth {
		return cache.Value{}, protocol("values nest deeper than %d", r.limits.Depth)
	}
	if r.left--; r.left < 0 {
		return cache.Value{}, protocol("a value of more than %d elements", r.limits.Elements)
	}
	line, err := r.line()
	if err != nil {
		if depth > 0 {
			err = amid(err)
		}
		return cache.Value{}, err
	}
	k, rest := line[0], line[1:]
	switch k {
	case simple:
		return cache.Value{Kind: cache.Simple, Str: string(rest)}, nil
	case failure:
		return cache.Value{Kind: cache.Err, Str: string(rest)}, nil
	case integer:
		n, ok := parseInt(rest)
		if !ok {
			return cache.Value{}, protocol("invalid integer")
		}
		return cache.Value{Kind: cache.Int, Int: n}, nil
	case null:
		if len(rest) != 0 {
			return cache.Value{}, protocol("invalid null")
		}
		return cache.Value{}, nil
	case boolean:
		if len(rest) != 1 || rest[0] != 't' && rest[0] != 'f' {
			return cache.Value{}, protocol("invalid boolean")
		}
		return cache.Truth(rest[0] == 't'), nil
	case double:
		f, ok := parseDouble(rest)
		if !ok {
			return cache.Value{}, protocol("invalid double")
		}
		return cache.Real(f), nil
	case bigNumber:
		if len(rest) > 4096 {
			return cache.Value{}, protocol("a big number of more than 4096 digits")
		}
		n, ok := new(big.Int).SetString(string(rest), 10)
		if !ok {
			return cache.Value{}, protocol("invalid big number")
		}
		return cache.Value{Kind: cache.BigNumber, Str: n.String()}, nil
	case bulk, bulkError, verbatim:
		return r.blob(k, rest)
	case array, set, push, dict, attribute:
		return r.aggregate(k, rest, depth)
	}
	return cache.Value{}, protocol("no value begins with '%s'", printable(k))
}

func (r *Reader) line() ([]byte, error) {
	line, err := r.src.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) { // longer than the buffer: an error text, if anything
		long := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			if len(long) > r.limits.Inline {
				return nil, protocol("a line of more than %d bytes", r.limits.Inline)
			}
			line, err = r.src.ReadSlice('\n')
			long = append(long, line...)
		}
		line = long
	}
	if err != nil {
		if len(line) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if len(line) > r.limits.Inline {
		return nil, protocol("a line of more than %d bytes", r.limits.Inline)
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, protocol("a line does not end in CR LF")
	}
	line = line[:len(line)-2]
	if bytes.IndexByte(line, '\r') >= 0 {
		return nil, protocol("a carriage return within a line")
	}
	return line, nil
}

func (r *Reader) blob(k byte, size []byte) (cache.Value, error) {
	n, ok := parseInt(size)
	if !ok || n < -1 || n == -1 && k != bulk {
		return cache.Value{}, protocol("invalid length of %s", nameOf[k])
	}
	if n == -1 {
		return cache.Value{}, nil
	}
	if n > int64(r.limits.Bulk) {
		return cache.Value{}, protocol("%s of %d bytes, at most %d", nameOf[k], n, r.limits.Bulk)
	}
	b := make([]byte, 0, min(n+2, 64<<10)) // grown as bytes arrive, not as they are promised
	for int64(len(b)) < n+2 {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		m, err := r.src.Read(b[len(b):min(int64(cap(b)), n+2)])
		b = b[:len(b)+m]
		if err != nil {
			return cache.Value{}, amid(err)
		}
	}
	if b[n] != '\r' || b[n+1] != '\n' {
		return cache.Value{}, protocol("%s of %d bytes is not followed by CR LF", nameOf[k], n)
	}
	b = b[:n]
	switch k {
	case bulkError:
		for i, c := range b { // a cache.Err is a line
			if c == '\r' || c == '\n' {
				b[i] = ' '
			}
		}
		return cache.Value{Kind: cache.Err, Str: string(b)}, nil
	case verbatim:
		if len(b) < 4 || b[3] != ':' {
			return cache.Value{}, protocol("a verbatim string without its format")
		}
		return cache.Value{Kind: cache.Verbatim, Str: string(b[4:])}, nil
	}
	return cache.String(string(b)), nil
}

// kindOf is what each aggregate is once it is read.
var kindOf = map[byte]cache.Kind{array: cache.Array, set: cache.Set, push: cache.Push, dict: cache.Map}

func (r *Reader) aggregate(k byte, size []byte, depth int) (cache.Value, error) {
	n, ok := parseInt(size)
	if !ok || n < -1 || n == -1 && k != array {
		return cache.Value{}, protocol("invalid length of %s", nameOf[k])
	}
	if n == -1 {
		return cache.Value{}, nil
	}
	if n > int64(r.left) {
		return cache.Value{}, protocol("a value of more than %d elements", r.limits.Elements)
	}
	if k == dict || k == attribute {
		n *= 2
	}
	items := make([]cache.Value, 0, min(n, 64))
	for range n {
		e, err := r.value(depth + 1)
		if err != nil {
			return cache.Value{}, err
		}
		if k != attribute {
			items = append(items, e)
		}
	}
	if k == attribute {
		v, err := r.value(depth + 1)
		return v, amid(err)
	}
	return cache.Value{Kind: kindOf[k], Items: items}, nil
}

// amid is err where a value had begun: the end of the source is unexpected there.
func amid(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// parseDouble reads a double as RESP3 has it: no hexadecimal, no underscores, "inf", "-inf" and "nan".
func parseDouble(b []byte) (float64, bool) {
	switch string(b) {
	case "inf":
		return math.Inf(1), true
	case "-inf":
		return math.Inf(-1), true
	case "nan":
		return math.NaN(), true
	}
	for _, c := range b {
		if (c < '0' || c > '9') && c != '-' && c != '+' && c != '.' && c != 'e' && c != 'E' {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(string(b), 64)
	return f, err == nil
}
