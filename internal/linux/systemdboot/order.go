package systemdboot

import (
	"cmp"
	"strings"
)

// compareEntries orders entries as the loader's menu does: the first is what boots where nothing else is chosen.
//
// Source: config_entry_compare of systemd-boot 252.
func compareEntries(a, b *Entry) int {
	flag := func(x bool) int {
		if x {
			return 1
		}
		return 0
	}
	if c := cmp.Compare(flag(a.Tries == 0), flag(b.Tries == 0)); c != 0 {
		return c // those without tries left come last
	}
	if c := cmp.Compare(flag(a.sortKey == ""), flag(b.sortKey == "")); c != 0 {
		return c
	}
	if a.sortKey != "" {
		if c := cmp.Or(strings.Compare(a.sortKey, b.sortKey), strings.Compare(a.machineID, b.machineID), -compareVersions(a.version, b.version)); c != 0 {
			return c
		}
	}
	if c := -compareVersions(strings.ToLower(a.ID), strings.ToLower(b.ID)); c != 0 {
		return c
	}
	if a.Tries < 0 || b.Tries < 0 {
		return 0
	}
	return -cmp.Compare(a.Tries, b.Tries)
}

// compareVersions orders versions as UAPI.10 does.
//
// Source: strverscmp_improved of systemd 252.
func compareVersions(a, b string) int {
	for {
		a, b = dropInvalid(a), dropInvalid(b)
		// ~ is older than everything, the end included.
		if at(a, '~') || at(b, '~') {
			if c := first(at(b, '~'), at(a, '~')); c != 0 {
				return c
			}
			a, b = a[1:], b[1:]
			continue
		}
		if a == "" || b == "" {
			return cmp.Compare(len(a), len(b))
		}
		separated := false
		for _, sep := range []byte{'-', '^', '.'} { // the older ones first
			if at(a, sep) || at(b, sep) {
				if c := first(at(b, sep), at(a, sep)); c != 0 {
					return c
				}
				a, b, separated = a[1:], b[1:], true
				break
			}
		}
		if separated {
			continue
		}
		var x, y string
		if digit(a[0]) || digit(b[0]) {
			x, a = span(a, digit)
			y, b = span(b, digit)
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
				return c // a part without digits, or of zeros only, is older than one with
			}
			continue
		}
		x, a = span(a, letter)
		y, b = span(b, letter)
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
}

func at(s string, c byte) bool { return s != "" && s[0] == c }

// first orders by whether something is so: 1 where only x, -1 where only y.
func first(x, y bool) int {
	switch {
	case x && !y:
		return 1
	case y && !x:
		return -1
	}
	return 0
}

func digit(c byte) bool  { return c >= '0' && c <= '9' }
func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func dropInvalid(s string) string {
	return strings.TrimLeftFunc(s, func(r rune) bool {
		return r > 127 || !digit(byte(r)) && !letter(byte(r)) && !strings.ContainsRune("~-^.", r)
	})
}

func span(s string, in func(byte) bool) (head, tail string) {
	n := 0
	for n < len(s) && in(s[n]) {
		n++
	}
	return s[:n], s[n:]
}
