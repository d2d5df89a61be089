// Package agentcli is kernwave-agent's command line: run, doctor, install, enrol,
// status, journal, version. It uses the standard library's flags: the agent runs as root
// on every host, and each dependency is one more thing to trust there.
package agentcli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/daemon"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/linux"
	"github.com/kernwave/kernwave/internal/linux/command"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // it was tried and did not work, or doctor found something that fails
	exitUsage  = 2 // the command line is wrong
)

// Version of the agent; set when it is built for a release (-ldflags "-X …/cli.Version=v0.1.0").
var Version = ""

// Streams are where a command writes.
type Streams struct {
	Out io.Writer
	Err io.Writer
}

// Host is the machine as the commands need it.
type Host interface {
	agent.System
	Doctor(context.Context) []Finding
}

// Finding is one thing that the machine's doctor looked at.
type Finding = linux.Finding

// Machine is what lies below the program. The zero value is this one; a test puts another under the same commands.
type Machine struct {
	// Open looks at the machine below root. Nil: internal/linux.
	Open func(root string, log *slog.Logger) (Host, error)
	// Disk and Dial are daemon.Program's.
	Disk disk.FS
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// app is one run of the command line.
type app struct {
	Streams
	machine    Machine
	name, does string // of the command, and its first line of help
	flags      *flag.FlagSet
	config     string
	root       string
	output     string
}

type cmd struct {
	name, does, example string
	run                 func(context.Context, *app, []string) error
}

func commands() []cmd {
	return []cmd{
		{"run", "be this host's agent, until stopped", "kernwave-agent run", run},
		{
			"enrol", "get this host a certificate, with a token from \"kernwave token create\"",
			"kernwave-agent enrol --server https://kernwave.example:8443 --ca-sha256 HEX --token TOKEN", enrol,
		},
		{"install", "put the systemd units and the dead-man in place", "kernwave-agent install && systemctl start kernwave-agent", install},
		{"doctor", "say whether this host can take part, and how to mend what is missing", "kernwave-agent doctor -o json", doctor},
		{"status", "show who this host is and what its journal says", "kernwave-agent status --all", status},
		{"journal", "list this host's journals, and set a damaged one aside", "kernwave-agent journal --set-aside o-21-e58c0f28", journals},
		{"version", "print the version", "kernwave-agent version", version},
	}
}

// usageError is a mistake on the command line.
type usageError struct{ error }

// errFindings says that doctor found something that fails; it has printed it.
var errFindings = errors.New("the host cannot take part yet")

// Main runs the command line on m and returns the exit code.
func Main(ctx context.Context, args []string, s Streams, m Machine) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(s.Out)
		if len(args) == 0 {
			return exitUsage
		}
		return exitOK
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return s.report(c.call(ctx, args[1:], s, m))
		}
	}
	return s.report(usageError{fmt.Errorf("there is no command %q", args[0])})
}

func (c cmd) call(ctx context.Context, args []string, s Streams, m Machine) error {
	a := &app{Streams: s, machine: m, name: c.name, does: c.does, flags: flag.NewFlagSet(c.name, flag.ContinueOnError)}
	a.flags.SetOutput(io.Discard)
	a.flags.StringVar(&a.config, "config", daemon.DefaultFile, "the settings `file`")
	a.flags.StringVar(&a.root, "root", "", "work below this `directory` instead of / (for tests)")
	err := c.run(ctx, a, args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(s.Out, "kernwave-agent %s: %s.\n\nExample:\n  %s\n\nFlags:\n", c.name, c.does, c.example)
		a.flags.SetOutput(s.Out)
		a.flags.PrintDefaults()
		return nil
	}
	return err
}

// parse reads the command's flags, of which there may be more than the common ones by now.
func (a *app) parse(args []string) error {
	if err := a.flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{err}
	}
	if a.flags.NArg() > 0 {
		return usageError{fmt.Errorf("%s takes no argument %q", a.name, a.flags.Arg(0))}
	}
	if a.output != "" && a.output != "table" && a.output != "json" {
		return usageError{fmt.Errorf("-o %s: must be table or json", a.output)}
	}
	return nil
}

func (a *app) outputFlag() {
	a.flags.StringVar(&a.output, "o", "table", "output `form`: table or json")
}

func (a *app) log(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: level}))
}

func (a *app) host(log *slog.Logger) (Host, error) {
	if a.machine.Open != nil {
		return a.machine.Open(a.root, log)
	}
	return linux.New(linux.Config{Root: a.root}, command.Exec{}, log)
}

// program is what the daemon is told of this binary and the machine below it.
func (a *app) program() daemon.Program {
	v, built := buildInfo()
	return daemon.Program{Version: v, Built: built, Disk: a.machine.Disk, Dial: a.machine.Dial}
}

// disk is the machine's.
func (a *app) disk() disk.FS {
	if a.machine.Disk != nil {
		return a.machine.Disk
	}
	return disk.OS{}
}

// report prints an error, and what to do next, and chooses the exit code.
func (s Streams) report(err error) int {
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errFindings) {
		return exitFailed
	}
	fmt.Fprintf(s.Err, "kernwave-agent: error: %v\n", err)
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintln(s.Err, "kernwave-agent: next: see kernwave-agent help")
		return exitUsage
	}
	if next := fleet.NextOf(err, ""); next != "" {
		fmt.Fprintf(s.Err, "kernwave-agent: next: %s\n", next)
	}
	return exitFailed
}

func usage(w io.Writer) {
	fmt.Fprint(w, "kernwave-agent updates this host's kernel when its control plane says so, and finds the way back by itself.\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-8s  %s\n", c.name, c.does)
	}
	fmt.Fprint(w, "\n\"kernwave-agent COMMAND -h\" shows a command's flags and an example.\n"+
		"Exit codes: 0 it worked, 1 it did not (doctor: the host cannot take part), 2 the command line is wrong.\n")
}

func version(_ context.Context, a *app, args []string) error {
	if err := a.parse(args); err != nil {
		return err
	}
	v, built := buildInfo()
	fmt.Fprintf(a.Out, "kernwave-agent %s\n", v)
	if !built.IsZero() {
		fmt.Fprintf(a.Out, "source of %s\n", built.UTC().Format(time.RFC3339))
	}
	return nil
}

// buildInfo is the version, and when the source was committed: a time that has certainly come.
func buildInfo() (version string, built time.Time) {
	version = Version
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return version, built
	}
	revision := ""
	for _, s := range bi.Settings {
		switch s.Key {
		case "vcs.time":
			built, _ = time.Parse(time.RFC3339, s.Value) // zero means unknown
		case "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		}
	}
	if version == "" {
		version = strings.Trim(bi.Main.Version, "()")
		if revision != "" && !strings.Contains(version, revision) {
			version += "-" + revision
		}
	}
	return version, built
}
