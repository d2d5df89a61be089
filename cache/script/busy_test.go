package script

import (
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

// BenchmarkHostileOnABusyMachine prints how long after its budget a program ends that does not end by itself, while four times as many
// other programs compute as there are processors. It is no test: what it measures is also what it takes from others.
func BenchmarkHostileOnABusyMachine(b *testing.B) {
	for range 4 * runtime.NumCPU() {
		c := exec.Command("/bin/sh", "-c", "while :; do :; done")
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := c.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	}
	r := NewRunner("", nil)
	for _, tc := range []struct{ name, program string }{
		{"endless loop", "def run(args, nodes):\n  for i in range(1 << 60):\n    pass\n"},
		{"loop outside the interpreter", "def run(args, nodes):\n  attack('loop')\n"},
		{"one long step", "def run(args, nodes):\n  x = 3\n  for i in range(28):\n    x = x * x\n"},
	} {
		b.Run(tc.name, func(b *testing.B) {
			bun := bundle(b, "read", "budgets: {wall: 300ms, memory: 64mb, output: 10mb, steps: 10_000_000_000}", tc.program)
			var late []time.Duration
			over := 0
			for b.Loop() {
				began := time.Now()
				_, err := r.Run(b.Context(), Order{Bundle: bun})
				if err == nil {
					b.Fatal("it ended by itself")
				}
				l := time.Since(began) - bun.Manifest.Budgets.Wall
				late = append(late, l)
				if l > 250*time.Millisecond {
					over++
				}
			}
			slices.Sort(late)
			b.ReportMetric(late[len(late)/2].Seconds()*1e3, "median-ms-late")
			b.ReportMetric(late[len(late)-1].Seconds()*1e3, "worst-ms-late")
			b.ReportMetric(float64(over), "over-250-ms")
		})
	}
}
