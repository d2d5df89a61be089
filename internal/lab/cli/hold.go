package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/lab"
)

// message is what the holding process says, one JSON object per line.
type message struct {
	Line  string `json:"line,omitempty"`  // progress
	Ready bool   `json:"ready,omitempty"` // every host is up
	What  string `json:"what,omitempty"`
	Next  string `json:"next,omitempty"`
}

// follow prints progress until the fleet is up or has failed.
func (a *app) follow(r io.Reader) (failure *fleet.Error, err error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var m message
		if err := json.Unmarshal(sc.Bytes(), &m); err != nil {
			return nil, err
		}
		switch {
		case m.Ready:
			return nil, nil
		case m.What != "":
			return &fleet.Error{Op: "start a fleet", Err: errors.New(m.What), Next: m.Next}, nil
		case !a.quiet:
			fmt.Fprintln(a.err, m.Line)
		}
	}
	return nil, firstOf(sc.Err(), io.ErrUnexpectedEOF)
}

func (a *app) hold() *cobra.Command {
	return &cobra.Command{
		Use:    "hold",
		Hidden: true, // the background process of `up`
		Args:   exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			signal.Ignore(syscall.SIGPIPE) // nobody reads what it says once the hosts are up
			enc := json.NewEncoder(a.out)
			err := holdFleet(ctx, cancel, a.dir, os.Stdin, enc)
			if err != nil {
				_ = enc.Encode(message{What: err.Error(), Next: fleet.NextOf(err, "")})
			}
			return err
		},
	}
}

// holdFleet runs the fleet until it gets a signal. Until it was told to keep it, the end of in stops it too.
func holdFleet(ctx context.Context, cancel func(), dir string, in io.Reader, say *json.Encoder) error {
	lines := bufio.NewReader(in)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	var w wish
	if err := json.Unmarshal(first, &w); err != nil {
		return err
	}
	go func() {
		if line, _ := lines.ReadString('\n'); line != "keep\n" {
			cancel()
		}
	}()
	im, err := lab.Prepare(ctx, lab.Config{CacheDir: w.Cache})
	if err != nil {
		return err
	}
	serve := im.Kernels()[1:]
	for i, v := range w.Faults {
		if i >= len(serve) {
			return fmt.Errorf("%d faults, but only %d kernels to put them in", len(w.Faults), len(serve))
		}
		if serve[i], err = im.Repack(ctx, serve[i], v); err != nil {
			return err
		}
	}
	f, err := lab.Start(ctx, im, lab.FleetConfig{
		Dir: dir, Serve: serve, Forward: w.Forward,
		Progress: func(e lab.Event) { _ = say.Encode(message{Line: "lab: " + e.String()}) },
	}, w.Hosts...)
	if err != nil {
		return err
	}
	_ = say.Encode(message{Ready: true})
	<-ctx.Done()
	return f.Down()
}

func (a *app) down() *cobra.Command {
	return &cobra.Command{
		Use:     "down",
		Short:   "Stop the fleet and delete its disks; consoles stay in its folder",
		Example: `  kernwave-lab down`,
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := lab.ReadState(a.dir)
			if errors.Is(err, fs.ErrNotExist) {
				fmt.Fprintf(a.err, "no fleet runs in %s\n", a.dir)
				return nil
			}
			if err != nil {
				return err
			}
			for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
				if err := s.Owner.Signal(sig); err != nil && s.Owner.Running() {
					return &fleet.Error{Op: "stop the fleet", Err: err}
				}
				for range 100 {
					if !s.Owner.Running() {
						return nil
					}
					select {
					case <-cmd.Context().Done():
						return context.Cause(cmd.Context())
					case <-time.After(100 * time.Millisecond):
					}
				}
			}
			return &fleet.Error{Op: "stop the fleet", Err: fmt.Errorf("process %d does not end", s.Owner.PID)}
		},
	}
}
