package resp

import (
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/kernwave/kernwave/cache"
)

// Writer writes values in protocol 2 or 3. What protocol 2 does not know is written as what Redis writes there: a map as
// an array of keys and values, a double as a string, a boolean as 0 or 1. Replies of any size go through a buffer of a
// fixed size. It keeps the first error of the writer below and from then on does nothing.
type Writer struct {
	dst   io.Writer
	proto int
	buf   []byte
	err   error
	open  []int // how many values each aggregate that is being written still lacks
	begun int   // values begun at the top
	mute  bool  // CLIENT REPLY OFF: count values, write nothing
	skip  int   // values of an attribute that protocol 2 is not told
	bytes int64
}

// bufferSize is how much of a reply is held back at most.
const bufferSize = 16 << 10

// NewWriter writes to dst in protocol proto, 2 or 3.
func NewWriter(dst io.Writer, proto int) *Writer {
	return &Writer{dst: dst, proto: proto, buf: make([]byte, 0, bufferSize)}
}

// Proto is the version of the protocol, 2 or 3.
func (w *Writer) Proto() int { return w.proto }

// Err is the first error of the writer below.
func (w *Writer) Err() error { return w.err }

// Flush writes out what is held back.
func (w *Writer) Flush() error {
	if w.err == nil && len(w.buf) > 0 {
		var n int
		n, w.err = w.dst.Write(w.buf)
		w.bytes += int64(n)
	}
	w.buf = w.buf[:0]
	return w.err
}

// room makes place for n more bytes.
func (w *Writer) room(n int) {
	if len(w.buf)+n > bufferSize {
		w.Flush()
	}
}

// value counts one value that begins, and says whether to write it.
func (w *Writer) value(children int) bool {
	for len(w.open) > 0 && w.open[len(w.open)-1] == 0 {
		w.open = w.open[:len(w.open)-1]
	}
	if n := len(w.open); n > 0 {
		w.open[n-1]--
	} else if w.skip == 0 {
		w.begun++
	}
	if children > 0 {
		w.open = append(w.open, children)
	}
	if w.skip > 0 {
		w.skip += children - 1
		return false
	}
	return !w.mute && w.err == nil
}

// whole says whether everything that was begun has been written to its end.
func (w *Writer) whole() bool {
	for _, n := range w.open {
		if n > 0 {
			return false
		}
	}
	w.open = w.open[:0]
	return w.skip == 0
}

func (w *Writer) line(k byte, s string) {
	w.room(len(s) + 3)
	w.buf = append(w.buf, k)
	for i := range len(s) { // a line ends at its end, whatever is in it
		c := s[i]
		if c == '\r' || c == '\n' {
			c = ' '
		}
		w.buf = append(w.buf, c)
	}
	w.buf = append(w.buf, '\r', '\n')
}

func (w *Writer) number(k byte, n int64) {
	w.room(24)
	w.buf = append(w.buf, k)
	w.buf = strconv.AppendInt(w.buf, n, 10)
	w.buf = append(w.buf, '\r', '\n')
}

func (w *Writer) blob(k byte, prefix, s string) {
	w.number(k, int64(len(prefix)+len(s)))
	w.buf = append(w.buf, prefix...) // four bytes at most: number has left room
	for len(s) > 0 {
		w.room(1)
		n := min(len(s), bufferSize-len(w.buf))
		w.buf = append(w.buf, s[:n]...)
		s = s[n:]
		if w.err != nil {
			return
		}
	}
	w.room(2)
	w.buf = append(w.buf, '\r', '\n')
}

// Simple writes a short string without line breaks, such as OK.
func (w *Writer) Simple(s string) {
	if w.value(0) {
		w.line(simple, s)
	}
}

// Error writes an error. By custom it begins with a word in capitals that programs compare: "ERR unknown command".
func (w *Writer) Error(s string) {
	if w.value(0) {
		w.line(failure, s)
	}
}

// Errorf is Error with fmt.Sprintf.
func (w *Writer) Errorf(format string, args ...any) { w.Error(fmt.Sprintf(format, args...)) }

// Int writes an integer.
func (w *Writer) Int(n int64) {
	if w.value(0) {
		w.number(integer, n)
	}
}

// Bulk writes a string of any bytes.
func (w *Writer) Bulk(s string) {
	if w.value(0) {
		w.blob(bulk, "", s)
	}
}

// Verbatim writes a text that clients show as it is. format has three letters: "txt" or "mkd".
func (w *Writer) Verbatim(format, s string) {
	if !w.value(0) {
		return
	}
	if w.proto < 3 {
		w.blob(bulk, "", s)
		return
	}
	w.blob(verbatim, (format + "   ")[:3]+":", s)
}

