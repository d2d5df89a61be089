// Command fakehost is kernwave-agent on a machine made of nothing: the same
// daemon, uplink, journal and hooks, over an agenttest.Host that lives in a
// file. It is for tests, and is never shipped.
//
//	fakehost --root DIR --machine DIR/machine.json --boot-time 1s
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

	"github.com/kernwave/kernwave/internal/agent/agenttest"
	"github.com/kernwave/kernwave/internal/agent/daemon"
	"github.com/kernwave/kernwave/internal/agent/disk"
)

func main() {
	root := flag.String("root", "", "directory with etc/kernwave/agent.yaml; everything is written below it")
	file := flag.String("machine", "", "the machine's file (default: machine.json in root)")
	release := flag.String("release", "6.1.0-1-cloud-amd64", "kernel of a new machine")
	model := flag.String("model", "fake-small", "DMI model of a new machine")
	bootTime := flag.Duration("boot-time", time.Second, "how long a boot takes")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if *file == "" {
		*file = filepath.Join(*root, "machine.json")
	}
	if err := run(ctx, *root, *file, *release, *model, *bootTime, log); err != nil {
		log.Error("fakehost ends", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root, file, release, model string, bootTime time.Duration, log *slog.Logger) error {
	settings, err := daemon.Load(daemon.DefaultFile, root)
	if err != nil {
		return err
	}
	m, err := agenttest.LoadMachine(file)
	if errors.Is(err, fs.ErrNotExist) {
		m, err = agenttest.NewMachine(release), nil
		m.Facts.Hardware.Model, m.BootTime = model, bootTime
		m.Facts.MachineID = string(settings.Name)
	}
	if err != nil {
		return err
	}
	h := agenttest.NewHost(m, agenttest.Options{
		Save: func(m agenttest.Machine) {
			if err := agenttest.SaveMachine(file, m); err != nil {
				panic(err) // a test without its record proves nothing
			}
		},
		OnEvent: func(e agenttest.Event) {
			log.Info("machine", "what", e.What, "release", e.Release, "operation", e.Op, "boot_id", e.BootID)
		},
	})
	behaviour := filepath.Join(filepath.Dir(file), "behaviour.json")
	if err := behave(h, behaviour); err != nil {
		return err
	}
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		listen(ctx, h, behaviour, log)
	}()
	err = h.Run(ctx, func(ctx context.Context, r *agenttest.Running) error {
		return daemon.Run(ctx, settings, daemon.Program{
			Version: "fake", Disk: r.Disk(disk.OS{}),
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if !r.Online() {
					return nil, errors.New("network is unreachable")
				}
				return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, network, addr)
			},
		}, r, log)
	})
	if ctx.Err() != nil {
		<-listening
	}
	return err
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
