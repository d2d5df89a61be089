// Package planted holds a test only: the simulator's own. Bugs are planted in copies of the code, and random fleets
// must find each of them. A check that nothing can trip is none.
package planted

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kernwave/kernwave/internal/sim"
)

var seeds = flag.Int("seeds", 0, "up to how many seeds each bug is looked for (0: as many as each is known to need, with a margin)")

// root is the module, as seen from here.
const root = "../../.."

// TestPlantedBugs builds kernwave with each bug and plays random fleets until a promise is broken.
//
//	go test ./internal/sim/planted -v -seeds 1000 -timeout 2h
func TestPlantedBugs(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped with -short: a build for each bug, and some minutes of random fleets")
	}
	for _, b := range bugs {
		t.Run(b.name, func(t *testing.T) {
			n := b.within
			if *seeds > 0 {
				n = *seeds
			}
			r := hunt(t, build(t, b), n)
			switch {
			case r.Broken == nil:
				t.Errorf("%s: %d seeds did not find it: the simulator lacks a fault, or a check", b.about, n)
			case !slices.Contains(b.promises, r.Broken.Broken.Promise):
				t.Errorf("%s: found as promise %d: %s", b.about, r.Broken.Broken.Promise, r.Broken.Broken.What)
			default:
				t.Logf("%s: found by seed %d, %.0f s: promise %d: %s", b.about, r.Broken.Seed, r.RealSec, r.Broken.Broken.Promise, r.Broken.Broken.What)
			}
		})
	}
}

// TestEditsFit: a bug whose place has moved is planted nowhere. This says so at once, also with -short.
func TestEditsFit(t *testing.T) {
	for _, b := range bugs {
		if _, err := plant(b); err != nil {
			t.Errorf("%s: %v", b.name, err)
		}
	}
	wrong := bug{edits: []edit{{arbiter, "no such text", ""}}}
	if _, err := plant(wrong); err == nil {
		t.Error("a text that is not there was replaced")
	}
}

// plant makes the changed files of a bug: path in the module to text.
func plant(b bug) (map[string]string, error) {
	texts := map[string]string{}
	for _, e := range b.edits {
		text, ok := texts[e.file]
		if !ok {
			read, err := os.ReadFile(filepath.Join(root, e.file))
			if err != nil {
				return nil, err
			}
			text = string(read)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return nil, errors.New(e.file + " has this text " + strconv.Itoa(n) + " times, it must be there once; change the bug with the code:\n" + e.old)
		}
		texts[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	return texts, nil
}

// build makes a kernwave with b in it, by an overlay: the tree stays as it is.
func build(t *testing.T, b bug) (program string) {
	t.Helper()
	texts, err := plant(b)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, text := range texts {
		original, err := filepath.Abs(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		changed := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[original] = changed
	}
	spec, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), spec, 0o644); err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "kernwave")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, "./cmd/kernwave")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build kernwave with %s: %v\n%s", b.name, err, out)
	}
	return program
}

// found is what kernwave sim random --seeds -o json says, as far as it matters here.
type found struct {
	Kind    string      `json:"kind"`
	Seeds   int         `json:"seeds"`
	Broken  *sim.Result `json:"broken"`
	RealSec float64     `json:"real_sec"`
}

func hunt(t *testing.T, program string, n int) found {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, "sim", "random", "--seed", "1", "--seeds", strconv.Itoa(n), "-o", "json")
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var r found
	if jerr := json.Unmarshal(out.Bytes(), &r); jerr != nil || r.Kind != "simulations" {
		t.Fatalf("no result: %v, %v\n%s%s", err, jerr, out.String(), errs.String())
	}
	if broken := r.Broken != nil; broken != (cmd.ProcessState.ExitCode() == 1) {
		t.Errorf("exit code %d, and broken is %t", cmd.ProcessState.ExitCode(), broken)
	}
	return r
}
