// Package demo shows Kernwave's main job on real machines: a kernel reaches a
// small mixed fleet in waves, then one that panics on one host type stops itself.
// It runs the commands that an operator would type, and prints them.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kernwave/kernwave/internal/lab"
	"github.com/kernwave/kernwave/internal/lab/rig"
)

// Config of a demo.
type Config struct {
	Bin string // directory with kernwave and kernwave-agent
	Dir string // where everything of this run goes
	Out *os.File
}

// The two host types of the demo, and their hosts.
const (
	modelWeb = "Lab Alpha"
	modelDB  = "Lab Beta"
)

var hosts = []rig.Host{
	{Name: "web-1", Model: modelWeb, Workload: "web"},
	{Name: "web-2", Model: modelWeb, Workload: "web"},
	{Name: "db-1", Model: modelDB, Workload: "db"},
	{Name: "db-2", Model: modelDB, Workload: "db"},
}

// limit of one rollout: then something is wrong with the machine that runs the demo.
const limit = 40 * time.Minute

// show is one demo.
type show struct {
	cfg   Config
	began time.Time
	rig   *rig.Rig
}

// Run shows everything and leaves nothing running.
func Run(ctx context.Context, cfg Config) (err error) {
	s := &show{cfg: cfg, began: time.Now()}
	s.say("This demo boots %d virtual machines of 2 host types with a real Debian, and updates their kernels.", len(hosts))
	im, err := lab.Prepare(ctx, lab.Config{Progress: s.progress})
	if err != nil {
		return err
	}
	ks := im.Kernels()
	base, good := ks[0], ks[len(ks)-1]
	if im.Accel() != "kvm" {
		s.say("This machine has no hardware virtualisation that works: QEMU emulates, a boot takes 20 to 60 s.")
	}
	s.rig, err = rig.Start(ctx, rig.Config{
		Bin: cfg.Bin, Dir: cfg.Dir, Images: im, Progress: s.progress, ServerArgs: []string{"--idle-pace", "5s"},
	}, hosts...)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, s.rig.Down()); err == nil {
			s.say("Done in %s. Nothing is left running; logs are in %s.", time.Since(s.began).Round(time.Second), cfg.Dir)
		}
	}()

	s.say("1. A good kernel: %s, while the hosts run %s.", good.Release, base.Release)
	if err := s.good(ctx, good); err != nil {
		return err
	}
	s.say("2. A kernel that panics on hosts of the model %q only.", modelDB)
	bad, err := im.Repack(ctx, ks[1], lab.Variant{Fault: lab.Panic, Model: modelDB})
	if err != nil {
		return err
	}
	if err := s.bad(ctx, bad); err != nil {
		return err
	}
	s.say("Every host is in service. Ending the hosts and the control plane.")
	return nil
}

// good rolls a kernel over the fleet.
func (s *show) good(ctx context.Context, k lab.Kernel) error {
	for _, args := range [][]string{
		{"hosts"},
		{"kernel", "add", "--name", "good", k.Path},
		{"rollout", "plan", "good", "--waves", "50,100", "--soak", "10s"},
		{"rollout", "start", "good", "--waves", "50,100", "--soak", "10s", "--watch"},
		{"hosts"},
	} {
		if err := s.run(ctx, 0, args...); err != nil {
			return err
		}
	}
	return s.prove(ctx, k.Release, "web-1", "web-2", "db-1", "db-2")
}

// bad rolls a kernel that has to stop itself.
func (s *show) bad(ctx context.Context, k lab.Kernel) error {
	was, err := s.rig.Fleet.Output(ctx, "db-1", "uname -r")
	if err != nil {
		return err
	}
	for _, c := range []struct {
		code int
		args []string
	}{
		{0, []string{"kernel", "add", "--name", "bad", k.Path}},
		{0, []string{"rollout", "start", "bad", "--waves", "50,100", "--soak", "10s"}},
		{3, []string{"rollout", "watch", "--until-paused"}}, // it pauses by itself
		{0, []string{"incidents"}},
		{0, []string{"why", "db-2"}},
		{0, []string{"rollout", "abort", "r-2", "--yes", "--why", "panics on " + modelDB}},
	} {
		if err := s.run(ctx, c.code, c.args...); err != nil {
			return err
		}
	}
	if err := s.untilEnded(ctx, "r-2"); err != nil {
		return err
	}
	if err := s.run(ctx, 0, "hosts"); err != nil {
		return err
	}
	return s.prove(ctx, was, "db-1", "db-2")
}

// untilEnded waits until a rollout has come to its end, and says what it waits for.
func (s *show) untilEnded(ctx context.Context, id string) error {
	for said := ""; ; {
		r, err := s.rig.Rollout(ctx, id)
		if err != nil {
			return err
		}
		if !r.EndedAt.IsZero() {
			return nil
		}
		if r.Next != said {
			said = r.Next
			fmt.Fprintf(s.cfg.Out, "waiting for %s\n", said)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// prove asks the hosts themselves, not the control plane, what they run.
func (s *show) prove(ctx context.Context, release string, names ...string) error {
	for _, n := range names {
		got, err := s.rig.Fleet.Output(ctx, n, "uname -r")
		if err != nil {
			return err
		}
		fmt.Fprintf(s.cfg.Out, "%s itself says: uname -r = %s\n", n, got)
		if got != release {
			return fmt.Errorf("%s runs %s, the demo expected %s", n, got, release)
		}
	}
	return nil
}

// run shows one command and what it prints. Its exit code must be the expected one.
func (s *show) run(ctx context.Context, code int, args ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the command ran for %s", limit))
	defer cancel()
	fmt.Fprintf(s.cfg.Out, "\n%s $ kernwave %s\n", s.clock(), strings.Join(quoted(args), " "))
	cmd := s.rig.Command(ctx, args...)
	cmd.Stdout, cmd.Stderr = s.cfg.Out, s.cfg.Out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err := cmd.Run()
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		return err
	}
	if got != code {
		return fmt.Errorf("kernwave %s: exit code %d, expected %d; see %s", strings.Join(args, " "), got, code, filepath.Join(s.cfg.Dir, "server.log"))
	}
	return nil
}

// quoted writes arguments as one would type them.
func quoted(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		out[i] = a
		if strings.ContainsAny(a, " \"'") {
			out[i] = fmt.Sprintf("%q", a)
		}
	}
	return out
}

func (s *show) progress(e lab.Event) { fmt.Fprintf(s.cfg.Out, "%s %s\n", s.clock(), e) }

func (s *show) say(format string, args ...any) {
	io.WriteString(s.cfg.Out, "\n=== "+fmt.Sprintf(format, args...)+"\n")
}

func (s *show) clock() string {
	d := time.Since(s.began).Round(time.Second)
	return fmt.Sprintf("[%02d:%02d]", int(d.Minutes()), int(d.Seconds())%60)
}
