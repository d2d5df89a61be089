package main

import (
	"sync"
	"syscall"
	"time"
)

// restartAfter is how long a process stays dead: what systemd is told for the agent, shortened.
const restartAfter = 100 * time.Millisecond

// keeper does what systemd does: a process that ends is started again, after a moment.
type keeper struct {
	start func(again bool) *proc

	mu    sync.Mutex
	now   *proc
	over  bool
	died  int
	ended chan struct{}
}

// keep starts a process and keeps it until end. start is told whether this is a restart.
func keep(start func(again bool) *proc) *keeper {
	k := &keeper{start: start, now: start(false), ended: make(chan struct{})}
	go func() {
		defer close(k.ended)
		for {
			k.mu.Lock()
			p := k.now
			k.mu.Unlock()
			<-p.done
			k.mu.Lock()
			if k.over {
				k.mu.Unlock()
				return
			}
			k.died++
			k.mu.Unlock()
			time.Sleep(restartAfter)
			k.mu.Lock()
			if k.over {
				k.mu.Unlock()
				return
			}
			k.now = k.start(true)
			k.mu.Unlock()
		}
	}()
	return k
}

// deaths is how often it ended before anybody wanted it to.
func (k *keeper) deaths() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.died
}

// kill ends the process of this moment; it comes back.
func (k *keeper) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now.signal(syscall.SIGKILL)
}

// end stops the process and its keeper.
func (k *keeper) end() {
	k.mu.Lock()
	k.over = true
	k.now.signal(syscall.SIGTERM)
	k.mu.Unlock()
	<-k.ended
}
