package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/kernwave/kernwave/fleet"
)

// State is what a running fleet writes in its folder, so that other processes find it.
type State struct {
	Owner Process     `json:"owner"` // it started the machines, and they end with it
	Suite string      `json:"suite"`
	Accel string      `json:"accel"`
	Base  Kernel      `json:"base"`
	Serve []Kernel    `json:"serve"`
	Hosts []HostState `json:"hosts"`
}

// HostState is one host of a State.
type HostState struct {
	Name  string `json:"name"`
	Model string `json:"model"`
}

// Process names a process beyond the reuse of its number.
type Process struct {
	PID   int   `json:"pid"`
	Start int64 `json:"start"` // clock ticks since the machine's boot
}

// self is this process.
func self() Process {
	start, _ := startOf(os.Getpid())
	return Process{os.Getpid(), start}
}

// Running says whether the very same process still runs.
func (p Process) Running() bool {
	start, err := startOf(p.PID)
	return err == nil && start == p.Start
}

// Signal sends a signal to the process, if it still runs.
func (p Process) Signal(sig syscall.Signal) error {
	if !p.Running() {
		return os.ErrProcessDone
	}
	return syscall.Kill(p.PID, sig)
}

func startOf(pid int) (int64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := statFields(string(stat))
	if len(fields) < 20 || fields[0] == "Z" {
		return 0, errors.New("it has ended")
	}
	return strconv.ParseInt(fields[19], 10, 64)
}

// statFields are those after the program's name, which may contain anything.
func statFields(stat string) []string {
	return strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
}

const stateFile = "fleet.json"

func (f *Fleet) writeState() error {
	s := State{Owner: self(), Suite: f.im.suite, Accel: f.im.accel, Base: f.im.Base(), Serve: f.cfg.Serve}
	for _, name := range f.Hosts() {
		s.Hosts = append(s.Hosts, HostState{name, f.hosts[name].spec.Model})
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(f.cfg.Dir, stateFile), data, 0o644)
}

// ReadState returns the state of the fleet that runs in dir. Without one, the error is fs.ErrNotExist.
func ReadState(dir string) (State, error) {
	var s State
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err == nil && !s.Owner.Running() {
		err = fs.ErrNotExist // its owner was killed, and the machines with it
	}
	return s, err
}

// Attach looks at a fleet that another process runs in dir: commands, consoles, resets and network cuts work, the
// power switch does not.
func Attach(dir string) (*Fleet, State, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, State{}, err
	}
	s, err := ReadState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s, &fleet.Error{Op: "find a fleet in " + dir, Err: errors.New("none runs there"), Next: "start one with kernwave-lab up, or name its folder with --dir"}
	}
	if err != nil {
		return nil, s, err
	}
	f := &Fleet{cfg: FleetConfig{Dir: dir}, hosts: map[string]*host{}, steps: &steps{}, attached: true}
	for _, h := range s.Hosts {
		f.hosts[h.Name] = &host{spec: HostSpec{Name: h.Name, Model: h.Model}, dir: filepath.Join(dir, h.Name), attached: true}
	}
	return f, s, nil
}
