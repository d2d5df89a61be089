package daemon_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kernwave/kernwave/fleet"
	"github.com/kernwave/kernwave/internal/agent/daemon"
)

func TestParse(t *testing.T) {
	pin := strings.Repeat("ab", 32)
	got, err := daemon.Parse("agent.yaml", []byte(`
server: https://kernwave.example:8443
name: web-1
ca_sha256: `+pin+`
labels: {workload: web, rack: r12}
log_level: debug
settle_network: 2m
`))
	want := daemon.Settings{
		Server: "https://kernwave.example:8443", Name: "web-1", CASHA256: pin, Labels: fleet.Labels{"workload": "web", "rack": "r12"},
		LogLevel: slog.LevelDebug, SettleNetwork: 2 * time.Minute,
		TokenFile: "/etc/kernwave/token", StateDir: "/var/lib/kernwave", HooksDir: "/etc/kernwave/hooks.d",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestParseTellsEveryMistake(t *testing.T) {
	_, err := daemon.Parse("agent.yaml", []byte(`server: http://a
name: -x
ca_sha256: abc
labels: {"bad key": 1}
log_level: loud
settle_units: 2h
state_dir: var
sevrer: x
`))
	var fe *fleet.Error
	if !errors.As(err, &fe) || !strings.Contains(fe.Next, "agent.yaml") {
		t.Fatalf("got %v", err)
	}
	for line, want := range map[string]string{
		"agent.yaml:1: ": "must begin with https://", "agent.yaml:2: ": "character '-'", "agent.yaml:3: ": "64 hex digits",
		"agent.yaml:4: ": "bad key", "agent.yaml:5: ": "debug, info, warn or error", "agent.yaml:6: ": "outside 1s to 1h",
		"agent.yaml:7: ": "absolute path", "agent.yaml:8: ": `unknown key "sevrer"`,
	} {
		found := false
		for _, l := range strings.Split(err.Error(), "\n") {
			found = found || strings.Contains(l, line) && strings.Contains(l, want)
		}
		if !found {
			t.Errorf("%q with %q is missing in:\n%v", line, want, err)
		}
	}
}

func TestLoadMovesPathsBelowRoot(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc/kernwave"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.Load(daemon.DefaultFile, root); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Fatalf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/kernwave/agent.yaml"), []byte("server: https://a\nname: b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := daemon.Load(daemon.DefaultFile, root)
	if err != nil || s.StateDir != filepath.Join(root, "var/lib/kernwave") || s.HooksDir != filepath.Join(root, "etc/kernwave/hooks.d") {
		t.Errorf("got %+v, %v", s, err)
	}
	if _, err := s.Token(); err == nil {
		t.Error("a missing token was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("server: https://a\nname: b\nlabels: {a: b}\n"))
	f.Add([]byte("server: [1]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := daemon.Parse("f", data)
		if err == nil && (s.Server == "" || s.Name == "" || s.StateDir == "" || s.Labels.Validate() != nil) {
			t.Errorf("accepted %+v", s)
		}
	})
}
