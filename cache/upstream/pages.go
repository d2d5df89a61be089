package upstream

import (
	"math"
	"time"
)

// A page of pageMost keys keeps a server busy for about 0.2 ms: beyond it one page is felt. Below pageLeast nearly all of a
// page's time is not the keys'.
const (
	pageMost  = 50
	pageLeast = 10
)

// pages chooses how many keys each page of a walk has. A walk that need not be as fast as it could takes smaller pages
// before it pauses: whoever comes while a page is answered waits for its end, and a pause between pages shortens none. A page
// of n keys is taken to last fixed + n*perKey.
type pages struct {
	fixed  float64 // nanoseconds of a page, however few keys it has: the median ping
	perKey float64 // nanoseconds, smoothed
}

// size is the number of keys of a page with which a walk has the speed of one in pages of pageMost that works for a part of
// duty of the time, as far as smaller pages can slow it down.
func (p pages) size(duty float64) int {
	n := math.Ceil(p.fixed / (p.want(duty) - p.perKey)) // duty 1: pageMost, but for rounding
	return int(max(pageLeast, min(pageMost, n)))
}

// working is the part of the time, in (0,1], that a walk in pages of so many keys works for the same speed.
func (p pages) working(keys int, duty float64) float64 {
	return min(1, (p.fixed/float64(keys)+p.perKey)/p.want(duty))
}

// want is how many nanoseconds a key may take.
func (p pages) want(duty float64) float64 { return (p.fixed/pageMost + p.perKey) / duty }

// saw says that a page of so many keys took so long.
func (p *pages) saw(keys int, took time.Duration) {
	one := max(0, float64(took)-p.fixed) / float64(keys)
	if p.perKey == 0 {
		p.perKey = one
	}
	p.perKey += (one - p.perKey) / 16
}
