package resp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/kernwave/kernwave/cache"
	"pgregory.net/rapid"
)

func requests(in string, l Limits) (out [][]string, err error) {
	q := NewRequests(strings.NewReader(in), l)
	for {
		args, err := q.Next()
		if err != nil {
			return out, err
		}
		var ss []string
		for _, a := range args {
			ss = append(ss, string(a))
		}
		out = append(out, ss)
	}
}

func TestRequests(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     [][]string
		err      string
	}{
		{"an array", "*2\r\n$4\r\nECHO\r\n$5\r\nhi\r\n!\r\n", [][]string{{"ECHO", "hi\r\n!"}}, "EOF"},
		{"an empty argument", "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", [][]string{{"ECHO", ""}}, "EOF"},
		{"a line", "PING\r\n", [][]string{{"PING"}}, "EOF"},
		{"a line without carriage return", "  ping   pong \n", [][]string{{"ping", "pong"}}, "EOF"},
		{"words in quotes", `a "b \x41\n\"" 'c \' \n' d"e"` + "\r\n", [][]string{{"a", "b A\n\"", `c ' \n`, "de"}}, "EOF"},
		{"nothing at all is no request", "\r\n*0\r\n*-1\r\n\n*1\r\n$1\r\nx\r\n", [][]string{{"x"}}, "EOF"},
		{"a pipeline", "*1\r\n$1\r\na\r\nb\r\n*1\r\n$1\r\nc\r\n", [][]string{{"a"}, {"b"}, {"c"}}, "EOF"},
		{"an end within", "*2\r\n$1\r\na\r\n", nil, "unexpected EOF"},
		{"an end within a line", "PIN", nil, "unexpected EOF"},
		{"quotes that do not end", "a \"b\r\n", nil, "unbalanced quotes"},
		{"quotes that end too early", "a \"b\"c\r\n", nil, "unbalanced quotes"},
		{"no number", "*x\r\n", nil, "invalid multibulk length"},
		{"a number with a space", "* 1\r\n", nil, "invalid multibulk length"},
		{"a number beyond 64 bits", "*99999999999999999999\r\n", nil, "invalid multibulk length"},
		{"too many arguments", "*6\r\n", nil, "6 arguments, at most 5"},
		{"an argument that is too large", "*1\r\n$101\r\n", nil, "101 bytes, at most 100"},
		{"a negative argument", "*1\r\n$-1\r\n", nil, "invalid bulk length"},
		{"a request that is too large", "*4\r\n$90\r\n" + strings.Repeat("x", 90) + "\r\n$90\r\n" + strings.Repeat("x", 90) + "\r\n$90\r\n", nil, "more than 200 bytes"},
		{"a line that is too long", strings.Repeat("x", 60), nil, "more than 50 bytes"},
		{"a header that never ends", "*" + strings.Repeat("1", 60), nil, "invalid multibulk length"},
		{"not a bulk string", "*1\r\n:1\r\n", nil, "expected '$', got ':'"},
		{"a length that lies", "*1\r\n$3\r\nabcd\r\n", nil, "not followed by CR LF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := requests(tc.in, Limits{Args: 5, Bulk: 100, Request: 200, Inline: 50})
			if !reflect.DeepEqual(got, tc.want) || err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %q, %v; want %q, %s", got, err, tc.want, tc.err)
			}
		})
	}
}

// TestRequestsInPieces: however the bytes arrive, the requests are the same.
func TestRequestsInPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(rapid.SliceOfN(rapid.StringN(0, 300, 9000), 1, 6)).Draw(t, "requests")
		var b bytes.Buffer
		w := NewWriter(&b, 2)
		for _, args := range want {
			w.Command(args...)
		}
		w.Flush()
		var src io.Reader = &b
		if rapid.Bool().Draw(t, "bytewise") {
			src = iotest.OneByteReader(src)
		}
		q := NewRequests(src, Limits{})
		for i, args := range want {
			got, err := q.Next()
			if err != nil {
				t.Fatalf("request %d: %v", i, err)
			}
			for j, a := range args {
				if len(got) != len(args) || string(got[j]) != a {
					t.Fatalf("request %d: got %q, want %q", i, got, args)
				}
			}
			q.Ready()
		}
		if _, err := q.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("got %v, want EOF", err)
		}
	})
}

