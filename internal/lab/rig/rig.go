// Package rig joins a control plane and a fleet of virtual machines: the real
// programs, as a user would run them. The lab's scenarios and the demo stand on it.
//
//	r, err := rig.Start(ctx, rig.Config{Bin: "bin", Dir: dir, Images: im}, rig.Host{Name: "web-1", Model: "R650"})
//	defer r.Down()
//	err = r.AddKernel(ctx, im.Kernels()[1])
//	out, err := r.CLI(ctx, "rollout", "start", …)
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kernwave/kernwave/internal/lab"
)

// Config of a rig.
type Config struct {
	Bin    string // directory with kernwave and kernwave-agent
	Dir    string // where everything of this run goes
	Images *lab.Images
	// ServerArgs are added to `kernwave server`.
	ServerArgs []string
	// Progress is told what is going on. Nil: nobody is.
	Progress func(lab.Event)
	// Log gets the server's log. Nil: it goes to a file in Dir alone.
	Log io.Writer
}

// Host is one virtual machine with an agent.
type Host struct {
	Name     string
	Model    string // DMI product name
	Workload string // label
	// Hooks are files of /etc/kernwave/hooks.d, by name.
	Hooks map[string]string
	Files []lab.File // more files of the payload
	// FlushCounts and LossSeed are those of [lab.HostSpec]: power cuts that lose what was not flushed.
	FlushCounts bool
	LossSeed    uint64
	// Loader is that of [lab.HostSpec]: empty means GRUB on BIOS.
	Loader lab.Loader
}

// Rig is a running control plane with its fleet.
type Rig struct {
	cfg    Config
	addr   string // of the server, on the build machine; the same over restarts
	server *server

	Fleet *lab.Fleet
}

// guestServer is where hosts find the control plane.
const guestServer = "https://" + lab.GuestName + ":8443"

// Start starts the control plane, boots the hosts, installs their agents and waits until all of them have checked in.
// On an error nothing is left running.
func Start(ctx context.Context, cfg Config, hosts ...Host) (_ *Rig, err error) {
	if cfg.Progress == nil {
		cfg.Progress = func(lab.Event) {}
	}
	r := &Rig{cfg: cfg}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Down())
		}
	}()
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	if r.addr, err = freeAddr(); err != nil {
		return nil, err
	}
	if err := r.StartServer(ctx); err != nil {
		return nil, err
	}
	token, err := r.token(ctx, len(hosts))
	if err != nil {
		return nil, err
	}
	var specs []lab.HostSpec
	for _, h := range hosts {
		specs = append(specs, r.spec(h, token))
	}
	r.Fleet, err = lab.Start(ctx, cfg.Images, lab.FleetConfig{
		Dir: filepath.Join(cfg.Dir, "fleet"), Forward: map[int]string{8443: r.addr}, Progress: cfg.Progress,
	}, specs...)
	if err != nil {
		return nil, err
	}
	if err := r.installAgents(ctx); err != nil {
		return nil, err
	}
	return r, r.waitEnrolled(ctx, len(hosts))
}

// token lets n agents enrol.
func (r *Rig) token(ctx context.Context, n int) (enrolToken, error) {
	var t enrolToken
	err := r.JSON(ctx, &t, "token", "create", "--uses", fmt.Sprint(n), "--life", "1h", "--note", "lab")
	return t, err
}

type enrolToken struct {
	Token    string `json:"token"`
	CASHA256 string `json:"ca_sha256"`
}

// agentYAML is an agent's settings.
func agentYAML(h Host, t enrolToken) string {
	y := fmt.Sprintf("server: %s\nname: %s\nca_sha256: %s\ntoken_file: /etc/kernwave/token\n", guestServer, h.Name, t.CASHA256)
	if h.Workload != "" {
		y += "labels:\n  workload: " + h.Workload + "\n"
	}
	return y
}

// record is a hook that writes what happens into the host's own record, on its serial console: what the scenarios
// prove with does not pass through the agent or the control plane.
const record = `#!/bin/sh
# record WHAT: one line on the serial console.
echo "LAB-RECORD what=$1 release=$(uname -r) boot_id=$(cat /proc/sys/kernel/random/boot_id) at=$(date +%s.%N)" > /dev/ttyS0
`

