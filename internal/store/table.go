package store

import (
	"cmp"
	"iter"
	"slices"
)

// Table is a map that never changes: Put and Delete return another one, which shares nearly all of itself with it. So
// a snapshot is a copy of the value, and what differs between two snapshots is found without looking at what they
// share. The zero Table is empty.
//
// It is a tree over the bits of the keys' hashes. Put copies the way from the root to one leaf: some 1 KiB, for 100
// rows as for 100,000.
type Table[K ~string, V any] struct {
	root *node[K, V]
	n    int
}

// fan is how many kids a node has, one for each value of bits bits of the hash; leaf how many rows one node holds
// before it gets kids; deepest the level at which the hash has no bits left.
const (
	bits    = 4
	fan     = 1 << bits
	leaf    = 16
	deepest = 32 / bits
)

// node has either kids or rows, which are sorted by key. It is never written to once it is in a table.
type node[K ~string, V any] struct {
	kids *[fan]*node[K, V]
	rows []row[K, V]
}

type row[K ~string, V any] struct {
	key K
	v   *V
}

// hash is FNV-1a, mixed: the same in every run, so that All has the same order.
func hash[K ~string](k K) uint32 {
	h := uint32(2166136261)
	for i := range len(k) {
		h = (h ^ uint32(k[i])) * 16777619
	}
	return h ^ h>>15
}

func search[K ~string, V any](rows []row[K, V], k K) (int, bool) {
	return slices.BinarySearchFunc(rows, k, func(r row[K, V], k K) int { return cmp.Compare(r.key, k) })
}

// Get returns the row of k, which nobody may change; nil: there is none.
func (t Table[K, V]) Get(k K) *V {
	n := t.root
	for h := hash(k); n != nil && n.kids != nil; h >>= bits {
		n = n.kids[h%fan]
	}
	if n == nil {
		return nil
	}
	if i, ok := search(n.rows, k); ok {
		return n.rows[i].v
	}
	return nil
}

// Len is the number of rows.
func (t Table[K, V]) Len() int { return t.n }

// All goes through the rows, in no order that means anything.
func (t Table[K, V]) All() iter.Seq2[K, *V] {
	return func(yield func(K, *V) bool) { t.root.all(yield) }
}

func (n *node[K, V]) all(yield func(K, *V) bool) bool {
	if n == nil {
		return true
	}
	for _, r := range n.rows {
		if !yield(r.key, r.v) {
			return false
		}
	}
	if n.kids != nil {
		for _, kid := range n.kids {
			if !kid.all(yield) {
				return false
			}
		}
	}
	return true
}

// Put returns t with v as the row of k.
func (t Table[K, V]) Put(k K, v *V) Table[K, V] {
	root, added := t.root.put(row[K, V]{k, v}, hash(k), 0)
	if added {
		t.n++
	}
	return Table[K, V]{root, t.n}
}

func (n *node[K, V]) put(r row[K, V], h uint32, level int) (_ *node[K, V], added bool) {
	if n == nil {
		return &node[K, V]{rows: []row[K, V]{r}}, true
	}
	if n.kids != nil {
		kids := *n.kids
		kids[h%fan], added = kids[h%fan].put(r, h>>bits, level+1)
		return &node[K, V]{kids: &kids}, added
	}
	i, there := search(n.rows, r.key)
	if there {
		rows := slices.Clone(n.rows)
		rows[i] = r
		return &node[K, V]{rows: rows}, false
	}
	rows := make([]row[K, V], 0, len(n.rows)+1)
	rows = append(append(append(rows, n.rows[:i]...), r), n.rows[i:]...)
	if len(rows) <= leaf || level == deepest {
		return &node[K, V]{rows: rows}, true
	}
	split := &node[K, V]{kids: new([fan]*node[K, V])}
	for _, one := range rows {
		to := &split.kids[hash(one.key)>>(bits*level)%fan]
		if *to == nil {
			*to = &node[K, V]{}
		}
		(*to).rows = append((*to).rows, one)
	}
	return split, true
}

// Delete returns t without the row of k.
func (t Table[K, V]) Delete(k K) Table[K, V] {
	if t.Get(k) == nil {
		return t
	}
	return Table[K, V]{t.root.without(k, hash(k)), t.n - 1}
}

func (n *node[K, V]) without(k K, h uint32) *node[K, V] {
	if n.kids != nil {
		kids := *n.kids
		kids[h%fan] = kids[h%fan].without(k, h>>bits)
		return &node[K, V]{kids: &kids}
	}
	return &node[K, V]{rows: slices.DeleteFunc(slices.Clone(n.rows), func(r row[K, V]) bool { return r.key == k })}
}

// Since calls f for each key whose row in t is another one than in old, with both; nil: there is none. A row that was
// put again counts as another one, also when it says the same.
func (t Table[K, V]) Since(old Table[K, V], f func(k K, was, is *V)) { since(old.root, t.root, f) }

func since[K ~string, V any](was, is *node[K, V], f func(k K, was, is *V)) {
	switch {
	case was == is:
		return
	case was != nil && is != nil && was.kids != nil && is.kids != nil:
		for i := range fan {
			since(was.kids[i], is.kids[i], f)
		}
		return
	}
	p, q := was.sorted(), is.sorted()
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

// sorted are all rows below n, by key.
func (n *node[K, V]) sorted() (rows []row[K, V]) {
	if n == nil || n.kids == nil {
		if n != nil {
			rows = n.rows
		}
		return rows
	}
	n.all(func(k K, v *V) bool { rows = append(rows, row[K, V]{k, v}); return true })
	slices.SortFunc(rows, func(a, b row[K, V]) int { return cmp.Compare(a.key, b.key) })
	return rows
}
