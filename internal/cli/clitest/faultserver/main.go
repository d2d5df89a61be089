// Command faultserver is the control plane with a store that ends the process,
// as by kill -9, at a chosen write. It is for tests, and is never shipped.
//
//	faultserver --data DIR --ready-file FILE --points FILE --cut "append event operation.trial 1"
//
// A point is a write, the commit after it, or the moment after that commit
// ("committed put operation 2"), and the how-manieth since SIGUSR1: before it
// nothing is counted. A write's name is given without the ids in it, and a
// transaction that writes nothing has no point.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kernwave/kernwave/internal/cli"
)

func main() {
	var cfg cli.ServerConfig
	p := points{count: map[string]int{}, last: "nothing"}
	flag.StringVar(&cfg.Dir, "data", "", "data directory")
	flag.StringVar(&cfg.Listen, "listen", "127.0.0.1:0", "address to answer on")
	flag.DurationVar(&cfg.Control.GrantLife, "grant-life", 10*time.Second, "as kernwave server's")
	flag.DurationVar(&cfg.Control.IdlePace, "idle-pace", time.Second, "as kernwave server's")
	flag.DurationVar(&cfg.Control.OperationPace, "operation-pace", 300*time.Millisecond, "as kernwave server's")
	flag.DurationVar(&cfg.Control.SilentAfter, "silent-after", time.Hour, "as kernwave server's")
	ready := flag.String("ready-file", "", "write the address to this file once the server answers")
	file := flag.String("points", "", "append each point to this file")
	flag.StringVar(&p.cut, "cut", "", "die at this point; \"any 7\" is the seventh of all")
	flag.BoolVar(&p.armed, "armed", false, "count from the beginning, not from SIGUSR1")
	flag.Parse()
	cfg.API.Version, cfg.API.EnrolPerSecond = "fault", 1000
	cfg.Fault = p.reached
	cfg.Ready = func(addr net.Addr) {
		if err := os.WriteFile(*ready, []byte(addr.String()+"\n"), 0o600); err != nil {
			panic(err)
		}
	}
	if *file != "" {
		f, err := os.OpenFile(*file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			panic(err)
		}
		p.file = f
	}
	arm := make(chan os.Signal, 1)
	signal.Notify(arm, syscall.SIGUSR1)
	go func() {
		for range arm {
			p.arm()
		}
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := cli.Serve(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		fmt.Fprintln(os.Stderr, "faultserver:", err)
		os.Exit(1)
	}
}

// points counts what the store writes.
type points struct {
	cut  string
	file *os.File

	mu    sync.Mutex
	armed bool
	last  string // write of the open transaction
	count map[string]int
}

func (p *points) arm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = true
	if p.file != nil {
		fmt.Fprintln(p.file, "armed")
	}
}

// reached is called with each point, by the one writer that a store has.
func (p *points) reached(what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch what {
	case "commit":
		what += " " + p.last
	case "committed":
		what += " " + p.last
		p.last = "nothing"
	default:
		what = plain(what)
		p.last = what
	}
	if !p.armed || strings.HasSuffix(what, " nothing") {
		return nil
	}
	p.count[what]++
	p.count["any"]++
	point := fmt.Sprintf("%s %d", what, p.count[what])
	if p.file != nil {
		fmt.Fprintln(p.file, point)
	}
	if point == p.cut || fmt.Sprintf("any %d", p.count["any"]) == p.cut {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it takes a moment, in which nothing more may be written
	}
	return nil
}

// plain leaves out the ids: "put host web-1" is "put host". The kind of an event stays.
func plain(what string) string {
	words := strings.Fields(what)
	if len(words) > 2 && words[1] != "event" {
		words = words[:2]
	}
	return strings.Join(words, " ")
}
