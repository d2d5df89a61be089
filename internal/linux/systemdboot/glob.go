package systemdboot

import "strings"

// Match says whether a pattern of the loader (LoaderEntryDefault, default in loader.conf) selects an entry: ?, *, sets
// with ranges, and \ before what stands for itself. Case does not count. An empty pattern selects nothing.
//
// Source: efi_fnmatch of systemd-boot 252.
func Match(pattern, id string) bool {
	if pattern == "" {
		return false
	}
	return match([]rune(strings.ToLower(pattern)), []rune(strings.ToLower(id)))
}

// match looks for the shortest thing that each * can stand for, and comes back to the last one only: that is enough,
// and takes no more than len(p)*len(h) steps.
func match(p, h []rune) bool {
	star, from := -1, 0
	i, j := 0, 0
	for {
		if i < len(p) && p[i] == '*' {
			star, from = i, j
			i++
			continue
		}
		if i == len(p) && j == len(h) {
			return true
		}
		if i < len(p) && j < len(h) {
			if n, ok := matchOne(p[i:], h[j]); ok {
				i, j = i+n, j+1
				continue
			}
		}
		if star < 0 || from >= len(h) {
			return false
		}
		from++
		i, j = star+1, from
	}
}

// matchOne matches the pattern's next element against one rune and says how long the element is.
func matchOne(p []rune, r rune) (n int, ok bool) {
	switch p[0] {
	case '?':
		return 1, true
	case '\\':
		return 2, len(p) > 1 && p[1] == r
	case '[':
		return matchSet(p, r)
	}
	return 1, p[0] == r
}

// matchSet matches a set such as [a-z_]. One without an end matches nothing.
func matchSet(p []rune, r rune) (n int, ok bool) {
	ranges := true // whether a - after this rune makes a range
	for i := 1; i < len(p); i++ {
		first := i == 1
		switch {
		case p[i] == ']' && !first:
			return i + 1, ok
		case p[i] == '-' && !first && ranges && i+1 < len(p) && p[i+1] != ']':
			low := p[i-1]
			i++
			if p[i] == '\\' && i+1 < len(p) {
				i++
			}
			ok = ok || low <= r && r <= p[i]
			ranges = false
			continue
		case p[i] == '\\' && i+1 < len(p):
			i++
		}
		ok = ok || p[i] == r
		ranges = true
	}
	return 0, false
}

// plainID says whether an entry's name stands for itself as a pattern.
func plainID(id string) bool { return id != "" && !strings.ContainsAny(id, `*?[\`) && id[0] != '@' }
