package agentcli_test

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kernwave/kernwave/internal/agentcli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kernwave-agent": func() {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		os.Exit(agentcli.Main(ctx, os.Args[1:], agentcli.Streams{Out: os.Stdout, Err: os.Stderr}, agentcli.Machine{}))
	}})
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", UpdateScripts: os.Getenv("UPDATE") != ""})
}
