// Command kernwave-agent is the part of Kernwave that runs on every host.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/kernwave/kernwave/internal/agentcli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	os.Exit(agentcli.Main(ctx, os.Args[1:], agentcli.Streams{Out: os.Stdout, Err: os.Stderr}, agentcli.Machine{}))
}
