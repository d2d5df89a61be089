package api

import (
	"sync"
	"time"
)

// bucket bounds a rate: size at once, perSecond in the long run. It begins full.
type bucket struct {
	perSecond, size float64

	mu   sync.Mutex
	used float64
	at   time.Time
}

// take says whether one more may pass now.
func (b *bucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := now.Sub(b.at); d > 0 { // a clock that was set back refills nothing
		b.used = max(0, b.used-d.Seconds()*b.perSecond)
	}
	b.at = now
	if b.used+1 > b.size {
		return false
	}
	b.used++
	return true
}
