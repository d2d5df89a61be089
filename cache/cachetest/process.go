package cachetest

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// starter starts programs from one thread that lives as long as the process: the kernel kills a child whose Pdeathsig
// is set when the thread that started it ends, and Go ends threads as it likes.
var starter = sync.OnceValue(func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
})

// start starts cmd so that it dies with us, even by SIGKILL.
func start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	done := make(chan error)
	starter() <- func() { done <- cmd.Start() }
	return <-done
}
