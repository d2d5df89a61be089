package systemdboot

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxEntry bounds an entry's file; the kernel takes a command line of 2 KiB.
const maxEntry = 64 << 10

// Line is one key and its value.
type Line struct{ Key, Value string }

// Lines are the keys and values of an entry or of loader.conf, without comments, in the order of the file.
//
// Source: line_get_key_value of systemd-boot 252, whose reading is followed to the letter, for it is done at boot.
type Lines []Line

// ParseLines reads them. A key without a value is left out, as the loader does.
func ParseLines(b []byte) (Lines, error) {
	if len(b) > maxEntry {
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(b), maxEntry)
	}
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return nil, fmt.Errorf("a NUL at byte %d: the file is damaged", i)
	}
	var ls Lines
	for _, line := range strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' || r == '\r' }) {
		line = strings.Trim(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		at := strings.IndexAny(line, " \t")
		if at < 0 {
			continue
		}
		value := strings.TrimLeft(line[at:], " \t")
		if value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1:max(1, len(value)-1)]
		}
		ls = append(ls, Line{line[:at], value})
	}
	return ls, nil
}

// Bytes prints them, so that they are read back as they are.
func (ls Lines) Bytes() []byte {
	var b bytes.Buffer
	for _, l := range ls {
		v := l.Value
		if v == "" || strings.Trim(v, " \t") != v || v[0] == '"' && v[len(v)-1] == '"' {
			v = `"` + v + `"`
		}
		fmt.Fprintf(&b, "%s %s\n", l.Key, v)
	}
	return b.Bytes()
}

// last returns the value that counts where a key may be given once.
func (ls Lines) last(key string) string {
	for i := len(ls) - 1; i >= 0; i-- {
		if ls[i].Key == key {
			return ls[i].Value
		}
	}
	return ""
}

// all returns every value of a key.
func (ls Lines) all(key string) []string {
	var vs []string
	for _, l := range ls {
		if l.Key == key {
			vs = append(vs, l.Value)
		}
	}
	return vs
}

// without returns the lines that have none of the keys.
func (ls Lines) without(keys ...string) Lines {
	var out Lines
	for _, l := range ls {
		if !slices.Contains(keys, l.Key) {
			out = append(out, l)
		}
	}
	return out
}

// options is the kernel's command line: all lines of it, joined.
func (ls Lines) options() string { return strings.Join(ls.all("options"), " ") }

// withOptions returns the lines with one line of options in place of all.
func (ls Lines) withOptions(text string) Lines {
	return append(ls.without("options"), Line{"options", text})
}

// Entry is one thing that systemd-boot can boot.
type Entry struct {
	// ID is the name of its file, which is what the loader knows it by, whatever the case of its letters.
	ID string
	// Tries is what is left of its boot counter, -1 where it has none.
	Tries int
	// Part is where its file is, and Path the file below that.
	Part *Partition
	Path string
	// Lines are those of a type 1 entry. A unified kernel image (type 2) has none.
	Lines Lines
	// Release is of the kernel that it boots; empty: it boots none, or it cannot be told.
	Release string
	// Why it does not count, although its file is there; empty: it counts. The loader does not show such an entry.
	Why string
	// sort keys
	sortKey, machineID, version string
}

// UKI says whether the entry is a unified kernel image.
func (e *Entry) UKI() bool { return e.Lines == nil }

// base is the ID without its boot counter: what stays the same from boot to boot.
func (e *Entry) base() string { return baseOf(e.ID) }

func baseOf(id string) string {
	stem, _, ext, ok := counter(id)
	if !ok {
		return id
	}
	return stem + ext
}

// counter takes a boot counter off a file's name: name+3-1.conf has three tries left and one behind it.
//
// Source: config_entry_parse_tries of systemd-boot 252: the last + of the name, and nothing but the counter between it
// and the suffix.
func counter(id string) (stem string, left int, ext string, ok bool) {
	dot := strings.LastIndexByte(id, '.')
	if dot < 0 {
		return "", 0, "", false
	}
	plus := strings.LastIndexByte(id[:dot], '+')
	if plus < 0 {
		return "", 0, "", false
	}
	tries, done, has := strings.Cut(id[plus+1:dot], "-")
	n, err := strconv.ParseUint(tries, 10, 31)
	if err != nil {
		return "", 0, "", false
	}
	if has {
		if _, err := strconv.ParseUint(done, 10, 31); err != nil {
			return "", 0, "", false
		}
	}
	return id[:plus], int(n), id[dot:], true
}
