// Package cli is the command line of kernwave-lab: it reads flags, calls package lab and prints what came back.
// Exit codes are decided here alone.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/lab"
)

// Exit codes. Exec has its own: those of the command in the host.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitLab         = 255 // exec: the lab could not run the command, as ssh does it
	exitInterrupted = 130
)

// Main runs one command line of this process and returns its exit code. An interrupt cancels the command.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, args, os.Stdout, os.Stderr)
}

// Run runs one command line and returns its exit code.
func Run(ctx context.Context, args []string, out, errOut io.Writer) int {
	a := &app{out: out, err: errOut}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	return a.report(ctx, root.ExecuteContext(ctx))
}

// app is one invocation.
type app struct {
	out, err io.Writer

	cache  string
	dir    string
	output string
	quiet  bool
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "kernwave-lab",
		Short: "Run small fleets of real virtual machines",
		Long: `kernwave-lab starts real virtual machines: QEMU, real Debian, real kernels, real reboots.
The guests run the build machine's own Debian release, from its own mirrors.`,
		Example: `  kernwave-lab up --hosts 3 --types 2
  kernwave-lab exec lab-1 -- uname -r
  kernwave-lab reset lab-1
  kernwave-lab down`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("there is no command %q", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "table" && a.output != "json" {
				return usageError{fmt.Errorf("--output %q is neither table nor json", a.output)}
			}
			if a.dir == "" {
				a.dir = filepath.Join(a.cache, "fleet")
			}
			return nil
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := root.PersistentFlags()
	f.StringVar(&a.cache, "cache", lab.DefaultCacheDir(), "folder of images and kernels")
	f.StringVar(&a.dir, "dir", "", "folder of the running fleet (default \"fleet\" in the cache)")
	f.StringVarP(&a.output, "output", "o", "table", "table or json")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "no progress lines")
	root.AddCommand(a.up(), a.hold(), a.status(), a.console(), a.exec(), a.push(), a.reset(), a.network(), a.down(), a.prepare(), a.packages(), a.demo())
	return root
}

// usageError is a mistake on the command line: nothing was done.
type usageError struct{ error }

// quietExit ends with a code and nothing printed.
type quietExit int

func (quietExit) Error() string { return "" }

// labFailed is an error of exec that is not the command's own.
type labFailed struct{ error }

func (e labFailed) Unwrap() error { return e.error }

// report prints err in two lines, and decides the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[quietExit](err); ok {
		return int(code)
	}
	if ctx.Err() != nil {
		fmt.Fprintln(a.err, "kernwave-lab: interrupted")
		return exitInterrupted
	}
	fmt.Fprintln(a.err, "kernwave-lab: error:", err)
	if next := fleet.NextOf(err, ""); next != "" {
		fmt.Fprintln(a.err, "kernwave-lab: next:", next)
	}
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintln(a.err, "kernwave-lab: next: see kernwave-lab --help")
		return exitUsage
	}
	if _, ok := errors.AsType[labFailed](err); ok {
		return exitLab
	}
	return exitFailed
}

// progress writes one line per step to standard error.
func (a *app) progress() func(lab.Event) {
	if a.quiet {
		return nil
	}
	return lab.WriteProgress(a.err)
}

// json prints v with the version of this encoding.
func (a *app) json(kind string, v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"version": 1, "kind": kind, kind: v})
}

// exactly is cobra.ExactArgs with an error that names the arguments.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usageError{fmt.Errorf("%s wants %v, got %d arguments", cmd.CommandPath(), names, len(args))}
		}
		return nil
	}
}
