package grub

import (
	"fmt"
	"strings"
)

// A token of GRUB's script language: a word, or one of the separators newline ; { } | & < >.
type token struct {
	sep  byte   // 0 for a word
	text string // a word without its quotes; variables are left as they are
	// from and to are the bytes of the source.
	from, to int
}

// lex cuts a script into tokens. Comments are left out, a backslash at the end of a line joins it to the next.
func lex(src string) ([]token, error) {
	var ts []token
	for i := 0; i < len(src); {
		switch c := src[i]; {
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case c == '\\' && i+1 < len(src) && src[i+1] == '\n':
			i += 2
		case c == '#':
			for i < len(src) && src[i] != '\n' {
				i++
			}
		case strings.IndexByte("\n;{}|&<>", c) >= 0:
			ts = append(ts, token{sep: c, from: i, to: i + 1})
			i++
		default:
			t, err := lexWord(src, i)
			if err != nil {
				return nil, err
			}
			ts = append(ts, t)
			i = t.to
		}
	}
	return ts, nil
}

func lexWord(src string, from int) (token, error) {
	var text strings.Builder
	i := from
	for i < len(src) {
		switch c := src[i]; {
		case strings.IndexByte(" \t\r\n;{}|&<>", c) >= 0:
			return token{text: text.String(), from: from, to: i}, nil
		case c == '\'':
			end := strings.IndexByte(src[i+1:], '\'')
			if end < 0 {
				return token{}, fmt.Errorf("line %d: a ' is not closed", lineOf(src, i))
			}
			text.WriteString(src[i+1 : i+1+end])
			i += end + 2
		case c == '"':
			end := i + 1
			for end < len(src) && src[end] != '"' {
				if src[end] == '\\' && end+1 < len(src) {
					end++
				}
				text.WriteByte(src[end])
				end++
			}
			if end >= len(src) {
				return token{}, fmt.Errorf("line %d: a \" is not closed", lineOf(src, i))
			}
			i = end + 1
		case c == '\\' && i+1 < len(src):
			if src[i+1] != '\n' {
				text.WriteByte(src[i+1])
			}
			i += 2
		case strings.HasPrefix(src[i:], "${"):
			end := strings.IndexByte(src[i:], '}')
			if end < 0 {
				return token{}, fmt.Errorf("line %d: a ${ is not closed", lineOf(src, i))
			}
			text.WriteString(src[i : i+end+1])
			i += end + 1
		default:
			text.WriteByte(c)
			i++
		}
	}
	return token{text: text.String(), from: from, to: i}, nil
}

func lineOf(src string, at int) int { return 1 + strings.Count(src[:at], "\n") }