// TestFillKeepsArguments: what is read ahead while a command runs must not touch the arguments it was given.
func TestFillKeepsArguments(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, 2)
	for i := range 500 {
		w.Command("CMD", strconv.Itoa(i), strings.Repeat(string(rune('a'+i%26)), i%97))
	}
	w.Flush()
	q := NewRequests(iotest.HalfReader(&b), Limits{})
	for i := range 500 {
		args, err := q.Next()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := q.Fill(32 << 10); err != nil {
				break
			}
		}
		if string(args[1]) != strconv.Itoa(i) || string(args[2]) != strings.Repeat(string(rune('a'+i%26)), i%97) {
			t.Fatalf("request %d became %q", i, args)
		}
	}
}

func TestSmallCommandsAllocateNothing(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, 2)
	for range 1000 {
		w.Command("GET", "user:1000")
	}
	w.Flush()
	src := bytes.NewReader(b.Bytes())
	q := NewRequests(src, Limits{})
	out := NewWriter(io.Discard, 3)
	if n := testing.AllocsPerRun(20, func() {
		src.Reset(b.Bytes())
		q.forget()
		for range 1000 {
			if _, err := q.Next(); err != nil {
				t.Fatal(err)
			}
			out.Map(1)
			out.Bulk("a")
			out.Int(1)
		}
		out.Flush()
	}); n > 0 {
		t.Errorf("1,000 requests and replies allocate %v times", n)
	}
}

func TestWriter(t *testing.T) {
	for _, tc := range []struct {
		name, two, three string
		write            func(*Writer)
	}{
		{"simple", "+OK\r\n", "+OK\r\n", func(w *Writer) { w.Simple("OK") }},
		{"an error is one line", "-ERR a  b\r\n", "-ERR a  b\r\n", func(w *Writer) { w.Error("ERR a\r\nb") }},
		{"integer", ":-7\r\n", ":-7\r\n", func(w *Writer) { w.Int(-7) }},
		{"bulk", "$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n", func(w *Writer) { w.Bulk("a\r\n") }},
		{"verbatim", "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n", func(w *Writer) { w.Verbatim("txt", "hi") }},
		{"null", "$-1\r\n", "_\r\n", func(w *Writer) { w.Null() }},
		{"bool", ":1\r\n", "#t\r\n", func(w *Writer) { w.Bool(true) }},
		{"double", "$3\r\n1.5\r\n", ",1.5\r\n", func(w *Writer) { w.Double(1.5) }},
		{"infinity", "$4\r\n-inf\r\n", ",-inf\r\n", func(w *Writer) { w.Double(math.Inf(-1)) }},
		{"big number", "$20\r\n18446744073709551616\r\n", "(18446744073709551616\r\n", func(w *Writer) { w.BigNumber("18446744073709551616") }},
		{"map", "*2\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:1\r\n", func(w *Writer) { w.Map(1); w.Bulk("a"); w.Int(1) }},
		{"set", "*1\r\n:1\r\n", "~1\r\n:1\r\n", func(w *Writer) { w.Set(1); w.Int(1) }},
		{"push", "*1\r\n:1\r\n", ">1\r\n:1\r\n", func(w *Writer) { w.push(1); w.Int(1) }},
		{"attribute", "*1\r\n:1\r\n", "*1\r\n|1\r\n+ttl\r\n*2\r\n:1\r\n:2\r\n:1\r\n", func(w *Writer) {
			w.Array(1)
			w.Attribute(1)
			w.Simple("ttl")
			w.Array(2)
			w.Int(1)
			w.Int(2)
			w.Int(1)
		}},
		{"value", "*3\r\n$-1\r\n-X y\r\n*2\r\n+k\r\n:0\r\n", "*3\r\n_\r\n-X y\r\n%1\r\n+k\r\n#f\r\n", func(w *Writer) {
			w.Value(cache.List(cache.Value{}, cache.Value{Kind: cache.Err, Str: "X y"}, cache.Value{Kind: cache.Map, Items: []cache.Value{cache.Status("k"), cache.Truth(false)}}))
		}},
	} {
		for proto, want := range map[int]string{2: tc.two, 3: tc.three} {
			var b bytes.Buffer
			w := NewWriter(&b, proto)
			tc.write(w)
			if !w.whole() || w.begun != 1 {
				t.Errorf("%s in RESP%d: whole %v, begun %d", tc.name, proto, w.whole(), w.begun)
			}
			w.Flush()
			if b.String() != want {
				t.Errorf("%s in RESP%d: %q, want %q", tc.name, proto, b.String(), want)
			}
		}
	}
}

