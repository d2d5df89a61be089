// Package cli is the operator's command line: it reads flags and settings,
// calls the control plane and prints what came back, for people or as JSON.
// It decides nothing about hosts. Exit codes are decided here alone.
//
//	os.Exit(cli.Main(os.Args[1:]))
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"
)

// Main runs one command line of this process, without the program's name, and returns its exit code. An interrupt
// cancels the command; a second one ends the process at once.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return Run(ctx, args, Process{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Now: time.Now})
}

// Process is what a command line may use of the process around it.
type Process struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Now      func() time.Time
	// RetryAfter is the first wait before a request that must not get lost is sent again. Zero means 250 ms.
	RetryAfter time.Duration
}

// Run runs one command line and returns its exit code. What went wrong stands on p.Err.
func Run(ctx context.Context, args []string, p Process) int {
	a := &app{Process: p}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(p.In)
	root.SetOut(p.Out)
	root.SetErr(p.Err)
	cmd, err := root.ExecuteContextC(ctx)
	return a.report(ctx, cmd, err)
}

// app is one invocation: the flags that every command has, and what they lead to.
type app struct {
	Process

	output  string // table or json
	noColor bool
	quiet   bool
	timeout time.Duration

	conn connFlags
	got  *client // see connect
}

// interactive says whether a person can be asked: both ends are a terminal.
func (a *app) interactive() bool { return isTerminal(a.In) && isTerminal(a.Err) }

// isTerminal says whether s, one of the process's streams, is a terminal.
func isTerminal(s any) bool {
	f, ok := s.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}

// width is how many columns a table on Out may have; 0: as many as it needs.
func (a *app) width() int { return widthOf(a.Out) }

func widthOf(stream any) int {
	f, ok := stream.(interface{ Fd() uintptr })
	if !ok {
		return 0
	}
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return w
}

// json says whether the answer is for programs.
func (a *app) json() bool { return a.output == "json" }
