package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"

	"github.com/kernwave/kernwave/fleet"
	"golang.org/x/sync/errgroup"
)

// FleetConfig is what all hosts of a fleet share.
type FleetConfig struct {
	// Dir holds one folder per host: its disk, its serial log, its sockets. It is made if need be.
	Dir string
	// Serve is published in the package repository on port 80 of GuestAddr. More can be added with Publish.
	Serve []Kernel
	// Forward leads a port of GuestAddr to an address of the build machine, for all hosts: 8443 to "127.0.0.1:40123".
	// The address need not listen before, and may come and go.
	Forward map[int]string
	// MaxParallelBoots is how many hosts boot at the same time. Zero means one more than there are CPUs: a boot
	// waits a little too.
	MaxParallelBoots int
	// Progress, if not nil, replaces that of Prepare.
	Progress func(Event)
}

// A HostSpec describes one host.
type HostSpec struct {
	Name string // a valid host name
	// Model is the product name in the host's DMI tables: its hardware model. Empty means "lab".
	Model string
	// Loader is its firmware and boot loader. Empty means GRUBOnBIOS.
	Loader Loader
	// MemoryMB and CPUs: zero means DefaultMemoryMB and 1.
	MemoryMB int
	CPUs     int
	// Payload is unpacked into the host's root once, in its first boot, before its services start; units that it
	// enables start in that boot, and kernwave-agent.service is enabled if it is there.
	Payload []File
	// Forward adds to, or replaces, the fleet's.
	Forward map[int]string
	// KeepDisk goes on with the disk that a fleet in the same Dir left behind.
	KeepDisk bool
	// FlushCounts gives the host a disk with a volatile cache: PowerOff loses what the host did not flush. Without it
	// everything that the host has written stays, flushed or not.
	FlushCounts bool
	// LossSeed, if not 0, has PowerOff keep a part of what was not flushed, and tear one write. Zero: all of it is lost.
	LossSeed uint64
}

// A Fleet is a set of running hosts. All methods are safe for concurrent use.
type Fleet struct {
	cfg      FleetConfig
	hosts    map[string]*host
	steps    *steps
	attached bool // another process runs it; what follows is not there

	im    *Images
	repo  *repo
	slots chan struct{} // one per boot in progress
	down  sync.Once
	stop  context.CancelFunc // of what watches the hosts
}

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Start boots the hosts and returns when all of them are up. If one is not, it takes all of them down again; their
// logs stay in cfg.Dir. ctx bounds the start, not the life of the fleet: that ends with Down or with the process.
func Start(ctx context.Context, im *Images, cfg FleetConfig, specs ...HostSpec) (*Fleet, error) {
	f, err := newFleet(ctx, im, cfg, specs)
	if err != nil {
		return nil, err
	}
	if err := f.writeState(); err != nil {
		return nil, errors.Join(err, f.Down())
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range f.hosts {
		g.Go(func() error { return f.PowerOn(ctx, h.spec.Name) })
	}
	if err := g.Wait(); err != nil {
		return nil, errors.Join(err, f.Down())
	}
	return f, nil
}

func newFleet(ctx context.Context, im *Images, cfg FleetConfig, specs []HostSpec) (*Fleet, error) {
	if cfg.MaxParallelBoots == 0 {
		cfg.MaxParallelBoots = numCPU() + 1
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f := &Fleet{im: im, cfg: cfg, hosts: map[string]*host{}, steps: im.steps, slots: make(chan struct{}, cfg.MaxParallelBoots), stop: func() {}}
	f.cfg.Dir = dir
	if cfg.Progress != nil {
		f.steps = &steps{to: cfg.Progress}
	}
	if f.repo, err = newRepo(); err != nil {
		return nil, err
	}
	if err := f.repo.add(ctx, cfg.Serve...); err != nil {
		f.repo.close()
		return nil, err
	}
	for _, s := range specs {
		if err := f.add(ctx, s); err != nil {
			return nil, errors.Join(err, f.Down())
		}
	}
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop = stop
	go f.watchFirmware(watch, firmwareEvery, firmwareCPU, firmwareWait)
	return f, nil
}

// add makes a host's folder, disk and payload.
func (f *Fleet) add(ctx context.Context, s HostSpec) error {
	if !validName.MatchString(s.Name) {
		return &fleet.Error{Op: "add host", Host: fleet.HostID(s.Name), Err: errors.New("not a valid host name")}
	}
	if f.hosts[s.Name] != nil {
		return &fleet.Error{Op: "add host", Host: fleet.HostID(s.Name), Err: errors.New("the name is taken")}
	}
	if s.Model == "" {
		s.Model = "lab"
	}
	if s.Loader == "" {
		s.Loader = GRUBOnBIOS
	}
	if _, err := ParseLoader(string(s.Loader)); err != nil {
		return &fleet.Error{Op: "add host", Host: fleet.HostID(s.Name), Err: err}
	}
	if s.MemoryMB == 0 {
		s.MemoryMB = DefaultMemoryMB
	}
	if s.CPUs == 0 {
		s.CPUs = 1
	}
	h := &host{spec: s, dir: filepath.Join(f.cfg.Dir, s.Name)}
	h.forward = map[int]string{80: f.repo.addr}
	maps.Copy(h.forward, f.cfg.Forward)
	maps.Copy(h.forward, s.Forward)
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return err
	}
	if err := writePayload(filepath.Join(h.dir, "payload.tar"), s); err != nil {
		return &fleet.Error{Op: "make payload", Host: fleet.HostID(s.Name), Err: err}
	}
	if err := h.makeDisk(ctx, f.im.disk(s.Loader)); err != nil {
		return &fleet.Error{Op: "make disk", Host: fleet.HostID(s.Name), Err: err}
	}
	f.hosts[s.Name] = h
	return nil
}

// Publish adds kernels to the package repository. Hosts see them after `apt-get update`.
func (f *Fleet) Publish(ctx context.Context, ks ...Kernel) error {
	if f.attached {
		return errNotOwner
	}
	return f.repo.add(ctx, ks...)
}

// Hosts returns the names of all hosts, sorted.
func (f *Fleet) Hosts() []string { return slices.Sorted(maps.Keys(f.hosts)) }

func (f *Fleet) host(name string) (*host, error) {
	if h := f.hosts[name]; h != nil {
		return h, nil
	}
	return nil, &fleet.Error{Op: "find host", Host: fleet.HostID(name), Err: fmt.Errorf("no such host; there are %v", f.Hosts())}
}

// Down cuts the power of all hosts and deletes their disks, except those with KeepDisk. Serial logs stay.
func (f *Fleet) Down() error {
	if f.attached {
		return errNotOwner
	}
	var errs []error
	f.down.Do(func() {
		f.stop()
		for _, h := range f.hosts {
			_, err := h.powerOff()
			errs = append(errs, err, h.closeDisk())
			if !h.spec.KeepDisk {
				errs = append(errs, os.RemoveAll(h.disk()), os.RemoveAll(filepath.Join(h.dir, "payload.tar")))
			}
		}
		f.repo.close()
		errs = append(errs, os.RemoveAll(filepath.Join(f.cfg.Dir, stateFile)))
	})
	return errors.Join(errs...)
}