func TestWriterKnowsWhatIsMissing(t *testing.T) {
	w := NewWriter(io.Discard, 3)
	w.Array(2)
	w.Map(1)
	w.Bulk("k")
	if w.whole() {
		t.Error("a map without its value is whole")
	}
	w.Int(1)
	w.Array(0)
	if !w.whole() {
		t.Error("all was written, and it is not whole")
	}
}

// TestLargeReply: a reply of any size needs no more memory than the writer's buffer.
func TestLargeReply(t *testing.T) {
	n := &countingWriter{}
	w := NewWriter(n, 3)
	big := strings.Repeat("x", 1<<20)
	if a := testing.AllocsPerRun(3, func() {
		w.Array(16)
		for range 16 {
			w.Bulk(big)
		}
		w.Flush()
	}); a > 0 || n.largest > bufferSize {
		t.Errorf("16 MiB took %v allocations and a write of %d bytes", a, n.largest)
	}
}

type countingWriter struct{ largest int }

func (c *countingWriter) Write(p []byte) (int, error) {
	c.largest = max(c.largest, len(p))
	return len(p), nil
}

// value draws any value that RESP3 can carry.
func value() *rapid.Generator[cache.Value] {
	return rapid.Custom(func(t *rapid.T) cache.Value { return drawValue(t, 4) })
}

func drawValue(t *rapid.T, depth int) cache.Value {
	kind := rapid.SampledFrom([]cache.Kind{
		cache.Null, cache.Simple, cache.Bulk, cache.Int, cache.Double, cache.Bool, cache.Err, cache.Verbatim,
		cache.BigNumber, cache.Array, cache.Map, cache.Set, cache.Push,
	}).Draw(t, "kind")
	v := cache.Value{Kind: kind}
	switch kind {
	case cache.Simple, cache.Err:
		v.Str = rapid.StringMatching(`[A-Z]+ [a-z ]*`).Draw(t, "line")
	case cache.Bulk, cache.Verbatim:
		v.Str = string(rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "bytes"))
	case cache.Int:
		v.Int = rapid.Int64().Draw(t, "int")
	case cache.Bool:
		v.Int = rapid.Int64Range(0, 1).Draw(t, "bool")
	case cache.Double:
		v.Float = rapid.Float64().Draw(t, "double")
	case cache.BigNumber:
		v.Str = rapid.StringMatching(`-?[1-9][0-9]{20,40}`).Draw(t, "big")
	case cache.Null:
	default:
		n := 0
		if depth > 0 {
			n = rapid.IntRange(0, 4).Draw(t, "n")
		}
		if kind == cache.Map {
			n *= 2
		}
		v.Items = make([]cache.Value, n)
		for i := range v.Items {
			v.Items[i] = drawValue(t, depth-1)
		}
	}
	return v
}

// TestRoundTrip: what is written in RESP3 reads back as it was, and nothing of it is left over.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(value(), 1, 4).Draw(t, "values")
		var b bytes.Buffer
		w := NewWriter(&b, 3)
		for _, v := range want {
			w.Value(v)
		}
		w.Flush()
		r := NewReader(&b, Limits{})
		for _, v := range want {
			got, err := r.Next()
			if err != nil || !reflect.DeepEqual(got, v) {
				t.Fatalf("got %+v, %v; want %+v", got, err, v)
			}
		}
		if v, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("left over: %+v, %v", v, err)
		}
	})
}

