package lease

import (
	"strconv"
	"strings"
	"time"
)

// Moment is an instant on two clocks: the wall's, for people and for the next boot, and the one that counts from the boot
// of the gateway's machine, which no one sets.
type Moment struct {
	Wall time.Time     `json:"wall"`
	Boot time.Duration `json:"boot"` // since the machine's boot
	ID   string        `json:"id"`   // of that boot
}

// Clock tells the time. Fields that are nil mean the real one.
type Clock struct {
	Now func() time.Time
	// Boot returns the time since the machine's boot, standby included, and the boot's id; "": there is none.
	Boot func() (time.Duration, string)
}

func (c Clock) withDefaults() Clock {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Boot == nil {
		c.Boot = sinceBoot
	}
	return c
}

// In returns the moment that is d away.
func (c Clock) In(d time.Duration) Moment {
	c = c.withDefaults()
	b, id := c.Boot()
	return Moment{Wall: c.Now().Add(d).UTC(), Boot: b + d, ID: id}
}

// past says whether m is over: by the clock since boot where that is the same boot, so that nobody who sets the wall's
// clock moves a deadline; else by the wall's.
func (c Clock) past(m Moment) bool {
	if b, id := c.Boot(); id != "" && id == m.ID {
		return b >= m.Boot
	}
	return !c.Now().Before(m.Wall)
}

// size reads a number of bytes, or any integer, as CONFIG SET does.
func size(s string) (int64, bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	mul := int64(1)
	for _, u := range []struct {
		unit string
		by   int64
	}{{"kb", 1 << 10}, {"mb", 1 << 20}, {"gb", 1 << 30}, {"k", 1000}, {"m", 1000 * 1000}, {"g", 1000 * 1000 * 1000}, {"b", 1}} {
		if n, ok := strings.CutSuffix(s, u.unit); ok {
			s, mul = n, u.by
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > (1<<62)/mul || n < -(1<<62)/mul {
		return 0, false
	}
	return n * mul, true
}
