package lab

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// OVMF, emulated, now and then computes for ever after a restart and never comes to a boot loader: docs/internals/lab.md has what is known.
// The lab then does what a person in a data center would do, and says so. It starts QEMU anew: a mere reset seems not to help.
const (
	firmwareEvery  = 5 * time.Second
	firmwareCPU    = 40 * time.Second // of processor time in the firmware, without a word on the console; one that works needs five seconds
	firmwareWait   = 90 * time.Second // of the clock, for one that sleeps
	firmwareCycles = 3                // of one host; whatever stands still more often is to be looked into
)

// watchFirmware looks every so often at the hosts, and power-cycles those whose firmware has computed for longer than most or
// slept for longer than wait without a word, until ctx ends.
func (f *Fleet) watchFirmware(ctx context.Context, every, most, wait time.Duration) {
	type since struct {
		size int64
		cpu  time.Duration
		at   time.Time
	}
	last := map[string]since{}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		for name, h := range f.hosts {
			if h.cycles.Load() == firmwareCycles {
				continue
			}
			now := since{cpu: f.CPU(name), at: time.Now()}
			if st, err := os.Stat(h.serial()); err == nil {
				now.size = st.Size()
			}
			l, ok := last[name]
			if !ok || now.size != l.size || now.cpu < l.cpu || !inFirmware(ctx, h.dir) {
				last[name] = now
				continue
			}
			took, cpu := now.at.Sub(l.at), now.cpu-l.cpu
			if cpu < most && took < wait {
				continue
			}
			vm, at := h.machine(), whereabouts(h.dir)
			if !strings.HasPrefix(at, "running") { // frozen by a test: QEMU itself costs something
				last[name] = now
				continue
			}
			if cpu < most && strings.Count(at, "HLT=1") < 2 { // it would compute if it were let
				continue
			}
			h.cycles.Add(1)
			delete(last, name)
			_ = f.steps.run(name, "power cycle, its firmware stands still", func() (string, error) {
				if err := h.restart(f.im.accel, vm); err != nil {
					return "", &fleet.Error{Op: "power cycle", Host: fleet.HostID(name), Err: err}
				}
				return fmt.Sprintf("it was there for %.0f s, computed for %.0f s and wrote nothing; %s", took.Seconds(), cpu.Seconds(), at), nil
			})
		}
	}
}

// PowerCycles is how often the lab itself has power-cycled a host because its firmware stood still: whatever came back then did not come back unaided.
func (f *Fleet) PowerCycles(name string) int {
	h, err := f.host(name)
	if err != nil {
		return 0
	}
	return int(h.cycles.Load())
}

var place = regexp.MustCompile(`[RE]IP=([0-9a-f]+) [^\n]*CPL=([0-3])`)

// inFirmware says whether the machine in dir is where neither a kernel nor a program ever is, but for a moment while it starts: in the lower 4 GiB, with all rights.
func inFirmware(ctx context.Context, dir string) bool {
	text, err := registers(ctx, dir)
	m := place.FindStringSubmatch(text)
	if err != nil || m == nil || m[2] != "0" {
		return false
	}
	ip, err := strconv.ParseUint(m[1], 16, 64)
	return err == nil && ip < 1<<32
}
