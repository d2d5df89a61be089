// Command fakehost is kernwave-agent on a machine made of nothing: the same
// command line, daemon, uplink, journal and hooks, over an agenttest.Host that
// lives in a file. It is for tests, and is never shipped.
//
//	fakehost --root DIR --machine DIR/machine.json --boot-time 1s
//	fakehost --root DIR --points FILE --cut "after syncdir operations 2"
//	fakehost --root DIR COMMAND …   # another of kernwave-agent's commands on it
//
// Killed and started again, it is a restarted agent on the same boot. SIGUSR1
// cuts the machine's power; SIGHUP reads the behaviour (kernels, fail, takes,
// network, keeps_once) anew from the file behaviour.json beside the machine.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kernwave/kernwave/internal/agent"
	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/agent/disk"
	"github.com/kernwave/kernwave/internal/agentcli"
)

func main() {
	var o options
	flag.StringVar(&o.root, "root", "", "directory with etc/kernwave/agent.yaml; everything is written below it")
	flag.StringVar(&o.file, "machine", "", "the machine's file (default: machine.json in root)")
	flag.StringVar(&o.release, "release", "6.1.0-1-cloud-amd64", "kernel of a new machine")
	flag.StringVar(&o.model, "model", "fake-small", "DMI model of a new machine")
	flag.DurationVar(&o.bootTime, "boot-time", time.Second, "how long a boot takes")
	flag.StringVar(&o.points, "points", "", "append each point that is reached to this `FILE`")
	cut := flag.String("cut", "", "die, as by kill -9, at this point: \"after ArmTrial 1\"")
	flag.BoolVar(&o.power, "power", false, "at the cut the machine loses its power, and its disk what was not synced")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if o.file == "" {
		o.file = filepath.Join(o.root, "machine.json")
	}
	var err error
	if o.cut, err = agenttest.ParseCut(*cut); err == nil {
		err = run(ctx, o, flag.Args(), log)
	}
	if err != nil {
		log.Error("fakehost ends", "err", err)
		os.Exit(1)
	}
}

type options struct {
	root, file     string
	release, model string
	bootTime       time.Duration
	points         string
	cut            agenttest.Cut
	power          bool
}

func run(ctx context.Context, o options, command []string, log *slog.Logger) error {
	m, err := agenttest.LoadMachine(o.file)
	if errors.Is(err, fs.ErrNotExist) {
		m, err = agenttest.NewMachine(o.release), nil
		m.Facts.Hardware.Model, m.BootTime = o.model, o.bootTime
		m.Facts.MachineID = filepath.Base(o.root)
	}
	if err != nil {
		return err
	}
	h := agenttest.NewHost(m, agenttest.Options{
		Save: func(m agenttest.Machine) {
			if err := agenttest.SaveMachine(o.file, m); err != nil {
				panic(err) // a test without its record proves nothing
			}
		},
		OnEvent: func(e agenttest.Event) {
			log.Info("machine", "what", e.What, "release", e.Release, "operation", e.Op, "boot_id", e.BootID)
		},
	})
	behaviour := filepath.Join(filepath.Dir(o.file), "behaviour.json")
	if err := behave(h, behaviour); err != nil {
		return err
	}
	seen, err := recorder(o.points)
	if err != nil {
		return err
	}
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		listen(ctx, h, behaviour, log)
	}()
	var power *agenttest.Volatile // of the present boot
	cutter := agenttest.NewCutter(o.cut, func() { die(h, power, o.power) }, seen)
	if len(command) == 0 {
		command = []string{"run"}
	}
	command = append(command[:1:1], append([]string{"--root", o.root}, command[1:]...)...)
	err = h.Run(ctx, func(ctx context.Context, r *agenttest.Running) error {
		power = agenttest.NewVolatile(disk.OS{})
		code := agentcli.Main(ctx, command, agentcli.Streams{Out: os.Stdout, Err: os.Stderr}, agentcli.Machine{
			Open: func(string, *slog.Logger) (agentcli.Host, error) { return machine{cutter.System(r)}, nil },
			Disk: cutter.Disk(r.Disk(power)),
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if !r.Online() {
					return nil, errors.New("network is unreachable")
				}
				return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, addr)
			},
		})
		if code != 0 {
			return fmt.Errorf("kernwave-agent %s: exit code %d", command[0], code)
		}
		return nil
	})
	if ctx.Err() != nil {
		<-listening
	}
	return err
}

// machine is a machine made of nothing with a doctor who finds nothing.
type machine struct{ agent.System }

func (machine) Doctor(context.Context) []agentcli.Finding {
	return []agentcli.Finding{{Name: "machine", Level: "ok", Saw: "it is made of nothing"}}
}

// die ends this process as kill -9 does, and before it, where that is wanted, the machine's power.
func die(h *agenttest.Host, v *agenttest.Volatile, power bool) {
	if power {
		h.PowerCut()
		if err := v.PowerCut(); err != nil {
			panic(err)
		}
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // it takes a moment, in which nothing more may be done
}

// recorder appends each point to file; empty: nowhere. What was written survives the process.
func recorder(file string) (func(agenttest.Point), error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return func(p agenttest.Point) {
		if _, err := fmt.Fprintln(f, p); err != nil {
			panic(err)
		}
	}, nil
}

// listen obeys signals until ctx ends.
func listen(ctx context.Context, h *agenttest.Host, behaviour string, log *slog.Logger) {
	c := make(chan os.Signal, 4)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGHUP)
	defer signal.Stop(c)
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-c:
			if s == syscall.SIGUSR1 {
				h.PowerCut()
			} else if err := behave(h, behaviour); err != nil {
				log.Error("behaviour cannot be read", "err", err)
			}
		}
	}
}

// behave takes over how the machine and its kernels behave. A missing file changes nothing.
func behave(h *agenttest.Host, file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	h.Change(func(m *agenttest.Machine) {
		if e := json.Unmarshal(data, m); e != nil { // only the fields that the file names
			err = fmt.Errorf("read %s: %w", file, e)
		}
	})
	return err
}
