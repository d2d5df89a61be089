package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

// Console is the path of a host's serial log. It grows over all of the host's boots.
func (f *Fleet) Console(name string) string {
	h, err := f.host(name)
	if err != nil {
		return ""
	}
	return h.serial()
}

// Boots are the host's own records of its boots, oldest first.
func (f *Fleet) Boots(name string) []Boot {
	h, err := f.host(name)
	if err != nil {
		return nil
	}
	return h.boots()
}

// Tries are the kernels that the boot loader started, oldest first, whether they came up or not.
func (f *Fleet) Tries(name string) []string {
	h, err := f.host(name)
	if err != nil {
		return nil
	}
	return parseTries(h.log())
}

func (h *host) log() string {
	data, _ := os.ReadFile(h.serial())
	return string(data)
}

func (h *host) boots() []Boot { return parseBoots(h.log()) }

// WaitBoot waits for the nth boot of a host, counted from 1 over its whole life, and returns it. Without a deadline in
// ctx it waits for BootLimit, longer on a busy machine. The error wraps ErrSlow if the host may still come up.
func (f *Fleet) WaitBoot(ctx context.Context, name string, n int) (Boot, error) {
	var b Boot
	err := f.waitLog(ctx, name, fmt.Sprintf("wait for boot %d", n), func(log string) bool {
		boots := parseBoots(log)
		if len(boots) < n {
			return false
		}
		b = boots[n-1]
		return true
	})
	return b, err
}

// WaitRelease waits until the host's latest boot runs the kernel release, and returns that boot.
func (f *Fleet) WaitRelease(ctx context.Context, name, release string) (Boot, error) {
	var b Boot
	err := f.waitLog(ctx, name, "wait for kernel "+release, func(log string) bool {
		boots := parseBoots(log)
		if len(boots) == 0 || boots[len(boots)-1].Release != release {
			return false
		}
		b = boots[len(boots)-1]
		return true
	})
	return b, err
}

// WaitConsole waits until ok accepts the host's serial log.
func (f *Fleet) WaitConsole(ctx context.Context, name string, ok func(log string) bool) error {
	return f.waitLog(ctx, name, "wait for its console", ok)
}

func (f *Fleet) waitLog(ctx context.Context, name, op string, ok func(log string) bool) error {
	h, err := f.host(name)
	if err != nil {
		return err
	}
	_, hasDeadline := ctx.Deadline()
	began := time.Now()
	var size int64 = -1
	for {
		if st, err := os.Stat(h.serial()); err == nil && st.Size() != size {
			size = st.Size()
			log := h.log()
			if ok(log) {
				return nil
			}
		}
		var why error
		var next string
		took := time.Since(began)
		slow := !hasDeadline && took > time.Duration(float64(BootLimit)*busy()) ||
			ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded)
		switch {
		case !h.powered():
			why, next = errPoweredOff, "look at "+filepath.Join(h.dir, "qemu.log")
		case slow:
			why, next = fmt.Errorf("%w: not after %.0f s", ErrSlow, took.Seconds()), "see whether it still moves: "+h.serial()
			if end := halted(h.log()); end != "" {
				why, next = errors.New("failed: "+end), "its kernel stopped for good and waits for a reset"
			}
		case ctx.Err() != nil:
			why = context.Cause(ctx)
		default:
			select {
			case <-ctx.Done():
			case <-time.After(150 * time.Millisecond):
			}
			continue
		}
		return &fleet.Error{Op: op, Host: fleet.HostID(name), Err: withConsole(why, h, 12), Next: next}
	}
}

// Tail returns the last n lines of a host's serial log.
func (f *Fleet) Tail(name string, n int) string { return tailOf(f.Console(name), n) }

// Starting says whether a host is between its boot loader and the end of its boot.
func (f *Fleet) Starting(name string) bool {
	h, err := f.host(name)
	if err != nil {
		return false
	}
	log := h.log()
	return lastTry(log) > strings.LastIndex(log, "KERNWAVE-LAB boot ")
}

// CheckHost returns an error if the fleet has no such host.
func (f *Fleet) CheckHost(name string) error {
	_, err := f.host(name)
	return err
}
