package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agent/hook"
	"github.com/kernwave/kernwave/internal/agent/identity"
	"github.com/kernwave/kernwave/internal/agent/uplink"
)

// maxEnrolWait bounds the pause between attempts to enrol.
const maxEnrolWait = time.Minute

// Program is what the binary knows of itself, and what a test replaces.
type Program struct {
	Version string
	Built   time.Time // zero: unknown
	// Disk and Dial replace the machine's file system (for the journal and the identity) and network. Nil: they do not.
	Disk disk.FS
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Started is called once everything is set up and the agent is about to work. Nil: nobody is told.
	Started func()
}

// Run enrols the host if need be, and is its agent until ctx ends, which is no error.
func Run(ctx context.Context, s Settings, p Program, sys agent.System, log *slog.Logger) error {
	if p.Disk == nil {
		p.Disk = disk.OS{}
	}
	if err := p.Disk.MkdirAll(s.StateDir); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	unlock, err := lock(s.StateDir)
	if err != nil {
		return err
	}
	defer unlock()
	u, id, err := connect(s, p, sys, log)
	if err != nil {
		return err
	}
	defer u.Close()
	if p.Started != nil {
		p.Started()
	}
	if !id.Enrolled() {
		if err := enrolPatiently(ctx, s, u, log); err != nil {
			return nil // ctx ended
		}
	}
	if host := id.Host(); host != s.Name {
		log.WarnContext(ctx, "the settings name another host than the certificate; the certificate counts",
			"settings_name", s.Name, "host", host, "next", "enrol again, if the host is to have another name")
	}
	a, err := agent.New(agent.Config{
		Host: id.Host(), StateDir: s.StateDir, Labels: s.Labels, Version: p.Version,
		SettleUnits: s.SettleUnits, SettleNetwork: s.SettleNetwork, RevertNetworkAfter: s.RevertNetworkAfter,
		Chance: rand.Float64,
	}, agent.Parts{Controller: u, Fetcher: u, System: sys, Programs: hook.Dir(s.HooksDir), Disk: p.Disk, Copied: id.Copied}, log)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// Enrol enrols the host once and says what came of it. A host that is enrolled already is told so.
func Enrol(ctx context.Context, s Settings, p Program, sys agent.System, log *slog.Logger) (fleet.HostID, error) {
	if p.Disk == nil {
		p.Disk = disk.OS{}
	}
	u, id, err := connect(s, p, sys, log)
	if err != nil {
		return "", err
	}
	defer u.Close()
	if id.Enrolled() {
		return "", &fleet.Error{
			Op: "enrol", Host: id.Host(), Err: errors.New("the machine is enrolled already"),
			Next: fmt.Sprintf("nothing; or, to enrol it anew, stop kernwave-agent and remove %s and %s",
				filepath.Join(s.StateDir, "identity.json"), filepath.Join(s.StateDir, "host.key")),
		}
	}
	if err := u.Enrol(ctx); err != nil {
		return "", err
	}
	return id.Host(), nil
}

// EnrolAnew gives the machine another certificate, with a new key, and gives up the one that it has. Killed anywhere, it
// can be called again with the same token; what it has begun the agent's next start ends.
func EnrolAnew(ctx context.Context, s Settings, p Program, sys agent.System, log *slog.Logger) (fleet.HostID, error) {
	if p.Disk == nil {
		p.Disk = disk.OS{}
	}
	if err := p.Disk.MkdirAll(s.StateDir); err != nil {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	unlock, err := lock(s.StateDir)
	if err != nil {
		return "", err
	}
	defer unlock()
	old, err := identity.Open(p.Disk, s.StateDir)
	if err != nil {
		log.WarnContext(ctx, "the identity that is replaced cannot be read", "err", err)
	}
	id, err := identity.OpenAnew(p.Disk, s.StateDir)
	if err != nil {
		return "", err
	}
	u, err := connectAs(s, p, sys, id, old, log)
	if err != nil {
		return "", err
	}
	defer u.Close()
	if err := u.Enrol(ctx); err != nil {
		return "", err
	}
	if id, err = identity.Open(p.Disk, s.StateDir); err != nil {
		return "", err
	}
	return id.Host(), nil
}

// Moved says that the machine's state was moved here on purpose, or its hardware replaced.
func Moved(s Settings, p Program) (fleet.HostID, error) {
	if p.Disk == nil {
		p.Disk = disk.OS{}
	}
	unlock, err := lock(s.StateDir)
	if err != nil {
		return "", err
	}
	defer unlock()
	id, err := identity.Open(p.Disk, s.StateDir)
	if err != nil {
		return "", err
	}
	if !id.Enrolled() {
		return "", &fleet.Error{Op: "take over the state of another machine", Err: errors.New("there is no certificate here"), Next: "kernwave-agent enrol"}
	}
	return id.Host(), id.Moved()
}

// Copied says why the certificate belongs to another machine than this one; empty: it does not.
func Copied(ctx context.Context, s Settings, p Program, sys agent.System) (string, error) {
	if p.Disk == nil {
		p.Disk = disk.OS{}
	}
	id, err := identity.Open(p.Disk, s.StateDir)
	if err != nil {
		return "", err
	}
	f, err := sys.Facts(ctx)
	if err != nil {
		return "", err
	}
	return id.Copied(f), nil
}

func connect(s Settings, p Program, sys agent.System, log *slog.Logger) (*uplink.Uplink, *identity.Identity, error) {
	id, err := identity.Open(p.Disk, s.StateDir)
	if err != nil {
		return nil, nil, err
	}
	u, err := connectAs(s, p, sys, id, nil, log)
	return u, id, err
}

// connectAs prepares the way to the control plane for an identity; leaves is one that is given up for it.
func connectAs(s Settings, p Program, sys agent.System, id, leaves *identity.Identity, log *slog.Logger) (*uplink.Uplink, error) {
	bootID, err := sys.BootID()
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	ca, err := s.authorities()
	if err != nil && !id.Enrolled() {
		return nil, err
	}
	clock := identity.OpenClock(p.Disk, s.StateDir, p.Built, bootID, sys.Uptime)
	return uplink.New(uplink.Config{
		Server: s.Server, Name: s.Name, CA: ca, CASHA256: s.CASHA256, Token: s.Token,
		PackagesDir: filepath.Join(s.StateDir, "packages"), Dial: p.Dial,
		Leaves: leaves,
	}, id, clock, log)
}

// enrolPatiently tries until it works: the control plane may not be up yet, and a token can be replaced.
func enrolPatiently(ctx context.Context, s Settings, u *uplink.Uplink, log *slog.Logger) error {
	wait := time.Second
	for {
		actx, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := u.Enrol(actx)
		cancel()
		if err == nil {
			log.InfoContext(ctx, "enrolled", "host", s.Name, "server", s.Server)
			return nil
		}
		next := fleet.NextOf(err, "see whether the control plane can be reached and trusted: kernwave-agent doctor")
		log.ErrorContext(ctx, "not enrolled, will retry", "err", err, "next", next, "retry_in", wait)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
		wait = min(wait*2, maxEnrolWait)
	}
}

// lock keeps a second agent off the same state. It ends with the process.
func lock(dir string) (unlock func(), err error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, syscall.EROFS) {
		return func() {}, nil // a trial on which the disk cannot be written must still be able to say so
	}
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, &fleet.Error{Op: "lock " + path, Err: errors.New("another kernwave-agent runs"), Next: "stop it first: systemctl stop kernwave-agent"}
	}
	return func() { _ = f.Close() }, nil
}

// Reach says who the host is enrolled as (empty: it is not), and why the control plane cannot be reached or trusted.
func Reach(ctx context.Context, s Settings, p Program, sys agent.System, log *slog.Logger) (fleet.HostID, error) {
	if p.Disk == nil {
		p.Disk = disk.OS{}
	}
	u, id, err := connect(s, p, sys, log)
	if err != nil {
		return "", err
	}
	defer u.Close()
	return id.Host(), u.Reach(ctx)
}
