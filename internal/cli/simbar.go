package cli

import (
	"fmt"
	"sync"
	"time"
)

// simBarEvery is how often the line is drawn anew.
const simBarEvery = 200 * time.Millisecond

// simBar is one line on a terminal that shows how far a simulation has come. It may be called from any goroutine.
type simBar struct {
	a    *app
	on   bool
	mu   sync.Mutex
	last time.Time
	from time.Time
}

func (a *app) newSimBar(f simFlags) *simBar {
	now := a.Now()
	return &simBar{a: a, on: isTerminal(a.Err) && !a.quiet && f.trace != "-" && a.Getenv("TERM") != "dumb", last: now, from: now}
}

// at shows how far the virtual time of one simulation has come.
func (b *simBar) at(virtual time.Duration) {
	b.draw(func() string { return "simulated " + clockText(virtual) })
}

// seed shows how far many have come.
func (b *simBar) seed(s *summary) {
	b.draw(func() string {
		text := fmt.Sprintf("%d of %d seeds", s.Done, s.Asked)
		if took := b.a.Now().Sub(b.from); s.Done > 0 && took > 5*time.Second {
			left := time.Duration(float64(took) / float64(s.Done) * float64(s.Asked-s.Done))
			text += ", about " + shortDuration(left) + " left"
		}
		return text
	})
}

func (b *simBar) draw(text func() string) {
	if !b.on {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.a.Now()
	if now.Sub(b.last) < simBarEvery {
		return
	}
	b.last = now
	fmt.Fprint(b.a.Err, "\r"+b.a.paletteFor(b.a.Err).faint(text())+"\x1b[K")
}

// done removes the line.
func (b *simBar) done() {
	if b.on {
		fmt.Fprint(b.a.Err, "\r\x1b[K")
	}
}
