package builtin

import (
	"fmt"
	"math"
	"strings"

	"github.com/kernwave/kernwave/cache"
)

// plural is "1 node", "2 nodes".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// round keeps three digits: what is measured is not known better.
func round(f float64) float64 {
	if f == 0 || math.IsInf(f, 0) || math.IsNaN(f) {
		return f
	}
	p := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(f))))
	return math.Round(f*p) / p
}

func words(ss ...string) []string { return ss }

// maybe is n, or null where it is not known.
func maybe(known bool, n int64) cache.Value {
	if !known {
		return cache.Value{}
	}
	return cache.Number(n)
}

func join(list []string, most int) string {
	if len(list) > most {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}
