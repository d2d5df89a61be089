// Package near finds the names that somebody meant who typed another one.
//
//	near.Names("hots", []string{"hosts", "racks"}) // hosts
package near

import (
	"cmp"
	"slices"
	"strings"
)

// most is how many names are suggested.
const most = 3

// Names gives the names that someone who typed s may have meant, those that are nearest: few letters differ, or else one
// begins with the other.
func Names(s string, names []string) []string {
	type candidate struct {
		name string
		far  int
	}
	var found []candidate
	s = strings.ToLower(s)
	for _, name := range names {
		n := strings.ToLower(name)
		far := Distance(s, n)
		switch {
		case far <= 1+len(s)/5:
		case len(s) >= 2 && strings.HasPrefix(n, s), len(n) >= 2 && strings.HasPrefix(s, n):
			far = 100 // behind every typing error
		default:
			continue
		}
		found = append(found, candidate{name, far})
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(a.name, b.name))
	})
	var out []string
	for _, c := range found[:min(most, len(found))] {
		if c.far == found[0].far {
			out = append(out, c.name)
		}
	}
	return out
}

// Distance counts the letters to change, add, leave out or swap with their neighbour.
func Distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	d := make([][]int, len(x)+1)
	for i := range d {
		d[i] = make([]int, len(y)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			change := 1
			if x[i-1] == y[j-1] {
				change = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+change)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(x)][len(y)]
}