// Null writes the absence of a value.
func (w *Writer) Null() {
	if !w.value(0) {
		return
	}
	w.room(5)
	if w.proto < 3 {
		w.buf = append(w.buf, "$-1\r\n"...)
	} else {
		w.buf = append(w.buf, "_\r\n"...)
	}
}

// Bool writes a boolean; in protocol 2, the integer 1 or 0.
func (w *Writer) Bool(v bool) {
	if !w.value(0) {
		return
	}
	w.room(4)
	switch {
	case w.proto < 3 && v:
		w.buf = append(w.buf, ":1\r\n"...)
	case w.proto < 3:
		w.buf = append(w.buf, ":0\r\n"...)
	case v:
		w.buf = append(w.buf, "#t\r\n"...)
	default:
		w.buf = append(w.buf, "#f\r\n"...)
	}
}

// Double writes a floating-point number; in protocol 2, as a string.
func (w *Writer) Double(v float64) {
	if !w.value(0) {
		return
	}
	s := strconv.FormatFloat(v, 'g', 17, 64)
	if short := strconv.FormatFloat(v, 'g', -1, 64); len(short) < len(s) {
		s = short
	}
	switch {
	case math.IsNaN(v):
		s = "nan"
	case math.IsInf(v, 1):
		s = "inf"
	case math.IsInf(v, -1):
		s = "-inf"
	}
	if w.proto < 3 {
		w.blob(bulk, "", s)
		return
	}
	w.line(double, s)
}

// BigNumber writes an integer of any size, in decimal; in protocol 2, as a string.
func (w *Writer) BigNumber(s string) {
	if !w.value(0) {
		return
	}
	if w.proto < 3 {
		w.blob(bulk, "", s)
		return
	}
	w.line(bigNumber, s)
}

// Array begins an array; its n values follow.
func (w *Writer) Array(n int) { w.aggregate(array, n) }

// Set begins a set; its n values follow. In protocol 2 it is an array.
func (w *Writer) Set(n int) { w.aggregate(set, n) }

// Map begins a map; n keys follow, each with its value. In protocol 2 it is an array of 2n.
func (w *Writer) Map(n int) {
	if w.value(2 * n) {
		if w.proto < 3 {
			w.number(array, int64(2*n))
		} else {
			w.number(dict, int64(n))
		}
	}
}

// Attribute begins what is said about the value after it: n keys and values. Protocol 2 has no place for it: there they
// are to be written as well, and are dropped.
func (w *Writer) Attribute(n int) {
	if n == 0 {
		return
	}
	for len(w.open) > 0 && w.open[len(w.open)-1] == 0 {
		w.open = w.open[:len(w.open)-1]
	}
	w.open = append(w.open, 2*n)
	if w.skip > 0 {
		w.skip += 2 * n
	} else if w.proto < 3 {
		w.skip = 2 * n
	} else if !w.mute && w.err == nil {
		w.number(attribute, int64(n))
	}
}

// push begins an out-of-band message; in protocol 2 an array, as there in the messages of a subscription.
func (w *Writer) push(n int) { w.aggregate(push, n) }

func (w *Writer) aggregate(k byte, n int) {
	if w.value(n) {
		if w.proto < 3 {
			k = array
		}
		w.number(k, int64(n))
	}
}

// Value writes v, whatever it is.
func (w *Writer) Value(v cache.Value) {
	switch v.Kind {
	case cache.Simple:
		w.Simple(v.Str)
	case cache.Err:
		w.Error(v.Str)
	case cache.Int:
		w.Int(v.Int)
	case cache.Bulk:
		w.Bulk(v.Str)
	case cache.Verbatim:
		w.Verbatim("txt", v.Str)
	case cache.Bool:
		w.Bool(v.Int != 0)
	case cache.Double:
		w.Double(v.Float)
	case cache.BigNumber:
		w.BigNumber(v.Str)
	case cache.Array:
		w.all(array, v.Items)
	case cache.Set:
		w.all(set, v.Items)
	case cache.Push:
		w.all(push, v.Items)
	case cache.Map:
		n := len(v.Items) / 2
		w.Map(n)
		for _, e := range v.Items[:2*n] {
			w.Value(e)
		}
	case cache.Null:
		w.Null()
	default:
		w.Null()
	}
}

func (w *Writer) all(k byte, items []cache.Value) {
	w.aggregate(k, len(items))
	for _, e := range items {
		w.Value(e)
	}
}

// Command writes a request as clients write it: an array of bulk strings.
func (w *Writer) Command(args ...string) {
	w.Array(len(args))
	for _, a := range args {
		w.Bulk(a)
	}
}
