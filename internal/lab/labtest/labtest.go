// Package labtest has what tests over real virtual machines share: one image per process, a switch that keeps them out
// of a plain `go test ./...`, and logs that survive a failure.
package labtest

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/kernwave/kernwave/internal/lab"
)

// Gate is the environment variable that lets tests start virtual machines, when it is "1".
const Gate = "KERNWAVE_LAB"

var (
	once   sync.Once
	images *lab.Images
	failed error
)

// Images returns the image and kernels, prepared once per process. It skips the test unless the gate is open.
func Images(t testing.TB) *lab.Images {
	t.Helper()
	if os.Getenv(Gate) != "1" {
		t.Skipf("starts virtual machines: set %s=1 (minutes of two CPUs; packages: kernwave-lab packages)", Gate)
	}
	once.Do(func() {
		images, failed = lab.Prepare(t.Context(), lab.Config{Progress: lab.WriteProgress(os.Stderr)})
	})
	if failed != nil {
		t.Fatal(failed)
	}
	return images
}

// Start boots a fleet that lives as long as the test. If the test fails, the end of each console is logged; with
// -artifacts, the whole logs are kept.
func Start(t testing.TB, im *lab.Images, cfg lab.FleetConfig, hosts ...lab.HostSpec) *lab.Fleet {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	f, err := lab.Start(t.Context(), im, cfg, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range f.Hosts() {
				t.Logf("%s: %s", h, f.Tail(h, 25))
				keep(t, h, f.Console(h))
			}
		}
		if err := f.Down(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func keep(t testing.TB, host, log string) {
	data, err := os.ReadFile(log)
	if err == nil {
		err = os.WriteFile(filepath.Join(t.ArtifactDir(), host+"-serial.log"), data, 0o644)
	}
	if err != nil {
		t.Log(err)
	}
}

// Must is f.Output for a script that has to work.
func Must(t testing.TB, f *lab.Fleet, host, script string) string {
	t.Helper()
	out, err := f.Output(t.Context(), host, script)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
