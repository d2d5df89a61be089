package scenarios

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kernwave/kernwave/internal/sim"
)

const reference = "../../../docs/reference/simulator.md"

func readPage(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// chapter is the text under a heading.
func chapter(t *testing.T, page, title string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "\n### "+title+"\n")
	if !ok {
		_, rest, ok = strings.Cut(page, "\n## "+title+"\n")
	}
	if !ok {
		t.Fatalf("%s has no heading %q", reference, title)
	}
	if i := regexp.MustCompile(`(?m)^##`).FindStringIndex(rest); i != nil {
		rest = rest[:i[0]]
	}
	return rest
}

// rows are the cells in the first column of a chapter's tables.
func rows(text string) (cells []string) {
	for line := range strings.Lines(text) {
		if cell, ok := strings.CutPrefix(line, "| `"); ok {
			first, _, _ := strings.Cut(cell, " |")
			for one := range strings.SplitSeq(first, ",") {
				cells = append(cells, strings.Trim(strings.TrimSpace(one), "`"))
			}
		}
	}
	return cells
}

func same(t *testing.T, where string, got, want []string) {
	t.Helper()
	have, need := map[string]bool{}, map[string]bool{}
	for _, x := range got {
		have[x] = true
	}
	for _, x := range want {
		need[x] = true
		if !have[x] {
			t.Errorf("%s: %s is not described", where, x)
		}
	}
	for _, x := range got {
		if !need[x] {
			t.Errorf("%s describes %s, which is not there", where, x)
		}
	}
}

// TestReferenceHasEveryKey keeps the page in step with the types: every key, kind of fault and action, and no other.
func TestReferenceHasEveryKey(t *testing.T) {
	page := readPage(t, reference)
	for title, v := range map[string]any{
		"The file": sim.Scenario{}, "fleet": sim.Fleet{}, "types": sim.Type{}, "kernel": sim.KernelFault{}, "budgets": sim.Budget{},
		"rollouts": sim.Rollout{}, "operator": sim.Operator{}, "control": sim.Control{},
	} {
		same(t, title, rows(chapter(t, page, title)), keysOf(v))
	}
	same(t, "actions", rows(chapter(t, page, "actions")), append(keysOf(sim.Action{}), sim.ActionKinds...))
	same(t, "faults", rows(chapter(t, page, "faults")), append(keysOf(sim.Fault{}), sim.FaultKinds...))
}

func keysOf(v any) (keys []string) {
	ty := reflect.TypeOf(v)
	for i := range ty.NumField() {
		keys = append(keys, keyName(ty.Field(i)))
	}
	return keys
}

// TestReferenceHasEveryResult: every field of the result's JSON is named.
func TestReferenceHasEveryResult(t *testing.T) {
	text := chapter(t, readPage(t, reference), "The result")
	seen := 0
	var walk func(reflect.Type)
	walk = func(ty reflect.Type) {
		for ty.Kind() == reflect.Pointer || ty.Kind() == reflect.Slice {
			ty = ty.Elem()
		}
		if ty.Kind() != reflect.Struct {
			return
		}
		for i := range ty.NumField() {
			name, _, _ := strings.Cut(ty.Field(i).Tag.Get("json"), ",")
			seen++
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("%s.%s: `%s` is not described", ty.Name(), ty.Field(i).Name, name)
			}
			walk(ty.Field(i).Type)
		}
	}
	walk(reflect.TypeFor[sim.Result]())
	if seen < 40 {
		t.Errorf("only %d fields were seen", seen)
	}
}

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// TestPagesHoldScenarios reads every scenario in the reference and the guide.
func TestPagesHoldScenarios(t *testing.T) {
	found := 0
	for _, page := range []string{reference, "../../../docs/guide/07-rehearse-a-rollout.md"} {
		for _, m := range yamlBlock.FindAllStringSubmatch(readPage(t, page), -1) {
			found++
			if _, err := Parse(page, []byte(m[1])); err != nil {
				t.Errorf("%s:\n%s\n%v", page, m[1], err)
			}
		}
	}
	if found < 2 {
		t.Errorf("only %d scenarios were found", found)
	}
}

// TestEveryKindIsValidated: what the page says about a kind of fault is what Validate says. A fault with everything that
// its row names is right, without it wrong, and one with more than that is wrong.
func TestEveryKindIsValidated(t *testing.T) {
	text := chapter(t, readPage(t, reference), "faults")
	for _, what := range sim.FaultKinds {
		row := regexp.MustCompile("(?m)^\\| `" + what + "` \\|.*\\|(.*)\\|$").FindStringSubmatch(text)
		if row == nil {
			t.Errorf("%s has no row", what)
			continue
		}
		f := sim.Fault{What: what}
		for _, key := range []string{"share", "by", "for"} {
			if !strings.Contains(row[1], "`"+key+"`") {
				continue
			}
			switch key {
			case "share":
				f.Share = 0.5
			case "by":
				f.By = 10 * time.Minute
			case "for":
				f.For = 10 * time.Minute
			}
		}
		if err := valid(f); err != nil {
			t.Errorf("%s, as its row says: %v", what, err)
		}
		for key, other := range map[string]sim.Fault{
			"share": {What: f.What, By: f.By, For: f.For, Share: flip(f.Share, 0.5)},
			"by":    {What: f.What, Share: f.Share, For: f.For, By: flip(f.By, 10*time.Minute)},
			"for":   {What: f.What, Share: f.Share, By: f.By, For: flip(f.For, 10*time.Minute)},
		} {
			mayMiss := strings.Contains(row[1], "`"+key+"`:") // a default is said
			if err := valid(other); (err == nil) != mayMiss {
				t.Errorf("%s: the row says %q about %s, and without or beyond it: %v", what, strings.TrimSpace(row[1]), key, err)
			}
		}
	}
}

func flip[T comparable](v, to T) T {
	var zero T
	if v != zero {
		return zero
	}
	return to
}

func valid(f sim.Fault) error {
	return sim.Scenario{
		Name: "x", Fleet: sim.Fleet{Types: []sim.Type{{Name: "web", Hosts: 3}}}, Rollouts: []sim.Rollout{{}}, Faults: []sim.Fault{f},
	}.Validate()
}
