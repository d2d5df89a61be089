package agenttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
)

// Running is the machine as one process of the agent sees it: an [agent.System] that works until that process, or
// the boot under it, ends.
type Running struct {
	h      *Host
	cancel context.CancelFunc
	over   bool // h.mu
	killed bool // h.mu
}

var _ agent.System = (*Running)(nil)

var errOver = errors.New("this process has ended")

// do runs f on the machine, after the time that the method takes and unless it is to fail.
func (r *Running) do(ctx context.Context, method string, f func(*Machine) error) error {
	r.h.mu.Lock()
	takes := r.h.m.Takes[method]
	r.h.mu.Unlock()
	if takes > 0 {
		if err := wait(ctx, takes); err != nil {
			return err
		}
	}
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	if r.over {
		return errOver
	}
	if why := r.h.m.Fail[method]; why != "" {
		return &fleet.Error{Op: method, Err: errors.New(why), Next: "let the test have it work"}
	}
	err := f(&r.h.m)
	r.h.save()
	return err
}

// Online says whether the kernel has a network.
func (r *Running) Online() bool { return r.h.Online() }

func (r *Running) Facts(ctx context.Context) (f fleet.Facts, err error) {
	err = r.do(ctx, "Facts", func(m *Machine) error {
		f = m.Facts
		f.Kernel.Release = m.uname()
		f.Boot.Default = m.Default
		f.Boot.Installed = slices.Clone(m.Installed)
		f.Disks, f.NICs = slices.Clone(f.Disks), slices.Clone(f.NICs)
		f.Normalize()
		return nil
	})
	return f, err
}

func (r *Running) BootID() (id string, err error) {
	err = r.do(context.Background(), "BootID", func(m *Machine) error { id = m.BootID; return nil })
	return id, err
}

func (m *Machine) uname() string {
	if u := m.Kernels[m.Running].Uname; u != "" {
		return u
	}
	return m.Running
}

func (r *Running) Release() (rel string, err error) {
	err = r.do(context.Background(), "Release", func(m *Machine) error { rel = m.uname(); return nil })
	return rel, err
}

func (r *Running) Uptime() time.Duration {
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	return time.Since(r.h.m.BootedAt)
}

func (r *Running) TrialBoot() (id fleet.OperationID, err error) {
	err = r.do(context.Background(), "TrialBoot", func(m *Machine) error {
		if m.Trial != nil {
			id = m.Trial.Operation
		}
		return nil
	})
	return id, err
}

func (r *Running) SystemState(ctx context.Context) (s agent.SystemState, err error) {
	err = r.do(ctx, "SystemState", func(m *Machine) error {
		b := m.Kernels[m.Running]
		s = agent.SystemState{Up: true, State: "running", FailedUnits: slices.Clone(b.FailUnits)}
		switch {
		case b.NeverUp:
			s.Up, s.State = false, "starting"
		case len(b.FailUnits) > 0:
			s.State = "degraded"
		}
		return nil
	})
	return s, err
}

func (r *Running) Network(ctx context.Context) (n agent.Network, err error) {
	err = r.do(ctx, "Network", func(m *Machine) error {
		n = agent.Network{Links: slices.Clone(m.Network.Links), Gateways: slices.Clone(m.Network.Gateways)}
		if m.Kernels[m.Running].NoNetwork {
			for i := range n.Links {
				n.Links[i].Carrier, n.Links[i].Addresses = false, nil
			}
			n.Gateways = nil
		}
		return nil
	})
	return n, err
}

func (r *Running) CanInstall(ctx context.Context, k fleet.Kernel, files []string) error {
	return r.do(ctx, "CanInstall", func(*Machine) error {
		if len(files) != len(k.Packages) {
			return fmt.Errorf("%d files for %d packages", len(files), len(k.Packages))
		}
		return nil
	})
}

func (r *Running) Install(ctx context.Context, k fleet.Kernel, _ []string) error {
	return r.do(ctx, "Install", func(m *Machine) error {
		if !slices.Contains(m.Installed, k.Release) {
			m.Installed = append(m.Installed, k.Release)
		}
		r.h.event("install", k.Release, "")
		return nil
	})
}

func (r *Running) Installed(ctx context.Context, release string) (ok bool, err error) {
	err = r.do(ctx, "Installed", func(m *Machine) error { ok = slices.Contains(m.Installed, release); return nil })
	return ok, err
}

func (r *Running) SecureWayBack(ctx context.Context) error {
	return r.do(ctx, "SecureWayBack", func(m *Machine) error {
		m.Default = m.Running
		return nil
	})
}

func (r *Running) ArmTrial(ctx context.Context, t agent.TrialBoot) error {
	return r.do(ctx, "ArmTrial", func(m *Machine) error {
		switch {
		case !slices.Contains(m.Installed, t.Release):
			return &fleet.Error{Op: "arm " + t.Release, Err: errors.New("it has no boot entry"), Next: "install it"}
		case m.Default != m.Running:
			return &fleet.Error{Op: "arm " + t.Release, Err: fmt.Errorf("the default is %q, not the running kernel", m.Default), Next: "secure the way back"}
		}
		m.OneShot = &t
		r.h.event("arm", t.Release, t.Operation)
		return nil
	})
}

func (r *Running) Disarm(ctx context.Context) error {
	return r.do(ctx, "Disarm", func(m *Machine) error {
		if m.OneShot != nil {
			r.h.event("disarm", m.OneShot.Release, m.OneShot.Operation)
		}
		m.OneShot = nil
		return nil
	})
}

func (r *Running) Commit(ctx context.Context, release string) error {
	return r.do(ctx, "Commit", func(m *Machine) error {
		if m.uname() != release {
			return &fleet.Error{Op: "commit " + release, Err: fmt.Errorf("%s is running", m.uname()), Next: "boot it first"}
		}
		m.Default = m.Running
		r.h.event("commit", release, "")
		return nil
	})
}

func (r *Running) OneShotProven(ctx context.Context) error {
	return r.do(ctx, "OneShotProven", func(m *Machine) error {
		if m.OneShot != nil {
			return &fleet.Error{Op: "prove the one-shot boot", Err: errors.New("the boot loader has not forgotten its one-shot entry"), Next: "take the host out"}
		}
		if m.Trial == nil {
			return errors.New("this boot is no trial")
		}
		m.Facts.Boot.OneShot = fleet.OneShotProven
		return nil
	})
}

func (r *Running) ChecksPassed(ctx context.Context, id fleet.OperationID) error {
	return r.do(ctx, "ChecksPassed", func(m *Machine) error { m.ChecksPassed = id; return nil })
}

func (r *Running) Reboot(ctx context.Context, why string) error {
	return r.do(ctx, "Reboot", func(*Machine) error {
		r.h.down("requested: " + why)
		return nil
	})
}

func (r *Running) CrashText(ctx context.Context, _ time.Time) (text, why string) {
	err := r.do(ctx, "CrashText", func(m *Machine) error {
		text, m.Crash = m.Crash, ""
		return nil
	})
	switch {
	case err != nil:
		return "", err.Error()
	case text == "":
		return "", "pstore is empty"
	}
	return text, ""
}

func (r *Running) DeadManFired(id fleet.OperationID) (fired bool, err error) {
	err = r.do(context.Background(), "DeadManFired", func(m *Machine) error {
		fired = slices.Contains(m.DeadManFired, id)
		return nil
	})
	return fired, err
}
