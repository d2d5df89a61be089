package resp

import (
	"strings"
	"sync"
	"time"

	"github.com/kernwave/kernwave/cache"
)

const (
	// pushQueue is how many messages may wait for a client; one that falls further behind is disconnected.
	pushQueue = 1024
	// progressEvery is the least time between two messages about one call's progress.
	progressEvery = 500 * time.Millisecond
	// jobChannel begins the names of the channels that SUBSCRIBE knows: cache.job.ID, and all of them as cache.jobs.
	jobChannel  = "cache.job."
	jobsChannel = "cache.jobs"
)

// push queues a message for the client. It never waits: a client that does not read is disconnected.
func (c *conn) push(v cache.Value) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out == nil {
		c.out = make(chan cache.Value, pushQueue)
		out := c.out
		c.outWG.Go(func() { c.pushes(out) })
	}
	select {
	case c.out <- v:
	default:
		c.killed.Store(true)
		c.close()
	}
}

// pushes writes messages between replies.
func (c *conn) pushes(out <-chan cache.Value) {
	for v := range out {
		c.wmu.Lock()
		was := c.w.mute
		c.w.mute = false
		c.w.Value(v)
		err := c.w.Flush()
		c.w.mute = was
		c.wmu.Unlock()
		if err != nil {
			c.close()
			for range out { // until the connection's goroutine closes it
			}
			return
		}
	}
}

// endPushes stops the messages when the connection ends.
func (c *conn) endPushes() {
	c.close()
	c.mu.Lock()
	out := c.out
	c.out = make(chan cache.Value) // nobody listens: what comes now is dropped
	clear(c.state.channels)
	c.mu.Unlock()
	if out != nil {
		close(out)
	}
	c.outWG.Wait()
}

// progress is what a call of this connection tells its caller while it runs. In protocol 3 it is a push, of the kind
// cache.progress; in protocol 2 the caller asks with CACHE.JOB on another connection. Whoever has subscribed to the job
// hears it in either.
func (c *conn) progress() func(cache.Value) {
	var mu sync.Mutex
	var last time.Time
	return func(v cache.Value) {
		mu.Lock()
		now := time.Now()
		due := now.Sub(last) >= progressEvery
		if due {
			last = now
		}
		mu.Unlock()
		if !due {
			return
		}
		c.mu.Lock()
		three := c.state.proto == 3
		c.mu.Unlock()
		if three {
			c.push(cache.Value{Kind: cache.Push, Items: []cache.Value{cache.String("cache.progress"), v}})
		}
		c.srv.Tell(v)
	}
}

// Tell publishes the progress of a job, a map with the key "job", to those who subscribed to it: as JSON, on the
// channels cache.job.ID and cache.jobs.
func (s *Server) Tell(v cache.Value) {
	text, err := v.MarshalJSON()
	if err != nil {
		return
	}
	s.publish(jobsChannel, string(text))
	if id := v.Get("job").Text(); id != "" {
		s.publish(jobChannel+id, string(text))
	}
}

func (s *Server) publish(channel, text string) {
	for _, c := range s.open() {
		c.mu.Lock()
		listens := c.state.channels[channel]
		c.mu.Unlock()
		if listens {
			c.push(cache.Value{Kind: cache.Push, Items: []cache.Value{cache.String("message"), cache.String(channel), cache.String(text)}})
		}
	}
}

func subscribe(c *conn, args [][]byte) {
	for _, a := range args[1:] {
		name := string(a)
		c.mu.Lock()
		switch {
		case name != jobsChannel && !strings.HasPrefix(name, jobChannel):
			c.mu.Unlock()
			c.w.Errorf("ERR there is no channel '%s'; subscribe to %s, or to %sID", clip(name), jobsChannel, jobChannel)
			return
		case len(c.state.channels) >= 1000:
			c.mu.Unlock()
			c.w.Error("ERR too many channels: at most 1000; subscribe to " + jobsChannel)
			return
		}
		c.state.channels[name] = true
		n := len(c.state.channels)
		c.mu.Unlock()
		c.w.push(3)
		c.w.Bulk("subscribe")
		c.w.Bulk(name)
		c.w.Int(int64(n))
	}
}

func unsubscribe(c *conn, args [][]byte) {
	c.mu.Lock()
	var names []string
	for _, a := range args[1:] {
		names = append(names, string(a))
	}
	if len(names) == 0 {
		for name := range c.state.channels {
			names = append(names, name)
		}
	}
	var left []int
	for _, name := range names {
		delete(c.state.channels, name)
		left = append(left, len(c.state.channels))
	}
	c.mu.Unlock()
	if len(names) == 0 {
		c.w.push(3)
		c.w.Bulk("unsubscribe")
		c.w.Null()
		c.w.Int(0)
	}
	for i, name := range names {
		c.w.push(3)
		c.w.Bulk("unsubscribe")
		c.w.Bulk(name)
		c.w.Int(int64(left[i]))
	}
}
