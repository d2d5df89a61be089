package cache

import (
	"time"
)

// Event is one line of the record: a call, an approval, a change. Arguments that may hold customers' data are hashed
// before they get here.
type Event struct {
	Seq     int64     `json:"seq"` // given by the log, increasing, from 1
	At      time.Time `json:"at"`
	Who     string    `json:"who"`               // a user's name, or "gateway"
	Kind    string    `json:"kind"`              // call.begun, call.done, call.refused, approval.given, config.changed …
	Command string    `json:"command,omitempty"` // CACHE.BIGKEYS
	Job     string    `json:"job,omitempty"`
	Node    string    `json:"node,omitempty"`
	What    string    `json:"what"` // one sentence
	Why     string    `json:"why,omitempty"`
}

// Log keeps the record. It is safe for concurrent use.
type Log interface {
	// Append keeps e, sets its Seq, and returns when it is on disk.
	Append(e Event) (seq int64, err error)
	// Tail returns the newest n events, oldest first.
	Tail(n int) ([]Event, error)
}
