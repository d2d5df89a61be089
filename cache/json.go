package cache

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"unicode/utf8"
)

// MarshalJSON prints the tree as JSON: maps as objects in their order, doubles that JSON lacks as null, bytes that are
// no UTF-8 as {"base64": "…"}, errors as {"error": "…"}.
func (v Value) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	err := v.json(&b)
	return b.Bytes(), err
}

func (v Value) json(b *bytes.Buffer) error {
	switch v.Kind {
	case Null:
		b.WriteString("null")
	case Simple, Bulk, Verbatim:
		if !utf8.ValidString(v.Str) {
			b.WriteString(`{"base64":"` + base64.StdEncoding.EncodeToString([]byte(v.Str)) + `"}`)
			return nil
		}
		return put(b, v.Str)
	case Err:
		b.WriteString(`{"error":`)
		if err := put(b, v.Str); err != nil {
			return err
		}
		b.WriteByte('}')
	case BigNumber, Int:
		b.WriteString(v.Text())
	case Double:
		if math.IsNaN(v.Float) || math.IsInf(v.Float, 0) {
			b.WriteString("null")
			return nil
		}
		return put(b, v.Float)
	case Bool:
		b.WriteString(v.Text())
	case Array, Set, Push:
		b.WriteByte('[')
		for i, x := range v.Items {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := x.json(b); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case Map:
		b.WriteByte('{')
		for i := 0; i+1 < len(v.Items); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := put(b, v.Items[i].Text()); err != nil {
				return err
			}
			b.WriteByte(':')
			if err := v.Items[i+1].json(b); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	}
	return nil
}

// put writes x without escaping <, > and &: replies are read by programs and terminals, not by browsers.
func put(b *bytes.Buffer, x any) error {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(x); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // Encode ends with a line feed
	return nil
}
