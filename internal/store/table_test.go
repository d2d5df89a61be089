package store

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTable holds tables against maps: what they hold, that none of them ever changes, and what differs between any two.
func TestTable(t *testing.T) {
	type pair struct {
		table Table[string, int]
		plain map[string]*int
	}
	rapid.Check(t, func(rt *rapid.T) {
		all := []pair{{plain: map[string]*int{}}}
		spread := rapid.SampledFrom([]int{5, 5000}).Draw(rt, "keys") // few that meet again, or many in one part
		for range rapid.IntRange(1, 60).Draw(rt, "changes") {
			last := rapid.SampledFrom(all).Draw(rt, "from")
			next := pair{last.table, maps.Clone(last.plain)}
			k := fmt.Sprint("host-", rapid.IntRange(0, spread).Draw(rt, "key"))
			if rapid.Bool().Draw(rt, "put") {
				v := new(int)
				next.table, next.plain[k] = next.table.Put(k, v), v
			} else {
				next.table = next.table.Delete(k)
				delete(next.plain, k)
			}
			all = append(all, next)
		}
		for _, p := range all {
			if got := maps.Collect(p.table.All()); !maps.Equal(got, p.plain) || p.table.Len() != len(p.plain) {
				rt.Fatalf("got %d rows (Len %d), want %d", len(got), p.table.Len(), len(p.plain))
			}
			for k, v := range p.plain {
				if p.table.Get(k) != v {
					rt.Fatalf("%s: got another row", k)
				}
			}
			if p.table.Get("nobody") != nil {
				rt.Fatal("a key that was never put has a row")
			}
		}
		a, b := rapid.SampledFrom(all).Draw(rt, "a"), rapid.SampledFrom(all).Draw(rt, "b")
		var got, want []string
		b.table.Since(a.table, func(k string, was, is *int) {
			got = append(got, k)
			if was != a.plain[k] || is != b.plain[k] {
				rt.Fatalf("%s: other rows than there are", k)
			}
		})
		both := maps.Clone(a.plain)
		maps.Copy(both, b.plain)
		for k := range both {
			if a.plain[k] != b.plain[k] {
				want = append(want, k)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			rt.Fatalf("changed: got %v, want %v", got, want)
		}
	})
}

func BenchmarkTablePut(b *testing.B) {
	for _, n := range []int{100, 5_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var t Table[string, int]
			keys := make([]string, n)
			for i := range keys {
				keys[i] = fmt.Sprintf("host-%06d", i)
				t = t.Put(keys[i], new(int))
			}
			v, i := new(int), 0
			for b.Loop() {
				t = t.Put(keys[i%n], v)
				i++
			}
		})
	}
}
