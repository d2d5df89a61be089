package sqlite

import (
	"crypto/sha256"
	"encoding/json"
	"sync"
)

// decoded keeps what bodies were decoded to. Every tick reads every host and every operation of its rollouts, few of
// which have changed, and decoding JSON is most of what that costs. The body itself decides whether a value is still
// good, so that snapshots, transactions and rollbacks cannot see each other's. What it returns is shared: readers
// must not change what it points to.
type decoded[T any] struct {
	most int // entries; when there are more, all are forgotten

	mu sync.RWMutex
	m  map[string]decodedOne[T]
}

type decodedOne[T any] struct {
	sum [sha256.Size]byte
	v   T
}

func newDecoded[T any](most int) *decoded[T] {
	return &decoded[T]{most: most, m: map[string]decodedOne[T]{}}
}

// get decodes body, the row of id.
func (d *decoded[T]) get(id string, body []byte) (v T, err error) {
	sum := sha256.Sum256(body)
	d.mu.RLock()
	e, ok := d.m[id]
	d.mu.RUnlock()
	if ok && e.sum == sum {
		return e.v, nil
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.m) >= d.most {
		clear(d.m)
	}
	d.m[id] = decodedOne[T]{sum, v}
	return v, nil
}
