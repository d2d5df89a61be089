package grub

import (
	"math"
	"strings"
)

// resolve returns the entry that GRUB boots when its variable default is spec, nil for an empty menu. It does what
// GRUB does also where that is surprising: a spec that is empty, unknown or out of range selects the first entry,
// which is the newest kernel.
//
// Source: get_entry_number, menuentry_eq and grub_menu_execute_entry in grub-core/normal/menu.c of GRUB 2.06.
func resolve(menu []*Entry, spec string) *Entry {
	if len(menu) == 0 {
		return nil
	}
	e := menu[0]
	if i := entryNumber(menu, spec); i >= 0 && i < len(menu) {
		e = menu[i]
	}
	if e.Submenu {
		return resolve(e.Children, afterLevel(spec))
	}
	return e
}

func entryNumber(menu []*Entry, spec string) int {
	if n, ok := leadingNumber(spec); ok {
		return n
	}
	for i, e := range menu {
		if selects(e.Title, spec) || selects(e.ID, spec) {
			return i
		}
	}
	return -1
}

// leadingNumber reads the number that spec begins with, as C's strtoul does with base 0: "1>2" is 1, and so is
// "1st kernel"; "0x10" is 16 and "010" is 8. A number out of range is none of ours.
func leadingNumber(spec string) (int, bool) {
	base, digits := 10, spec
	switch {
	case len(spec) > 2 && (spec[:2] == "0x" || spec[:2] == "0X"):
		base, digits = 16, spec[2:]
	case strings.HasPrefix(spec, "0"):
		base = 8
	}
	n, seen := 0, false
	for _, c := range []byte(digits) {
		d := strings.IndexByte("0123456789abcdef", lower(c))
		if d < 0 || d >= base {
			break
		}
		seen = true
		if n = n*base + d; n > math.MaxInt32 {
			return -1, true
		}
	}
	return n, seen
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// selects says whether name is the first level of spec, in which '>' parts levels and ">>" is a '>' of a name.
func selects(name, spec string) bool {
	if name == "" {
		return false
	}
	i := 0
	for j := 0; ; j++ {
		if j == len(spec) || spec[j] == '>' && (j+1 == len(spec) || spec[j+1] != '>') {
			return i == len(name)
		}
		if spec[j] == '>' {
			j++
		}
		if i == len(name) || name[i] != spec[j] {
			return false
		}
		i++
	}
}

// afterLevel is what is left of spec for a submenu.
func afterLevel(spec string) string {
	for j := 0; j < len(spec); j++ {
		if spec[j] != '>' {
			continue
		}
		if j+1 == len(spec) || spec[j+1] != '>' {
			return spec[j+1:]
		}
		j++
	}
	return ""
}
