package builtin

// Match says whether a key matches a pattern as KEYS and SCAN understand it: * ? [abc] [^a] [a-z] and \ before any of
// them. The gateway filters by itself: a server that does it inside SCAN answers with long calls that hold nothing.
func Match(pattern, s string) bool {
	if s == "" { // as the server has it, to whom "**" is not "*"
		return pattern == "" || pattern == "*"
	}
	// The position to go back to when what follows a * does not match: without it, many stars would take exponential time.
	star, from := -1, 0
	p, i := 0, 0
	for i < len(s) {
		if p < len(pattern) {
			if pattern[p] == '*' {
				star, from = p, i
				p++
				continue
			}
			if next, ok := matchOne(pattern, p, s[i]); ok {
				p = next
				i++
				continue
			}
		}
		if star < 0 {
			return false
		}
		from++
		p, i = star+1, from
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne says whether what begins at p matches c, and where the next begins.
func matchOne(pattern string, p int, c byte) (next int, ok bool) {
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
		return p + 1, pattern[p] == c
	case '[':
		p++
		not := p < len(pattern) && pattern[p] == '^'
		if not {
			p++
		}
		hit := false
		for {
			switch {
			case p >= len(pattern): // never closed: as Redis, the last one counts as the end
				return p, hit != not
			case pattern[p] == ']':
				return p + 1, hit != not
			case pattern[p] == '\\' && p+1 < len(pattern):
				p++
				hit = hit || pattern[p] == c
			case p+2 < len(pattern) && pattern[p+1] == '-':
				lo, hi := pattern[p], pattern[p+2]
				if lo > hi {
					lo, hi = hi, lo
				}
				hit = hit || lo <= c && c <= hi
				p += 2
			default:
				hit = hit || pattern[p] == c
			}
			p++
		}
	}
	return p + 1, pattern[p] == c
}
