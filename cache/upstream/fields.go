package upstream

import (
	"net"
	"strconv"
	"strings"
)

// tableLine is one line of CLUSTER NODES.
type tableLine struct {
	id, addr, role, follows string
	slots                   [][2]int
}

// parseTable reads CLUSTER NODES. Nodes without an address, or that are still shaking hands, are left out.
func parseTable(s string) []tableLine {
	var out []tableLine
	for line := range strings.SplitSeq(s, "\n") {
		f := strings.Fields(line)
		if len(f) < 8 || strings.Contains(f[2], "handshake") || strings.Contains(f[2], "noaddr") {
			continue
		}
		addr, _, _ := strings.Cut(f[1], "@")
		addr, _, _ = strings.Cut(addr, ",")
		host, port, ok := cutLast(addr, ":")
		if !ok || host == "" {
			continue
		}
		l := tableLine{id: f[0], addr: net.JoinHostPort(strings.Trim(host, "[]"), port), role: Primary}
		if strings.Contains(f[2], "slave") {
			l.role, l.follows = Replica, f[3]
		}
		for _, r := range f[8:] {
			if strings.HasPrefix(r, "[") { // on its way to or from elsewhere
				continue
			}
			lo, hi, two := strings.Cut(r, "-")
			a, err := strconv.Atoi(lo)
			b := a
			if two && err == nil {
				b, err = strconv.Atoi(hi)
			}
			if err == nil && a >= 0 && a <= b && b < 16384 {
				l.slots = append(l.slots, [2]int{a, b})
			}
		}
		out = append(out, l)
	}
	return out
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// ParseInfo reads the fields of INFO.
func ParseInfo(s string) map[string]string { return fields(s, "\n", ":") }

// fields reads "a=1,b=2" and the like.
func fields(s, sep, eq string) map[string]string {
	m := map[string]string{}
	for part := range strings.SplitSeq(s, sep) {
		if k, v, ok := strings.Cut(strings.TrimRight(part, "\r"), eq); ok {
			m[k] = v
		}
	}
	return m
}

// Fields reads "a=1,b=2", as the values of INFO hold.
func Fields(s string) map[string]string { return fields(s, ",", "=") }
