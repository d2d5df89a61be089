package grub

import (
	"bytes"
	"fmt"
	"strings"
)

// EnvSize is the size of an environment block. GRUB reads and writes exactly the blocks that the file has, so
// a block of another size was not made by GRUB's tools.
const EnvSize = 1024

const envSignature = "# GRUB Environment Block\n"

// Env is GRUB's environment block: variables that outlive a boot, in a file of fixed size which GRUB overwrites in
// place. Lines are name=value, with '\' before a newline or '\' of the value; '#' fills the rest.
// The zero Env is not valid: use [ParseEnv] or [NewEnv].
//
// Source: grub-core/lib/envblk.c of GRUB 2.06, whose reading is followed to the letter, for GRUB does it at boot.
type Env struct{ buf []byte }

// NewEnv returns an empty block.
func NewEnv() Env {
	return Env{append([]byte(envSignature), bytes.Repeat([]byte{'#'}, EnvSize-len(envSignature))...)}
}

// ParseEnv checks the bytes of a grubenv file. b is not kept.
func ParseEnv(b []byte) (Env, error) {
	if len(b) != EnvSize {
		return Env{}, fmt.Errorf("environment block: %d bytes, must be %d", len(b), EnvSize)
	}
	if !bytes.HasPrefix(b, []byte(envSignature)) {
		return Env{}, fmt.Errorf("environment block: does not begin with %q", strings.TrimSpace(envSignature))
	}
	e := Env{bytes.Clone(b)}
	if e.buf[e.space()-1] != '\n' {
		return Env{}, fmt.Errorf("environment block: the last line is cut off")
	}
	for p := len(envSignature); p < e.space(); {
		end := lineEnd(e.buf, p)
		if end >= EnvSize {
			return Env{}, fmt.Errorf("environment block: the line at byte %d has no end", p)
		}
		name, _, isPair := bytes.Cut(e.buf[p:end], []byte("="))
		if e.buf[p] != '#' && (!isPair || len(name) == 0 || bytes.ContainsAny(name, "\\\n")) {
			return Env{}, fmt.Errorf("environment block: the line at byte %d is not name=value", p)
		}
		p = end + 1
	}
	return e, nil
}

// Bytes returns the block as it is on disk.
func (e Env) Bytes() []byte { return bytes.Clone(e.buf) }

// Get returns a variable; empty when it is not set, which GRUB's scripts treat alike.
// The last of several lines with one name counts, as for GRUB's load_env.
func (e Env) Get(name string) string {
	value := ""
	for p := len(envSignature); p < e.space(); {
		end := lineEnd(e.buf, p)
		if line := e.buf[p:end]; bytes.HasPrefix(line, []byte(name+"=")) {
			value = unescape(line[len(name)+1:])
		}
		p = end + 1
	}
	return value
}

// Names returns the variables in the order of their lines.
func (e Env) Names() []string {
	var names []string
	for p := len(envSignature); p < e.space(); {
		end := lineEnd(e.buf, p)
		if name, _, ok := bytes.Cut(e.buf[p:end], []byte("=")); ok && e.buf[p] != '#' {
			names = append(names, string(name))
		}
		p = end + 1
	}
	return names
}

// Set returns the block with the variable set. Comments, other lines and their order stay. It fails when the value
// does not fit any more, or the name cannot be one.
func (e Env) Set(name, value string) (Env, error) {
	if name == "" || name[0] == '#' || strings.ContainsAny(name, "=\n\\") {
		return Env{}, fmt.Errorf("environment block: %q cannot be a variable", name)
	}
	line := []byte(name + "=" + escape(value) + "\n")
	out, replaced := []byte(envSignature), false
	e.eachLine(func(l []byte) {
		if !bytes.HasPrefix(l, []byte(name+"=")) {
			out = append(out, l...)
		} else if !replaced {
			out, replaced = append(out, line...), true
		}
	})
	if !replaced {
		out = append(out, line...)
	}
	if len(out) > EnvSize {
		return Env{}, fmt.Errorf("environment block: no room for %s: %d bytes, at most %d", name, len(out), EnvSize)
	}
	return pad(out), nil
}

// Unset returns the block without the variable.
func (e Env) Unset(name string) Env {
	out := []byte(envSignature)
	e.eachLine(func(l []byte) {
		if !bytes.HasPrefix(l, []byte(name+"=")) {
			out = append(out, l...)
		}
	})
	return pad(out)
}

func pad(b []byte) Env {
	return Env{append(b, bytes.Repeat([]byte{'#'}, EnvSize-len(b))...)}
}

// eachLine calls f with each line after the signature, newline included.
func (e Env) eachLine(f func([]byte)) {
	for p := len(envSignature); p < e.space(); {
		end := lineEnd(e.buf, p)
		f(e.buf[p : end+1])
		p = end + 1
	}
}

// space is where the padding begins.
func (e Env) space() int {
	n := len(e.buf)
	for n > len(envSignature) && e.buf[n-1] == '#' {
		n--
	}
	return n
}

// lineEnd finds the newline that ends the line at p, or a place at or after the end.
func lineEnd(b []byte, p int) int {
	for p < len(b) && b[p] != '\n' {
		if b[p] == '\\' {
			p++
		}
		p++
	}
	return p
}

func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "\n", "\\\n").Replace(s)
}

func unescape(b []byte) string {
	var out []byte
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
		}
		out = append(out, b[i])
	}
	return string(out)
}
