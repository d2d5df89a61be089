package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// encodingVersion is raised when a key is removed or changes its meaning. New keys do not raise it.
const encodingVersion = 1

// printJSON writes one answer: {"version":1,"kind":KIND,…} with v's own keys behind. v must encode to an object.
func printJSON(w io.Writer, kind string, v any) error {
	b, err := encode(kind, v)
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, b, "", "  "); err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	pretty.WriteByte('\n')
	_, err = w.Write(pretty.Bytes())
	return err
}

// printJSONLine writes one object of a stream, on a line of its own.
func printJSONLine(w io.Writer, kind string, v any) error {
	b, err := encode(kind, v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

func encode(kind string, v any) ([]byte, error) {
	head, err := json.Marshal(struct {
		Version int    `json:"version"`
		Kind    string `json:"kind"`
	}{encodingVersion, kind})
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", kind, err)
	}
	switch {
	case len(body) < 2 || body[0] != '{':
		panic(fmt.Sprintf("%T does not encode to a JSON object", v))
	case len(body) == 2:
		return head, nil
	}
	return append(append(head[:len(head)-1], ','), body[1:]...), nil
}
