package judgecase

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// LineError is what is wrong with one line.
type LineError struct {
	Line int
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }
func (e *LineError) Unwrap() error { return e.Err }

// maxLine is how long a line may be: a type of 1,000 hosts with 8 signals over two days at 15 s has about 700 MB.
const maxLine = 1 << 30

// Reader reads cases, one at a time. Compressed input is recognised by how it begins.
type Reader struct {
	in   *bufio.Reader
	line int
	buf  []byte
}

// NewReader reads cases from r.
func NewReader(r io.Reader) (*Reader, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("it begins like gzip, but: %w", cutOff(err))
		}
		in = bufio.NewReaderSize(z, 1<<16)
	}
	return &Reader{in: in}, nil
}

// Next returns the next case and its line, io.EOF after the last one. After a *LineError the next call reads the line
// behind it; after any other error nothing more can be read.
func (r *Reader) Next() (Case, int, error) {
	for {
		text, err := r.nextLine()
		if err != nil {
			return Case{}, r.line, err
		}
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		var c Case
		if err := json.Unmarshal(text, &c); err != nil {
			return Case{}, r.line, &LineError{r.line, explainJSON(text, err)}
		}
		return c, r.line, nil
	}
}

// nextLine is valid until the next call.
func (r *Reader) nextLine() ([]byte, error) {
	r.buf = r.buf[:0]
	r.line++
	for {
		part, err := r.in.ReadSlice('\n')
		if len(r.buf)+len(part) > maxLine {
			return nil, fmt.Errorf("line %d is longer than %d MB: split the hosts or the hours", r.line, maxLine>>20)
		}
		r.buf = append(r.buf, part...)
		switch {
		case err == nil, errors.Is(err, io.EOF) && len(r.buf) > 0:
			return r.buf, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		default:
			return nil, fmt.Errorf("read line %d: %w", r.line, cutOff(err))
		}
	}
}

// errCutOff is that compressed data ends before its end. It is no io.ErrUnexpectedEOF, which is also what a connection
// that broke off gives.
var errCutOff = errors.New("the compressed data is cut off")

func cutOff(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errCutOff
	}
	return err
}

// explainJSON says where a line is wrong, and what could be meant.
func explainJSON(text []byte, err error) error {
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("%s: a %s is no %s", orElse(wrong.Field, "the line"), wrong.Value, wrong.Type)
		}
		return err
	}
	at := int(min(max(syntax.Offset-1, 0), int64(len(text))))
	for _, word := range []string{"NaN", "Infinity", "-Infinity", "nan", "inf"} {
		if bytes.HasPrefix(text[at:], []byte(word)) {
			return fmt.Errorf("character %d: %s is not JSON; a missing sample is null", at+1, word)
		}
	}
	if at >= len(bytes.TrimRight(text, "\r\n")) {
		return errors.New("it ends too early: it is cut off, or no JSON")
	}
	return fmt.Errorf("character %d: %w", at+1, err)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
