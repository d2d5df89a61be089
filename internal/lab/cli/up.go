package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/lab"
)

// wish is what `up` asks the process that holds the fleet to start.
type wish struct {
	Cache   string         `json:"cache"`
	Hosts   []lab.HostSpec `json:"hosts"`
	Forward map[int]string `json:"forward"`
	Faults  []lab.Variant  `json:"faults"`
}

func (a *app) up() *cobra.Command {
	var hosts, types, memory int
	var forward, faults, loaders []string
	var payload string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a fleet and wait until every host is up",
		Long: `Start a fleet and wait until every host is up. The hosts are called lab-1, lab-2… and go on
running after the command ended; "kernwave-lab down" stops them. An interrupted "up" leaves nothing behind.

Inside the hosts, http://` + lab.GuestAddr + `/ is a package repository with the kernels that they can be
updated to, and each forwarded port of ` + lab.GuestAddr + ` leads to an address of this machine.`,
		Example: `  kernwave-lab up --hosts 4 --types 2 --forward 8443=127.0.0.1:8443
  kernwave-lab up --fault panic="Lab Model B" --types 2
  kernwave-lab up --loader systemd-boot,grub-uefi --hosts 2
  kernwave-lab up --payload ./root`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if hosts < 1 || types < 1 || memory < 256 || len(loaders) == 0 {
				return usageError{errors.New("--hosts and --types start at 1, --memory at 256, --loader names one")}
			}
			w := wish{Cache: a.cache, Forward: map[int]string{}}
			files, err := payloadFiles(payload)
			if err != nil {
				return err
			}
			for _, l := range loaders {
				if _, err := lab.ParseLoader(l); err != nil {
					return usageError{err}
				}
			}
			for i := range hosts {
				w.Hosts = append(w.Hosts, lab.HostSpec{
					Name: fmt.Sprintf("lab-%d", i+1), Model: "Lab Model " + modelName(i%types), MemoryMB: memory, Payload: files,
					Loader: lab.Loader(loaders[i%len(loaders)]),
				})
			}
			for _, f := range forward {
				port, to, ok := strings.Cut(f, "=")
				n, err := strconv.Atoi(port)
				if !ok || err != nil || n < 1 || n > 65535 || n == 80 || !strings.Contains(to, ":") {
					return usageError{fmt.Errorf("--forward %q is not PORT=ADDRESS:PORT (port 80 is the package repository)", f)}
				}
				w.Forward[n] = to
			}
			for _, f := range faults {
				fault, model, _ := strings.Cut(f, "=")
				w.Faults = append(w.Faults, lab.Variant{Fault: lab.Fault(fault), Model: model})
			}
			return a.start(cmd.Context(), w)
		},
	}
	f := cmd.Flags()
	f.IntVar(&hosts, "hosts", 3, "how many hosts")
	f.IntVar(&types, "types", 1, "how many hardware models they have, in turn")
	f.IntVar(&memory, "memory", lab.DefaultMemoryMB, "memory of each host, in MB")
	f.StringSliceVar(&loaders, "loader", []string{string(lab.GRUBOnBIOS)}, "firmware and boot loader of the hosts, in turn: grub-bios, grub-uefi, systemd-boot")
	f.StringArrayVar(&forward, "forward", nil, "PORT=ADDRESS:PORT leads a port of "+lab.GuestAddr+" to this machine; repeatable")
	f.StringArrayVar(&faults, "fault", nil, "FAULT[=MODEL] repacks one kernel of the repository: clean, panic, hang, hanglate, emergency, nonet, shortimage, shortmodules; repeatable, oldest update first")
	f.StringVar(&payload, "payload", "", "folder whose files are put into every host before its services start")
	return cmd
}

// modelName counts A, B, … Z, A1…
func modelName(i int) string {
	s := string(rune('A' + i%26))
	if i >= 26 {
		s += strconv.Itoa(i / 26)
	}
	return s
}

func payloadFiles(dir string) ([]lab.File, error) {
	if dir == "" {
		return nil, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var files []lab.File
	return files, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f := lab.File{Path: "/" + strings.TrimPrefix(strings.TrimPrefix(path, dir), "/"), Source: path}
		if d.Type()&fs.ModeSymlink != 0 {
			f.Source = ""
			if f.Link, err = os.Readlink(path); err != nil {
				return err
			}
		}
		files = append(files, f)
		return nil
	})
}

// start starts the process that holds the fleet and waits until it says that the hosts are up. It holds a pipe to that
// process: if this one dies, however it dies, the other sees the end of the pipe and takes the hosts down.
func (a *app) start(ctx context.Context, w wish) error {
	if s, err := lab.ReadState(a.dir); err == nil {
		return &fleet.Error{Op: "start a fleet in " + a.dir, Err: fmt.Errorf("one of %d hosts runs there", len(s.Hosts)), Next: "stop it with kernwave-lab down, or choose another --dir"}
	}
	if _, err := lab.Prepare(ctx, lab.Config{CacheDir: a.cache, Progress: a.progress()}); err != nil {
		return err
	}
	if err := os.MkdirAll(a.dir, 0o755); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(a.dir, "hold.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(self, "hold", "--cache", a.cache, "--dir", a.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { stdin.Close() })
	defer stop()
	if err := json.NewEncoder(stdin).Encode(w); err != nil {
		return err
	}
	failure, err := a.follow(stdout)
	if failure == nil && err == nil && stop() {
		if _, err := io.WriteString(stdin, "keep\n"); err != nil {
			return err
		}
		a.printState()
		return cmd.Process.Release()
	}
	_ = stdin.Close()
	_ = cmd.Wait()
	if failure != nil {
		return failure
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &fleet.Error{Op: "start a fleet", Err: fmt.Errorf("its process ended: %w", firstOf(err, io.ErrUnexpectedEOF)), Next: "read " + log.Name()}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
