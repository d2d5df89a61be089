package cachetest

import (
	"fmt"
	"log"
	"os"
	"sync"
)

// Process is a TB for servers that live longer than one test: those that the tests of a package share, and the demo's.
type Process struct {
	mu       sync.Mutex
	cleanups []func()
	dirs     []string
}

// NewProcess returns one. Whoever makes it calls Close.
func NewProcess() *Process { return &Process{} }

// Helper does nothing.
func (p *Process) Helper() {}

// Cleanup adds what Close does, newest first.
func (p *Process) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

// Fatalf panics: whoever uses the servers cannot go on.
func (p *Process) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// Skipf panics as well: there is no test to skip.
func (p *Process) Skipf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// Logf logs.
func (p *Process) Logf(format string, args ...any) { log.Printf(format, args...) }

// TempDir makes a folder that Close removes.
func (p *Process) TempDir() string {
	d, err := os.MkdirTemp("", "kernwave-cache-")
	if err != nil {
		panic(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dirs = append(p.dirs, d)
	return d
}

// Close ends the servers and removes their folders.
func (p *Process) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.cleanups) - 1; i >= 0; i-- {
		p.cleanups[i]()
	}
	for _, d := range p.dirs {
		_ = os.RemoveAll(d)
	}
	p.cleanups, p.dirs = nil, nil
}
