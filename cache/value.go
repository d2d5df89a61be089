package cache

import (
	"math"
	"strconv"
)

// Kind is what a [Value] holds.
type Kind uint8

// The kinds, named after RESP3. The zero value is the null.
const (
	Null   Kind = iota
	Simple      // a short status: +OK
	Bulk        // bytes
	Int
	Double
	Bool
	Array
	Map  // Items alternate key and value, in order
	Set  // Items, no order
	Push // Items, out of band; RESP3 only
	Err  // Str is the whole error line: "WRONGTYPE Operation against …"
	// Verbatim is text for people: Str without RESP3's "txt:".
	Verbatim
	// BigNumber is an integer beyond 64 bits, in decimal in Str.
	BigNumber
)

// Value is one reply, or part of one: RESP and JSON print the same tree. The zero value is null.
type Value struct {
	Kind  Kind
	Str   string  // Simple, Bulk, Err, Verbatim, BigNumber; may hold any bytes
	Int   int64   // Int; Bool: 1 or 0
	Float float64 // Double
	Items []Value // Array, Set, Push; Map: key, value, key, value …
}

// OK is +OK.
var OK = Value{Kind: Simple, Str: "OK"}

// String makes a bulk string.
func String(s string) Value { return Value{Kind: Bulk, Str: s} }

// Status makes a simple string.
func Status(s string) Value { return Value{Kind: Simple, Str: s} }

// Number makes an integer.
func Number[T ~int | ~int64 | ~int32 | ~uint32 | ~uint16](n T) Value {
	return Value{Kind: Int, Int: int64(n)}
}

// Real makes a double.
func Real(f float64) Value { return Value{Kind: Double, Float: f} }

// Truth makes a boolean.
func Truth(b bool) Value {
	if b {
		return Value{Kind: Bool, Int: 1}
	}
	return Value{Kind: Bool}
}

// List makes an array.
func List(items ...Value) Value { return Value{Kind: Array, Items: items} }

// Strings makes an array of bulk strings.
func Strings(ss ...string) Value {
	v := Value{Kind: Array, Items: make([]Value, len(ss))}
	for i, s := range ss {
		v.Items[i] = String(s)
	}
	return v
}

// Dict makes a map out of keys and values in turn, in that order: Dict("n", Number(3), "bytes", Number(9)).
func Dict(pairs ...any) Value {
	v := Value{Kind: Map, Items: make([]Value, 0, len(pairs))}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Items = append(v.Items, String(pairs[i].(string)), pairs[i+1].(Value))
	}
	if len(pairs)%2 != 0 {
		panic("cache.Dict: a key without a value")
	}
	return v
}

// Add appends a pair to a map.
func (v *Value) Add(key string, val Value) { v.Items = append(v.Items, String(key), val) }

// Get returns the value under key of a map, or of an array that alternates keys and values as RESP2 sends it. Null if
// there is none.
func (v Value) Get(key string) Value {
	if v.Kind == Map || v.Kind == Array {
		for i := 0; i+1 < len(v.Items); i += 2 {
			if k := v.Items[i]; (k.Kind == Bulk || k.Kind == Simple) && k.Str == key {
				return v.Items[i+1]
			}
		}
	}
	return Value{}
}

// IsNull says whether v is the null.
func (v Value) IsNull() bool { return v.Kind == Null }

// Text is v as a person reads a scalar: numbers in decimal, null as "". It is empty for aggregates.
func (v Value) Text() string {
	switch v.Kind {
	case Simple, Bulk, Err, Verbatim, BigNumber:
		return v.Str
	case Int:
		return strconv.FormatInt(v.Int, 10)
	case Double:
		return formatFloat(v.Float)
	case Bool:
		return strconv.FormatBool(v.Int != 0)
	case Null, Array, Map, Set, Push:
	}
	return ""
}

// Integer reads an integer, also where a server sent it as a string. ok is false where v is no integer.
func (v Value) Integer() (n int64, ok bool) {
	switch v.Kind {
	case Int, Bool:
		return v.Int, true
	case Bulk, Simple:
		n, err := strconv.ParseInt(v.Str, 10, 64)
		return n, err == nil
	default:
		return 0, false
	}
}

// formatFloat prints as RESP does: inf, -inf, nan, else the shortest that reads back.
func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}