func TestReaderRefuses(t *testing.T) {
	deep := strings.Repeat("*1\r\n", 40) + ":1\r\n"
	for _, tc := range []struct{ in, want string }{
		{"", "EOF"},
		{"$5\r\nab", "unexpected EOF"},
		{"*2\r\n:1\r\n", "unexpected EOF"},
		{"|1\r\n+a\r\n+b\r\n", "unexpected EOF"},
		{":1", "unexpected EOF"},
		{":1\n", "does not end in CR LF"},
		{":a\r\n", "invalid integer"},
		{"#x\r\n", "invalid boolean"},
		{",0x1p3\r\n", "invalid double"},
		{"_x\r\n", "invalid null"},
		{"(12x\r\n", "invalid big number"},
		{"=2\r\nab\r\n", "verbatim string without its format"},
		{"$1000\r\n", "1000 bytes, at most 100"},
		{"*1000\r\n", "more than 50 elements"},
		{"*9\r\n" + strings.Repeat("*9\r\n"+strings.Repeat(":1\r\n", 9), 9), "more than 50 elements"},
		{"*?\r\n", "invalid length of an array"},
		{"?\r\n", "no value begins with '?'"},
		{deep, "nest deeper than 32"},
		{"+" + strings.Repeat("x", 300) + "\r\n", "more than 200 bytes"},
	} {
		_, err := NewReader(strings.NewReader(tc.in), Limits{Bulk: 100, Elements: 50, Inline: 200}).Next()
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.40q: %v, want %s", tc.in, err, tc.want)
		}
	}
}

// TestPromisesCostNothing: a length that was announced is not memory that is taken.
func TestPromisesCostNothing(t *testing.T) {
	for _, in := range []string{"$16000000\r\n", "*10000000\r\n", "%5000000\r\n"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := NewReader(strings.NewReader(in), Limits{}).Next()
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 300<<10 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q takes %d bytes, %v", in, took, err)
		}
	}
}

func FuzzRequests(f *testing.F) {
	for _, s := range []string{"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n", "PING\r\n", "a 'b' \"c\\x00\"\n", "*0\r\n\r\n*1\r\n$0\r\n\r\n", "*-1\r\n", "*1\r\n$5\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		l := Limits{Args: 64, Bulk: 1 << 10, Request: 4 << 10, Inline: 512}
		whole, err := requests(string(in), l)
		if err == nil {
			t.Fatal("no end")
		}
		q := NewRequests(iotest.OneByteReader(bytes.NewReader(in)), l)
		for i := range whole { // in pieces: the same
			args, err := q.Next()
			if err != nil || fmt.Sprintf("%q", args) != fmt.Sprintf("%q", whole[i]) {
				t.Fatalf("request %d: %q, %v in pieces, %q whole", i, args, err, whole[i])
			}
		}
		if _, again := q.Next(); again == nil || errors.Is(again, ErrProtocol) != errors.Is(err, ErrProtocol) {
			t.Fatalf("ends with %v in pieces, %v whole", again, err)
		}
		var b bytes.Buffer // written anew: the same
		w := NewWriter(&b, 2)
		for _, args := range whole {
			w.Command(args...)
		}
		w.Flush()
		again, err := requests(b.String(), Limits{})
		if !errors.Is(err, io.EOF) || !reflect.DeepEqual(again, whole) {
			t.Fatalf("%q became %q, %v", whole, again, err)
		}
	})
}

func FuzzReader(f *testing.F) {
	for _, s := range []string{
		"+OK\r\n", "-ERR x\r\n", ":1\r\n", "$-1\r\n", "$2\r\nab\r\n", "*2\r\n:1\r\n_\r\n", "%1\r\n+a\r\n#t\r\n", ",1.5\r\n,nan\r\n",
		"(123456789012345678901\r\n", "=5\r\ntxt:a\r\n", "!3\r\nE x\r\n", ">1\r\n~0\r\n", "|1\r\n+a\r\n:1\r\n:2\r\n", "*-1\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in), Limits{Bulk: 1 << 12, Elements: 1 << 12})
		for {
			v, err := r.Next()
			if err != nil {
				return
			}
			var b bytes.Buffer
			w := NewWriter(&b, 3)
			w.Value(v)
			w.Flush()
			got, err := NewReader(&b, Limits{}).Next()
			if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", v) { // not DeepEqual: NaN
				t.Fatalf("%+v became %+v, %v", v, got, err)
			}
		}
	})
}
