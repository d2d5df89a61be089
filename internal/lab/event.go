package lab

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// An Event tells that a step began or ended.
type Event struct {
	Host string // empty if the step is not about one host
	Step string // "build image"
	Done bool   // false when the step begins
	Took time.Duration
	Note string // what came out of it, in words
	Err  error
}

// String is one plain line, the same on a terminal and in a file.
func (e Event) String() string {
	s := e.Step
	if e.Host != "" {
		s = e.Host + ": " + s
	}
	switch {
	case !e.Done:
		s += " ..."
	case e.Err != nil:
		s += fmt.Sprintf(" failed after %.1fs: %v", e.Took.Seconds(), e.Err)
	default:
		s += fmt.Sprintf(" done in %.1fs", e.Took.Seconds())
	}
	if e.Note != "" {
		s += " (" + e.Note + ")"
	}
	return s
}

// WriteProgress returns a Progress function that writes one line per event to w.
func WriteProgress(w io.Writer) func(Event) {
	return func(e Event) { fmt.Fprintf(w, "lab: %s\n", e) }
}

// steps serialises the calls of a Progress function.
type steps struct {
	mu sync.Mutex
	to func(Event)
}

func (s *steps) send(e Event) {
	if s == nil || s.to == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to(e)
}

// run reports the beginning and the end of do, with the note that do returns.
func (s *steps) run(host, step string, do func() (note string, err error)) error {
	began := time.Now()
	s.send(Event{Host: host, Step: step})
	note, err := do()
	s.send(Event{Host: host, Step: step, Done: true, Took: time.Since(began), Note: note, Err: err})
	return err
}
