package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kernwave/kernwave/fleet"
)

var (
	errPoweredOff = errors.New("its power is off")
	errNotOwner   = errors.New("another process runs this fleet")
)

func numCPU() int { return runtime.NumCPU() }

// host is one virtual machine, on or off.
type host struct {
	spec    HostSpec
	dir     string
	forward map[int]string
	args    []string // of QEMU, in tests; nil: qemuArgs

	line sync.Mutex // to the guest agent

	attached bool // another process runs it
	cycles   atomic.Int32

	mu    sync.Mutex
	vm    *process
	again bool       // vm ends when its guest resets, and the next one is started then
	cache *diskCache // nil: every write stays
}

func (h *host) serial() string { return filepath.Join(h.dir, "serial.log") }

func (h *host) powered() bool {
	if h.attached {
		for range 10 { // between two QEMUs there is none for a moment
			if c, err := dialIn(context.Background(), h.dir, "qmp.sock"); err == nil {
				c.Close()
				return true
			}
			time.Sleep(100 * time.Millisecond)
		}
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.on()
}

// on is for a caller that holds mu.
func (h *host) on() bool { return h.vm != nil && (h.again || h.vm.running()) }

func (h *host) powerOn(accel string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.on() {
		return errors.New("its power is on already")
	}
	if err := h.unplugged(false); err != nil {
		return err
	}
	return h.start(accel)
}

// start is for a caller that holds mu.
func (h *host) start(accel string) error {
	log, err := os.OpenFile(filepath.Join(h.dir, "qemu.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	args := h.args
	if args == nil {
		args = qemuArgs(h.spec, accel, h.forward)
	}
	cmd := exec.Command(tool("qemu-system-x86_64"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = h.dir, log, log
	if h.vm, err = spawn(cmd); err == nil && endsWithReset(h.spec, accel) {
		h.again = true
		go h.follow(accel, h.vm)
	}
	return err
}

// restart ends the QEMU of a host and starts it anew, unless vm is no longer the one that runs. Its disk keeps what it had.
func (h *host) restart(accel string, vm *process) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.vm != vm || vm == nil || !vm.running() {
		return errors.New("somebody else has cut its power")
	}
	vm.kill()
	return h.start(accel)
}

// machine is the process that is or was the host's, nil before the first.
func (h *host) machine() *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.vm
}

// powerOff says, for a host whose disk has a volatile cache, what was lost with it.
func (h *host) powerOff() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.again = false
	if h.vm != nil {
		h.vm.kill()
	}
	if h.cache == nil {
		return "", nil
	}
	return h.cache.cut()
}

// PowerOn starts a host that is off, from its own disk, and waits until it is up.
func (f *Fleet) PowerOn(ctx context.Context, name string) error {
	h, err := f.host(name)
	if err != nil {
		return err
	}
	if f.attached {
		return errNotOwner
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return &fleet.Error{Op: "start", Host: fleet.HostID(name), Err: context.Cause(ctx)}
	}
	return f.steps.run(name, "boot", func() (string, error) {
		before := len(h.boots())
		if err := h.powerOn(f.im.accel); err != nil {
			return "", &fleet.Error{Op: "start", Host: fleet.HostID(name), Err: err}
		}
		b, err := f.WaitBoot(ctx, name, before+1)
		return b.Release, err
	})
}

// Powered says whether a host's power is on.
func (f *Fleet) Powered(name string) bool {
	h, err := f.host(name)
	return err == nil && h.powered()
}

// PowerOff cuts a host's power. What it had not written to its disk is lost, and with HostSpec.FlushCounts also what it
// had written and not flushed.
func (f *Fleet) PowerOff(name string) error {
	h, err := f.host(name)
	if err != nil {
		return err
	}
	if f.attached {
		return errNotOwner
	}
	return f.steps.run(name, "cut the power", func() (string, error) { return h.powerOff() })
}

// Reset cuts a host's power and gives it back at once. It returns before the host is up: use WaitBoot.
func (f *Fleet) Reset(ctx context.Context, name string) error {
	return f.qmp(ctx, name, "reset", "system_reset", nil)
}

// NetworkCut pulls a host's network cable, or plugs it in again. Connections that it had are not told.
func (f *Fleet) NetworkCut(ctx context.Context, name string, cut bool) error {
	if err := f.qmp(ctx, name, "cut network", "set_link", link(!cut)); err != nil {
		return err
	}
	if err := f.hosts[name].unplugged(cut); err != nil {
		return &fleet.Error{Op: "cut network", Host: fleet.HostID(name), Err: err}
	}
	return nil
}

func link(up bool) map[string]any { return map[string]any{"name": "nic", "up": up} }

// Freeze stops a host's CPU, or lets it go on: from outside, a host that hangs. Its clocks stand still meanwhile.
func (f *Fleet) Freeze(ctx context.Context, name string, frozen bool) error {
	command := "cont"
	if frozen {
		command = "stop"
	}
	return f.qmp(ctx, name, "freeze", command, nil)
}

func (f *Fleet) qmp(ctx context.Context, name, op, command string, args any) error {
	h, err := f.host(name)
	if err != nil {
		return err
	}
	if _, err := qmp(ctx, h.dir, command, args); err != nil {
		if !h.powered() {
			err = errPoweredOff
		}
		return &fleet.Error{Op: op, Host: fleet.HostID(name), Err: err}
	}
	return nil
}

// Reboot asks a host to restart in good order, and waits until it is up again, on whatever kernel.
func (f *Fleet) Reboot(ctx context.Context, name string) (Boot, error) {
	h, err := f.host(name)
	if err != nil {
		return Boot{}, err
	}
	n := len(h.boots())
	if _, err := f.Output(ctx, name, "systemctl --no-block reboot"); err != nil && !errors.Is(err, ErrRebooted) {
		return Boot{}, err
	}
	return f.WaitBoot(ctx, name, n+1)
}

// CPU is the processor time that a host has cost since its power came on or, emulated on UEFI, since its last reset: steadier
// than the clock on a busy machine. It is zero for a fleet of another process.
func (f *Fleet) CPU(name string) time.Duration {
	h, err := f.host(name)
	if err != nil || h.attached {
		return 0
	}
	vm := h.machine()
	if vm == nil || !vm.running() {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", vm.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := statFields(string(stat))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}
