package identity

import (
	"encoding/json"
	"path/filepath"
	"sync"
	"time"

	"github.com/kernwave/kernwave/internal/agent/disk"
)

// clockStep is how far the time must have come until it is written again: a restart then knows the time to within an
// hour, and the disk is left alone.
const clockStep = time.Hour

// Clock gives a lower bound of the true time that no dead clock battery can move: the latest of when the agent was
// built and what the control plane said last, plus what has passed since on the boot-time clock. The wall clock has
// no part in it. Safe for concurrent use.
type Clock struct {
	fs     disk.FS
	path   string
	uptime func() time.Duration
	bootID string
	built  time.Time

	mu    sync.Mutex
	known mark
	saved time.Time
}

// mark is a time that had come when the boot-time clock of a boot showed Uptime.
type mark struct {
	Time   time.Time     `json:"time"`
	BootID string        `json:"boot_id"`
	Uptime time.Duration `json:"uptime_ns"`
}

// OpenClock reads what dir remembers. built may be zero.
func OpenClock(fsys disk.FS, dir string, built time.Time, bootID string, uptime func() time.Duration) *Clock {
	c := &Clock{fs: fsys, path: filepath.Join(dir, "time.json"), uptime: uptime, bootID: bootID, built: built}
	if data, err := fsys.ReadFile(c.path); err == nil {
		var m mark
		if json.Unmarshal(data, &m) == nil { // unreadable: known less well, which is safe
			c.known, c.saved = m, m.Time
		}
	}
	if c.known.BootID != bootID {
		// It was learned before this boot began, so at least the uptime has passed since.
		c.known.BootID, c.known.Uptime = bootID, 0
	}
	if built.After(c.known.Time) {
		c.known = mark{built, bootID, uptime()}
	}
	return c
}

// Now is a time that has certainly come.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Clock) now() time.Time {
	return c.known.Time.Add(max(0, c.uptime()-c.known.Uptime)).UTC()
}

// Learn takes a time that the control plane said, over a connection that was trusted at the time known until then.
// One that is a little before what is known changes nothing. One that is long before means that the control plane's
// clock was wrong the last time: it is believed, or this host would take every certificate of the right time for one
// that ran out. What the agent's own build proves stays.
func (c *Clock) Learn(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	back := c.now().Sub(t) > clockStep && t.After(c.built)
	if !t.After(c.now()) && !back {
		return
	}
	c.known = mark{t.UTC(), c.bootID, c.uptime()}
	if !back && t.Sub(c.saved) < clockStep {
		return
	}
	if data, err := json.Marshal(c.known); err == nil && disk.Replace(c.fs, c.path, data, 0o600) == nil {
		c.saved = t // else: the next one is written; until then a restart knows less
	}
}
