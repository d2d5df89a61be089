package store

import (
	"cmp"
	"iter"
	"slices"
)

// buckets is how many parts a Table has: a change copies the list of parts and one of them. With 512, that is some
// 5 KiB for 100 rows and some 10 KiB for 100,000.
const buckets = 512

// Table is a map that never changes: Put and Delete return another one, which shares all but one of its parts with
// it. So a snapshot is a copy of the value, and what differs between two snapshots is found without looking at what
// they share. The zero Table is empty.
type Table[K ~string, V any] struct {
	parts *[buckets][]row[K, V] // each sorted by key; never written to once it is here
	n     int
}

type row[K ~string, V any] struct {
	key K
	v   *V
}

func bucket[K ~string](k K) int {
	h := uint32(2166136261) // FNV-1a: the same in every run, so that All has the same order
	for i := range len(k) {
		h = (h ^ uint32(k[i])) * 16777619
	}
	return int((h ^ h>>16) % buckets)
}

func search[K ~string, V any](p []row[K, V], k K) (int, bool) {
	return slices.BinarySearchFunc(p, k, func(r row[K, V], k K) int { return cmp.Compare(r.key, k) })
}

// Get returns the row of k, which nobody may change; nil: there is none.
func (t Table[K, V]) Get(k K) *V {
	if t.parts == nil {
		return nil
	}
	p := t.parts[bucket(k)]
	if i, ok := search(p, k); ok {
		return p[i].v
	}
	return nil
}

// Len is the number of rows.
func (t Table[K, V]) Len() int { return t.n }

// All goes through the rows, always in the same order for the same keys, but in no order that means anything.
func (t Table[K, V]) All() iter.Seq2[K, *V] {
	return func(yield func(K, *V) bool) {
		if t.parts == nil {
			return
		}
		for _, p := range t.parts {
			for _, r := range p {
				if !yield(r.key, r.v) {
					return
				}
			}
		}
	}
}

// Put returns t with v as the row of k.
func (t Table[K, V]) Put(k K, v *V) Table[K, V] {
	parts := new([buckets][]row[K, V])
	if t.parts != nil {
		*parts = *t.parts
	}
	b := bucket(k)
	i, there := search(parts[b], k)
	if there {
		parts[b] = slices.Clone(parts[b])
		parts[b][i].v = v
		return Table[K, V]{parts, t.n}
	}
	p := make([]row[K, V], 0, len(parts[b])+1)
	p = append(append(append(p, parts[b][:i]...), row[K, V]{k, v}), parts[b][i:]...)
	parts[b] = p
	return Table[K, V]{parts, t.n + 1}
}

// Delete returns t without the row of k.
func (t Table[K, V]) Delete(k K) Table[K, V] {
	if t.Get(k) == nil {
		return t
	}
	parts := new([buckets][]row[K, V])
	*parts = *t.parts
	b := bucket(k)
	parts[b] = slices.DeleteFunc(slices.Clone(parts[b]), func(r row[K, V]) bool { return r.key == k })
	return Table[K, V]{parts, t.n - 1}
}

// Since calls f for each key whose row in t is another one than in old, with both; nil: there is none. A row that was
// put again counts as another one, also when it says the same.
func (t Table[K, V]) Since(old Table[K, V], f func(k K, was, is *V)) {
	if t.parts == old.parts {
		return
	}
	var none [buckets][]row[K, V]
	was, is := old.parts, t.parts
	if was == nil {
		was = &none
	}
	if is == nil {
		is = &none
	}
	for b := range buckets {
		p, q := was[b], is[b]
		if len(p) == len(q) && (len(p) == 0 || &p[0] == &q[0]) {
			continue
		}
		for len(p) > 0 || len(q) > 0 {
			switch {
			case len(q) == 0 || len(p) > 0 && p[0].key < q[0].key:
				f(p[0].key, p[0].v, nil)
				p = p[1:]
			case len(p) == 0 || q[0].key < p[0].key:
				f(q[0].key, nil, q[0].v)
				q = q[1:]
			default:
				if p[0].v != q[0].v {
					f(p[0].key, p[0].v, q[0].v)
				}
				p, q = p[1:], q[1:]
			}
		}
	}
}
