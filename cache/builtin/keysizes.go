package builtin

import (
	"context"
	"strconv"
	"strings"

	"github.com/kernwave/kernwave/cache/upstream"
)

// A string is large from largeFrom bytes on; its MEMORY USAGE, which rounds up to what the allocator has and adds what the key takes, is less than
// largeMost of it. What in a sample is larger than largeSeen is certainly a large string, or an aggregate.
const (
	largeFrom = 8192
	largeSeen = largeFrom*5/4 + 128
)

func largeMost(bytes float64) float64 { return bytes*5/4 + 128 }

// largeOf is the most that all large strings of a server take together, as INFO keysizes says, a histogram by powers of two that
// Redis keeps since 8.0. known is false where there is none, or where large lists, sets or hashes could hold any amount.
func largeOf(info string) (bytes float64, known bool) {
	for line := range strings.SplitSeq(info, "\n") {
		name, list, ok := strings.Cut(strings.TrimSpace(line), ":")
		_, kind, distrib := strings.Cut(name, "_distrib_")
		if !ok || !distrib {
			continue
		}
		known = true
		for pair := range strings.SplitSeq(list, ",") {
			at, n, _ := strings.Cut(pair, "=")
			least, err := sizeClass(at)
			count, cerr := strconv.ParseFloat(n, 64)
			if err != nil || cerr != nil {
				return 0, false
			}
			switch {
			case kind != "strings_sizes" && least >= 1024:
				return 0, false
			case kind == "strings_sizes" && least >= largeFrom:
				bytes += count * largeMost(2*least)
			}
		}
	}
	return bytes, known
}

// sizeClass reads 1, 512, 16K, 2M, 1G.
func sizeClass(s string) (float64, error) {
	unit := 1.0
	if s == "" {
		return 0, strconv.ErrSyntax
	}
	if i := strings.IndexByte("KMGT", s[len(s)-1]); i >= 0 {
		unit = float64(int64(1) << (10 * (i + 1)))
		s = s[:len(s)-1]
	}
	n, err := strconv.ParseFloat(s, 64)
	return n * unit, err
}

// learnLarge asks a node for it.
func (p *population) learnLarge(ctx context.Context, n *upstream.Node) {
	if v, err := n.Do(ctx, "INFO", "keysizes"); err == nil {
		p.large, p.largeKnown = largeOf(v.Str)
	}
}