const recordHooks = `drain:   {argv: [/usr/local/sbin/record, drain], timeout: 20s}
undrain: {argv: [/usr/local/sbin/record, undrain], timeout: 20s}
`

func (r *Rig) spec(h Host, t enrolToken) lab.HostSpec {
	files := []lab.File{
		{Path: "/usr/local/sbin/kernwave-agent", Mode: 0o755, Source: filepath.Join(r.cfg.Bin, "kernwave-agent")},
		{Path: "/usr/local/sbin/record", Mode: 0o755, Content: []byte(record)},
		{Path: "/etc/kernwave/agent.yaml", Content: []byte(agentYAML(h, t))},
		{Path: "/etc/kernwave/token", Mode: 0o600, Content: []byte(t.Token + "\n")},
		{Path: "/etc/kernwave/hooks.d/00-record.yaml", Content: []byte(recordHooks)},
	}
	for name, text := range h.Hooks {
		files = append(files, lab.File{Path: "/etc/kernwave/hooks.d/" + name, Content: []byte(text)})
	}
	return lab.HostSpec{Name: h.Name, Model: h.Model, Payload: append(files, h.Files...), FlushCounts: h.FlushCounts, LossSeed: h.LossSeed, Loader: h.Loader}
}

func (r *Rig) installAgents(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, name := range r.Fleet.Hosts() {
		g.Go(func() error {
			_, err := r.Fleet.Output(ctx, name, "/usr/local/sbin/kernwave-agent install && systemctl start kernwave-agent")
			return err
		})
	}
	return g.Wait()
}

// waitEnrolled waits until every host has been heard.
func (r *Rig) waitEnrolled(ctx context.Context, n int) error {
	began := time.Now()
	r.cfg.Progress(lab.Event{Step: "wait for the agents"})
	for {
		heard := 0
		hs, err := r.Hosts(ctx)
		for _, h := range hs {
			if !h.Silent && h.Facts.Arch != "" {
				heard++
			}
		}
		if err == nil && heard == n {
			r.cfg.Progress(lab.Event{Step: "wait for the agents", Done: true, Took: time.Since(began)})
			return nil
		}
		if time.Since(began) > lab.BootLimit {
			return fmt.Errorf("only %d of %d agents have checked in after %s (%v); see %s", heard, n, lab.BootLimit, err, r.cfg.Dir)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// AddKernel gives a kernel to the control plane, under a name.
func (r *Rig) AddKernel(ctx context.Context, name string, k lab.Kernel) error {
	_, err := r.CLI(ctx, "kernel", "add", "--name", name, k.Path)
	return err
}

// Down ends everything that Start began.
func (r *Rig) Down() error {
	var errs []error
	if r.Fleet != nil {
		errs = append(errs, r.Fleet.Down())
	}
	if r.server != nil {
		errs = append(errs, r.StopServer())
	}
	return errors.Join(errs...)
}

// Records are the lines that a host wrote about itself, oldest first: boots, and what its hooks recorded.
func (r *Rig) Records(host string) ([]Record, error) {
	b, err := os.ReadFile(r.Fleet.Console(host))
	if err != nil {
		return nil, err
	}
	var rs []Record
	for _, line := range strings.Split(string(b), "\n") {
		if i := strings.Index(line, "LAB-RECORD "); i >= 0 {
			rs = append(rs, parseRecord(line[i:]))
		}
	}
	return rs, nil
}

// Record is one line of a host about itself.
type Record struct {
	What    string // drain, undrain
	Release string
	BootID  string
	At      time.Time // the host's clock, which is the build machine's
}

func parseRecord(line string) Record {
	var rec Record
	for _, f := range strings.Fields(line) {
		k, v, _ := strings.Cut(f, "=")
		switch k {
		case "what":
			rec.What = v
		case "release":
			rec.Release = v
		case "boot_id":
			rec.BootID = v
		case "at":
			var sec, nsec int64
			if _, err := fmt.Sscanf(v, "%d.%d", &sec, &nsec); err == nil {
				rec.At = time.Unix(sec, nsec)
			}
		}
	}
	return rec
}
