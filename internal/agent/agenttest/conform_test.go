package agenttest_test

import (
	"context"
	"testing"

	"github.com/kernwave/kernwave/internal/agent/agenttest"
)

func TestFakeConforms(t *testing.T) {
	agenttest.Conform(t, func(t *testing.T) agenttest.Fixture {
		m := agenttest.NewMachine("6.1.0-1")
		m.Installed = append(m.Installed, "6.1.0-2")
		m.BootTime = 0
		h := agenttest.NewHost(m, agenttest.Options{})
		up := make(chan *agenttest.Running, 1)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- h.Run(ctx, func(ctx context.Context, r *agenttest.Running) error {
				up <- r
				<-ctx.Done()
				return nil
			})
		}()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		return agenttest.Fixture{System: <-up, Running: "6.1.0-1", Other: "6.1.0-2"}
	})
}
