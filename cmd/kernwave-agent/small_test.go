package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maxSize of the shipped agent, static and stripped.
const maxSize = 12 << 20

// allowed is what the agent may link beside the standard library, and why. It runs as root on every host.
var allowed = map[string]string{
	"github.com/kernwave/kernwave/api/gen":           "the wire",
	"github.com/kernwave/kernwave/cmd/":              "the main",
	"github.com/kernwave/kernwave/deploy":            "units and dead-man, which it installs",
	"github.com/kernwave/kernwave/fleet":             "the words",
	"github.com/kernwave/kernwave/internal/agent":    "itself",
	"github.com/kernwave/kernwave/internal/linux":    "the machine",
	"github.com/kernwave/kernwave/internal/wire":     "words on the wire",
	"github.com/kernwave/kernwave/internal/operator": "types only: the other half of internal/wire speaks of operators",
	"connectrpc.com/connect":                         "speaks to the control plane",
	"google.golang.org/protobuf":                     "the wire's format",
	"github.com/goccy/go-yaml":                       "settings and hooks with line numbers; the parser alone is used",
	"golang.org/x/sys":                               "system calls that the standard library lacks",
}

// never says why what is most likely to creep in must not.
var never = map[string]string{
	"testing": "test code in a program that runs as root",
	"github.com/kernwave/kernwave/internal/agent/agenttest": "the fake machine is for tests",
	"database/sql":  "the agent's state is a journal",
	"html/template": "the agent shows nothing",
	"plugin":        "the agent runs what is in it, and the operator's programs",
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	all, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields(string(all)) {
		if why, bad := never[p]; bad {
			t.Errorf("the agent links %s: %s", p, why)
		}
	}
	deps := strings.Fields(string(out))
	if len(deps) < 10 {
		t.Fatalf("go list shows %d packages only: this test looks at nothing", len(deps))
	}
	for _, p := range deps {
		ok := false
		for prefix := range allowed {
			ok = ok || strings.HasPrefix(p, prefix)
		}
		if !ok {
			t.Errorf("the agent links %s, which is not in the list of what it may: say why it must, or do without", p)
		}
	}
}

func TestSize(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "kernwave-agent")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	st, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f MiB", float64(st.Size())/(1<<20))
	if st.Size() > maxSize {
		t.Errorf("the agent has %d bytes, at most %d are allowed: go tool nm -size -sort size shows what grew", st.Size(), maxSize)
	}
}
