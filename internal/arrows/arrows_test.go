// Package arrows keeps the arrows of docs/design.md: who may import whom. It holds a test only.
package arrows

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kernwave/kernwave"

// pkg is what go list says of one package, tests left out.
type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var ps []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}

// rooms that decide: they take data and now, and return data.
var pure = []string{"fleet", "rollout", "grant", "judge", "incident"}

// whyNot says what a deciding room must not import, and why.
var whyNot = map[string]string{
	"context":      "deciding takes no time; the caller waits, the room decides",
	"database/sql": "decisions take data; internal/store loads it",
	"os":           "acting on a machine belongs to internal/linux",
	"os/exec":      "acting on a machine belongs to internal/linux",
	"net":          "talking belongs to internal/api",
	"net/http":     "talking belongs to internal/api",
	"log/slog":     "a decision explains itself in what it returns",
	"math/rand":    "draw in the shell and pass the value in",
	"math/rand/v2": "draw in the shell and pass the value in",
}

// public rooms at the top: libraries without our server.
var public = []string{"fleet", "rollout", "grant", "judge", "incident", "canary", "drift", "cache"}

// onlyIn says which rooms alone may import something, and why.
var onlyIn = []struct {
	what  string
	rooms []string
	why   string
}{
	{"database/sql", []string{"internal/store/sqlite"}, "only internal/store speaks SQL"},
	{"modernc.org/sqlite", []string{"internal/store/sqlite"}, "only internal/store speaks SQL"},
	{module + "/api/gen/kernwave/v1", []string{"api/gen", "internal/wire", "internal/api", "internal/agent", "internal/cli"}, "generated types stop at the edge; inside we speak fleet and operator"},
	{"os/exec", []string{"internal/linux", "internal/agent/hook", "internal/lab", "internal/cli", "cache/cachetest", "cache/script"}, "only internal/linux touches the machine; hooks are the operator's programs; the lab runs QEMU; tests start Redis; operators' commands run in a child"},
	{module + "/internal/linux", []string{"internal/agentcli", "internal/linux"}, "only the agent acts on a machine"},
	{module + "/internal/control", []string{"internal/cli", "internal/sim"}, "internal/cli/serve.go builds the server"},
	{module + "/internal/lab", []string{"internal/lab", "cmd/kernwave-lab"}, "the lab is for tests and demos"},
}

func room(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, module), "/") }

// in says whether room r is one of rooms, or inside it.
func in(r string, rooms []string) bool {
	return slices.ContainsFunc(rooms, func(x string) bool { return r == x || strings.HasPrefix(r, x+"/") })
}

func TestArrows(t *testing.T) {
	seen := 0
	for _, p := range list(t) {
		r := room(p.ImportPath)
		seen++
		for _, i := range p.Imports {
			ours := strings.HasPrefix(i, module+"/")
			if why := whyNot[i]; why != "" && in(r, pure) {
				t.Errorf("%s imports %s: %s", r, i, why)
			}
			if ours && in(r, []string{"fleet"}) {
				t.Errorf("%s imports %s: fleet holds the words and knows nobody", r, room(i))
			}
			if ours && in(r, public) && !in(room(i), []string{"fleet"}) && room(i) != r &&
				!in(room(i), []string{strings.Split(r, "/")[0]}) && !(r == "canary" && room(i) == "judge") {
				t.Errorf("%s imports %s: siblings do not know each other, and arrows run downwards to fleet", r, room(i))
			}
			if ours && strings.HasPrefix(room(i), "cmd/") {
				t.Errorf("%s imports %s: a main is a main", r, room(i))
			}
			for _, o := range onlyIn {
				if (i == o.what || strings.HasPrefix(i, o.what+"/")) && !in(r, o.rooms) {
					t.Errorf("%s imports %s: %s", r, i, o.why)
				}
			}
		}
	}
	if seen < 10 {
		t.Fatalf("go list showed %d packages only: this test looked at nothing", seen)
	}
}

// TestNoClockInDecisions: now comes in. A room that decides and asks the clock cannot be replayed.
func TestNoClockInDecisions(t *testing.T) {
	for _, dir := range pure {
		files, err := filepath.Glob(filepath.Join("..", "..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, call := range []string{"time.Now(", "time.Since(", "time.Until(", "time.Sleep(", "time.After("} {
				if !strings.HasSuffix(f, "_test.go") && strings.Contains(string(b), call) {
					t.Errorf("%s calls %s…): now is an argument", f, call)
				}
			}
		}
	}
}
