package lab

import (
	"fmt"
	"os"
	"runtime"
)

// maxPatience is how often a limit is stretched at most.
const maxPatience = 3

// busy says how much longer everything takes on this machine now: 1 if its CPUs keep up with the fleet, up to
// maxPatience when other work waits for them too. A test that fails because somebody compiles teaches nothing.
func busy() float64 {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 1
	}
	var load float64
	if _, err := fmt.Sscan(string(data), &load); err != nil {
		return 1
	}
	return busyAt(load, runtime.NumCPU())
}

func busyAt(load float64, cpus int) float64 {
	return min(max(load/float64(2*cpus), 1), maxPatience)
}
